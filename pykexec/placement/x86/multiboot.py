"""Multiboot 1 and 2: the image where it is linked (or where its relocatable tag allows),
modules at whole pages, and one segment of boot information. kexec-multiboot-x86.c and
kexec-mb2-x86.c give the order: image, purgatory, modules, information, from the bottom up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.x86.bootparam import VIDEO_CAPABILITY_64BIT_BASE, VideoType, screen_info
from pykexec.abi.x86.multiboot import (
    MULTIBOOT2_BOOTLOADER_MAGIC,
    MULTIBOOT_BOOTLOADER_MAGIC,
    FramebufferType,
    InfoTag,
)
from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.images.contents import Built
from pykexec.images.kernel_image import KernelImage, MultibootBoot, UnservedImage
from pykexec.images.x86.multiboot_requests import name_of
from pykexec.machine import Machine, Unknown
from pykexec.memory.hole import locate_hole
from pykexec.memory.ranges import PhysRange, align_up
from pykexec.placement.plan import NormalPlan, Placed
from pykexec.placement.role import Role
from pykexec.placement.segment import Source
from pykexec.placement.x86 import labels, layout
from pykexec.placement.x86.multiboot_info import Framebuffer, Information, LoadedModule, rsdp_tags
from pykexec.placement.x86.normal_load import MAX_PARTS, NormalLoad, refuse_initrd
from pykexec.placement.x86.stub import X86StubJob

if TYPE_CHECKING:
    from pykexec.placement.request import LoadRequest
    from pykexec.placement.space import Space

WHY_LOW = "at the lowest free address"


def plan_multiboot(
    image: KernelImage, boot: MultibootBoot, machine: Machine, request: LoadRequest
) -> NormalPlan:
    """Raises UnservedImage for information that this machine does not expose, PlaceTaken,
    DoesNotFit, UsageError, NotSupported for an unknown memory map."""
    refuse_initrd(image, request)
    load = NormalLoad.begin(image, machine, request)
    below = layout.BELOW_4G.end
    moved = _distance(load.space, boot)
    placed = [*load.take_parts(boot.parts, moved)]
    count = max(len(placed) + len(request.modules) + 1, MAX_PARTS)
    purgatory = load.take_purgatory(count, below=below, from_top=False)
    modules = []
    for number, module in enumerate(request.modules):
        name = f"{Role.MODULE} {number}"
        span = load.space.take(name, max(module.contents.size, 1), below=below, from_top=False)
        modules.append(LoadedModule(span.start, span.start + module.contents.size, module.line))
        why = f"{WHY_LOW} below 4 GiB, at the start of a page"
        placed.append(Placed(Role.MODULE, span, why, module.contents, Source.FILE, label=name))
    screen, warnings = framebuffer(boot, machine)
    rsdp = machine.pc.acpi_rsdp_table
    _refuse_missing(image, boot, {InfoTag.FRAMEBUFFER: _missing_screen(warnings), **_no_rsdp(rsdp)})
    information = Information(
        cmdline=f"{image.path} {load.line}".strip(),
        memory_map=load.next_map,
        modules=tuple(modules),
        framebuffer=screen,
        memory_info=boot.memory_info,
        load_base=boot.parts[0].addr + moved if _wants_base(boot) else None,
        rsdp=None if isinstance(rsdp, Unknown) else rsdp,
    )
    encode = information.version_1 if boot.version == 1 else information.version_2
    info = load.space.take(labels.MULTIBOOT_INFO, len(encode(0)), below=below, from_top=False)
    why, raw = f"{WHY_LOW}; EBX points here", Built(encode(info.start))
    label = labels.MULTIBOOT_INFO
    placed.append(Placed(Role.BOOT_INFORMATION, info, why, raw, Source.BUILT, label=label))
    magic = MULTIBOOT_BOOTLOADER_MAGIC if boot.version == 1 else MULTIBOOT2_BOOTLOADER_MAGIC
    map_given = boot.memory_info or boot.version == 2
    job = X86StubJob(0, boot.entry + moved, rax=magic, rbx=info.start, entry_32=True)
    return load.plan(placed, purgatory, job, WHY_LOW, map_given=map_given, warnings=warnings)


def _refuse_missing(
    image: KernelImage, boot: MultibootBoot, lacking: dict[int, str | None]
) -> None:
    """Raises UnservedImage if the image requires information that this machine does not expose;
    `lacking` has the reason, or None if it is available."""
    for kind in boot.required:
        if why := lacking.get(kind):
            raise UnservedImage(
                f"{image.path}: this image requires information of type {name_of(kind)}: {why}",
                hint="run as root, with access to /dev/mem, or start it with a boot loader",
                type=image.type,
            )


def _missing_screen(warnings: tuple[str, ...]) -> str | None:
    return warnings[0] if warnings else None


def _no_rsdp(table: bytes | Unknown) -> dict[int, str | None]:
    """Why a copy of the RSDP cannot be provided, by tag."""
    if isinstance(table, Unknown):
        return dict.fromkeys((InfoTag.ACPI_OLD, InfoTag.ACPI_NEW), f"it is {table}")
    tags = rsdp_tags(table)
    return {
        InfoTag.ACPI_OLD: None if InfoTag.ACPI_OLD in tags else "the firmware has no RSDT",
        InfoTag.ACPI_NEW: None if InfoTag.ACPI_NEW in tags else "the firmware has ACPI 1.0",
    }


def _wants_base(boot: MultibootBoot) -> bool:
    return boot.relocation is not None or InfoTag.LOAD_BASE_ADDR in boot.required


def _distance(space: Space, boot: MultibootBoot) -> int:
    """How far the image is moved, within the range of its relocatable tag; below 1 MiB only if
    nothing else is allowed."""
    wish = boot.relocation
    if wish is None:
        return 0
    start = boot.parts[0].addr
    allowed = PhysRange.from_inclusive(wish.low, wish.high)
    found = locate_hole(
        space.free,
        align_up(boot.parts[-1].end - start, PAGE_SIZE),
        align=max(wish.align, PAGE_SIZE),
        window=allowed.intersect(layout.ABOVE_1_MIB) or allowed,
        from_top=wish.from_top,
        name="the multiboot image",
    )
    return found.start - start


TEXT_MEMORY = 0xB8000


def framebuffer(
    boot: MultibootBoot, machine: Machine
) -> tuple[Framebuffer | None, tuple[str, ...]]:
    """The screen as passed to the running kernel; no other mode is set."""
    if not boot.framebuffer:
        return None, ()
    if isinstance(machine.pc.boot_params, Unknown):
        why = f"the image requests a framebuffer, but the screen is {machine.pc.boot_params}"
        return None, (why,)
    found = _read_screen(machine.pc.boot_params)
    if found is None:
        return None, ("the image requests a framebuffer, but this machine has none",)
    return found, ()


def _read_screen(running: bytes) -> Framebuffer | None:
    """From struct screen_info at the start of boot_params."""
    if len(running) < screen_info.sizeof():
        return None
    found = screen_info.parse(running)
    kind = found.orig_video_isVGA
    if kind in (VideoType.VIDEO_TYPE_TEXT, VideoType.VIDEO_TYPE_VGAC):
        columns, lines = found.orig_video_cols, found.orig_video_lines
        return Framebuffer(TEXT_MEMORY, 2 * columns, columns, lines, 16, FramebufferType.EGA_TEXT)
    if kind not in (VideoType.VIDEO_TYPE_VLFB, VideoType.VIDEO_TYPE_EFI) or not found.lfb_base:
        return None
    high = found.ext_lfb_base if found.capabilities & VIDEO_CAPABILITY_64BIT_BASE else 0
    colors = (
        *(found.red_pos, found.red_size, found.green_pos, found.green_size),
        *(found.blue_pos, found.blue_size),
    )
    return Framebuffer(
        found.lfb_base | high << 32,
        found.lfb_linelength,
        found.lfb_width,
        found.lfb_height,
        found.lfb_depth,
        FramebufferType.RGB,
        bytes(colors),
    )
