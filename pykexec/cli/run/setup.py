"""What `setup` does."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import click

from pykexec.backends.setup.acting import Acting
from pykexec.backends.setup.acting import run as run_command
from pykexec.cli.output import Output
from pykexec.cli.report.setup import SetupReport, UndoReport
from pykexec.errors import CheckFailed, KexecError, NotPermitted, UsageError, printable
from pykexec.flows.setup.lost import check_not_lost
from pykexec.flows.setup.steps import SetupSteps, decide
from pykexec.host.facts import read_machine
from pykexec.host.lock import exclusive
from pykexec.host.root import THIS_MACHINE, BadRoot, Folder
from pykexec.host.setup_facts import SetupFacts, read_facts

if TYPE_CHECKING:
    from pathlib import Path

    from pykexec.machine import Machine

LOCK_FOLDER = "run/pykexec-setup"
CONSENT = "use --check to see what would change, and --yes to change it"


def run(
    check: bool,
    yes: bool,
    undo: bool,
    sysctls: bool,
    root: Path | None,
    as_json: bool,
    verbose: int,
) -> int:
    """Set the machine up, or undo that; returns the exit status."""
    if root and not check:
        raise UsageError("--root requires --check: only the running system can be set up")
    if check and yes:
        raise UsageError("--yes has no effect with --check, which changes nothing")
    if undo and sysctls:
        raise UsageError("--panic-sysctls has no effect with --undo, which undoes everything")
    output = Output(as_json, verbose)
    folder = _folder(root)
    with _alone(folder, check) as lock:
        acting = Acting(folder, partial(run_command, lock=lock), lambda line: _tell(line, as_json))
        if undo:
            return _undo(acting, output, check, yes)
        return _setup(acting, output, check, yes, sysctls)


def _alone(root: Folder, check: bool) -> AbstractContextManager[int | None]:
    """Two runs at once would each record only its own steps. Whoever may change nothing needs no
    lock. The lock is not that of loads, which a step makes. Gives its descriptor. Raises Busy."""
    if check or os.geteuid() != 0:
        return nullcontext()
    return exclusive(root.path / LOCK_FOLDER)


def _folder(root: Path | None) -> Folder:
    if root is None:
        return THIS_MACHINE
    if not root.is_dir():
        raise BadRoot(f"{root}: not a folder")
    return Folder(root)


def _tell(line: str, as_json: bool) -> None:
    """Progress, as each step begins; a document is alone."""
    if not as_json:
        click.echo(printable(line), err=True)


def _setup(acting: Acting, output: Output, check: bool, yes: bool, sysctls: bool) -> int:
    machine, facts, plan = _look(acting, sysctls)
    report = SetupReport(machine, plan, _armed(machine, facts))
    if check or not plan.steps:
        output.show(report)
        return CheckFailed.exit_status if plan.steps else 0
    _consent(report, output, yes)
    acting.perform(plan.steps)
    done = plan.steps
    machine, facts, plan = _look(acting, sysctls)
    after = SetupReport(machine, plan, _armed(machine, facts), done)
    output.show(after, done="the machine was set up")
    return 0 if after.complete else CheckFailed.exit_status


def _look(acting: Acting, sysctls: bool) -> tuple[Machine, SetupFacts, SetupSteps]:
    """Facts are read twice: before, and to verify what was done."""
    machine = read_machine(acting.root)
    facts = read_facts(acting.root, machine)
    return machine, facts, decide(machine, facts, acting.journal.read(), sysctls)


def _armed(machine: Machine, facts: SetupFacts) -> bool | None:
    loaded = machine.kexec.crash_loaded
    return loaded and facts.armed if isinstance(loaded, bool) else None


def _undo(acting: Acting, output: Output, check: bool, yes: bool) -> int:
    record = acting.journal.read()
    if record is None:
        check_not_lost(acting.root)
    entries = record.entries if record else ()
    steps = tuple(entry.step for entry in reversed(entries))
    report = UndoReport(acting.root.name, steps)
    if check or not record:
        output.show(report)
        return CheckFailed.exit_status if steps else 0
    _consent(report, output, yes)
    left = acting.undo()
    output.show(UndoReport(acting.root.name, steps, left), done="the changes were undone")
    return CheckFailed.exit_status if left else 0


def _consent(report: SetupReport | UndoReport, output: Output, yes: bool) -> None:
    """Show what will happen, and ask. Raises NotPermitted, UsageError, and KexecError for no."""
    if os.geteuid() != 0:
        raise NotPermitted("changing this machine requires root", hint="run sudo pykexec setup")
    if output.as_json:
        if not yes:
            raise UsageError("with --json, setup does not ask for confirmation", hint=CONSENT)
        return
    output.show(report)
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "standard input is not a terminal, so setup cannot ask for confirmation", hint=CONSENT
        )
    if not click.confirm("Make these changes?", err=True):
        raise KexecError("nothing was changed")
