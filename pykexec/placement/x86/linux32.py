"""A Linux kernel by its 32-bit entry, in the order and windows of kexec-bzImage.c.

Everything is where a 32-bit kernel can reach it: boot_params below 640 KiB, the kernel as low as
possible, the initrd below initrd_addr_max.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.errors import DoesNotFit
from pykexec.images.contents import Built
from pykexec.images.kernel_image import KernelImage, Linux32Boot, UnservedImage
from pykexec.memory.ranges import MIB, PhysRange, sized
from pykexec.placement.plan import NormalPlan, Placed
from pykexec.placement.role import Role
from pykexec.placement.segment import Source
from pykexec.placement.stub_job import MAX_REGIONS
from pykexec.placement.x86 import labels, layout
from pykexec.placement.x86.boot_params import boot_params_for
from pykexec.placement.x86.normal_load import NormalLoad
from pykexec.placement.x86.stub import X86StubJob
from pykexec.remedies import Use, Wish, any_of

if TYPE_CHECKING:
    from pykexec.machine import Machine
    from pykexec.placement.granted import Granted
    from pykexec.placement.request import LoadRequest
    from pykexec.placement.space import Space


def plan_linux_i386(
    image: KernelImage, boot: Linux32Boot, machine: Machine, request: LoadRequest, granted: Granted
) -> NormalPlan:
    """Raises UnservedImage for an image without a 32-bit entry, DoesNotFit, UsageError,
    NotSupported for an unknown memory map."""
    if boot.entry_offset is None:
        raise UnservedImage(
            f"{image.path}: this image can only start in real mode: it has no 32-bit "
            "entry (code32_start), and cannot be relocated",
            hint=Use(Wish.REAL_MODE, rest=" to start it by its real-mode entry"),
            type=image.type,
        )
    load = NormalLoad.begin(image, machine, request, boot.cmdline_size)
    params = boot_params_for(boot, machine, granted.rng_seed, load.line, load.next_map)
    below = purgatory_end(boot)
    purgatory = load.take_purgatory(MAX_REGIONS, lowest=layout.PURGATORY_MIN, below=below)
    params_at = take_low(load.space, labels.BOOT_PARAMS, params.size)
    kernel, *rest = kernel_and_initrd(image, boot, request, load.space)
    initrd = rest[0].range if rest else None
    size = request.initrd.size if request.initrd else 0
    low = Placed(
        Role.BOOT_INFORMATION,
        params_at,
        "at the lowest free address, below 640 KiB; ESI points here",
        Built(params.encode(params_at.start, initrd, size)),
        Source.BUILT,
        label=labels.BOOT_PARAMS,
    )
    placed = (low, kernel, *rest)
    job = X86StubJob(params_at.start, kernel.range.start + boot.entry_offset, entry_32=True)
    why = f"at the highest free address below {below:#x}"
    return load.plan(placed, purgatory, job, why)


def take_low(space: Space, name: str, size: int) -> PhysRange:
    """Take the lowest free place, below 640 KiB."""
    end = layout.LOW_MEMORY.end
    return space.take(name, size, lowest=layout.BOOT_PARAMS_MIN, below=end, from_top=False)


def purgatory_end(boot: Linux32Boot) -> int:
    """Avoids the place of a kernel that is not relocatable."""
    return layout.PURGATORY_END_32 if boot.relocatable else layout.LOW_MEMORY.end


def kernel_and_initrd(
    image: KernelImage, boot: Linux32Boot, request: LoadRequest, space: Space
) -> tuple[Placed, ...]:
    """Place the kernel, and the initrd if there is one. Raises DoesNotFit."""
    kernel = _kernel_place(space, boot)
    placed = Placed(
        Role.PART, kernel, _why_kernel(boot), image.payload, Source.FILE, label=labels.KERNEL_32
    )
    if request.initrd is None:
        return (placed,)
    end = boot.initrd_addr_max + 1
    initrd = space.take(Role.INITRD, request.initrd.size, lowest=MIB, below=end)
    why = f"at the highest free address below {end:#x} (initrd_addr_max)"
    return placed, Placed(Role.INITRD, initrd, why, request.initrd, Source.FILE)


def _kernel_place(space: Space, boot: Linux32Boot) -> PhysRange:
    """Place the kernel at or above its link address, or exactly there. Raises DoesNotFit,
    PlaceTaken."""
    if boot.relocatable:
        end = min(layout.KERNEL_END_32, boot.initrd_addr_max + 1)
        if boot.load_addr >= end:
            raise DoesNotFit(
                f"the {labels.KERNEL_32} must be at {boot.load_addr:#x} or above, and end below "
                f"{end:#x}",
                hint=any_of(
                    "the header is damaged: copy the image again",
                    Use(Wish.TYPE, "bzImage64", " if it has a 64-bit entry"),
                ),
            )
        return space.take(
            labels.KERNEL_32,
            boot.memory,
            align=boot.kernel_alignment,
            lowest=boot.load_addr,
            below=end,
            from_top=False,
        )
    return space.take_at(labels.KERNEL_32, PhysRange.sized(boot.load_addr, boot.memory))


def _why_kernel(boot: Linux32Boot) -> str:
    if not boot.relocatable:
        return f"it can only run at {boot.load_addr:#x}"
    return (
        f"at the lowest free address at or above {boot.load_addr:#x}, aligned to "
        f"{boot.kernel_alignment:#x}; it needs {sized(boot.memory)}"
    )
