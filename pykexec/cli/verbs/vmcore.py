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
    """Look at a dump, check that it is whole, and report why the kernel crashed."""


@command.command("info", cls=Verb, short_help="What is in a dump.")
@click.argument("file", type=PATH)
@output_options
def info(file: Path, as_json: bool, verbose: int) -> None:
    """Show what is in the dump FILE; with -v every key and every piece of memory."""
    from pykexec.cli.output import Output
    from pykexec.dump.core_file import open_core
    from pykexec.dump.dump_check import contents_of
    from pykexec.dump.reader import open_dump
    from pykexec.errors import NotSupported

    output = Output(as_json, verbose)
    try:
        output.show("vmcore_info", open_core(file))
    except NotSupported:  # kdump-compressed, or flattened
        output.show("dump_info", contents_of(open_dump(str(file))))


@command.command("verify", cls=Verb, short_help="Is this dump whole?")
@click.argument("file", type=PATH)
@machine_option
@click.option("--plan", type=PATH, metavar="FILE", help="The document of load --json.")
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
    """Check the dump FILE: notes, VMCOREINFO, addresses, the file's length, and with
    --machine or --plan that all memory is there which has to be. Of a compressed dump the
    pages' descriptors are checked, and some pages are unpacked.

    Exit status 3 when something is wrong with it.
    """
    from pykexec.backends.simulated import SimulatedBackend
    from pykexec.cli.output import Output
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
        output.show("vmcore_verdict", verdict)
    except NotSupported:  # kdump-compressed, or flattened
        verdict = verify_dump(open_dump(str(file)), expected)
        output.show("dump_verdict", verdict)
    if not verdict.whole:
        ctx.exit(CheckFailed.exit_status)


@command.command("dmesg", cls=Verb, short_help="Print the log of the kernel that crashed.")
@click.argument("file", type=PATH)
@click.option("--noescape", is_flag=True, help="Write control characters as they are.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_context
def dmesg(ctx: click.Context, file: Path, noescape: bool, as_json: bool) -> None:
    """Print the log of the kernel that crashed, as dmesg(1) prints that of the running one.

    FILE is an ELF core (/proc/vmcore, makedumpfile -E, QEMU), a kdump-compressed file, or a
    flattened one of these. No debug symbols are needed.
    """
    from pykexec.cli.log import print_document, print_lines
    from pykexec.dump.reader import open_dump

    dump = open_dump(str(file))
    if as_json:
        ctx.exit(print_document(dump))
    print_lines(dump, noescape)


@command.command("report", cls=Verb, short_help="Report why the kernel crashed.")
@click.argument("file", type=PATH)
@output_options
def report(file: Path, as_json: bool, verbose: int) -> None:
    """Report what the dump FILE tells about the crash, without debug symbols: the panic, the
    registers and backtrace of each CPU, blocked tasks, memory, modules, and the end of the log.

    What cannot be read is named with the reason. With -v registers and all modules are shown.
    """
    from pykexec.cli.output import Output
    from pykexec.dump.reader import open_dump
    from pykexec.dump.report import make_report

    Output(as_json, verbose).show("crash_report", make_report(open_dump(str(file))))
