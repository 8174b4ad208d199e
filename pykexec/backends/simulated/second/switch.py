"""From the first kernel to the second: notes, relocation, stub, start."""

from __future__ import annotations

from errno import EBUSY, EPERM
from typing import TYPE_CHECKING

from pykexec.backends.backend import NothingLoaded, Slot
from pykexec.backends.simulated.kernel import first_kernel
from pykexec.backends.simulated.second.relocate import SwitchFailed, relocate_kernel
from pykexec.backends.simulated.second.second_kernel import SecondKernel, start_kernel
from pykexec.backends.simulated.second.stub_run import run_stub
from pykexec.backends.simulated.store.machine_state import Phase
from pykexec.remedies import Wish, saying
from pykexec.syscalls import SyscallError

if TYPE_CHECKING:
    from pykexec.backends.simulated.kernel.running import SimulatedKernel


def panic(kernel: SimulatedKernel) -> SecondKernel:
    """panic() and __crash_kexec: start kexec_crash_image, never the normal one, and none at all
    while the kexec lock is held. Raises as `_switch` does, NothingLoaded."""
    image = kernel.images.get(Slot.CRASH)
    if image is None:
        raise NothingLoaded(
            "no crash image is loaded: a panic would only halt this machine",
            hint=saying("load one with ", Wish.CRASH_BY_NORMAL, ", or ", Wish.CRASH),
        )
    if kernel.gates.busy:
        raise SwitchFailed(
            "another kexec call holds the lock: a panic would only halt this machine"
        )
    first_kernel.panic(kernel.layout, kernel.ram)
    return _switch(kernel, Slot.CRASH)


def kernel_kexec(kernel: SimulatedKernel) -> SecondKernel:
    """reboot(LINUX_REBOOT_CMD_KEXEC): start kexec_image. No CPU notes are written. Raises as
    `_switch` does, SyscallError, NothingLoaded."""
    call = "reboot(LINUX_REBOOT_CMD_KEXEC)"
    if not kernel.gates.cap_sys_boot:
        raise SyscallError(call, EPERM, "CAP_SYS_BOOT is missing", hint="run as root")
    if kernel.gates.busy:
        raise SyscallError(call, EBUSY, "another kexec call is in progress", hint="try again")
    if Slot.NORMAL not in kernel.images:
        raise NothingLoaded(
            "no image is loaded (EINVAL)", hint="load an image first, with pykexec load"
        )
    return _switch(kernel, Slot.NORMAL)


def _switch(kernel: SimulatedKernel, slot: Slot) -> SecondKernel:
    """machine_kexec. Afterwards no image is loaded, and memory belongs to the second kernel.

    Raises SwitchFailed, VmcoreNotInitialized, BadPageList.
    """
    image = kernel.images[slot]
    relocate_kernel(image, kernel.ram, kernel.how_moved(image))
    handed = run_stub(kernel.ram, image.start)
    second = start_kernel(kernel.ram, handed, must_capture=slot is Slot.CRASH)
    kernel.images.clear()
    kernel.phase = Phase.SWITCHED
    return second
