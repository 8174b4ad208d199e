"""The command line, word by word, each with its origin."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from enum import StrEnum

from pykexec.errors import DoesNotFit, UsageError
from pykexec.frozen import dataclass
from pykexec.machine import Machine, known
from pykexec.remedies import Another, Use, Wish, any_of


class Origin(StrEnum):
    """The origin of a word."""

    APPEND = "append"
    RUNNING = "running kernel"
    CAPTURE = "capture kernel"


@dataclass(frozen=True, slots=True)
class Word:
    """One word of the line, with its quotes.

    `before` and `after` are the white space in the running kernel's line; "" stands for the
    default, one space between two words.
    """

    text: str
    origin: Origin
    before: str = ""
    after: str = ""

    @property
    def key(self) -> str:
        return key_of(self.text)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A word of the running kernel's line that the next kernel does not get, and why."""

    text: str
    why: str
    origin: Origin = Origin.RUNNING


SPACE = r"\t\n\v\f\r "
"""What the kernel's isspace accepts (lib/ctype.c), except byte 0xa0."""
WORD = re.compile(rf'([{SPACE}]*)((?:[^{SPACE}"]|"[^"]*"?)+)')
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
MEMPARSE = re.compile(r"(0[xX][0-9a-fA-F]{1,16}|0[0-7]{0,22}|[1-9][0-9]{0,19})([KMGTPEkmgtpe]?)")
UNITS = ("", "K", "M", "G", "T", "P", "E")
END_OF_PARAMETERS = "--"
"""The words that follow belong to init (init/main.c)."""

ONE_BOOT_ONLY = ("BOOT_IMAGE", "kexec_jump_back_entry", "elfcorehdr")
WHY_ONE_BOOT = "it describes a single boot"
"""Keys that would be wrong for the next kernel."""
WHY_REMOVED = "removed on request"

CAPTURE_WORDS = (
    "nokaslr",
    "nr_cpus=1",
    "reset_devices",
    "irqpoll",
    "numa=off",
    "acpi_no_memhotplug",
    "module_blacklist=virtio_balloon,hv_balloon",
    "panic=10",
)
"""The words that kdump scripts pass to a capture kernel of any architecture, and nokaslr, which
keeps it in its window.
A balloon driver would return its little memory to the host; if it panics, the machine must
reboot."""

LISTS = frozenset({"module_blacklist"})
"""Keys of lists for which the kernel uses only the last word: their values are joined."""

NOTHING_DROPPED: Mapping[str, str] = {}


def split_words(text: str) -> tuple[str, ...]:
    """Split a line as lib/cmdline.c:next_arg does: white space ends a word, unless inside double
    quotes."""
    return tuple(match[2] for match in WORD.finditer(text))


def key_of(word: str) -> str:
    """The part before "="; - and _ are equivalent (kernel/params.c:parameq)."""
    return word.partition("=")[0].strip('"').replace("-", "_")


def memparse(text: str) -> tuple[int, str] | None:
    """lib/cmdline.c:memparse: bytes, and the rest of the text; None if it is not a 64-bit
    number."""
    match = MEMPARSE.match(text)
    if not match:
        return None
    digits, suffix = match.groups()
    base = 16 if digits[:2].lower() == "0x" else 8 if digits[0] == "0" else 10
    number = int(digits, base) << 10 * UNITS.index(suffix.upper())
    return (number, text[match.end() :]) if number < 1 << 64 else None


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The words in order, and what was dropped from the running kernel's line."""

    words: tuple[Word, ...] = ()
    dropped: tuple[Dropped, ...] = ()

    def __str__(self) -> str:
        return "".join(
            f"{word.before or (' ' if number else '')}{word.text}{word.after}"
            for number, word in enumerate(self.words)
        )

    def has(self, key: str) -> bool:
        """Whether any word has this key."""
        return any(word.key == key_of(key) for word in self.words)

    @property
    def encoded(self) -> bytes:
        """The bytes of the line with the terminating NUL; bytes that are not UTF-8 are
        preserved."""
        return str(self).encode(errors="surrogateescape") + b"\0"


