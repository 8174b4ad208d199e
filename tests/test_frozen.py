"""Our dataclass is that of the standard library, but for the time it takes to define one."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from pykexec import frozen

OPTIONS: list[dict[str, Any]] = [
    {"frozen": True},
    {"frozen": True, "slots": True},
    {"frozen": True, "kw_only": True},
    {"frozen": True, "order": True, "slots": True},
]
Decorator = Callable[..., Any]


def made(decorator: Decorator, options: dict[str, Any]) -> Any:
    """The same class, defined by one of the two."""

    @decorator(**options)
    class Value:
        """Every kind of field."""

        a: int
        b: str = "b"
        c: list[int] = dataclasses.field(default_factory=lambda: [1])
        d: list[int] = dataclasses.field(default_factory=list, compare=False, repr=False)

        def __post_init__(self) -> None:
            if self.a < 0:
                raise ValueError(self.a)

        @property
        def twice(self) -> int:
            return 2 * self.a

    return Value


@dataclasses.dataclass(frozen=True, slots=True)
class Standard:
    """For pickle, which wants a class that it can find."""

    a: int


@frozen.dataclass(frozen=True, slots=True)
class Ours:
    """The same."""

    a: int


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_is_as_the_standard_one(options: dict[str, Any]) -> None:
    standard, ours = made(dataclasses.dataclass, options), made(frozen.dataclass, options)
    assert str(inspect.signature(ours)) == str(inspect.signature(standard))
    assert [f.name for f in dataclasses.fields(ours)] == ["a", "b", "c", "d"]
    assert ours.__match_args__ == standard.__match_args__
    assert (ours.__slots__ if options.get("slots") else "none") == (
        standard.__slots__ if options.get("slots") else "none"
    )
    for kind in (standard, ours):
        value = kind(a=1)
        assert repr(value) == repr(standard(a=1))
        assert value == kind(a=1, d=[2])
        assert value != kind(a=2)
        assert value != standard(a=1) or kind is standard
        assert value.c is not kind(a=1).c
        assert dataclasses.replace(value, a=3).twice == 6
        with pytest.raises(ValueError, match="-1"):
            kind(a=-1)
        with pytest.raises(TypeError):
            hash(value)  # of a list
        with pytest.raises(dataclasses.FrozenInstanceError, match="assign to field 'a'"):
            value.a = 2
        with pytest.raises(dataclasses.FrozenInstanceError, match="delete field 'a'"):
            del value.a
        with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):  # the latter: a bug
            value.other = 2


@pytest.mark.parametrize("decorator", [dataclasses.dataclass, frozen.dataclass])
def test_own_methods_stay(decorator: Decorator) -> None:
    @decorator(frozen=True, order=True)
    class Value:
        """Compared by its first field."""

        a: int
        b: int = dataclasses.field(default=0, hash=False)

        def __repr__(self) -> str:
            return f"<{self.a}>"

    kind: Any = Value
    assert repr(kind(3)) == "<3>"
    assert hash(kind(1, 2)) == hash(kind(1, 3))
    assert sorted([kind(2), kind(1, 1), kind(1)]) == [kind(1), kind(1, 1), kind(2)]
    with pytest.raises(TypeError):
        assert kind(1) < 2


@pytest.mark.parametrize("kind", [Standard, Ours])
def test_a_slotted_one_can_be_copied_and_pickled(kind: type[Any]) -> None:
    assert copy.deepcopy(kind(1)) == kind(1)
    assert pickle.loads(pickle.dumps(kind(1))) == kind(1)


@pytest.mark.parametrize("decorator", [dataclasses.dataclass, frozen.dataclass])
def test_a_class_without_fields(decorator: Decorator) -> None:
    @decorator(frozen=True)
    class Nothing:
        """No fields."""

    assert Nothing() == Nothing()
    assert hash(Nothing()) == hash(Nothing())


def test_one_that_is_not_frozen_is_the_standard_one() -> None:
    value = made(frozen.dataclass, {})(1)
    value.a = 2
    assert value.twice == 4
