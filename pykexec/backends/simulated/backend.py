"""The simulated kernel as a backend, and what only it can do: crash without harm."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pykexec.abi.kexec import KexecFlag
from pykexec.backends.backend import Loaded, LoadState, Slot
from pykexec.backends.simulated.allocators import Order
from pykexec.backends.simulated.binding import bind
from pykexec.backends.simulated.capture import SecondKernel
from pykexec.backends.simulated.kernel import SimulatedKernel
from pykexec.backends.simulated.kimage import KImage
from pykexec.backends.simulated.layout import Relocation
from pykexec.backends.simulated.machine_folder import MachineFolder, Session
from pykexec.backends.simulated.show import MachineShow, show
from pykexec.backends.simulated.switch import NothingLoaded, kernel_kexec, panic
from pykexec.backends.simulated.syscall import kexec_load
from pykexec.errors import KexecError, UsageError
from pykexec.machine import Machine, Unknown
from pykexec.memory.ranges import PhysRange
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


CRASH, NORMAL = Slot.CRASH, Slot.NORMAL


class SimulatedBackend:
    """kexec_load(2) on a machine folder. Each call is one session: it happens or it does not."""

    name = "simulated"

    def __init__(self, folder: MachineFolder, order: Order | None = None) -> None:
        """`order` overrides the machine's allocator, for tests."""
        self.folder = folder
        self.order = order

    def kernel(self, session: Session) -> SimulatedKernel:
        return SimulatedKernel(session.state, session.ram, self.order)

    def machine(self) -> Machine:
        """The facts, as the first kernel's /proc and /sys would have them."""
        with self.folder.session(write=False) as session:
            layout = session.state.layout
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

    def load(self, table: SegmentTable) -> Loaded:
        """Raises SyscallError, and what reading the contents raises."""
        with self.folder.session(write=True) as session:
            kernel = self.kernel(session)
            image = called(session, kernel, table)
            if image is None:
                raise UsageError("no segments: that is an unload")
            slot = next(slot for slot, held in kernel.images.items() if held is image)
            backup_map = None
            if not image.in_reservation and kernel.how_moved(image) is Relocation.SWAP:
                backup_map = image.page_list(session.ram).backup_map
            area = kernel.layout.vmcoreinfo
            note = session.ram.read(area.addr, area.size)
            session.commit(kernel.state)
            return Loaded(slot, backup_map, note)

    def bind_headers(self, addr: int, headers: bytes) -> None:
        """Into the crash image, or the normal one where no crash image has `addr`; with
        the seal. Raises NothingLoaded, NotInImage, DoesNotFit."""
        with self.folder.session(write=True) as session:
            kernel = self.kernel(session)
            images = [kernel.images[slot] for slot in (CRASH, NORMAL) if slot in kernel.images]
            if not images:
                raise NothingLoaded("no image is loaded that could take ELF core headers")
            span = PhysRange.sized(addr, max(1, len(headers)))
            image = next((image for image in images if image.covers(span)), images[0])
            bind(image, session.ram, addr, headers)
            session.commit(kernel.state)

    def unload(self, slot: Slot) -> None:
        """kexec_load with nr_segments 0. Raises SyscallError."""
        flags = KexecFlag.KEXEC_ON_CRASH if slot is Slot.CRASH else KexecFlag(0)
        with self.folder.session(write=True) as session:
            kernel = self.kernel(session)
            called(session, kernel, SegmentTable((), 0, flags))
            session.commit(kernel.state)

    def status(self) -> dict[Slot, LoadState]:
        with self.folder.session(write=False) as session:
            images = session.state.images
            return {
                slot: LoadState.LOADED if slot in images else LoadState.NOT_LOADED for slot in Slot
            }

    def show(self) -> MachineShow:
        """Whose each frame is."""
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


def called(session: Session, kernel: SimulatedKernel, table: SegmentTable) -> KImage | None:
    """kexec_load; what a refused call changed (limits, a crash image that was freed) is
    kept, and nothing else."""
    try:
        return kexec_load(kernel, table)
    except KexecError:
        session.commit(kernel.state, memory=False)
        raise
