"""What a command has to say, as a value: the flow's result, and which backend and
machine it is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pykexec.backends.backend import LoadState, Slot
    from pykexec.decide import Planned
    from pykexec.load import LoadedPlan


@dataclass(frozen=True)
class Target:
    """`backend` is its name, `machine` how the user knows the machine."""

    backend: str
    machine: str


@dataclass(frozen=True)
class LoadReport:
    """`done` is None after a dry run."""

    target: Target
    planned: Planned
    done: LoadedPlan | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        bound = self.done.bound if self.done else None
        return (*self.planned.plan.warnings, *(bound.warnings if bound else ()))


@dataclass(frozen=True)
class UnloadReport:
    """`was` is what the slot held before."""

    target: Target
    slot: Slot
    was: LoadState


@dataclass(frozen=True)
class StatusReport:
    target: Target
    slots: dict[Slot, LoadState]

    @property
    def anything(self) -> bool:
        """Unknown is not loaded."""
        from pykexec.backends.backend import LoadState

        return LoadState.LOADED in self.slots.values()
