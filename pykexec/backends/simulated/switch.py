"""From the first kernel to the second: notes, relocation, stub, start."""

from __future__ import annotations

from pykexec.backends.backend import NothingLoaded, Slot
from pykexec.backends.simulated import first_kernel
from pykexec.backends.simulated.capture import SecondKernel, start_kernel
from pykexec.backends.simulated.kernel import SimulatedKernel
from pykexec.backends.simulated.machine_state import Phase
from pykexec.backends.simulated.relocate import relocate_kernel
from pykexec.backends.simulated.stub_run import run_stub


def panic(kernel: SimulatedKernel) -> SecondKernel:
    """panic() and __crash_kexec: runs kexec_crash_image, never the normal one."""
    image = kernel.images.get(Slot.CRASH)
    if image is None:
        raise NothingLoaded(
            "no crash image is loaded: a panic just ends this machine",
            hint="load one with --crash-by-normal, or --crash",
        )
    first_kernel.panic(kernel.layout, kernel.ram)
    return switch(kernel, Slot.CRASH)


def kernel_kexec(kernel: SimulatedKernel) -> SecondKernel:
    """reboot(LINUX_REBOOT_CMD_KEXEC): runs kexec_image. No CPU notes are written."""
    if Slot.NORMAL not in kernel.images:
        raise NothingLoaded("no image is loaded to be started (EINVAL)", hint="load one first")
    return switch(kernel, Slot.NORMAL)


def switch(kernel: SimulatedKernel, slot: Slot) -> SecondKernel:
    """machine_kexec. Afterwards no image is loaded, and memory is the second kernel's.

    Raises SwitchFailed, VmcoreNotInitialized, BadPageList.
    """
    image = kernel.images[slot]
    relocate_kernel(image, kernel.ram, kernel.how_moved(image))
    handed = run_stub(kernel.ram, image.start)
    second = start_kernel(kernel.ram, handed, must_capture=slot is Slot.CRASH)
    kernel.images.clear()
    kernel.phase = Phase.SWITCHED
    return second
