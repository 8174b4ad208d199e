"""The results of `save` and `saved`: what a capture kernel has saved, and all saved dumps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Facts, Lines, Table
from pykexec.cli.report.page_parts import BAD, GOOD, size

if TYPE_CHECKING:
    from pykexec.documents.saved import ListedDump, SavedDump, SavedDumps, SavedFile

UNKNOWN = "unknown"


@dataclass(frozen=True)
class SavedReport:
    """One capture; with -v each of its steps."""

    done: SavedDump

    def document(self) -> SavedDump:
        return self.done

    def page(self, verbose: int) -> list[Block]:
        done = self.done
        steps = [step for step in done.steps if verbose or step.problem]
        rows = [(step.name, f"{step.seconds:.1f} s", step.problem or "ok") for step in steps]
        line = "the capture is complete" if done.complete else "the capture is not complete"
        return [
            Facts(
                [
                    ("saved to", _place(done)),
                    ("release", done.release or UNKNOWN),
                    ("reason", done.reason or UNKNOWN),
                    ("crashed", done.crashed or UNKNOWN),
                    ("files", ", ".join(done.files) or "none"),
                    ("dump", _dump_line(done.dump)),
                ]
            ),
            *([Table(("step", "time", "result"), rows)] if rows else []),
            Lines([*done.problems, line], GOOD if done.complete else BAD),
        ]


def _place(done: SavedDump) -> str:
    if done.command:
        return f"standard input of {done.command}"
    return done.folder or "nowhere"


def _dump_line(dump: SavedFile | None) -> str:
    if dump is None:
        return "none"
    level = "" if dump.level is None else f", dump level {dump.level}"
    length = "" if dump.size is None else f", {size(dump.size)}"
    whole = {None: "not verified", True: "verified", False: f"damaged: {dump.problem}"}
    return f"by {dump.writer}{level}{length}, {whole[dump.whole]}"


@dataclass(frozen=True)
class SavedListReport:
    """All saved dumps, or the new ones."""

    found: SavedDumps

    def document(self) -> SavedDumps:
        return self.found

    def page(self, verbose: int) -> list[Block]:
        found = self.found
        lost = [Lines([found.lost], BAD)] if found.lost else []
        if not found.dumps:
            return [Lines([f"{found.folder}: no saved dump"]), *lost]
        rows = [_row(item) for item in found.dumps]
        return [Table(("dump", "release", "state", "reason of the crash"), rows), *lost]


def _row(item: ListedDump) -> tuple[str, ...]:
    state = "complete" if item.complete else f"not complete: {item.problem}"
    return item.folder, release(item), state, reason(item)


def release(item: ListedDump) -> str:
    return (item.status and item.status.release) or UNKNOWN


def reason(item: ListedDump) -> str:
    return (item.status and item.status.reason) or UNKNOWN


def announcement(found: SavedDumps) -> str:
    """For the terminals of users: one line for each dump."""
    lines = [
        f"Kernel {release(item)} crashed: {reason(item)}. {_rest(item)}" for item in found.dumps
    ]
    return "\n".join([*lines, *([f"Crash dump lost: {found.lost}."] if found.lost else [])])


def _rest(item: ListedDump) -> str:
    if item.complete:
        return f"The dump is in {item.folder}."
    return f"The dump in {item.folder} is not complete: {item.problem}."
