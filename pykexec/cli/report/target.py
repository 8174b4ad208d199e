"""The target of a command."""

from __future__ import annotations

from pykexec.frozen import dataclass

UNTOUCHED = "simulated: this machine is not armed; --backend kernel acts on its kernel"


@dataclass(frozen=True)
class Target:
    """`backend` is its name, `machine` the user's name of the machine."""

    backend: str
    machine: str
    unnamed: bool = False
    """A simulated machine that the user did not name."""

    def __str__(self) -> str:
        return f"{self.backend}, {self.machine}"

    @property
    def notice(self) -> str:
        """What a user who forgot --backend has to know; "" where nothing can be mistaken."""
        return UNTOUCHED if self.unnamed else ""
