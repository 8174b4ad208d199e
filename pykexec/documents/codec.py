"""Converts documents to JSON and back, with mashumaro or, without it, by hand. Import it only to
read or write documents."""

from __future__ import annotations

import json
from reprlib import repr as short
from typing import Any, TypeVar

from pykexec.documents.base import Document
from pykexec.errors import escaped

try:
    from pykexec.documents.by_mashumaro import read, write
except ModuleNotFoundError:
    from pykexec.documents.by_hand import read, write

T = TypeVar("T")
SURROGATE = "\\ud"
"""The beginning of the escape of every surrogate, also in a pair."""


def plain(document: Document) -> dict[str, Any]:
    """A document as JSON types, with the name of the schema first."""
    return {"schema": document.schema, **write(document)}


def encode(document: Document) -> str:
    """The text of a document, with a newline at its end."""
    found = plain(document)
    text = json.dumps(found, indent=2)
    if SURROGATE in text:
        text = json.dumps(_unicode_only(found), indent=2)
    return text + "\n"


def _unicode_only(value: object) -> object:
    r"""Replaces bytes of a command line or file name that are not Unicode text with \xNN: strict
    readers refuse a document with a lone surrogate."""
    match value:
        case dict():
            return {_unicode_only(name): _unicode_only(item) for name, item in value.items()}
        case list() | tuple():
            return [_unicode_only(item) for item in value]
        case str():
            return "".join(escaped(c) if "\ud800" <= c <= "\udfff" else c for c in value)
    return value


def decode(kind: type[T], found: object) -> T:
    """A value of `kind` from parsed JSON; unknown keys are ignored. Raises ValueError, with the
    place, for anything that `plain` does not return."""
    if not isinstance(found, dict):
        raise ValueError(f"expected an object, found {short(found)}")
    value: T = read(kind, found)
    return value
