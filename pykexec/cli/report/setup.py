"""The results of `setup`: what it changes, has changed, and undoes."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Facts, Lines
from pykexec.cli.report.page_parts import BAD, GOOD
from pykexec.documents.setup import Setup, SetupFile, SetupStep
from pykexec.flows.setup.region import Way

if TYPE_CHECKING:
    from pykexec.backends.setup.acting import Left
    from pykexec.backends.setup.step import Change, Step
    from pykexec.flows.setup.steps import SetupSteps
    from pykexec.host.file_state import FileState
    from pykexec.machine import Machine

COST = "while armed, memory for what is loaded (mode lent), or 220 to 260 MiB (other modes)"
REHEARSE = "pykexec rehearse /boot/vmlinuz-RELEASE --engine qemu tries a crash in a virtual machine"
NO_UNDO = "nothing to undo: pykexec setup has changed nothing here"


@dataclass(frozen=True)
class SetupReport:
    """A plan. After it was carried out, `done` has its steps, and `plan` is what is left to do."""

    machine: Machine
    plan: SetupSteps
    armed: bool | None
    done: tuple[Step, ...] | None = None

    @property
    def complete(self) -> bool:
        """Whether everything is as it should be, as far as that is possible before a reboot."""
        return not self.plan.steps and (self.plan.reboot or self.armed is not False)

    def document(self) -> Setup:
        done = [_document(step, "done") for step in self.done or ()]
        return Setup(
            self.machine.name,
            "check" if self.done is None else "setup",
            self.plan.region.way.value,
            len(self.plan.steps),
            (*done, *(_document(step, "to do") for step in self.plan.steps)),
            self.armed,
            self.plan.reboot,
            self.plan.notes,
        )

    def page(self, verbose: int) -> list[Block]:
        if self.done is not None:
            return [Lines(list(self._outcome()), GOOD if self.complete else BAD)]
        notes = [Lines([f"note: {note}" for note in self.plan.notes])] if self.plan.notes else []
        if not self.plan.steps:
            return [*notes, Lines(list(self._outcome()), GOOD)]
        steps = [Lines(list(_step_lines(*pair))) for pair in enumerate(self.plan.steps, 1)]
        return [Facts(self._facts()), *steps, *notes]

    def _facts(self) -> list[tuple[str, str]]:
        region = self.plan.region
        return [
            ("machine", f"{self.machine.name}, {self.machine.release or 'unknown release'}"),
            ("region", region.why),
            ("cost", COST),
            (
                "armed",
                "after the next reboot" if self.plan.reboot else "at once, and at every boot",
            ),
        ]

    def _outcome(self) -> Iterator[str]:
        if self.plan.steps:
            names = ", ".join(step.name for step in self.plan.steps)
            yield f"not complete: {names}; run pykexec setup again"
        elif self.plan.region.way is Way.NEXT_BOOT:
            yield "set up; the machine is armed after the next reboot"
        elif self.armed:
            yield "set up and armed: a panic now starts the capture kernel"
        else:
            yield "set up, but not armed: systemctl status pykexec-crash.service shows the reason"
        if self.done:
            yield REHEARSE.replace("RELEASE", self.machine.release or "RELEASE")


@dataclass(frozen=True)
class UndoReport:
    """The steps to undo, the last one first; afterwards `left` has those that could not be."""

    machine: str
    steps: tuple[Step, ...]
    left: tuple[Left, ...] | None = None

    def document(self) -> Setup:
        left = {item.step.name: item for item in self.left or ()}
        steps = tuple(self._step(step, left.get(step.name)) for step in self.steps)
        changes = len(self.steps) if self.left is None else len(left)
        return Setup(self.machine, "undo", None, changes, steps, None, False, ())

    def _step(self, step: Step, left: Left | None) -> SetupStep:
        state = "to do" if self.left is None else "left" if left else "undone"
        files = tuple(_undone(change, left) for change in step.changes)
        commands = (*step.undo_before, *step.undo_after)
        return SetupStep(
            step.name, state, step.why, files, commands, reason(left) if left else None
        )

    def page(self, verbose: int) -> list[Block]:
        if not self.steps:
            return [Lines([NO_UNDO])]
        if self.left is None:
            return [Lines(list(_undo_lines(*pair))) for pair in enumerate(self.steps, 1)]
        if not self.left:
            return [Lines(["everything is as it was before pykexec setup"], GOOD)]
        lines = [line for item in self.left for line in (reason(item), f"  hint: {remedy(item)}")]
        return [Lines(lines, BAD)]


def reason(left: Left) -> str:
    """Why a step could not be undone."""
    if left.changed:
        return f"{', '.join(left.changed)}: changed after pykexec setup, and left as it is"
    return f"{left.step.name}: {left.failure}"


def remedy(left: Left) -> str:
    if left.changed:
        return (
            f"remove {' '.join(left.changed)} and run pykexec setup --undo again to restore what "
            "was there before"
        )
    return "fix this, and run pykexec setup --undo again"


def _document(step: Step, state: str) -> SetupStep:
    files = tuple(
        SetupFile(change.path, _action(change), "".join(_diff(change))) for change in step.changes
    )
    return SetupStep(step.name, state, step.why, files, step.commands, None)


def _undone(change: Change, left: Left | None) -> SetupFile:
    changed = left is not None and change.path in left.changed
    return SetupFile(change.path, "leave" if changed else "restore", "")


def _action(change: Change) -> str:
    if change.after.link is not None:
        return "link"
    if change.after.contents is None:
        return "remove"
    return "replace" if change.before.exists else "create"


def _diff(change: Change) -> Iterator[str]:
    """The difference of the texts in the unified format, without file names."""
    before, after = change.before.text, change.after.text
    if change.after.link is not None or before == after:
        return
    lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), n=1)
    for number, line in enumerate(lines):
        if number > 1:
            yield line if line.endswith("\n") else f"{line}\n"


def _step_lines(number: int, step: Step) -> Iterator[str]:
    yield f"{number}. {step.name}: {step.why}"
    yield from (f"   run {' '.join(command)}" for command in step.before)
    for change in step.changes:
        target = f" -> {change.after.link}" if change.after.link is not None else ""
        yield f"   {_action(change)} {change.path}{target}"
        yield from (f"      {line.rstrip()}" for line in _diff(change))
    yield from (f"   run {' '.join(command)}" for command in step.after)


def _undo_lines(number: int, step: Step) -> Iterator[str]:
    yield f"{number}. undo {step.name}: {step.why}"
    yield from (f"   run {' '.join(command)}" for command in step.undo_before)
    for change in reversed(step.changes):
        yield f"   {_restoring(change.before)} {change.path}"
    yield from (f"   run {' '.join(command)}" for command in step.undo_after)


def _restoring(before: FileState) -> str:
    return "restore" if before.exists else "remove"
