"""pykexec vmcore: what a dump is, whether it is whole, and why the kernel crashed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pykexec.cli.verbs.params import PATH, Verb, machine_option, output_options

if TYPE_CHECKING:
    from pykexec.dump.dump_check import DumpVerdict
    from pykexec.dump.vmcore_check import VmcoreVerdict


@click.group()
def command() -> None:
    """Read a dump: its log, the reason of the crash, its completeness."""


@command.command("info", cls=Verb, short_help="Show what is in a dump.")
@click.argument("file", type=PATH)
@output_options
def info(file: Path, as_json: bool, verbose: int) -> None:
    """Show what is in the dump FILE; with -v, every key and every piece of memory."""
    from pykexec.cli.output import Output
    from pykexec.cli.report.dump import DumpReport
    from pykexec.cli.report.vmcore import VmcoreReport
    from pykexec.dump.core_file import open_core
    from pykexec.dump.dump_check import contents_of
    from pykexec.dump.reader import open_dump
    from pykexec.errors import NotSupported

    output = Output(as_json, verbose)
    try:
        output.show(VmcoreReport(open_core(file)))
    except NotSupported:  # kdump-compressed, or flattened
        output.show(DumpReport(contents_of(open_dump(str(file)))))


@command.command("verify", cls=Verb, short_help="Check that a dump is complete.")
@click.argument("file", type=PATH)
@machine_option
@click.option(
    "--plan", type=PATH, metavar="FILE", help="Compare with the plan in FILE (load --json)."
)
@output_options
@click.pass_context
def verify(
    ctx: click.Context,
    file: Path,
    machine_dir: Path | None,
    plan: Path | None,
    as_json: bool,
    verbose: int,
) -> None:
    """Check the notes, VMCOREINFO, the addresses and the length of the dump FILE.

    With --machine or --plan, also check that it contains all memory that it has to contain.
    In a compressed dump the descriptors of all pages are checked, and some pages unpacked.
    The exit status is 3 if a check fails.
    """
    from pykexec.backends.simulated import SimulatedBackend
    from pykexec.cli.output import Output
    from pykexec.cli.report.dump import DumpVerdictReport
    from pykexec.cli.report.vmcore import VmcoreVerdictReport
    from pykexec.dump.dump_check import verify_dump
    from pykexec.dump.reader import open_dump
    from pykexec.dump.vmcore_check import expected_of_plan
    from pykexec.dump.vmcore_check import verify as check
    from pykexec.errors import CheckFailed, NotSupported, UsageError
    from pykexec.flows.rehearse.simulated import expected_of_machine

    if machine_dir and plan:
        raise UsageError("--machine and --plan exclude each other")
    expected = expected_of_plan(plan) if plan else None
    if machine_dir:
        expected = expected_of_machine(SimulatedBackend.open(machine_dir))
    output = Output(as_json, verbose)
    verdict: VmcoreVerdict | DumpVerdict
    try:
        verdict = check(file, expected)
        output.show(VmcoreVerdictReport(verdict))
    except NotSupported:  # kdump-compressed, or flattened
        verdict = verify_dump(open_dump(str(file)), expected)
        output.show(DumpVerdictReport(verdict))
    if not verdict.whole:
        ctx.exit(CheckFailed.exit_status)


@command.command("dmesg", cls=Verb, short_help="Print the log of the kernel that crashed.")
@click.argument("file", type=PATH)
@click.option("--noescape", is_flag=True, help="Write control characters as they are.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def dmesg(ctx: click.Context, file: Path, noescape: bool, as_json: bool) -> None:
    """Print the log of the kernel that crashed, as dmesg(1) prints that of the running one.

    FILE is an ELF core (/proc/vmcore, makedumpfile -E, QEMU), a kdump-compressed file, or a
    flattened one of these. No debug symbols are needed.
    """
    from pykexec.cli.report.log import print_document, print_lines
    from pykexec.dump.reader import open_dump

    dump = open_dump(str(file))
    if as_json:
        ctx.exit(print_document(dump))
    print_lines(dump, noescape)


@command.command("report", cls=Verb, short_help="Report why the kernel crashed.")
@click.argument("file", type=PATH)
@output_options
def report(file: Path, as_json: bool, verbose: int) -> None:
    """Report the cause of the crash in the dump FILE, without debug symbols.

    The report contains the panic, the backtrace of each CPU, blocked tasks, memory, modules
    and the end of the log; with -v also the registers and all modules. A section that cannot
    be read is named with the reason.
    """
    from pykexec.cli.output import Output
    from pykexec.cli.report.crash_cause import CrashCauseReport
    from pykexec.dump.reader import open_dump
    from pykexec.dump.report import make_report

    Output(as_json, verbose).show(CrashCauseReport(make_report(open_dump(str(file)))))
