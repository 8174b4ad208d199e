"""The command line, word by word, each with where it came from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pykexec.errors import DoesNotFit, UsageError
from pykexec.machine import Machine, known


class Origin(StrEnum):
    """Who asked for a word."""

    APPEND = "--append"
    RUNNING = "running kernel"
    CAPTURE = "capture kernel"


@dataclass(frozen=True, slots=True)
class Word:
    """One word of the line, quotes and all."""

    text: str
    origin: Origin

    @property
    def key(self) -> str:
        return key_of(self.text)


WORD = re.compile(r'(?:[^\s"]|"[^"]*"?)+', re.ASCII)
END_OF_PARAMETERS = "--"
"""What follows belongs to init (init/main.c)."""

ONE_BOOT_ONLY = frozenset({"BOOT_IMAGE", "kexec_jump_back_entry", "elfcorehdr"})
"""Keys that describe one boot, and lie about the next."""

FIRST_KERNEL_KEYS = ("crashkernel", "hugepages", "hugepagesz", "default_hugepagesz")
"""Never inherited by a capture kernel: they would take the memory it has to live in."""

CAPTURE_WORDS = (
    "nokaslr",
    "nr_cpus=1",
    "reset_devices",
    "irqpoll",
    "mce=off",
    "numa=off",
    "acpi_no_memhotplug",
)
"""What kdump scripts give a capture kernel, and nokaslr: it stays in its window."""


def split_words(text: str) -> tuple[str, ...]:
    """As lib/cmdline.c:next_arg: white space ends a word, unless inside double quotes."""
    return tuple(WORD.findall(text))


def key_of(word: str) -> str:
    """What stands before "="; - and _ are the same (kernel/params.c:parameq)."""
    return word.partition("=")[0].strip('"').replace("-", "_")


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The words in their order, one space between two."""

    words: tuple[Word, ...] = ()

    def __str__(self) -> str:
        return " ".join(word.text for word in self.words)

    def has(self, key: str) -> bool:
        """Whether any word has this key."""
        return any(word.key == key_of(key) for word in self.words)

    @property
    def encoded(self) -> bytes:
        """With the NUL that ends it; what was no UTF-8 comes out as it came in."""
        return str(self).encode(errors="surrogateescape") + b"\0"


def command_line(
    append: Iterable[str] = (),
    running: str | None = None,
    remove: Iterable[str] = (),
    capture: Iterable[str] = (),
) -> CommandLine:
    """`running` without one-boot words and `remove`d keys, then every `append`; then,
    before any "--", the `capture` words whose key nobody gave.

    Raises UsageError for control characters, which would end the line early.
    """
    dropped = {key_of(key) for key in remove} | ONE_BOOT_ONLY
    words = [
        Word(text, Origin.RUNNING)
        for text in split_words(running or "")
        if key_of(text) not in dropped
    ]
    for text in append:
        if bad := re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text):
            raise UsageError(
                f"control character {bad[0]!r} in the command line",
                hint="the kernel takes one line of text",
            )
        words += [Word(word, Origin.APPEND) for word in split_words(text)]
    own = {word.key for word in words}
    added = [Word(text, Origin.CAPTURE) for text in capture if key_of(text) not in own]
    at = next((i for i, word in enumerate(words) if word.text == END_OF_PARAMETERS), len(words))
    return CommandLine((*words[:at], *added, *words[at:]))


def running_line(machine: Machine, wanted: bool) -> str | None:
    """The running kernel's command line, where it is wanted. Raises NotSupported."""
    if not wanted:
        return None
    return known(machine.cmdline, f"--reuse-cmdline: the command line of {machine.name}")


class CommandLineTooLong(DoesNotFit):
    """Longer than the image's cmdline_size."""

    code = "cmdline-too-long"


def check_length(line: CommandLine, cmdline_size: int) -> None:
    """Against the limit (bytes, without the NUL) of the setup header."""
    length = len(line.encoded) - 1
    if length > cmdline_size:
        raise CommandLineTooLong(
            f"the command line has {length} bytes, this kernel takes {cmdline_size}",
            hint="drop words with --cmdline-remove, or a shorter --append",
            length=length,
            limit=cmdline_size,
        )
