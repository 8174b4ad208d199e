"""The simulated kernel as a backend, which can also crash without harm."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pykexec.abi.kexec import KexecFlag
from pykexec.arch import X86_64
from pykexec.backends.backend import Loaded, LoadState, NothingLoaded, Slot
from pykexec.backends.region import CrashRegion, default_size, existing, present, size_refusal
from pykexec.backends.simulated.kernel.allocators import Order, Policy
from pykexec.backends.simulated.kernel.blocks import memory_blocks
from pykexec.backends.simulated.kernel.crash_size import shrink
from pykexec.backends.simulated.kernel.kimage import bind
from pykexec.backends.simulated.kernel.layout import RelocateKernel
from pykexec.backends.simulated.kernel.running import SimulatedKernel
from pykexec.backends.simulated.kernel.syscall import kexec_load
from pykexec.backends.simulated.lent import lend
from pykexec.backends.simulated.region import forget as forget_region
from pykexec.backends.simulated.region import make as make_region
from pykexec.backends.simulated.region import release as release_region
from pykexec.backends.simulated.second.switch import kernel_kexec, panic
from pykexec.backends.simulated.show import MachineShow, show
from pykexec.backends.simulated.store.json_fields import choose
from pykexec.backends.simulated.store.machine_folder import MachineFolder
from pykexec.backends.simulated.store.machine_state import MachineState
from pykexec.backends.simulated.store.new_machine import new_layout
from pykexec.backends.simulated.store.turns import Turns
from pykexec.errors import NotSupported, UsageError
from pykexec.machine import KexecState, Machine, Modules, PcFirmware, Unknown
from pykexec.placement.granted import RNG_SEED_SIZE, Granted
from pykexec.placement.panic_modes import staged_regions
from pykexec.placement.plan import PanicPlan, Plan
from pykexec.placement.request import ImageKind, LoadRequest, Mode
from pykexec.placement.segment import SegmentTable
from pykexec.remedies import Unload, Use, Wish

if TYPE_CHECKING:
    from pykexec.backends.simulated.kernel.gates import Gates
    from pykexec.backends.simulated.second.second_kernel import SecondKernel
    from pykexec.images.kernel_image import KernelImage
    from pykexec.memory.blocks import MemoryBlock
    from pykexec.memory.ranges import PhysRange
    from pykexec.placement.bind import BoundPlan
    from pykexec.placement.stage import StageFrames
    from pykexec.purgatory import Region

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
    """Regions that the stub verified."""
    vmcore: Path | None
    """The dump; None if the second kernel is not a capture kernel."""
    vmcore_size: int = 0
    """Bytes, holes included."""
    loads: int = 0
    """Number of PT_LOADs in the dump."""


NO_FIRMWARE = Unknown("the simulated machine has no firmware")


class SimulatedBackend:
    """kexec_load(2) on a machine folder.

    Each call is one turn, or all calls inside `session()` are one. A turn is completed or has no
    effect, whenever the process is killed.
    """

    name = "simulated"

    def __init__(self, folder: MachineFolder, order: Order | None = None) -> None:
        """`order` overrides the machine's allocator, for tests."""
        self.folder = folder
        self.turns = Turns(folder, order)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        memory: int = 1 << 30,
        seed: int = 0,
        used: int = 40,
        allocator: Policy | str = Policy.RANDOM,
        relocate: RelocateKernel | str = RelocateKernel.SWAP,
        crashkernel: int | None = None,
        from_machine: Machine | None = None,
    ) -> SimulatedBackend:
        """A new machine: `memory`, `crashkernel` in bytes, `used` in percent of memory. Raises
        NotEmpty, UsageError, DoesNotFit, FolderFailed."""
        moved = choose(RelocateKernel, relocate)
        layout = new_layout(
            memory,
            seed=seed,
            used=used,
            crashkernel=crashkernel,
            relocate=moved,
            from_machine=from_machine,
        )
        state = MachineState(layout, choose(Policy, allocator), moved, seed)
        return cls(MachineFolder.create(path, state))

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> SimulatedBackend:
        """An existing machine. Raises as MachineFolder.open does."""
        return cls(MachineFolder.open(path))

    @contextmanager
    def session(self) -> Iterator[None]:
        """Everything inside is one turn."""
        with self.turns.turn():
            yield

    def machine(self) -> Machine:
        """The facts, as the first kernel's /proc and /sys would show them."""
        with self.turns.reading() as (state, _):
            layout = state.layout
            return Machine(
                name=str(self.folder.path),
                memory_map=layout.memory_map,
                memory_map_source="simulated",
                console=None,
                kernel_image=layout.kernel_image,
                crash_kernel=layout.reserved,
                release=layout.release,
                cmdline=layout.cmdline,
                architecture=X86_64.name,
                page_size=X86_64.page_size,
                totalram=layout.totalram,
                cpus=layout.cpus,
                vmcoreinfo=layout.vmcoreinfo,
                page_offset_base=layout.page_offset_base,
                firmware=PcFirmware(boot_params=NO_FIRMWARE, acpi_rsdp=NO_FIRMWARE),
                config=dict(KCONFIG),
                kexec=KexecState(crash_size=layout.reserved.size),
                modules=Modules(region_inserted=layout.region_made),
                memory_blocks=memory_blocks(layout),
                balloons=(),
                swap_in_memory=(),
            )

    @contextmanager
    def granted(
        self, image: KernelImage, machine: Machine, request: LoadRequest
    ) -> Iterator[Granted]:
        """Mode *flag*: the headers are a segment, and no other memory is needed. Mode *lent*: huge
        pages, and a window in memory blocks that are made movable."""
        seed = os.urandom(RNG_SEED_SIZE)
        if request.kind is not ImageKind.CRASH_BY_NORMAL:
            yield Granted(rng_seed=seed)
            return
        if request.mode is Mode.LENT:
            with self.lent(image, machine, request) as stage:
                yield Granted(Mode.LENT, "requested by the user", stage=stage, rng_seed=seed)
            return
        if request.mode not in (None, Mode.FLAG):
            raise NotSupported(
                f"mode {request.mode} is for the real kernel",
                hint=Use(Wish.MODE, "flag", " or lent, which the simulated kernel supports"),
            )
        why = "the simulated kernel supports KEXEC_CRASH_BY_NORMAL"
        yield Granted(Mode.FLAG, why, rng_seed=seed)

    @contextmanager
    def lent(
        self, image: KernelImage, machine: Machine, request: LoadRequest
    ) -> Iterator[StageFrames]:
        """The stage of mode *lent*; given back if the block raises."""
        with self.turns.turn() as turn:
            if turn.kernel.stage:
                raise UsageError("a crash by normal is loaded already", hint=Unload(crash=True))
            try:
                stage = lend(turn.kernel, image, machine, request)
                turn.memory = True
                yield stage
            except BaseException:
                turn.kernel.end_stage()
                raise

    @property
    def left_blocks(self) -> tuple[MemoryBlock, ...]:
        return ()

    def read_vmcoreinfo(self, machine: Machine) -> bytes:
        """The note as it is in memory."""
        if isinstance(machine.vmcoreinfo, Unknown):
            return b""
        with self.turns.reading() as (_, ram):
            return ram.read(machine.vmcoreinfo.addr, machine.vmcoreinfo.size)

    def fill_stage(self, bound: BoundPlan) -> tuple[Region, ...]:
        """Into the huge pages of mode *lent*."""
        with self.turns.turn() as turn:
            turn.memory = True
            return tuple(staged_regions(bound, turn.session.ram.write))

    def load(self, table: SegmentTable, plan: Plan | None = None) -> Loaded:
        """kexec_load(2). Raises SyscallError, and errors of reading the contents."""
        with self.turns.turn() as turn:
            kernel, ram = turn.kernel, turn.session.ram
            image = kexec_load(kernel, table)
            if image is None:
                raise UsageError("no segments: that would be an unload")
            turn.memory = True
            slot = next(slot for slot, held in kernel.images.items() if held is image)
            if slot is Slot.CRASH and not isinstance(plan, PanicPlan):
                kernel.end_stage()
            backup_map = None
            if not image.in_reservation and kernel.how_moved(image) is RelocateKernel.SWAP:
                backup_map = image.page_list(ram).backup_map
            area = kernel.layout.vmcoreinfo
            return Loaded(slot, backup_map, ram.read(area.addr, area.size))

    def bind_headers(self, addr: int, headers: bytes) -> None:
        """Write to the crash image, or to the normal one if no crash image has `addr`. Raises
        NothingLoaded, NotInImage, DoesNotFit."""
        with self.turns.turn() as turn:
            loaded = turn.kernel.images
            images = [loaded[slot] for slot in (Slot.CRASH, Slot.NORMAL) if slot in loaded]
            if not images:
                raise NothingLoaded("no image is loaded that has space for ELF core headers")
            image = next((image for image in images if image.segment_at(addr)), images[0])
            bind(image, turn.session.ram, addr, headers)
            turn.memory = True

    def unload(self, slot: Slot) -> None:
        """kexec_load with nr_segments 0. Raises SyscallError."""
        flags = KexecFlag.KEXEC_ON_CRASH if slot is Slot.CRASH else KexecFlag(0)
        with self.turns.turn() as turn:
            kexec_load(turn.kernel, SegmentTable((), 0, flags))
            if slot is Slot.CRASH:
                turn.kernel.end_stage()

    def set_gates(self, gates: Gates) -> None:
        """Set privilege, sysctls, lockdown and the kexec lock for the next calls."""
        with self.turns.turn() as turn:
            turn.kernel.gates = gates

    def set_crash_size(self, size: int) -> None:
        """Shrink the reservation, in bytes, as with kexec_crash_size. Raises SyscallError."""
        with self.turns.turn() as turn:
            shrink(turn.kernel, size)

    def make_region(self, size: int | None = None) -> CrashRegion:
        """Make a crash region of `size` bytes, or of what a stub needs, as with the kernel module.
        Raises BadRegionSize, RegionTooLarge, RegionExists, NoContiguousMemory, Busy."""
        machine = self.machine()
        wanted = default_size(machine) if size is None else size
        if why := size_refusal(machine, wanted) or existing(machine):
            raise why
        with self.turns.turn() as turn:
            make_region(turn.kernel, wanted)
            turn.memory = True
        return present(self.machine())

    def release_region(self) -> CrashRegion:
        """Release the region of `make_region`; returns the region as it was. Raises NoRegion,
        RegionInUse, RegionExists, Busy."""
        before = present(self.machine())
        with self.turns.turn() as turn:
            release_region(turn.kernel)
        return before

    def status(self) -> dict[Slot, LoadState]:
        with self.turns.reading() as (state, _):
            return {
                slot: LoadState.LOADED if slot in state.images else LoadState.NOT_LOADED
                for slot in Slot
            }

    def show(self) -> MachineShow:
        """The owner of every frame."""
        with self.turns.reading() as (state, ram):
            return show(SimulatedKernel(state, ram))

    def crash(self) -> Switched:
        """Panic. The dump is in the folder's `vmcore` afterwards.

        If the capture kernel does not boot, the machine stays unchanged, for another attempt.
        Raises NothingLoaded, SwitchFailed (DigestMismatch), VmcoreNotInitialized.
        """
        return self.switch(panic)

    def exec(self) -> Switched:
        """`kexec -e`: start the normal image. Raises as `crash` does."""
        return self.switch(kernel_kexec)

    def switch(self, way: Callable[[SimulatedKernel], SecondKernel]) -> Switched:
        with self.folder.session(write=True) as session:
            kernel = SimulatedKernel(session.state, session.ram)
            second = way(kernel)
            forget_region(kernel)
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
