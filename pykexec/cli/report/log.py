"""The result of `vmcore dmesg`: the log of a dump as lines on stdout, or one JSON document."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pykexec.dump.log import records
from pykexec.dump.log_text import safe
from pykexec.errors import KexecError

if TYPE_CHECKING:
    from pykexec.documents.log import LogRecord
    from pykexec.dump.log_record import Record
    from pykexec.dump.reader import Dump


def print_lines(dump: Dump, noescape: bool = False) -> None:
    """Print the log up to any damage, and then raise the error."""
    out = sys.stdout.buffer
    for record in records(dump):
        for line in record.lines():
            out.write((line if noescape else safe(line).encode()) + b"\n")


def print_document(dump: Dump) -> int:
    """Print pykexec.log/1 on stdout; returns the exit status, which reports damage that ended the
    log."""
    from pykexec.documents.codec import encode
    from pykexec.documents.log import Log

    release, found, problem = dump.info.release, [], None
    try:
        found += [document(record) for record in records(dump)]
    except KexecError as error:
        problem = error
    log = Log(release, problem.message if problem else None, tuple(found))
    click.echo(encode(log), nl=False)
    return problem.exit_status if problem else 0


def document(record: Record) -> LogRecord:
    """The record in the document's form."""
    from pykexec.documents.log import LogRecord

    return LogRecord(
        record.sequence,
        record.nanoseconds,
        record.facility,
        record.level,
        record.text.decode("utf-8", "backslashreplace"),
    )
