"""Addresses that the machine code of a function uses (Arm Architecture Reference Manual, C6.2).

The instructions are read in order, without following branches, so a result is a candidate only.
What is not known to keep a register makes it unknown: an address can be missed, for example one
that is computed before a call and used after it.
"""

from __future__ import annotations

import struct

from pykexec.frozen import dataclass

WORD = struct.Struct("<I")
ADRP_UNIT = 0x1000
"""Bytes that ADRP counts in, whatever the size of the kernel's pages."""
CALL_CHANGES = range(19)
"""x0 to x18 after a call (AAPCS64, 6.1.1)."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Those of atomic 32-bit words, those that are read as 64 bits, and all that are computed or
    read."""

    atomic: frozenset[int]
    read: frozenset[int]
    used: frozenset[int]


def addresses_in(code: bytes, start: int) -> Addresses:
    """Those in `code`, whole instructions at the virtual address `start`."""
    registers: dict[int, int] = {}
    atomic: set[int] = set()
    read: set[int] = set()
    computed: set[int] = set()
    for number, (word,) in enumerate(WORD.iter_unpack(code)):
        base = registers.get(word >> 5 & 31)
        if base is not None and _is_atomic(word):
            atomic.add(base)
        elif base is not None and (offset := _load_offset(word)) is not None:
            read.add(base + offset)
        target = _computed(word, start + WORD.size * number, base)
        for register in _changed(word):
            registers.pop(register, None)
        if target is not None:
            registers[word & 31] = target
            computed.add(target)
    return Addresses(frozenset(atomic), frozenset(read), frozenset(read | computed))


def _computed(word: int, at: int, base: int | None) -> int | None:
    """What ADRP, or ADD with an immediate, puts into its register."""
    if word & 0x9F000000 == 0x90000000:
        distance = (word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3
        return at - at % ADRP_UNIT + _signed(distance, 21) * ADRP_UNIT
    if word & 0xFF800000 == 0x91000000 and base is not None:
        return base + ((word >> 10 & 0xFFF) << (12 if word >> 22 & 1 else 0))
    return None


def _is_atomic(word: int) -> bool:
    """LDXR, LDAXR, CAS, CASA, CASL, CASAL and STLR of a W register."""
    if word & 0xFFA07C00 == 0x88A07C00:
        return True
    return word & 0xFFFFFC00 in (0x885F7C00, 0x885FFC00, 0x889FFC00)


def _load_offset(word: int) -> int | None:
    """Of LDR and LDP of X registers, without a change of the base."""
    if word & 0xFFC00000 == 0xF9400000:
        return (word >> 10 & 0xFFF) * 8
    if word & 0xFFC00000 == 0xA9400000:
        return _signed(word >> 15 & 0x7F, 7) * 8
    return None


def _changed(word: int) -> tuple[int, ...]:
    """Registers that an instruction may change: its destination, the second one of a pair, and the
    base, unless that is known to stay."""
    if word & 0x7C000000 == 0x14000000:  # B and BL; only a call changes registers
        return tuple(CALL_CHANGES) if word >> 31 else ()
    if word & 0xFFFFFC1F == 0xD63F0000:  # BLR
        return tuple(CALL_CHANGES)
    if _is_atomic(word) or word & 0xFFFFFC00 == 0xF9800000:  # and PRFM
        return (word & 31, word >> 16 & 31)
    if _load_offset(word) is not None:
        return (word & 31, word >> 10 & 31) if word >> 28 == 0xA else (word & 31,)
    if word & 0x0A000000 == 0x08000000:  # loads and stores
        return (word & 31, word >> 5 & 31, word >> 10 & 31, word >> 16 & 31)
    return (word & 31,)


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 else value
