"""How a crash by normal was armed, as a note in the ELF core headers: a dump shows neither the stub
nor its parameters, so that a report would not know.

The descriptor is KEY=VALUE lines, like VMCOREINFO: MODE, WINDOW_START and WINDOW_SIZE
(hexadecimal, bytes), WAIT (seconds) and LENT (bytes). Programs that read dumps ignore notes that
they do not know.
"""

from __future__ import annotations

from pykexec.abi.elf import NHDR
from pykexec.crash.notes import Note, vmcoreinfo_values
from pykexec.frozen import dataclass

NAME = b"PYKEXEC"
TYPE = 0x504B
MODES = frozenset(("flag", "kernel-swap", "stub-swap", "in-place", "lent"))
ROOM = 512
"""More than any of these notes has, in bytes."""
DIGITS_MAX = 20


@dataclass(frozen=True, slots=True)
class ArmedNote:
    """`window` is [start, end) in bytes, `wait` in seconds, `lent` in bytes."""

    mode: str
    window: tuple[int, int]
    wait: int
    lent: int

    @property
    def encoded(self) -> bytes:
        """The bytes of the note, with the empty header that ends the notes of a PT_NOTE."""
        start, end = self.window
        lines = (
            f"MODE={self.mode}", f"WINDOW_START={start:x}", f"WINDOW_SIZE={end - start:x}",
            f"WAIT={self.wait}", f"LENT={self.lent}",
        )  # fmt: skip
        text = "".join(f"{line}\n" for line in lines).encode()
        return Note(NAME, TYPE, text).encoded + bytes(NHDR.size)


def armed_note(desc: bytes) -> ArmedNote | None:
    """The values of a note in a dump; None if one is missing or damaged."""
    values = vmcoreinfo_values(desc[:ROOM])
    mode = values.get("MODE", "")
    start, size = _number(values, "WINDOW_START", 16), _number(values, "WINDOW_SIZE", 16)
    wait, lent = _number(values, "WAIT", 10), _number(values, "LENT", 10)
    if mode not in MODES or start is None or size is None or wait is None or lent is None:
        return None
    return ArmedNote(mode, (start, start + size), wait, lent)


def _number(values: dict[str, str], key: str, base: int) -> int | None:
    text = values.get(key, "")
    if not text.isascii() or not text.isalnum() or len(text) > DIGITS_MAX:
        return None
    try:
        return int(text, base)
    except ValueError:
        return None
