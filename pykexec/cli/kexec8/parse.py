"""Parses words as getopt_long(3) does: short options can be combined, long ones abbreviated as long
as they are unique, operands can be anywhere. Nothing depends on the order of options."""

from __future__ import annotations

import getopt
from collections.abc import Sequence
from pathlib import Path

from pykexec.cli.kexec8.options import ADDRESSES, BY_LONG, BY_SHORT, OPTIONS, Handling, Option
from pykexec.errors import UsageError
from pykexec.frozen import dataclass

SHORT = "".join(short + ":" * bool(option.argument) for short, option in BY_SHORT.items())
LONG = [option.long + "=" * bool(option.argument) for option in OPTIONS]
ADDRESS_LIMIT = 1 << 64
HELP = "see pykexec-kexec --help"
NEVER_EMPTY = {"FILE": "file name", '"FILE ARGS"': "file name"}
"""Arguments that must not be empty (as from a script's unset variable), and what they are. For
numbers and image types the value itself is checked."""
DECIMAL_ONLY = frozenset("0123456789")


class BadCommandLine(UsageError):
    """Words that are not a valid command line of kexec(8)."""

    exit_status = 1


@dataclass(frozen=True)
class Words:
    """The parsed words: options by their key, with every argument; `operands` has the kernel."""

    values: dict[str, tuple[str, ...]]
    given: tuple[Option, ...]
    """Each given option once, in the order of the table."""
    operands: tuple[str, ...]

    def has(self, key: str) -> bool:
        return key in self.values

    def all(self, key: str) -> tuple[str, ...]:
        return self.values.get(key, ())

    def one(self, key: str) -> str | None:
        """The only argument; two different ones are an error."""
        found = self.all(key)
        if len(set(found)) > 1:
            option = next(item for item in OPTIONS if item.key == key)
            raise BadCommandLine(f"--{option.long} is given twice: {found[0]} and {found[1]}")
        return found[0] if found else None

    def address(self, key: str) -> int | None:
        assert key in ADDRESSES
        text = self.one(key)
        return None if text is None else address(key, text)

    def files(self, key: str) -> tuple[Path, ...]:
        return tuple(map(Path, self.all(key)))

    @property
    def kernel(self) -> Path | None:
        return Path(self.operands[0]) if self.operands else None


SHOWN = 80
"""Characters of an unknown option to show."""


def parse(words: Sequence[str]) -> Words:
    """Parse the words of a command line. Raises BadCommandLine."""
    try:
        pairs, operands = getopt.gnu_getopt(list(words), SHORT, LONG)
    except getopt.GetoptError as error:
        shown = error.opt if len(error.opt) <= SHOWN else f"{error.opt[:SHOWN]}..."
        raise BadCommandLine(error.msg.replace(error.opt, shown), hint=HELP) from None
    values: dict[str, list[str]] = {}
    seen = set()
    for name, argument in pairs:
        option = BY_LONG[name[2:]] if name.startswith("--") else BY_SHORT[name[1:]]
        if not argument and option.handling is Handling.SERVED and option.argument in NEVER_EMPTY:
            raise BadCommandLine(
                f"--{option.long}: empty {NEVER_EMPTY[option.argument]}", hint=HELP
            )
        values.setdefault(option.key, []).append(argument)
        seen.add(option.long)
    if "" in operands:
        raise BadCommandLine("the kernel operand is empty", hint=HELP)
    return Words(
        {key: tuple(found) for key, found in values.items()},
        tuple(option for option in OPTIONS if option.long in seen),
        tuple(operands),
    )


def address(key: str, text: str) -> int:
    """A number as strtoul(3) reads it with base 0, for the complete text and below 2^64: decimal,
    0x hexadecimal, 0 octal."""
    digits = text.strip().removeprefix("+")
    octal = len(digits) > 1 and digits[0] == "0" and set(digits) <= DECIMAL_ONLY
    try:
        if "_" in digits:
            raise ValueError(digits)
        number = int(digits, 8 if octal else 0)
    except ValueError:
        number = -1
    if not 0 <= number < ADDRESS_LIMIT:
        name = key.replace("_", "-")
        raise BadCommandLine(
            f"Bad option value in --{name}={text}",
            hint="give a decimal, hexadecimal (0x) or octal (0) number",
        )
    return number
