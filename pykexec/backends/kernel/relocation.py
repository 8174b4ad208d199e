"""What this kernel does with a normal image at the switch: swap pages, or copy them.

Derived from architecture, symbols, build options and release; never by a trial load, which would
count against a load limit and replace the loaded image (kernel-contract 3.1, 11).
"""

from __future__ import annotations

import re
from enum import StrEnum

from pykexec.abi.kexec import KexecFlag
from pykexec.frozen import dataclass
from pykexec.machine import Machine, Unknown, version

SWAP_SINCE = (2, 6, 30)
"""x86_64 swaps on every kexec since it supports kexec jump."""
COPY_SINCE = (6, 14, 0)
"""Commit 9e5683e2d0b5: swap only if the context is preserved."""


class Move(StrEnum):
    """What happens to the old contents of a destination page."""

    SWAP = "swap"
    COPY = "copy"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Relocation:
    """`plain` is what a kexec without flags does, `preserve_context` what it does with
    KEXEC_PRESERVE_CONTEXT; None if the kernel refuses that flag."""

    plain: Move
    preserve_context: Move | None
    why: str

    @property
    def swap_flags(self) -> KexecFlag | None:
        """The flags of a load whose pages will be swapped; None if there are none."""
        if self.plain is Move.SWAP:
            return KexecFlag(0)
        if self.preserve_context is Move.SWAP:
            return KexecFlag.KEXEC_PRESERVE_CONTEXT
        return None


def relocation(machine: Machine) -> Relocation:
    """For a normal image; a crash image is never relocated, in any version."""
    if machine.architecture != "x86_64":
        return _other_architecture(machine.architecture)
    plain, why = _plain_move(machine)
    jump = machine.option("CONFIG_KEXEC_JUMP")
    if isinstance(jump, Unknown):
        return Relocation(plain, Move.UNKNOWN, f"{why}; KEXEC_JUMP {jump}")
    if jump != "y":
        return Relocation(plain, None, f"{why}; CONFIG_KEXEC_JUMP is not set")
    return Relocation(plain, Move.SWAP, f"{why}; CONFIG_KEXEC_JUMP=y")


def _plain_move(machine: Machine) -> tuple[Move, str]:
    """Without flags, on x86_64. The symbol takes precedence over the release: distributions
    backport changes."""
    release = version(machine.release) if isinstance(machine.release, str) else None
    if isinstance(machine.symbols, frozenset) and "kexec_pa_swap_page" in machine.symbols:
        return Move.COPY, "it has the symbol kexec_pa_swap_page"
    if release is None:
        return Move.UNKNOWN, f"release {machine.release}"
    name = ".".join(str(part) for part in release)
    if release >= COPY_SINCE:
        return Move.COPY, f"Linux {name} is 6.14 or later"
    if release < SWAP_SINCE:
        return Move.COPY, f"Linux {name} is older than 2.6.30"
    if isinstance(machine.symbols, Unknown):
        return Move.SWAP, f"Linux {name} is older than 6.14, according to its release only"
    return Move.SWAP, f"Linux {name} is older than 6.14, and has no kexec_pa_swap_page"


def _other_architecture(architecture: str | Unknown) -> Relocation:
    """i386 swaps since 2.6.27, but pykexec has no stub for it; the others copy."""
    if isinstance(architecture, Unknown):
        return Relocation(Move.UNKNOWN, Move.UNKNOWN, f"architecture {architecture}")
    if re.fullmatch(r"i[3-6]86", architecture):
        return Relocation(Move.UNKNOWN, Move.UNKNOWN, f"unknown for {architecture}")
    return Relocation(Move.COPY, None, f"{architecture} copies")
