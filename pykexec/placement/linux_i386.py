"""A Linux kernel by its 32-bit entry: kexec-bzImage.c's order and windows.

Everything lies where a 32-bit kernel reaches it: boot_params below 640 KiB, the kernel as
low as it may, the initrd below initrd_addr_max.
"""

from __future__ import annotations

from pykexec.abi.bootparam import SetupType
from pykexec.errors import DoesNotFit
from pykexec.images.contents import Built
from pykexec.images.kernel_image import KernelImage, Linux32Boot
from pykexec.machine import Machine
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import PhysRange
from pykexec.placement import layout
from pykexec.placement.boot_params import BootParams, inheritable
from pykexec.placement.cmdline import CommandLine, check_length
from pykexec.placement.linux_x86_64 import MAX_REGIONS
from pykexec.placement.other_loads import (
    finish,
    free_memory,
    plain_line,
    purgatory_size,
)
from pykexec.placement.plan import (
    BOOT_PARAMS,
    INITRD,
    KERNEL_32,
    PURGATORY,
    LoadRequest,
    Placed,
    PlacementPlan,
)
from pykexec.placement.purgatory import StubJob
from pykexec.placement.segment import Source
from pykexec.placement.setup_data import SetupData
from pykexec.placement.space import Space

PURGATORY_END = 0x80000000
"""kexec-bzImage.c: below 2 GiB."""
LOW_END = layout.LOW_MEMORY.end
KERNEL_END = 0x38000000
"""kexec-tools' DEFAULT_BZIMAGE_ADDR_MAX: lowmem of a 32-bit kernel."""


def plan_linux_i386(
    image: KernelImage, boot: Linux32Boot, machine: Machine, request: LoadRequest
) -> PlacementPlan:
    """Raises DoesNotFit, UsageError, NotSupported for an unknown memory map."""
    memory_map, space = free_memory(machine, request)
    line = plain_line(machine, request)
    check_length(line, boot.cmdline_size)
    params = boot_params(boot, machine, request, line, memory_map)
    below = purgatory_end(boot)
    need = purgatory_size(machine, MAX_REGIONS)
    purgatory = space.take(PURGATORY, need, lowest=layout.PURGATORY_MIN, below=below)
    params_at = space.take(
        BOOT_PARAMS, params.size, lowest=layout.BOOT_PARAMS_MIN, below=LOW_END, from_top=False
    )
    kernel, *rest = kernel_and_initrd(image, boot, request, space)
    initrd = rest[0].range if rest else None
    size = request.initrd.size if request.initrd else 0
    told = Placed(
        BOOT_PARAMS,
        params_at,
        "as low as there is room, below 640 KiB; ESI points here",
        Built(params.encode(params_at.start, initrd, size)),
        Source.BUILT,
    )
    placed = (told, kernel, *rest)
    job = StubJob(params_at.start, kernel.range.start + boot.entry_offset, entry_32=True)
    why = f"as high as there is room below {below:#x}"
    return finish(image, machine, request, memory_map, placed, purgatory, job, line, why)


def purgatory_end(boot: Linux32Boot) -> int:
    """Out of the way of a kernel that cannot move."""
    return PURGATORY_END if boot.relocatable else LOW_END


def boot_params(
    boot: Linux32Boot, machine: Machine, request: LoadRequest, line: CommandLine, e820: MemoryMap
) -> BootParams:
    return BootParams(
        setup_header=boot.setup_header,
        cmdline=line,
        e820=e820,
        setup_data=(SetupData(SetupType.SETUP_RNG_SEED, request.rng_seed),)
        if boot.protocol >= 0x209
        else (),
        running=inheritable(machine.boot_params or b""),
        acpi_rsdp=machine.acpi_rsdp or 0,
    )


def kernel_and_initrd(
    image: KernelImage, boot: Linux32Boot, request: LoadRequest, space: Space
) -> tuple[Placed, ...]:
    """Both at their places, the initrd where there is one. Raises DoesNotFit."""
    kernel = kernel_place(space, boot)
    placed = Placed(KERNEL_32, kernel, why_kernel(boot), image.payload, Source.FILE)
    if request.initrd is None:
        return (placed,)
    end = boot.initrd_addr_max + 1
    initrd = space.take(INITRD, request.initrd.size, lowest=layout.MIB, below=end)
    why = f"as high as there is room below {end:#x} (initrd_addr_max)"
    return placed, Placed(INITRD, initrd, why, request.initrd, Source.FILE)


def kernel_place(space: Space, boot: Linux32Boot) -> PhysRange:
    if boot.relocatable:
        end = min(KERNEL_END, boot.initrd_addr_max + 1)
        if boot.load_addr >= end:
            raise DoesNotFit(
                f"{KERNEL_32} belongs at {boot.load_addr:#x} or above, and must end below {end:#x}"
            )
        return space.take(
            KERNEL_32,
            boot.memory,
            align=boot.kernel_alignment,
            lowest=boot.load_addr,
            below=end,
            from_top=False,
        )
    return space.take_at(KERNEL_32, PhysRange.sized(boot.load_addr, boot.memory))


def why_kernel(boot: Linux32Boot) -> str:
    if not boot.relocatable:
        return f"it runs only at {boot.load_addr:#x}"
    return (
        f"as low as there is room at or above {boot.load_addr:#x}, aligned to "
        f"{boot.kernel_alignment:#x}; it needs {boot.memory:#x} bytes"
    )
