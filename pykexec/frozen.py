"""The `dataclass` of this package: like that of the standard library, but faster to define if
frozen.

Python 3.11 compiles six functions for each frozen dataclass, which takes half a millisecond, and
a load defines more than a hundred classes before it does anything. Here __init__ is compiled when
it is first used, which most classes never are, and the other methods are shared. Fields, `replace`
and everything else are the standard library's; InitVar and init=False are not supported, and a
class and its bases use the same of the two decorators.
"""

from __future__ import annotations

import dataclasses
import operator

__all__ = ["dataclass"]

TYPE_CHECKING = False  # not from typing, as in errors.py
if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    from functools import partial
    from reprlib import recursive_repr

    def dataclass(cls=None, /, *, frozen=False, order=False, **options):
        """As dataclasses.dataclass."""
        if cls is None:
            return partial(dataclass, frozen=frozen, order=order, **options)
        if not frozen:
            return dataclasses.dataclass(cls, order=order, **options)
        made = dataclasses.dataclass(cls, init=False, repr=False, eq=False, **options)
        fields = dataclasses.fields(made)
        methods = {
            "__init__": _Initializer(made, fields),
            "__repr__": _representation,
            "__eq__": _comparison("__eq__", _key(f.name for f in fields if f.compare)),
            "__hash__": _hashing(_key(f.name for f in fields if _is_hashed(f))),
        }
        if order:
            key = _key(f.name for f in fields if f.compare)
            methods |= {name: _comparison(name, key) for name in _ORDER}
        if options.get("slots"):
            methods |= {"__getstate__": _state, "__setstate__": _set_state}
        for name, method in methods.items():
            if name not in cls.__dict__ or (name == "__hash__" and cls.__hash__ is None):
                setattr(made, name, method)
        made.__setattr__, made.__delattr__ = _refuse_setting, _refuse_deleting
        made.__match_args__ = tuple(f.name for f in fields if not f.kw_only)
        return made

    _ORDER = ("__lt__", "__le__", "__gt__", "__ge__")

    class _Factory:
        """The default of a field that has a factory."""

        def __repr__(self):
            return "<factory>"

    _NEW = _Factory()

    class _Initializer:
        """Replaces itself by the compiled __init__ of a class when that is first asked for."""

        def __init__(self, cls, fields):
            self.cls, self.fields = cls, fields

        def __get__(self, instance, owner=None):
            self.cls.__init__ = made = _initializer(self.cls, self.fields)
            return made.__get__(instance, owner)

    def _initializer(cls, fields):
        """One function that sets every field, then calls __post_init__ if there is one."""
        words, lines, names = ["self"], [], {"_set": object.__setattr__, "_new": _NEW}
        for f in sorted(fields, key=operator.attrgetter("kw_only")):
            if f.kw_only and "*" not in words:
                words.append("*")
            word = value = f.name
            if f.default is not dataclasses.MISSING:
                names[f"_{f.name}"] = f.default
                word = f"{f.name}=_{f.name}"
            elif f.default_factory is not dataclasses.MISSING:
                names[f"_{f.name}"] = f.default_factory
                word, value = f"{f.name}=_new", f"_{f.name}() if {f.name} is _new else {f.name}"
            words.append(word)
            lines.append(f" _set(self, {f.name!r}, {value})")
        if hasattr(cls, "__post_init__"):
            lines.append(" self.__post_init__()")
        exec(f"def __init__({', '.join(words)}):\n" + ("\n".join(lines) or " pass"), names)
        made = names["__init__"]
        made.__qualname__, made.__module__ = f"{cls.__qualname__}.__init__", cls.__module__
        made.__annotations__ = {f.name: f.type for f in fields} | {"return": None}
        return made

    def _is_hashed(f):
        return f.compare if f.hash is None else f.hash

    def _key(names):
        """Returns the values of an instance that are compared."""
        names = tuple(names)
        return operator.attrgetter(*names) if names else lambda _: ()

    def _comparison(name, key):
        compare = getattr(operator, name)

        def method(self, other):
            if other.__class__ is self.__class__:
                return compare(key(self), key(other))
            return NotImplemented

        method.__name__ = name
        return method

    def _hashing(key):
        return lambda self: hash(key(self))

    @recursive_repr()
    def _representation(self):
        shown = (f for f in dataclasses.fields(self) if f.repr)
        values = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in shown)
        return f"{self.__class__.__qualname__}({values})"

    def _refuse_setting(self, name, value):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def _refuse_deleting(self, name):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def _state(self):
        return [getattr(self, f.name) for f in dataclasses.fields(self)]

    def _set_state(self, state):
        for f, value in zip(dataclasses.fields(self), state, strict=True):
            object.__setattr__(self, f.name, value)
