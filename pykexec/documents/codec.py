"""Documents as JSON, and JSON as documents: by mashumaro, and without it by hand. Imported only by
who reads or writes one."""

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
"""How the escape of every surrogate begins, one of a pair too."""


def plain(document: Document) -> dict[str, Any]:
    """Of JSON's own types, the name of the schema first."""
    return {"schema": document.schema, **write(document)}


def encode(document: Document) -> str:
    """The text of a document, with the newline at its end."""
    found = plain(document)
    text = json.dumps(found, indent=2)
    if SURROGATE in text:
        text = json.dumps(unicode_only(found), indent=2)
    return text + "\n"


def unicode_only(value: object) -> object:
    r"""With what no Unicode text has, bytes of a command line or of a file's name, as \xNN: strict
    readers refuse a document with a lone surrogate."""
    match value:
        case dict():
            return {unicode_only(name): unicode_only(item) for name, item in value.items()}
        case list() | tuple():
            return [unicode_only(item) for item in value]
        case str():
            return "".join(escaped(c) if "\ud800" <= c <= "\udfff" else c for c in value)
    return value


def decode(kind: type[T], found: object) -> T:
    """A value of `kind` from what JSON had; keys that it does not know are passed over. Raises
    ValueError for anything that `plain` does not give, with the place in its text."""
    if not isinstance(found, dict):
        raise ValueError(f"expected an object, found {short(found)}")
    value: T = read(kind, found)
    return value
