"""The document of `load --json` (pykexec.plan/1), read again: a file may hold anything."""

from __future__ import annotations

import json
import os
from typing import Any

from pykexec.crash.backup_map import BackupMap, BackupRun
from pykexec.errors import KexecError
from pykexec.images.contents import OpenFile
from pykexec.memory.ranges import PhysRange

SCHEMA = "pykexec.plan/1"
PLAN_MAX = 64 << 20
"""Bytes: a bound plan has a line for each of at most 65,535 runs of backup pages."""


WRITTEN_BY = "pykexec load --dry-run --json writes one"


class BadPlan(KexecError):
    """A file that is no pykexec.plan/1, or not the one that is needed."""

    code = "bad-plan"
    usual_hint = WRITTEN_BY


def read_plan(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Of its fields nothing is known yet but the schema. Raises UnreadableFile, BadPlan."""
    file = OpenFile(path)
    if file.size > PLAN_MAX:
        raise BadPlan(f"{path}: {file.size} bytes, a plan has at most {PLAN_MAX}")
    try:
        document = json.loads(file.read(0, file.size))
    except (ValueError, RecursionError) as error:
        raise BadPlan(f"{path}: not a plan: {error}") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise BadPlan(f"{path}: not a plan: its schema is not {SCHEMA}")
    return document


def span_of(item: dict[str, Any]) -> PhysRange:
    """{start, end}. Raises KeyError, TypeError, ValueError, BadRange."""
    return PhysRange(number(item["start"]), number(item["end"]))


def whole(value: object) -> int:
    """A number of a document that is neither a truth value nor a fraction. Raises TypeError."""
    if type(value) is not int:
        raise TypeError(f"expected a number, found {value!r}")
    return value


def backup_map_of(document: dict[str, Any]) -> BackupMap:
    """Of a bound plan. Raises KeyError, TypeError, ValueError, BadRange."""
    return BackupMap.of(
        BackupRun(number(run["dest"]), number(run["source"]), whole(run["size"]))
        for run in document["backup_map"]
    )


def number(text: Any) -> int:
    """A hex string of a document. Raises TypeError, ValueError."""
    if not isinstance(text, str):
        raise TypeError(f"expected a hex string, found {text!r}")
    return int(text, 16)
