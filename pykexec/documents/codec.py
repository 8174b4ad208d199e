"""Documents as JSON, and JSON as documents. Imports mashumaro: only for who reads or writes one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from reprlib import repr as short
from typing import Any, TypeVar

from mashumaro.codecs.basic import BasicDecoder, BasicEncoder
from mashumaro.dialect import Dialect
from mashumaro.exceptions import InvalidFieldValue, MissingField
from mashumaro.helper import pass_through

from pykexec.documents.base import (
    BACKEND,
    COUNT,
    SHA256,
    BackendName,
    Count,
    Document,
    Hex,
    Sha256,
    hex_number,
    text,
    truth,
    whole,
)
from pykexec.errors import escaped

T = TypeVar("T")
SURROGATE = "\\ud"
"""How the escape of every surrogate begins, one of a pair too."""


class Strict(Dialect):
    """A truth value is no number and a number no text: mashumaro would convert the one into the
    other. Fields with their default are left out."""

    omit_default = True
    no_copy_collections = (list, dict)
    serialization_strategy = {  # noqa: RUF012  the base class has it so
        Hex: {"serialize": hex, "deserialize": hex_number},
        Count: {"serialize": pass_through, "deserialize": COUNT.check},
        Sha256: {"serialize": pass_through, "deserialize": SHA256.check},
        BackendName: {"serialize": pass_through, "deserialize": BACKEND.check},
        int: {"serialize": pass_through, "deserialize": whole},
        str: {"serialize": pass_through, "deserialize": text},
        bool: {"serialize": pass_through, "deserialize": truth},
    }


@cache
def encoder(kind: type[Any]) -> BasicEncoder[Any]:
    return BasicEncoder(kind, default_dialect=Strict)


@cache
def decoder(kind: type[Any]) -> BasicDecoder[Any]:
    return BasicDecoder(kind, default_dialect=Strict)


def plain(document: Document) -> dict[str, Any]:
    """Of JSON's own types, the name of the schema first."""
    return {"schema": document.schema, **encoder(type(document)).encode(document)}


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
    try:
        value: T = decoder(kind).decode(found)  # type: ignore[arg-type]  # classes are hashable
    except (InvalidFieldValue, MissingField) as error:
        raise ValueError(reason(error)) from error
    for name, again in encoder(kind).encode(value).items():  # type: ignore[arg-type]
        if not as_written(found[name], again):
            raise ValueError(f"{name}: expected a list, found {short(found[name])}")
    return value


def as_written(found: object, again: object) -> bool:
    """Whether what was read is written like this, but for unknown keys. mashumaro takes an object
    for an empty list, and passes over a third value of a pair."""
    if isinstance(again, dict):
        return isinstance(found, dict) and all(
            as_written(found.get(name), item) for name, item in again.items()
        )
    if isinstance(again, list):
        return (
            isinstance(found, list)
            and len(found) == len(again)
            and all(map(as_written, found, again))
        )
    return found == again


def reason(error: BaseException) -> str:
    """ "window: start: expected text, found 3", from the errors that led to one another."""
    path: list[str] = []
    inner, what = error, ""
    for fault in chain(error):
        if isinstance(fault, MissingField):
            return ": ".join([*path, fault.field_name, "missing"])
        if isinstance(fault, InvalidFieldValue):
            path.append(fault.field_name)
            what = f"expected {fault.field_type_name}, found {short(fault.field_value)}"
        inner = fault
    own = str(inner)
    return ": ".join([*path, own if own.startswith("expected") else what])


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it was raised for, outermost first."""
    while error:
        yield error
        error = error.__cause__ or error.__context__
