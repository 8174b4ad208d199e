"""What `fleet plan` does."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import click

from pykexec.cli.report.fleet import HEADING, Summary, row_document, row_lines
from pykexec.documents.codec import plain
from pykexec.errors import CheckFailed, UsageError, printable
from pykexec.flows.fleet import Candidate, members, rows
from pykexec.images.contents import joined_initrd
from pykexec.placement.request import ImageKind, Keep, LoadRequest, Mode

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pykexec.documents.base import Document

EVERY = 50
"""Rows between two lines of progress."""


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
    for row in rows(members(machines, map(os.fsdecode, sys.stdin.buffer)), candidates):
        if not as_json and not summary.machines:
            click.echo(HEADING)
        summary.add(row)
        _progress(summary.machines)
        if compare and not row.changed:
            continue
        show([row_document(row)] if as_json else row_lines(row, verbose))
    if not summary.machines:
        raise UsageError(
            "no captured machine was found",
            hint="use pykexec machine capture to capture one",
        )
    show([summary.document()] if as_json else ["", *summary.lines()])
    if summary.cannot_be_armed:
        raise click.exceptions.Exit(CheckFailed.exit_status)


def show(lines: Iterable[str | Document]) -> None:
    """Text, or documents of one line each."""
    for line in lines:
        text = printable(line) if isinstance(line, str) else json.dumps(plain(line))
        click.echo(text)


def _progress(count: int) -> None:
    """Show progress on a terminal, while the result goes elsewhere."""
    if sys.stderr.isatty() and not sys.stdout.isatty() and count % EVERY == 0:
        click.echo(f"\r{count} machines", err=True, nl=False)
