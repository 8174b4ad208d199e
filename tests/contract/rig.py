"""What the contract suite needs from a backend besides the protocol."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import pytest

from pykexec.backends.backend import Backend, Slot
from pykexec.backends.kernel import region
from pykexec.backends.kernel.backend import KernelBackend
from pykexec.backends.kernel.calls import ThisKernel
from pykexec.backends.region import CrashRegion, Origin, origin
from pykexec.backends.simulated import SimulatedBackend
from pykexec.backends.simulated.kernel.gates import Gates, Lockdown
from pykexec.machine import Machine, Unknown
from pykexec.memory.ranges import PhysRange

MIB = 1 << 20
REGION = 4 * MIB


class Rig(Protocol):
    """A machine to try refusals on. `window` is RAM above 1 MiB, at least 64 pages."""

    @property
    def backend(self) -> Backend: ...

    @property
    def window(self) -> PhysRange: ...

    @property
    def reservation(self) -> PhysRange | None: ...

    @property
    def knows_by_normal(self) -> bool:
        """Whether its kernel has KEXEC_CRASH_BY_NORMAL."""
        ...

    @property
    def says_why(self) -> bool:
        """Whether a refusal names the rule; a real kernel returns only an errno."""
        ...

    def set(self, **settings: object) -> None:
        """Change settings of `Gates`; skips the test if the backend cannot."""
        ...

    def set_crash_size(self, size: int) -> None:
        """Write to kexec_crash_size, in bytes. Raises SyscallError or OSError."""
        ...

    def start_without_region(self) -> None:
        """Release the region of the other tests; skips the test if it was reserved at boot."""
        ...

    def make_region(self, size: int) -> CrashRegion: ...

    def release_region(self) -> CrashRegion: ...


class KernelRig:
    """The running kernel, for an expendable machine. A region of 4 MiB is made with the kernel
    module; without the module the kernel must be booted with crashkernel=4M."""

    knows_by_normal = False
    says_why = False

    def __init__(self) -> None:
        self.backend = KernelBackend(ThisKernel())
        for slot in Slot:
            self.backend.unload(slot)
        machine = self.with_region()
        assert not isinstance(machine.memory_map, Unknown)
        assert not isinstance(machine.crash_kernel, Unknown)
        ram = max(machine.memory_map.whole_page_ram(4096), key=lambda span: span.size)
        self.window = PhysRange.sized(ram.start + 64 * MIB, MIB)
        self.reservation = machine.crash_kernel.ranges[0] if machine.crash_kernel else None

    def with_region(self) -> Machine:
        """With the size that each test expects: others may have made another one."""
        machine = self.backend.machine()
        if machine.kexec.crash_size == REGION:
            return machine
        if origin(machine) is Origin.RUN_TIME or machine.modules.region_inserted:
            region.release(self.backend)
            machine = self.backend.machine()
        if not machine.crash_kernel:
            region.make(self.backend, REGION, forced=True)
        return self.backend.machine()

    def start_without_region(self) -> None:
        if origin(self.backend.machine()) is Origin.BOOT:
            pytest.skip("the region was reserved at boot")
        region.release(self.backend)

    def make_region(self, size: int) -> CrashRegion:
        made = region.make(self.backend, size, forced=True)
        self.reservation = made.span
        return made

    def release_region(self) -> CrashRegion:
        return region.release(self.backend)

    def set(self, **settings: object) -> None:
        pytest.skip(f"a real kernel is not changed: {', '.join(settings)}")

    def set_crash_size(self, size: int) -> None:
        with open("/sys/kernel/kexec_crash_size", "wb", buffering=0) as file:
            file.write(b"%d" % size)


@dataclass
class SimulatedRig:
    """A simulated machine, with or without a reservation."""

    folder: Path
    relocate: str = "swap"
    crashkernel: int | None = REGION
    memory: int = 64 * MIB
    used: int = 40

    def __post_init__(self) -> None:
        self.backend = SimulatedBackend.create(
            self.folder / "machine",
            self.memory,
            used=self.used,
            relocate=self.relocate,
            crashkernel=self.crashkernel,
        )
        self.window = PhysRange.sized(20 * MIB, MIB)
        self.reservation = self.backend.show().reservation
        self.knows_by_normal = self.relocate == "swap"
        self.says_why = True

    def set(self, **settings: object) -> None:
        if "lockdown" in settings:
            settings["lockdown"] = Lockdown(str(settings["lockdown"]))
        with self.backend.turns.turn() as turn:
            turn.kernel.gates = replace(turn.kernel.gates, **settings)  # type: ignore[arg-type]

    def set_crash_size(self, size: int) -> None:
        self.backend.set_crash_size(size)

    def start_without_region(self) -> None:
        """Use another machine: this one has had it since boot."""
        other = replace(self, folder=self.folder / "without", crashkernel=None)
        self.backend, self.reservation = other.backend, None

    def make_region(self, size: int) -> CrashRegion:
        made = self.backend.make_region(size)
        self.reservation = made.span
        return made

    def release_region(self) -> CrashRegion:
        return self.backend.release_region()

    @property
    def gates(self) -> Gates:
        with self.backend.turns.reading() as (state, _):
            return state.gates
