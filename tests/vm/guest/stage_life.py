"""In the guest: the stage of a panic mode is allocated and released many times, under memory
pressure, with the smallest reservation, and moved. Prints a JSON document with the results.

    python3 -m guest.stage_life [ROUNDS]    load ROUNDS times in a row, by default a hundred times
"""

from __future__ import annotations

import ctypes
import json
import mmap
import platform
import sys
from pathlib import Path
from typing import Any

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.abi.kexec import KexecFlag
from pykexec.backends.backend import Slot
from pykexec.backends.kernel.backend import KernelBackend
from pykexec.backends.kernel.calls import ThisKernel
from pykexec.errors import KexecError
from pykexec.flows.load import load
from pykexec.machine import Machine
from pykexec.memory.ranges import PhysRange, align_up
from pykexec.placement.boot_protocol import boot_protocol
from pykexec.placement.plan_load import plan_load
from pykexec.placement.request import ImageKind, LoadRequest, Mode
from pykexec.placement.role import Role

from .pattern import KERNEL_PAGE, PAGE, physical

KERNEL = "/small-vmlinuz"
"""A built image: it is small, but requires as much as a real kernel."""
CRASH_SIZE = 64 << 20
CRASH_SIZE_FILE = Path("/sys/kernel/kexec_crash_size")
ROUNDS = 100
PRESSURE_MIB = 700
"""A window that does not fit into the machine's memory."""


MIB = 1 << 20
MEMORY_BLOCKS = Path("/sys/devices/system/memory")
COMPACT_LOCKED = Path("/proc/sys/vm/compact_unevictable_allowed")


def request(mode: Mode | None, size: int = CRASH_SIZE) -> LoadRequest:
    return LoadRequest(kind=ImageKind.CRASH_BY_NORMAL, mode=mode, crash_size=size)


def memory() -> dict[str, int]:
    """HugePages_Total and nr_hugepages in pages, MemFree in bytes, caches dropped."""
    Path("/proc/sys/vm/drop_caches").write_text("3")
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return {
        "total": int(lines["HugePages_Total"]),
        "pool": int(Path("/proc/sys/vm/nr_hugepages").read_text()),
        "free": int(lines["MemFree"].split()[0]) << 10,
    }


