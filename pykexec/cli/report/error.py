"""The result of a command that failed."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from pykexec.cli.terms import PYKEXEC
from pykexec.documents.error import ErrorDocument, Reason

if TYPE_CHECKING:
    from pykexec.errors import KexecError

ADDRESS_FACTS = frozenset({"addr", "elfcorehdr", "entry", "start", "end", "mem", "paddr"})
"""Facts of errors that are addresses, but plain integers."""
OWN_KEYS = frozenset({"code", "message", "hint"})
"""Keys of an error; a fact of the same name is not shown."""


def error_document(error: KexecError) -> ErrorDocument:
    facts = {
        name: fact(hex(value) if name in ADDRESS_FACTS and type(value) is int else value)
        for name, value in error.facts.items()
        if name not in OWN_KEYS and not (name == "details" and error.details)
    }
    return ErrorDocument(
        Reason(error.code, error.message, error.hint_in(PYKEXEC), error.details, facts)
    )


def fact(value: object) -> object:
    """Values without a JSON type become the text that a message would have."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (tuple, list, set, frozenset)):
        return [fact(item) for item in value]
    return str(value.value) if isinstance(value, Enum) else str(value)
