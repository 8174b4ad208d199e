"""pykexec vmcore: what a dump is, whether it is complete, and why the kernel crashed."""

from __future__ import annotations

from typing import Any

import click

from pykexec.cli import run
from pykexec.cli.program import Group
from pykexec.cli.verbs.params import PATH, Verb, machine_option, output_options


@click.group(cls=Group)
def command() -> None:
    """Read a dump: its log, the cause of the crash, whether it is complete."""


@command.command("info", cls=Verb, short_help="Show what is in a dump.")
@click.argument("file", type=PATH)
@output_options
def info(**options: Any) -> None:
    """Show what is in the dump FILE; with -v, every key and every piece of memory."""
    run.vmcore.info(**options)


@command.command("verify", cls=Verb, short_help="Check that a dump is complete.")
@click.argument("file", type=PATH)
@machine_option
@click.option(
    "--plan", type=PATH, metavar="FILE", help="Compare with the plan in FILE (from load --json)."
)
@output_options
def verify(**options: Any) -> int:
    """Check that the dump FILE is complete: its notes, VMCOREINFO, addresses and length.

    With --machine or --plan, also check that it contains all memory that it has to contain.
    In a compressed dump, the descriptors of all pages are checked, and some pages are unpacked.
    The exit status is 3 if a check fails.
    """
    return run.vmcore.verify(**options)


@command.command("dmesg", cls=Verb, short_help="Print the log of the kernel that crashed.")
@click.argument("file", type=PATH)
@click.option("--noescape", is_flag=True, help="Write control characters as they are.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def dmesg(**options: Any) -> int:
    """Print the log of the kernel that crashed, as dmesg(1) prints that of the running one.

    FILE is an ELF core (/proc/vmcore, makedumpfile -E, QEMU), a kdump-compressed file, or a
    flattened one of these. No debug symbols are needed.
    """
    return run.crash_log.dmesg(**options)


@command.command("report", cls=Verb, short_help="Report why the kernel crashed.")
@click.argument("file", type=PATH)
@output_options
def report(**options: Any) -> None:
    """Report the cause of the crash in the dump FILE, without debug symbols.

    The report contains the panic, the backtrace of each CPU, blocked tasks, memory, modules
    and the end of the log; with -v also the registers and all modules. A section that cannot
    be read is named with the reason.
    """
    run.crash_cause.report(**options)
