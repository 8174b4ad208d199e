"""The document of a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.cli.documents import Document

if TYPE_CHECKING:
    from pykexec.plan_diff import Piece, PlanDiff


def diff(found: PlanDiff) -> Document:
    """pykexec.diff/1; null is what that plan does not have."""
    return {
        "schema": "pykexec.diff/1",
        "same": found.same,
        "fields": [{"field": item.field, "a": item.a, "b": item.b} for item in found.fields],
        "segments": [
            {"name": item.name, "what": list(item.what), "a": piece(item.a), "b": piece(item.b)}
            for item in found.pieces
        ],
    }


def piece(item: Piece | None) -> Document | None:
    if item is None:
        return None
    return {
        "bufsz": item.bufsz,
        "mem": hex(item.range.start),
        "memsz": item.range.size,
        "sha256": item.sha256,
    }
