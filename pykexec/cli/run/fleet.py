"""What `fleet plan` does."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

import click

from pykexec.cli.report.fleet import Summary, heading, name_width, row_document, row_lines
from pykexec.documents.codec import plain
from pykexec.errors import CheckFailed, UsageError, printable
from pykexec.flows.fleet import AT_A_TIME, Candidate, members, rows
from pykexec.images.contents import joined_initrd
from pykexec.placement.request import ImageKind, Keep, LoadRequest, Mode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pykexec.documents.base import Document

EVERY = 50
"""Machines between two updates of the counter."""


def plan(
    machines: tuple[str, ...],
    kernel: Path,
    initrds: tuple[Path, ...],
    append: tuple[str, ...],
    mode: str | None,
    keep: str,
    compare: Path | None,
    as_json: bool,
    verbose: int,
) -> None:
    request = LoadRequest(
        kind=ImageKind.CRASH_BY_NORMAL,
        initrd=joined_initrd(initrds),
        append=append,
        mode=Mode(mode) if mode else None,
        keep=Keep(keep),
    )
    kernels = (kernel, compare) if compare else (kernel,)
    candidates = tuple(Candidate.of(path, request) for path in kernels)
    summary = Summary(compares=compare is not None)
    named = members(machines, map(os.fsdecode, sys.stdin.buffer))
    first = list(islice(named, AT_A_TIME))  # the rows begin when that many names are known
    width = name_width(map(str, first))
    with counter(shown=compare is not None or not sys.stdout.isatty()) as progress:
        for row in rows(chain(first, named), candidates):
            if not as_json and not summary.machines:
                click.echo(heading(width))
            summary.add(row)
            progress.show(summary.machines)
            if compare and not row.changed:
                continue
            progress.clear()
            show([row_document(row)] if as_json else row_lines(row, verbose, width))
    if not summary.machines:
        raise UsageError(
            "no captured machine was found",
            hint="use pykexec machine capture to capture one",
        )
    show([summary.document()] if as_json else ["", *summary.lines()])
    if summary.cannot_be_armed or summary.broken:
        raise click.exceptions.Exit(CheckFailed.exit_status)


def show(lines: Iterable[str | Document]) -> None:
    """Text, or documents of one line each."""
    for line in lines:
        text = printable(line) if isinstance(line, str) else json.dumps(plain(line))
        click.echo(text)


@dataclass
class Counter:
    """A line on a terminal with the number of machines until now, where the rows do not show it:
    they go elsewhere, or only those are shown that change."""

    shown: bool
    visible: bool = False

    def show(self, count: int) -> None:
        if self.shown and count % EVERY == 0:
            click.echo(f"\r{count} machines", err=True, nl=False)
            self.visible = True

    def clear(self) -> None:
        """Make room for other text."""
        if self.visible:
            click.echo("\r\x1b[K", err=True, nl=False)
            self.visible = False


@contextmanager
def counter(shown: bool) -> Iterator[Counter]:
    """A counter that is cleared at the end, also by an error."""
    progress = Counter(shown and sys.stderr.isatty())
    try:
        yield progress
    finally:
        progress.clear()
