"""Registers of a CPU, by the names of its architecture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """struct pt_regs at the beginning of pr_reg: registers of 8 bytes each, by name."""

    names: tuple[str, ...]
    ip: str
    sp: str
    in_user_mode: Callable[[dict[str, int]], bool]

    @property
    def size(self) -> int:
        return len(self.names) * 8


@dataclass(frozen=True, slots=True)
class Registers:
    """`values` by their names; registers that a partial frame did not save are missing."""

    values: dict[str, int]
    layout: Layout

    @classmethod
    def of(cls, layout: Layout, raw: bytes, first: str | None = None) -> Registers:
        """`raw` starts with the register `first`."""
        names = layout.names[layout.names.index(first) if first else 0 :]
        return cls(
            {
                name: int.from_bytes(raw[n * 8 : n * 8 + 8], "little")
                for n, name in enumerate(names)
            },
            layout,
        )

    @property
    def ip(self) -> int:
        return self.values[self.layout.ip]

    @property
    def sp(self) -> int:
        return self.values[self.layout.sp]

    @property
    def from_user(self) -> bool:
        """The CPU was not in the kernel."""
        return self.layout.in_user_mode(self.values)