def again_and_again(backend: KernelBackend) -> dict[str, Any]:
    """Many loads, after two that bring this process to its full size."""
    load_and_unload(backend, 2)
    before = memory()
    load_and_unload(backend, int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
    return {"before": before, "after": memory()}


def load_and_unload(backend: KernelBackend, rounds: int) -> None:
    """Load and unload, with alternating modes."""
    for turn in range(rounds):
        mode = (Mode.IN_PLACE, Mode.STUB_SWAP)[turn % 2]
        load(KERNEL, backend, request(mode))
        with backend.session():
            backend.unload(Slot.CRASH)


def refused(backend: KernelBackend, wanted: LoadRequest) -> dict[str, Any]:
    """The error of an impossible load, and the pages that it left allocated."""
    before = memory()
    try:
        load(KERNEL, backend, wanted)
    except KexecError as error:
        output = {"code": error.code, "message": error.message, "status": error.exit_status}
    else:
        output = {"code": "none"}
    return output | {"pool": memory()["pool"] - before["pool"]}


def need_of(backend: KernelBackend) -> int:
    """The reservation in bytes that pykexec requests for this load on this machine."""
    from pykexec.images.identify import identify

    machine: Machine = backend.machine()
    plan = plan_load(identify(KERNEL), machine, request(Mode.STUB_SWAP))
    stub = plan.first(Role.PURGATORY)
    assert stub is not None
    return boot_protocol(machine).reservation_need(machine, stub.range.size)


def smallest(backend: KernelBackend) -> dict[str, Any]:
    """Shrink the reservation to what pykexec requests."""
    need = need_of(backend)
    CRASH_SIZE_FILE.write_text(str(need))
    load(KERNEL, backend, request(Mode.STUB_SWAP))
    with backend.session():
        backend.unload(Slot.CRASH)
    return {"need": need}


def too_small(backend: KernelBackend) -> dict[str, Any]:
    """Shrink it by one more page."""
    CRASH_SIZE_FILE.write_text(str(int(CRASH_SIZE_FILE.read_text()) - KERNEL_PAGE))
    return refused(backend, request(Mode.STUB_SWAP))


def moved(backend: KernelBackend) -> dict[str, Any]:
    """Take a memory block inside the window offline: its pages move elsewhere."""
    before = memory()
    done = load(KERNEL, backend, request(Mode.IN_PLACE, 256 * MIB))
    assert done.granted.stage is not None
    window = done.granted.stage.window
    size = int((MEMORY_BLOCKS / "block_size_bytes").read_text(), 16)
    number = align_up(window.start, size) // size
    state = MEMORY_BLOCKS / f"memory{number}" / "state"
    assert window.covers(PhysRange.sized(number * size, size)), (window, size)
    state.write_text("offline")
    try:
        backend.staged.check()
    except KexecError as error:
        output = {"code": error.code, "message": error.message, "pages": size // HUGE_PAGE_SIZE}
    else:
        output = {"code": "none"}
    with backend.session():
        backend.unload(Slot.CRASH)
    state.write_text("online")
    return output | {"pool": memory()["pool"] - before["pool"]}


def replaced(backend: KernelBackend) -> dict[str, Any]:
    """Another program replaces the armed image with its own page."""
    done = load(KERNEL, backend, request(Mode.STUB_SWAP))
    stub = done.planned.table.segments[0]
    with backend.session():
        assert backend.check() is not None
    backend.calls.kexec_load(
        stub.mem, [(0, 0, stub.mem, KERNEL_PAGE)], int(KexecFlag.KEXEC_ON_CRASH)
    )
    try:
        with backend.session():
            backend.check()
    except KexecError as error:
        output = {"code": error.code, "message": error.message}
    else:
        output = {"code": "none"}
    with backend.session():
        backend.unload(Slot.CRASH)
    return output


class Litter:
    """Locked memory: everything that is free, except `left` bytes."""

    def __init__(self, left: int) -> None:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        size = (int(lines["MemAvailable"].split()[0]) << 10) - left
        self.memory = mmap.mmap(-1, size // PAGE * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.memory.madvise(mmap.MADV_NOHUGEPAGE)
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.addr = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        if self.libc.mlock(ctypes.c_void_p(self.addr), ctypes.c_size_t(len(self.memory))):
            raise OSError(ctypes.get_errno(), "mlock")

    def thin(self, step: int) -> None:
        """Free it, except one page in every aligned `step` bytes of physical memory."""
        frames = physical("self", self.addr, len(self.memory) // PAGE)
        kept = sorted({addr // step: number for number, addr in enumerate(frames)}.values())
        for before, after in zip([-1, *kept], [*kept, len(frames)], strict=True):
            start, size = (before + 1) * PAGE, (after - before - 1) * PAGE
            if size:
                at = ctypes.c_void_p(self.addr + start)
                self.libc.munlock(at, ctypes.c_size_t(size))
                self.memory.madvise(mmap.MADV_DONTNEED, start, size)


def fragmented(backend: KernelBackend) -> dict[str, Any]:
    """With an unmovable page in every 4 MiB of all but 32 MiB there is no run of 64, but there are
    enough pages."""
    COMPACT_LOCKED.write_text("0")
    litter = Litter(32 * MIB)
    litter.thin(4 * MIB)
    before = memory()
    refusal = refused(backend, request(Mode.IN_PLACE))
    done = load(KERNEL, backend, request(None))
    with backend.session():
        backend.unload(Slot.CRASH)
    return {
        "refusal": refusal,
        "mode": str(done.granted.mode),
        "lacking": [[str(mode), why] for mode, why in done.granted.lacking],
        "pool": memory()["pool"] - before["pool"],
    }


def main() -> None:
    backend = KernelBackend(ThisKernel())
    pressure = int(sys.argv[2]) if len(sys.argv) > 2 else PRESSURE_MIB
    found = {
        "again": again_and_again(backend),
        "pressure": refused(backend, request(Mode.STUB_SWAP, pressure * MIB)),
        "replaced": replaced(backend),
    }
    on_x86 = platform.machine() == "x86_64"
    if on_x86:
        # arm64 takes no memory from boot offline (mm/mmu.c:prevent_bootmem_remove_notifier), and
        # its reserves are large enough for a run.
        found |= {"moved": moved(backend), "fragmented": fragmented(backend)}
    found["smallest"] = smallest(backend)
    if on_x86:  # on arm64, a panic follows
        found["smallest"]["a page less"] = too_small(backend)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
