"""Documents to JSON's own types and back by mashumaro, which compiles a function for each class."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from reprlib import repr as short
from typing import Any

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
    Hex,
    Sha256,
    hex_number,
    text,
    truth,
    whole,
)


class Strict(Dialect):
    """A boolean is not a number and a number not a string: mashumaro would convert one into the
    other. Fields that equal their default are omitted."""

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
def _encoder(kind: type[Any]) -> BasicEncoder[Any]:
    return BasicEncoder(kind, default_dialect=Strict)


@cache
def _decoder(kind: type[Any]) -> BasicDecoder[Any]:
    return BasicDecoder(kind, default_dialect=Strict)


def write(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, without those that have their default."""
    kind: Any = type(value)
    found: dict[str, Any] = _encoder(kind).encode(value)
    return found


def read(kind: Any, found: dict[str, Any]) -> Any:
    """A value of the dataclass `kind`. Raises ValueError with the place in its text."""
    try:
        value = _decoder(kind).decode(found)
    except (InvalidFieldValue, MissingField) as error:
        raise ValueError(reason(error)) from error
    for name, again in _encoder(kind).encode(value).items():
        if not _as_written(found[name], again):
            raise ValueError(f"{name}: expected a list, found {short(found[name])}")
    return value


def _as_written(found: object, again: object) -> bool:
    """Whether a value that was read is written in the same way, apart from unknown keys. mashumaro
    accepts an object as an empty list, and ignores a third value of a pair."""
    if isinstance(again, dict):
        return isinstance(found, dict) and all(
            _as_written(found.get(name), item) for name, item in again.items()
        )
    if isinstance(again, list):
        return (
            isinstance(found, list)
            and len(found) == len(again)
            and all(map(_as_written, found, again))
        )
    return found == again


def reason(error: BaseException) -> str:
    """ "window: start: expected text, found 3", from a chain of errors."""
    path: list[str] = []
    inner, what = error, ""
    for fault in _chain(error):
        if isinstance(fault, MissingField):
            return ": ".join([*path, fault.field_name, "missing"])
        if isinstance(fault, InvalidFieldValue):
            path.append(fault.field_name)
            what = f"expected {fault.field_type_name}, found {short(fault.field_value)}"
        inner = fault
    own = str(inner)
    return ": ".join([*path, own if own.startswith("expected") else what])


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes, outermost first."""
    while error:
        yield error
        error = error.__cause__ or error.__context__
