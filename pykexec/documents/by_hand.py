"""Converts documents to JSON types and back with the standard library only, for an installation
without mashumaro (Debian 12 has no package of it). It accepts exactly what by_mashumaro accepts; a
test compares them."""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Callable
from functools import cache
from reprlib import repr as short
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pykexec.documents.base import HEX, Choice, Number, Text, hex_number, text, truth, whole

Convert = Callable[[Any], Any]
SIMPLE: dict[object, Convert] = {int: whole, str: text, bool: truth}


def read(kind: Any, found: dict[str, Any]) -> Any:
    """A value of the dataclass `kind`. Raises ValueError, whose text names the place."""
    try:
        return _reader(kind)(found)
    except TypeError as error:
        raise ValueError(str(error)) from error


def write(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, without those that have their default."""
    kind: Any = type(value)
    found: dict[str, Any] = _writer(kind)(value)
    return found


@cache
def _reader(kind: Any) -> Convert:
    """Checks a JSON value and converts it. It raises TypeError, ValueError."""
    origin = get_origin(kind)
    if origin is Annotated:
        rule = get_args(kind)[1]
        if rule is HEX:
            return hex_number
        return rule.check if isinstance(rule, Choice | Number | Text) else _reader(kind.__origin__)
    if origin is Literal:
        return _one_of(get_args(kind))
    if origin in (Union, types.UnionType):
        return _any_of(get_args(kind))
    if origin is tuple:
        return _read_tuple(get_args(kind))
    if origin is dict:
        return _read_dict(_reader(get_args(kind)[1]))
    if dataclasses.is_dataclass(kind):
        return _read_object(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind
    return SIMPLE.get(kind, unchanged)


@cache
def _writer(kind: Any) -> Convert:
    """Converts a value of this kind to JSON types."""
    origin = get_origin(kind)
    if origin is Annotated:
        return hex if get_args(kind)[1] is HEX else _writer(kind.__origin__)
    if origin in (Union, types.UnionType):
        return _write_union(tuple(item for item in get_args(kind) if item is not type(None)))
    if origin is tuple:
        return _write_tuple(get_args(kind))
    if origin is dict:
        inner = _writer(get_args(kind)[1])
        return lambda value: {name: inner(item) for name, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return _write_object(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return lambda value: value.value
    return unchanged


def unchanged(found: object) -> object:
    return found


def _one_of(values: tuple[object, ...]) -> Convert:
    def convert(found: object) -> object:
        if not any(type(found) is type(value) and found == value for value in values):
            raise ValueError(f"expected one of {values}, found {short(found)}")
        return found

    return convert


def _any_of(kinds: tuple[Any, ...]) -> Convert:
    """The first kind that accepts it."""
    readers = [_reader(kind) for kind in kinds if kind is not type(None)]

    def convert(found: object) -> object:
        if found is None and type(None) in kinds:
            return None
        for attempt in readers:
            try:
                return attempt(found)
            except (TypeError, ValueError) as error:
                last = error
        raise last if len(readers) == 1 else ValueError(f"found {short(found)}")

    return convert


def _a_list(found: object) -> list[object]:
    if not isinstance(found, list):
        raise TypeError(f"expected a list, found {short(found)}")
    return found


def _read_tuple(kinds: tuple[Any, ...]) -> Convert:
    """tuple[X, ...], or one of a fixed length."""
    if kinds[-1] is Ellipsis:
        item = _reader(kinds[0])
        return lambda found: tuple(map(item, _a_list(found)))
    readers = [_reader(kind) for kind in kinds]

    def convert(found: object) -> object:
        if len(_a_list(found)) != len(readers):
            raise ValueError(f"expected a list of {len(readers)}, found {short(found)}")
        return tuple(attempt(value) for attempt, value in zip(readers, _a_list(found), strict=True))

    return convert


def _read_dict(item: Convert) -> Convert:
    return lambda found: {text(name): item(value) for name, value in _an_object(found).items()}


def _an_object(found: object) -> dict[str, object]:
    if not isinstance(found, dict):
        raise TypeError(f"expected an object, found {short(found)}")
    return found


def _read_object(kind: Any) -> Convert:
    """A dataclass; unknown keys are ignored."""
    hints = get_type_hints(kind, include_extras=True)
    fields = [(item.name, _reader(hints[item.name]), item) for item in dataclasses.fields(kind)]

    def convert(found: object) -> object:
        given, values = _an_object(found), {}
        for name, attempt, field in fields:
            if name in given:
                try:
                    values[name] = attempt(given[name])
                except (TypeError, ValueError) as error:
                    raise ValueError(f"{name}: {error}") from error
            elif _default_of(field) is dataclasses.MISSING:
                raise ValueError(f"{name}: missing")
        return kind(**values)

    return convert


def _write_object(kind: Any) -> Convert:
    """Its fields, changed by __post_serialize__ if the class has it."""
    hints = get_type_hints(kind, include_extras=True)
    fields = [
        (item.name, _writer(hints[item.name]), _default_of(item))
        for item in dataclasses.fields(kind)
    ]
    last = getattr(kind, "__post_serialize__", None)

    def convert(value: Any) -> dict[str, Any]:
        found = {}
        for name, convert_field, default in fields:
            item = getattr(value, name)
            if default is dataclasses.MISSING or item != default:
                found[name] = convert_field(item)
        return last(value, found) if last else found

    return convert


def _default_of(field: dataclasses.Field[Any]) -> object:
    """MISSING if there is none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _write_tuple(kinds: tuple[Any, ...]) -> Convert:
    if kinds[-1] is Ellipsis:
        item = _writer(kinds[0])
        return lambda value: list(map(item, value))
    writers = [_writer(kind) for kind in kinds]
    return lambda value: [put(item) for put, item in zip(writers, value, strict=True)]


def _write_union(kinds: tuple[Any, ...]) -> Convert:
    """By the value's class, if there are several kinds besides None."""

    def convert(value: Any) -> Any:
        kind: Any = only or type(value)
        return None if value is None else _writer(kind)(value)

    only = kinds[0] if len(kinds) == 1 else None
    return convert