def command_line(
    append: Iterable[str] = (),
    running: str | None = None,
    remove: Iterable[str] = (),
    capture: Iterable[str] = (),
    drop: Mapping[str, str] = NOTHING_DROPPED,
) -> CommandLine:
    """The line of the next kernel.

    `running` comes first, byte for byte as in the running kernel (IMA measures the line), without
    words for a single boot, the keys of `remove` and those of `drop` (with a reason for each).
    Every `append` follows, with one space between words. The `capture` words precede any "--"; they
    are overridden by the user's word with the same key, and override an inherited one. A list gets
    the values of all three.

    Raises UsageError for a control character inside a word, which would end the line early.
    """
    appended = [Word(text, Origin.APPEND) for text in _appended_words(append)]
    own = {word.key for word in appended} - LISTS
    inherited_texts = [] if running is None else [match[2] for match in WORD.finditer(running)]
    lists = [*inherited_texts, *(word.text for word in appended)]
    added = [
        Word(_joined(text, lists), Origin.CAPTURE) for text in capture if key_of(text) not in own
    ]
    reasons = {
        **{word.key: f"{word.text} replaces it" for word in added},
        **{key_of(key): why for key, why in drop.items()},
        **dict.fromkeys((key_of(key) for key in remove), WHY_REMOVED),
        **dict.fromkeys(ONE_BOOT_ONLY, WHY_ONE_BOOT),
    }
    inherited, dropped = without(_inherited_words(running or ""), reasons)
    words = [*inherited, *appended]
    at = next((i for i, word in enumerate(words) if word.text == END_OF_PARAMETERS), len(words))
    return CommandLine((*words[:at], *added, *words[at:]), dropped)


def _joined(text: str, others: Iterable[str]) -> str:
    """A word of `LISTS` with the values of all words with the same key, without duplicates."""
    key, _, value = text.partition("=")
    if key_of(text) not in LISTS:
        return text
    same = [other.partition("=")[2].strip('"') for other in others if key_of(other) == key_of(text)]
    values = (item for found in (*same, value) for item in found.split(",") if item)
    return f"{key}={','.join(dict.fromkeys(values))}"


def _appended_words(append: Iterable[str]) -> Iterator[str]:
    """The words of every --append, in order. Raises UsageError."""
    for text in append:
        for word in split_words(text):
            if bad := CONTROL.search(word):
                raise UsageError(
                    f"control character {bad[0]!r} in the command line",
                    hint="the command line is a single line of text",
                )
            yield word


def _inherited_words(running: str) -> tuple[Word, ...]:
    """The words of the running kernel's line, with its white space."""
    matches = [*WORD.finditer(running)]
    ends = [""] * (len(matches) - 1) + [running[match.end() :] for match in matches[-1:]]
    return tuple(
        Word(match[2], Origin.RUNNING, match[1], after)
        for match, after in zip(matches, ends, strict=True)
    )


def without(
    words: tuple[Word, ...], reasons: Mapping[str, str]
) -> tuple[tuple[Word, ...], tuple[Dropped, ...]]:
    """The words whose key has no reason against it, and the others. The white space after a word is
    dropped with it. Words after "--" belong to init, and stay."""
    kept: list[Word] = []
    dropped: list[Dropped] = []
    before: str | None = None
    parameters = True
    for word in words:
        parameters = parameters and word.text != END_OF_PARAMETERS
        if parameters and word.key in reasons:
            dropped.append(Dropped(word.text, reasons[word.key]))
            before = word.before if before is None else before
            continue
        kept.append(word if before is None else replace(word, before=before))
        before = None
    return tuple(kept), tuple(dropped)


def running_line(machine: Machine, wanted: bool) -> str | None:
    """The running kernel's command line, if wanted. Raises NotSupported."""
    if not wanted:
        return None
    return known(machine.cmdline, f"the command line of {machine.name}, which is to be reused,")


class CommandLineTooLong(DoesNotFit):
    """A command line that is longer than the image accepts."""

    code = "cmdline-too-long"


FILE_LOAD_SPARE = 30 + 1
"""arch/x86/kernel/kexec-bzimage64.c:bzImage64_load reserves MAX_ELFCOREHDR_STR_LEN (30) bytes for
elfcorehdr= in every load, also of a normal image, and counts the NUL."""


def file_load_limit(cmdline_size: int) -> int:
    """The longest line that kexec_file_load accepts, in bytes without the NUL: 2016 of 2047."""
    return max(cmdline_size - FILE_LOAD_SPARE, 0)


SHORTEN = any_of(Use(Wish.CMDLINE_REMOVE, rest=" to drop words"), Another("a shorter", Wish.APPEND))


def check_length(line: CommandLine, limit: int, who: str = "this kernel") -> None:
    """Check against the limit of `who`, in bytes without the NUL. Raises CommandLineTooLong."""
    length = len(line.encoded) - 1
    if length > limit:
        raise CommandLineTooLong(
            f"the command line has {length} bytes, but {who} accepts only {limit}",
            hint=SHORTEN,
            length=length,
            limit=limit,
        )
