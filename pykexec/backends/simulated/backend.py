"""The simulated kernel as a backend, and what only it can do: crash without harm."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pykexec.abi.kexec import KexecFlag
from pykexec.backends.backend import HeadersWish, Loaded, LoadState, Slot
from pykexec.backends.simulated.allocators import Order, Policy
from pykexec.backends.simulated.binding import bind, holds
from pykexec.backends.simulated.capture import SecondKernel
from pykexec.backends.simulated.gates import Gates
from pykexec.backends.simulated.kernel import SimulatedKernel
from pykexec.backends.simulated.layout import Relocation
from pykexec.backends.simulated.machine_folder import GIB, MachineFolder, Session
from pykexec.backends.simulated.machine_state import MachineState
from pykexec.backends.simulated.show import MachineShow, show
from pykexec.backends.simulated.switch import NothingLoaded, kernel_kexec, panic
from pykexec.backends.simulated.syscall import kexec_load
from pykexec.errors import KexecError, NotSupported, UsageError
from pykexec.machine import Machine, Unknown
from pykexec.memory.ranges import PhysRange
from pykexec.placement.plan import LoadRequest, Mode, PlacementPlan
from pykexec.placement.segment import SegmentTable

KCONFIG = {
    "CONFIG_KEXEC": "y",
    "CONFIG_CRASH_DUMP": "y",
    "CONFIG_PROC_VMCORE": "y",
    "CONFIG_RELOCATABLE": "y",
}


@dataclass(frozen=True, slots=True)
class Switched:
    """A second kernel ran."""

    cmdline: str
    checked: tuple[PhysRange, ...]
    """Regions that the stub found unchanged."""
    vmcore: Path | None
    """The dump; None when the second kernel is no capture kernel."""
    vmcore_size: int = 0
    """Bytes, holes included."""
    loads: int = 0
    """PT_LOADs in it."""


@dataclass
class Turn:
    """What one session has done so far; it is committed at its end, as one."""

    session: Session
    kernel: SimulatedKernel
    memory: bool = False
    """Whether memory was changed on purpose: a call that failed leaves nothing in it."""

    def commit(self) -> None:
        state = self.kernel.state
        if self.memory or state != self.session.state:
            self.session.commit(state, memory=self.memory)


class SimulatedBackend:
    """kexec_load(2) on a machine folder.

    Each call is one turn, or all calls inside of `session()` are one: it happens as a
    whole or not at all, whenever the process is killed.
    """

    name = "simulated"

    def __init__(self, folder: MachineFolder, order: Order | None = None) -> None:
        """`order` overrides the machine's allocator, for tests."""
        self.folder = folder
        self.order = order
        self.current: Turn | None = None

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        memory: int = GIB,
        seed: int = 0,
        used: int = 40,
        allocator: Policy | str = Policy.RANDOM,
        relocate: Relocation | str = Relocation.SWAP,
        crashkernel: int | None = None,
        from_machine: Machine | None = None,
    ) -> SimulatedBackend:
        """A new machine; raises as MachineFolder.create does."""
        return cls(
            MachineFolder.create(
                path, memory, seed, used, allocator, relocate, crashkernel, from_machine
            )
        )

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> SimulatedBackend:
        """A machine that is there; raises as MachineFolder.open does."""
        return cls(MachineFolder.open(path))

    def kernel(self, session: Session) -> SimulatedKernel:
        return SimulatedKernel(session.state, session.ram, self.order)

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """The one that is open, or one of its own. What a refused call changed all the
        same (limits, a crash image that was freed) is kept."""
        if self.current:
            yield self.current
            return
        with self.folder.session(write=True) as session:
            self.current = Turn(session, self.kernel(session))
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
    def session(self) -> Iterator[None]:
        """Everything inside is one turn."""
        with self.turn():
            yield

    @contextmanager
    def reading(self) -> Iterator[MachineState]:
        """The state as it is, inside of a session or outside."""
        if self.current:
            yield self.current.kernel.state
            return
        with self.folder.session(write=False) as session:
            yield session.state

    def machine(self) -> Machine:
        """The facts, as the first kernel's /proc and /sys would have them."""
        with self.reading() as state:
            layout = state.layout
            return Machine(
                name=str(self.folder.path),
                memory_map=layout.memory_map,
                memory_map_source="simulated",
                kernel_image=layout.kernel_image,
                crash_kernel=layout.reserved,
                release=layout.release,
                cmdline=layout.cmdline,
                totalram=layout.totalram,
                cpus=layout.cpus,
                vmcoreinfo=layout.vmcoreinfo,
                page_offset_base=layout.page_offset_base,
                boot_params=Unknown("the simulated machine has no firmware"),
                acpi_rsdp=Unknown("the simulated machine has no firmware"),
                config=dict(KCONFIG),
            )

    def prepare(self, machine: Machine, request: LoadRequest, headers: HeadersWish) -> LoadRequest:
        """Mode *flag*: the headers are a segment, and nothing is needed besides."""
        if request.mode not in (None, Mode.FLAG):
            raise NotSupported(
                f"mode {request.mode} is for the real kernel",
                hint="--mode flag, which the simulated kernel knows",
            )
        return replace(request, mode=Mode.FLAG)

    def abandon(self) -> None:
        """`prepare` took nothing."""

    def load(self, table: SegmentTable, plan: PlacementPlan | None = None) -> Loaded:
        """kexec_load(2). Raises SyscallError, and what reading the contents raises."""
        with self.turn() as turn:
            kernel, ram = turn.kernel, turn.session.ram
            image = kexec_load(kernel, table)
            if image is None:
                raise UsageError("no segments: that is an unload")
            turn.memory = True
            slot = next(slot for slot, held in kernel.images.items() if held is image)
            backup_map = None
            if not image.in_reservation and kernel.how_moved(image) is Relocation.SWAP:
                backup_map = image.page_list(ram).backup_map
            area = kernel.layout.vmcoreinfo
            return Loaded(slot, backup_map, ram.read(area.addr, area.size))

    def bind_headers(self, addr: int, headers: bytes) -> None:
        """Into the crash image, or the normal one where no crash image has `addr`.
        Raises NothingLoaded, NotInImage, DoesNotFit."""
        with self.turn() as turn:
            loaded = turn.kernel.images
            images = [loaded[slot] for slot in (Slot.CRASH, Slot.NORMAL) if slot in loaded]
            if not images:
                raise NothingLoaded("no image is loaded that could take ELF core headers")
            image = next((image for image in images if holds(image, addr)), images[0])
            bind(image, turn.session.ram, addr, headers)
            turn.memory = True

    def unload(self, slot: Slot) -> None:
        """kexec_load with nr_segments 0. Raises SyscallError."""
        flags = KexecFlag.KEXEC_ON_CRASH if slot is Slot.CRASH else KexecFlag(0)
        with self.turn() as turn:
            kexec_load(turn.kernel, SegmentTable((), 0, flags))

    def set_gates(self, gates: Gates) -> None:
        """Privilege, sysctls, lockdown and the kexec lock, as the next calls will meet them."""
        with self.turn() as turn:
            turn.kernel.gates = gates

    def status(self) -> dict[Slot, LoadState]:
        with self.reading() as state:
            return {
                slot: LoadState.LOADED if slot in state.images else LoadState.NOT_LOADED
                for slot in Slot
            }

    def show(self) -> MachineShow:
        """Whose each frame is."""
        if self.current:
            return show(self.current.kernel)
        with self.folder.session(write=False) as session:
            return show(self.kernel(session))

    def crash(self) -> Switched:
        """A panic. The dump is the folder's `vmcore` afterwards.

        When the capture kernel does not come up, the machine stays as it was before: see
        what was wrong, and try again. Raises NothingLoaded, SwitchFailed (DigestMismatch),
        VmcoreNotInitialized.
        """
        return self.switch(panic)

    def exec(self) -> Switched:
        """`kexec -e`: start the normal image. Raises as `crash` does."""
        return self.switch(kernel_kexec)

    def switch(self, way: Callable[[SimulatedKernel], SecondKernel]) -> Switched:
        with self.folder.session(write=True) as session:
            kernel = self.kernel(session)
            second = way(kernel)
            vmcore = second.vmcore
            if vmcore:
                fd = session.new_vmcore()
                try:
                    vmcore.write(fd)
                finally:
                    os.close(fd)
            session.commit(kernel.state, vmcore=vmcore is not None)
            return Switched(
                cmdline=second.cmdline,
                checked=second.checked,
                vmcore=self.folder.vmcore if vmcore else None,
                vmcore_size=vmcore.size if vmcore else 0,
                loads=len(vmcore.pages) if vmcore else 0,
            )
