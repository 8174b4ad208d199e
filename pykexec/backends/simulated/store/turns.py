"""Turns: what is done to a machine between two states that its folder can be in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pykexec.backends.simulated.kernel.allocators import Order
from pykexec.backends.simulated.kernel.ram import Ram
from pykexec.backends.simulated.kernel.running import SimulatedKernel
from pykexec.backends.simulated.store.machine_folder import MachineFolder, Session
from pykexec.backends.simulated.store.machine_state import MachineState
from pykexec.errors import KexecError


@dataclass
class Turn:
    """What one session has done so far; it is committed at its end, as one."""

    session: Session
    kernel: SimulatedKernel
    memory: bool = False
    """Whether memory was changed on purpose: a call that failed leaves nothing in it."""

    def commit(self) -> None:
        before, state = self.session.state, self.kernel.state
        booted = state.phase is not before.phase
        if self.memory or state != before:
            self.session.commit(state, memory=self.memory or booted)


class Turns:
    """One after the other; a turn inside of a turn is a part of it."""

    def __init__(self, folder: MachineFolder, order: Order | None = None) -> None:
        self.folder = folder
        self.order = order
        self.current: Turn | None = None

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """The one that is open, or one of its own. What a refused call changed all the
        same (limits, a crash image that was freed) is kept."""
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
        """State and memory as they are, inside of a session or outside."""
        if self.current:
            yield self.current.kernel.state, self.current.session.ram
            return
        with self.folder.session(write=False) as session:
            yield session.state, session.ram
