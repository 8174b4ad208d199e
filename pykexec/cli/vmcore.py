"""pykexec vmcore: what a dump is, and whether it is whole."""

from __future__ import annotations

from pathlib import Path

import click

from pykexec.cli.params import PATH, Verb, machine_option, output_options


@click.group()
def command() -> None:
    """Look at a dump and check that it is whole."""


@command.command("info", cls=Verb, short_help="What is in a dump.")
@click.argument("file", type=PATH)
@output_options
def info(file: Path, as_json: bool, verbose: int) -> None:
    """Say what is in the dump FILE; with -v every key and every PT_LOAD."""
    from pykexec.cli.output import Output
    from pykexec.crash.core_file import open_core

    Output(as_json, verbose).show("vmcore_info", open_core(file))


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
    --machine or --plan that all memory is there which has to be.

    Exit status 3 when something is wrong with it.
    """
    from pykexec.backends.simulated import SimulatedBackend
    from pykexec.cli.output import Output
    from pykexec.errors import CheckFailed, UsageError
    from pykexec.rehearse import expected_of_machine
    from pykexec.vmcore_check import expected_of_plan
    from pykexec.vmcore_check import verify as check

    if machine_dir and plan:
        raise UsageError("--machine and --plan exclude each other")
    expected = expected_of_plan(plan) if plan else None
    if machine_dir:
        expected = expected_of_machine(SimulatedBackend.open(machine_dir))
    verdict = check(file, expected)
    Output(as_json, verbose).show("vmcore_verdict", verdict)
    if not verdict.whole:
        ctx.exit(CheckFailed.exit_status)
