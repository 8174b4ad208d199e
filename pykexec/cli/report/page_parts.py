"""Common parts of the pages of several results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Table
from pykexec.cli.report.cmdline import origin, why_dropped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pykexec.flows.rehearse.simulated import LoadFacts
    from pykexec.images.kernel_image import KernelImage
    from pykexec.placement.bind import BoundPlan
    from pykexec.placement.cmdline import CommandLine
    from pykexec.placement.kernel_rules import Check

Pairs = list[tuple[str, str]]

GOOD, BAD, CAUTION = "bold green", "bold red", "bold yellow"
VERDICT_STYLES = {"ok": "green", "broken": "red", "unknown": "yellow"}
UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def size(number: int) -> str:
    """Bytes in readable form: whole units if they are exact enough, never hexadecimal."""
    for unit, name in UNITS:
        if number >= unit:
            return f"{number / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{number} bytes"


def many(count: int, noun: str) -> str:
    """ "1 page", "2 pages"."""
    return f"{count} {noun if count == 1 else noun + 's'}"


def kernel(image: KernelImage) -> str:
    return f"{image.type} {image.version or 'of unknown version'}"


def words(line: CommandLine) -> Table:
    """Each word of the command line with its origin; then the dropped words with the reasons."""
    rows: list[tuple[str, str]] = [(word.text, origin(word.origin)) for word in line.words]
    for item in line.dropped:
        rows.append((item.text, f"{origin(item.origin)}, dropped: {why_dropped(item)}"))
    return Table(("word", "from"), rows, 2)


def verdict(ok: bool | None) -> str:
    return {True: "ok", False: "broken", None: "unknown"}[ok]


def checks(found: Iterable[Check]) -> Table:
    rows = [(item.rule, verdict(item.ok), item.detail) for item in found]
    return Table(("check", "", "found"), rows, styles=[VERDICT_STYLES[row[1]] for row in rows])


def bound_facts(bound: BoundPlan | LoadFacts, page_size: int) -> Pairs:
    """A summary of the backup map and the headers."""
    moved, backup = bound.backup_map.moved, bound.backup_map.moved_size // page_size
    held = sum(run.size for run in bound.backup_map) // page_size - backup
    return [
        (
            "backup map",
            f"{many(backup, 'page')} in {many(len(moved), 'run')}, "
            f"{many(held, 'page')} in place (free before, nothing to save)",
        ),
        (
            "headers",
            f"{many(bound.program_headers, 'program header')} at {bound.headers_at.start:#x}, "
            f"room for {bound.headers_at.size:#x} bytes",
        ),
    ]
