"""A Linux arm64 kernel: where everything goes, and why (Documentation/arch/arm64/booting.rst).

As kexec-tools (kexec-arm64.c:arm64_load_other_segments): the kernel at the lowest address, then
initrd, device tree and stub.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.kexec import KexecFlag
from pykexec.errors import NotSupported, UsageError
from pykexec.images.contents import Built
from pykexec.images.kernel_image import LinuxArm64Boot
from pykexec.machine import DeviceTreeFirmware, ExceptionLevel, Machine, Unknown
from pykexec.memory.hole import NoHole
from pykexec.memory.ranges import GIB, MIB, PhysRange, RangeSet, align_down, align_up
from pykexec.placement.arm64 import labels
from pykexec.placement.arm64.device_tree import information_for, refuse_outside
from pykexec.placement.arm64.processors import refuse_stuck
from pykexec.placement.cmdline import check_length, command_line, running_line
from pykexec.placement.console import stub_console
from pykexec.placement.plan import BootPlaces, NormalPlan, Placed
from pykexec.placement.request import ImageKind
from pykexec.placement.role import Role
from pykexec.placement.segment import Source
from pykexec.placement.space import Space
from pykexec.placement.stub_job import MAX_REGIONS, StubJob, encoder, entry_of, with_purgatory
from pykexec.placement.window import requested_window
from pykexec.remedies import Omit, Wish

if TYPE_CHECKING:
    from pykexec.arch import Arch
    from pykexec.images.kernel_image import KernelImage
    from pykexec.placement.boot_protocol import BootInformation, BootProtocol
    from pykexec.placement.granted import Granted
    from pykexec.placement.request import LoadRequest

KERNEL_ALIGN = 2 * MIB
WHY_FREE = "at the lowest free address"
REACH = 32 * GIB
REACH_ALIGN = GIB
"""Kernel and initrd must be in one range of this size that starts at a multiple of that size."""
DEVICE_TREE_ALIGN = 2 * MIB
"""Alignment of the device tree in bytes, so that it is never in two of the blocks of 2 MiB by which
the kernel maps it."""


def plan_linux(
    protocol: BootProtocol,
    image: KernelImage,
    machine: Machine,
    request: LoadRequest,
    granted: Granted,
) -> NormalPlan:
    """Plan a normal load. Raises DoesNotFit, UsageError, NotSupported for an unknown fact."""
    boot = image.linux_for(LinuxArm64Boot)
    memory_map, page_size = machine.known_map, protocol.arch.page_size
    window = requested_window(request, page_size)
    free = memory_map.whole_page_ram(page_size).within(protocol.limits.destinations)
    # The relocation code copies through a copy of the direct map, in which the crash region may be
    # protected (arch/arm64/kernel/machine_kexec.c:arch_kexec_protect_crashkres).
    free = free - (machine.crash_kernel or RangeSet())
    space = Space(free.within(window) if window else free, page_size)
    line = command_line(
        request.append, running_line(machine, request.reuse_cmdline), request.cmdline_remove
    )
    check_length(line, boot.cmdline_size)
    information = information_for(machine, request, line, memory_map, granted.rng_seed)
    at = place(space, image, request, information)
    refuse_outside(information.tree, at.kernel)
    console = stub_console(machine, protocol.limits, request.serial_port)
    size = protocol.stub_size(machine, MAX_REGIONS)
    purgatory = space.take(Role.PURGATORY, size, from_top=False)
    job = StubJob(at.information.start, at.entry, checks=request.checks, console=console)
    parts = placed(image, request, at, information)
    return NormalPlan(
        image=image,
        request=request,
        page_size=page_size,
        memory_map=memory_map,
        placed=with_purgatory(parts, purgatory, job, encoder(protocol, machine), WHY_FREE),
        entry=entry_of(request, purgatory),
        flags=KexecFlag(0),
        cmdline=line,
        next_map=memory_map,
        window=window,
        console=console,
        warnings=page_size_warnings(boot, protocol.arch),
    )


def place(
    space: Space, image: KernelImage, request: LoadRequest, information: BootInformation
) -> BootPlaces:
    """Place kernel, initrd and device tree, from the lowest address up. Raises NoHole."""
    boot = image.linux_for(LinuxArm64Boot)
    taken = space.take(Role.KERNEL, boot.init_size, align=KERNEL_ALIGN, from_top=False)
    kernel = PhysRange(taken.start + boot.text_offset, taken.end)
    initrd = _place_initrd(space, kernel, request.initrd.size) if request.initrd else None
    tree = space.take(labels.DEVICE_TREE, information.size, align=DEVICE_TREE_ALIGN, from_top=False)
    return BootPlaces(tree, kernel, initrd, kernel.start)


def _place_initrd(space: Space, kernel: PhysRange, size: int) -> PhysRange:
    """Place the initrd at the lowest free address above the kernel's GiB, or below it at the
    highest one, so that one range contains both. Raises NoHole."""
    start = align_down(kernel.start, REACH_ALIGN)
    lowest = align_up(max(kernel.end - REACH, 0), REACH_ALIGN)
    try:
        return space.take(Role.INITRD, size, lowest=start, below=start + REACH, from_top=False)
    except NoHole:
        return space.take(Role.INITRD, size, lowest=lowest, below=lowest + REACH)


def placed(
    image: KernelImage, request: LoadRequest, boot: BootPlaces, information: BootInformation
) -> tuple[Placed, ...]:
    """The parts of a boot, with their bytes."""
    initrd = request.initrd
    encoded = information.encode(boot.information.start, boot.initrd, initrd.size if initrd else 0)
    tree = Placed(
        Role.BOOT_INFORMATION,
        boot.information,
        f"{WHY_FREE}; X0 points here",
        Built(encoded),
        Source.BUILT,
        label=labels.DEVICE_TREE,
    )
    kernel = Placed(Role.KERNEL, boot.kernel, _why_kernel(image), image.payload, Source.FILE)
    if boot.initrd is None:
        return (tree, kernel)
    why = f"{WHY_FREE}, in one 32 GiB range with the kernel"
    return (tree, kernel, Placed(Role.INITRD, boot.initrd, why, initrd, Source.FILE))


def _why_kernel(image: KernelImage) -> str:
    boot = image.linux_for(LinuxArm64Boot)
    offset = f" + text_offset {boot.text_offset:#x}" if boot.text_offset else ""
    return f"at the lowest free multiple of 2 MiB{offset}; image_size {boot.image_size:#x}"


KVM_MODE = "kvm-arm.mode="
PROTECTED = f"{KVM_MODE}protected"


class WrongPageSize(NotSupported):
    """The page size of the capture kernel is not that of the running kernel."""

    code = "wrong-page-size"


class ProtectedKvm(NotSupported):
    """Protected KVM keeps EL2 to itself, and the kernel refuses normal images."""

    code = "protected-kvm"


def refuse(arch: Arch, image: KernelImage, machine: Machine, request: LoadRequest) -> None:
    """Check whether this image can be loaded here. Raises NotSupported for a kernel or a machine
    that does not support it, UsageError."""
    if request.modules:
        raise UsageError(
            f"a module has no effect: {image.path} is of type {image.type}",
            hint=Omit(Wish.MODULE),
        )
    boot = image.linux_for(LinuxArm64Boot)
    if boot.big_endian:
        raise NotSupported(
            f"{image.path} is a big-endian kernel; the stub and the device tree are for a "
            "little-endian one",
            hint="use a little-endian kernel",
        )
    if boot.text_offset % arch.page_size:
        raise NotSupported(
            f"{image.path}: its text_offset {boot.text_offset:#x} is not a multiple of the page "
            "size, and kexec loads whole pages",
            hint="use a kernel of 5.8 or later, whose text_offset is 0",
        )
    if request.kind is ImageKind.NORMAL:
        _refuse_protected_kvm(machine)
    refuse_stuck(machine, request)
    if request.kind is not ImageKind.NORMAL and (warnings := page_size_warnings(boot, arch)):
        raise WrongPageSize(warnings[0], hint="use a kernel with the running kernel's page size")


def _refuse_protected_kvm(machine: Machine) -> None:
    """EBUSY by cpus_are_stuck_in_kernel(), too (arch/arm64/kernel/smp.c). In a guest the word has
    no effect."""
    firmware = machine.firmware
    words = [] if isinstance(machine.cmdline, Unknown) else machine.cmdline.split()
    modes = [word for word in words if word.startswith(KVM_MODE)]
    if not isinstance(firmware, DeviceTreeFirmware) or modes[-1:] != [PROTECTED]:
        return
    if firmware.exception_level in (ExceptionLevel.EL2, ExceptionLevel.EL2_VHE):
        raise ProtectedKvm(
            f"with {PROTECTED} the kernel refuses normal images (EBUSY)",
            hint=f"boot without {PROTECTED}",
        )


def page_size_warnings(boot: LinuxArm64Boot, arch: Arch) -> tuple[str, ...]:
    """Warn about a kernel with another page size: not every processor supports every size, and a
    kernel with another one stops at its first instructions, without a message (head.S:
    __no_granule_support)."""
    if boot.page_size is None or boot.page_size == arch.page_size:
        return ()
    return (
        f"the kernel has pages of {boot.page_size >> 10} KiB, the running one of "
        f"{arch.page_size >> 10} KiB: if the processor does not support them, it stops without a "
        "message",
    )
