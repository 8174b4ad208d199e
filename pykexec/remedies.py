"""What would help, as a value. Code that decides does not know option names: each program expresses
a remedy in its own terms, and for scripts it uses those of the API (fields of `LoadRequest`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from pykexec.frozen import dataclass


class Wish(Enum):
    """What a user can request from a program; the value is its name in the API."""

    APPEND = "append"
    BACKEND = "backend"
    CMDLINE_REMOVE = "cmdline_remove"
    CRASH_BY_NORMAL = "kind=crash-by-normal"
    CRASH = "kind=crash"
    CRASH_SIZE = "crash_size"
    DIRECT = "direct"
    DTB = "dtb"
    ENTRY = "entry"
    FORCE = "force"
    INITRD = "initrd"
    MACHINE = "machine"
    MEM_MAX = "mem_max"
    MEM_MIN = "mem_min"
    MODE = "mode"
    MODULE = "modules"
    NO_CHECKS = "checks=False"
    NO_INITRD_CHECK = "initrd_check=False"
    OUTPUT = "output"
    PROFILE = "profile"
    REAL_MODE = "real_mode"
    REPLACE = "replaces"
    RESERVATION = "crashkernel"
    ROOT = "root"
    SOURCE = "source"
    SYSCALL = "syscall"
    TYPE = "image_type"
    VERBOSE = "details"


Terms = Mapping["Wish | tuple[Wish, str]", str]
"""A program's terms: for a wish, or for a wish with a certain value."""
API: Terms = {wish: wish.value for wish in Wish}


class Remedy:
    """One thing that would help, or several."""

    def text(self, terms: Terms) -> str:
        """The text in a program's terms, without a capital letter and a full stop."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.text(API)


Advice = str | Remedy
"""Words that every program would use, or a remedy."""


def advised(advice: Advice, terms: Terms) -> str:
    return advice if isinstance(advice, str) else advice.text(terms)


def _term(terms: Terms, wish: Wish, value: str = "") -> str:
    """The words for a wish with this value."""
    if value and (wish, value) in terms:
        return terms[wish, value]
    return f"{terms[wish]} {value}" if value else terms[wish]


@dataclass(frozen=True, slots=True)
class Use(Remedy):
    """Ask for something; `rest` follows the words as it is, and says what for."""

    wish: Wish
    value: str = ""
    rest: str = ""

    def text(self, terms: Terms) -> str:
        return f"use {_term(terms, self.wish, self.value)}{self.rest}"


@dataclass(frozen=True, slots=True)
class Omit(Remedy):
    """Do not ask for something."""

    wish: Wish
    value: str = ""
    rest: str = ""

    def text(self, terms: Terms) -> str:
        return f"omit {_term(terms, self.wish, self.value)}{self.rest}"


@dataclass(frozen=True, slots=True)
class Another(Remedy):
    """Ask for something else: "another", "a smaller", "a shorter"."""

    how: str
    wish: Wish

    def text(self, terms: Terms) -> str:
        return f"use {self.how} {terms[self.wish]}"


@dataclass(frozen=True, slots=True)
class SmallerWindow(Remedy):
    """Less memory for the image."""

    def text(self, terms: Terms) -> str:
        return f"use a smaller window ({terms[Wish.CRASH_SIZE]}, {terms[Wish.MEM_MAX]})"


@dataclass(frozen=True, slots=True)
class WindowOfSize(Remedy):
    """A window with so many MiB."""

    mib: int
    rest: str = ""

    def text(self, terms: Terms) -> str:
        return f"use a window of {self.mib} MiB ({terms[Wish.CRASH_SIZE]}){self.rest}"


@dataclass(frozen=True, slots=True)
class WindowElsewhere(Remedy):
    """Other bounds of the window; `where` follows."""

    where: str

    def text(self, terms: Terms) -> str:
        return f"choose {terms[Wish.MEM_MIN]} and {terms[Wish.MEM_MAX]} {self.where}"


@dataclass(frozen=True, slots=True)
class Unload(Remedy):
    """Unload what is loaded, with a backend's name where that has to be said. Whoever loaded it,
    pykexec unload does it."""

    crash: bool
    backend: str = ""
    rest: str = ""

    def text(self, terms: Terms) -> str:
        crash = " --crash" if self.crash else ""
        backend = f" --backend {self.backend}" if self.backend else ""
        return f"run pykexec unload{crash}{backend}{self.rest}"


@dataclass(frozen=True, slots=True)
class Saying(Remedy):
    """A sentence that names wishes."""

    parts: tuple[Advice | Wish, ...]

    def text(self, terms: Terms) -> str:
        return "".join(
            terms[part] if isinstance(part, Wish) else advised(part, terms) for part in self.parts
        )


@dataclass(frozen=True, slots=True)
class AnyOf(Remedy):
    """Each of them helps."""

    items: tuple[Advice, ...]
    between: str = ", or "

    def text(self, terms: Terms) -> str:
        return self.between.join(advised(item, terms) for item in self.items)


def any_of(*items: Advice) -> Remedy:
    """One or another of these."""
    return AnyOf(items)


def saying(*parts: Advice | Wish) -> Remedy:
    """The parts, one behind the other."""
    return Saying(parts)


def and_also(*items: Advice) -> Remedy:
    """Several sentences; each is worth knowing."""
    return AnyOf(items, "; ")
