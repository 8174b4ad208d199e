"""Turns: the changes to a machine between two states of its folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.backends.simulated.kernel.running import SimulatedKernel
from pykexec.errors import KexecError

if TYPE_CHECKING:
    from pykexec.backends.simulated.kernel.allocators import Order
    from pykexec.backends.simulated.kernel.ram import Ram
    from pykexec.backends.simulated.store.machine_folder import FolderTurn, MachineFolder
    from pykexec.backends.simulated.store.machine_state import MachineState


@dataclass
class Turn:
    """What one session has done so far; it is committed as a whole at its end."""

    session: FolderTurn
    kernel: SimulatedKernel
    memory: bool = False
    """Whether memory was changed on purpose: a failed call does not change it."""

    def commit(self) -> None:
        before, state = self.session.state, self.kernel.state
        booted = state.phase is not before.phase
        if self.memory or state != before:
            self.session.commit(state, memory=self.memory or booted)


class Turns:
    """Turns in sequence; a turn inside a turn is a part of it."""

    def __init__(self, folder: MachineFolder, order: Order | None = None) -> None:
        self.folder = folder
        self.order = order
        self.current: Turn | None = None

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """The open turn, or a new one. What a failed call still changed (limits, a freed crash
        image) is kept."""
        if self.current:
            yield self.current
            return
        with self.folder.session(write=True) as session:
            self.current = Turn(session, SimulatedKernel(session.state, session.ram, self.order))
            try:
                yield self.current
            except KexecError:
                self.current.commit()
                raise
            else:
                self.current.commit()
            finally:
                self.current = None

    @contextmanager
    def reading(self) -> Iterator[tuple[MachineState, Ram]]:
        """The present state and memory, inside a session or outside."""
        if self.current:
            yield self.current.kernel.state, self.current.session.ram
            return
        with self.folder.session(write=False) as session:
            yield session.state, session.ram
