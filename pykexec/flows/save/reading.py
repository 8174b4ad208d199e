"""Reads the memory that is to be saved, and checks the saved dump."""

from __future__ import annotations

from typing import Any

from pykexec.backends.saving.target import on_disk
from pykexec.dump.dump_check import contents_of, verify_dump
from pykexec.dump.log import records
from pykexec.dump.log_text import safe
from pykexec.dump.reader import open_dump
from pykexec.dump.report import crash_time
from pykexec.dump.vmcore_check import Expected
from pykexec.errors import KexecError


def read_facts(source: str) -> dict[str, Any]:
    """The fields of saving.Facts. Raises KexecError."""
    contents = contents_of(open_dump(source))
    info = contents.info
    crashed = crash_time(info.values.get("CRASHTIME", "")) if info else None
    return {
        "release": info.release if info else None,
        "crashed": crashed.timestamp() if crashed else None,
        "slab_flag": bool(info and info.has("NUMBER(PG_slab)")),
    }


def log_lines(source: str) -> list[bytes]:
    """As dmesg(1) prints them; of a damaged log, the lines before the damage. Raises KexecError."""
    lines: list[bytes] = []
    try:
        for record in records(open_dump(source)):
            lines += [safe(line).encode() for line in record.lines()]
    except KexecError as error:
        if not lines:
            raise
        lines.append(f"(the rest of the log cannot be read: {error.message})".encode())
    return lines


def check_dump(path: str, source: str) -> tuple[int, str | None]:
    """Bytes on the disk, and the first check that fails: the dump has to list each page of the
    source, and the registers of as many CPUs. Raises KexecError, OSError."""
    there = contents_of(open_dump(source))
    pages = there.memory | there.left_out
    verdict = verify_dump(open_dump(path), Expected(pages, pages, len(there.cpus)))
    wrong = [check for check in verdict.checks if check.ok is False]
    return on_disk(path), f"{wrong[0].rule}: {wrong[0].detail}" if wrong else None
