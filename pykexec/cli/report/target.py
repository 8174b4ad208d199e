"""What a command acted on."""

from __future__ import annotations

from pykexec.frozen import dataclass


@dataclass(frozen=True)
class Target:
    """`backend` is its name, `machine` how the user knows the machine."""

    backend: str
    machine: str

    def __str__(self) -> str:
        return f"{self.backend}, {self.machine}"
