"""/sys/kernel/kexec_crash_size: shrinks the reservation while the first kernel runs.

kernel/kexec_core.c:crash_shrink_memory (kernel-contract 6.2).
"""

from __future__ import annotations

from dataclasses import replace
from errno import EBUSY, EINVAL, ENOENT
from typing import TYPE_CHECKING

from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.backends.backend import Slot
from pykexec.memory.ranges import PhysRange, align_up
from pykexec.remedies import Unload
from pykexec.syscalls import SyscallError

if TYPE_CHECKING:
    from pykexec.backends.simulated.kernel.running import SimulatedKernel


def shrink(kernel: SimulatedKernel, size: int) -> None:
    """Shrink the reservation to `size` bytes, in whole pages; its tail becomes free memory.

    Raises SyscallError: busy, a crash image is loaded, or it would have to grow.
    """
    call = f'write(kexec_crash_size, "{size}", {len(str(size))})'
    if kernel.gates.busy:
        raise SyscallError(call, EBUSY, "another kexec call is in progress", hint="try again")
    if Slot.CRASH in kernel.images:
        why = "a crash image is loaded"
        raise SyscallError(call, ENOENT, why, hint=Unload(crash=True))
    old = kernel.layout.reservation
    left = align_up(size, PAGE_SIZE)
    if left == (old.size if old else 0):
        return
    if old is None or left > old.size:
        raise SyscallError(call, EINVAL, "a reservation cannot grow")
    kept = PhysRange.sized(old.start, left) if left else None
    kernel.start = replace(kernel.start, layout=replace(kernel.layout, reservation=kept))
    kernel.frames.free((PhysRange(old.start + left, old.end),))
