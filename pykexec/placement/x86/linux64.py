"""A Linux x86_64 kernel by its 64-bit entry: what it needs to boot, where everything goes, and why.
A capture kernel is placed by the same rules.

Order, alignment and windows are those of kexec-tools (kexec-bzImage64.c:do_bzImage64_load): from
the top down, purgatory first. Bytes that depend on an address are built after all addresses are
known.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pykexec.images.contents import Built
from pykexec.images.kernel_image import LinuxX86Boot
from pykexec.memory.ranges import sized
from pykexec.placement.plan import BootPlaces, NormalPlan, Placed
from pykexec.placement.role import Role
from pykexec.placement.segment import Source
from pykexec.placement.stub_job import MAX_REGIONS
from pykexec.placement.window import WindowRefused
from pykexec.placement.x86 import labels, layout
from pykexec.placement.x86.boot_params import boot_params_for
from pykexec.placement.x86.efi import efi_handover
from pykexec.placement.x86.normal_load import NormalLoad
from pykexec.placement.x86.stub import X86StubJob
from pykexec.remedies import Use, Wish

if TYPE_CHECKING:
    from pykexec.images.kernel_image import KernelImage
    from pykexec.machine import Machine
    from pykexec.memory.ranges import PhysRange
    from pykexec.placement.boot_protocol import BootInformation
    from pykexec.placement.granted import Granted
    from pykexec.placement.request import LoadRequest
    from pykexec.placement.space import Space


def plan_linux_x86_64(
    image: KernelImage, boot: LinuxX86Boot, machine: Machine, request: LoadRequest, granted: Granted
) -> NormalPlan:
    """Plan a normal load. Raises DoesNotFit, UsageError, NotSupported for an unknown memory map."""
    load = NormalLoad.begin(image, machine, request, boot.cmdline_size)
    information = boot_params_for(boot, machine, granted.rng_seed, load.line, load.next_map)
    params = replace(information, efi=efi_handover(machine, boot.xloadflags))
    purgatory = load.take_purgatory(MAX_REGIONS, lowest=layout.PURGATORY_MIN)
    at = place_boot(load.space, image, request, params.size)
    placed = placed_boot(image, request, at, params)
    job = X86StubJob(at.information.start, at.entry)
    return load.plan(placed, purgatory, job, "at the highest free address", starts="kernel")


def place_boot(
    space: Space, image: KernelImage, request: LoadRequest, params_size: int
) -> BootPlaces:
    """Place boot_params, kernel and initrd, from the top down. Raises NoHole."""
    boot = image.linux_for(LinuxX86Boot)
    params = space.take(labels.BOOT_PARAMS, params_size, lowest=layout.BOOT_PARAMS_MIN)
    kernel = space.take(
        Role.KERNEL,
        boot.init_size,
        align=boot.kernel_alignment,
        lowest=max(layout.KERNEL_MIN, boot.pref_address),
        from_top=not boot.lowest,
    )
    initrd = (
        space.take(Role.INITRD, request.initrd.size, lowest=layout.INITRD_MIN)
        if request.initrd
        else None
    )
    return BootPlaces(params, kernel, initrd, kernel.start + boot.entry_offset)


def placed_boot(
    image: KernelImage, request: LoadRequest, boot: BootPlaces, params: BootInformation
) -> tuple[Placed, ...]:
    """The parts of a boot, with their bytes."""
    initrd, linux = request.initrd, image.linux_for(LinuxX86Boot)
    encoded = params.encode(boot.information.start, boot.initrd, initrd.size if initrd else 0)
    why = "at the highest free address; RSI points here"
    placed = [
        Placed(
            Role.BOOT_INFORMATION,
            boot.information,
            why,
            Built(encoded),
            Source.BUILT,
            label=labels.BOOT_PARAMS,
        ),
        Placed(Role.KERNEL, boot.kernel, _why_kernel(linux), image.payload, Source.FILE),
    ]
    if boot.initrd:
        why = "at the highest free address, at or above 16 MiB"
        placed.append(Placed(Role.INITRD, boot.initrd, why, initrd, Source.FILE))
    return tuple(placed)


def _why_kernel(boot: LinuxX86Boot) -> str:
    aligned = f"aligned to {boot.kernel_alignment >> 20} MiB"
    if boot.lowest:
        return (
            f"at the lowest free address at or above {boot.pref_address:#x}, {aligned}; "
            f"{sized(boot.init_size)} with its bss"
        )
    return (
        f"at the highest free address, {aligned}; it unpacks into init_size, "
        f"{sized(boot.init_size)}"
    )


def check_window(window: PhysRange, boot: LinuxX86Boot) -> None:
    """A relocatable bzImage runs at max(load address, pref_address): below, it moves
    itself out of its segment (boot.rst; compressed/head_64.S)."""
    floor = max(boot.pref_address, layout.LOAD_PHYSICAL_ADDR)
    if window.end < floor + boot.init_size:
        raise WindowRefused(
            f"the window {window} has no room for this kernel: loaded below {floor >> 20} "
            f"MiB, it moves itself to {floor:#x}, where it needs {sized(boot.init_size)}",
            hint=Use(Wish.MEM_MAX, f"{floor + boot.init_size - 1:#x}", " or above"),
            window=window,
        )
