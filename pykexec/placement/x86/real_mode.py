"""A bzImage by its real-mode entry: Documentation/arch/x86/boot.rst, "The Real-mode Kernel
Header", and its sample of a boot loader.

The image's own setup code gets the memory map and everything else from the BIOS, and continues at
the 32-bit entry. It has one segment below 640 KiB, including heap and stack; kernel and initrd are
placed as for the 32-bit entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.abi.x86.bootparam import (
    LOADER_TYPE_KEXEC,
    SETUP_HEADER_OFFSET,
    VID_MODE_NORMAL,
    LoadFlag,
    setup_header,
)
from pykexec.errors import DoesNotFit, NotSupported, UsageError
from pykexec.images.contents import Built, contents_bytes
from pykexec.images.kernel_image import KernelImage, Linux32Boot
from pykexec.machine import Efi, Machine
from pykexec.memory.ranges import PhysRange, align_up
from pykexec.placement.plan import NormalPlan, Placed
from pykexec.placement.request import ImageKind, LoadRequest
from pykexec.placement.role import Role
from pykexec.placement.segment import Source
from pykexec.placement.stub_job import MAX_REGIONS
from pykexec.placement.x86 import labels, layout
from pykexec.placement.x86.linux32 import kernel_and_initrd, purgatory_end, take_low
from pykexec.placement.x86.normal_load import NormalLoad
from pykexec.placement.x86.stub import X86StubJob
from pykexec.purgatory import real_mode_code
from pykexec.remedies import Omit, Use, Wish, any_of

if TYPE_CHECKING:
    from pykexec.placement.cmdline import CommandLine

OLDEST_PROTOCOL = 0x202
"""In older versions the setup code only runs at 0x90000."""
SETUP_MAX = 0x8000
"""boot.rst: the memory for the setup code's own sectors."""
HEAP_END = 0xE000
"""boot.rst: the end of heap and stack, followed by the command line, all in one segment."""
HEAP_END_PTR = HEAP_END - 0x200
SEGMENT_SIZE = 0x10000
PARAGRAPH = 16
LEAVE_OUT = Omit(Wish.REAL_MODE)


@dataclass(frozen=True, slots=True)
class SetupSegment:
    """Setup code, heap and stack, command line, and the code that enters real mode."""

    setup: bytes
    """The bytes in the file."""
    cmdline: CommandLine

    @property
    def code_offset(self) -> int:
        """Raises DoesNotFit."""
        line = self.cmdline.encoded
        if HEAP_END + len(line) > SEGMENT_SIZE:
            raise DoesNotFit(
                f"the command line has {len(line) - 1} bytes, but only "
                f"{SEGMENT_SIZE - HEAP_END - 1} fit after the real-mode stack",
                hint=any_of("use fewer words", LEAVE_OUT),
            )
        return align_up(HEAP_END + len(line), PARAGRAPH)

    @property
    def size(self) -> int:
        return self.code_offset + len(real_mode_code())

    def encode(self, at: int, entry: int, initrd: PhysRange | None, initrd_size: int) -> bytes:
        """The bytes for the address `at`; `entry` is the address of the 32-bit entry."""
        size: int = setup_header.sizeof()
        header = setup_header.parse(self.setup[SETUP_HEADER_OFFSET:][:size].ljust(size, b"\0"))
        header.vid_mode = VID_MODE_NORMAL
        header.type_of_loader = LOADER_TYPE_KEXEC
        header.loadflags |= LoadFlag.CAN_USE_HEAP
        header.heap_end_ptr = HEAP_END_PTR
        header.code32_start = entry
        header.cmd_line_ptr = at + HEAP_END
        ramdisk = (initrd.start, initrd_size) if initrd else (0, 0)
        header.ramdisk_image, header.ramdisk_size = ramdisk
        end = 0x202 + self.setup[0x201]
        known = setup_header.build(header)[: end - SETUP_HEADER_OFFSET]
        image = bytearray(self.setup.ljust(self.code_offset, b"\0"))
        image[SETUP_HEADER_OFFSET : SETUP_HEADER_OFFSET + len(known)] = known
        line = self.cmdline.encoded
        image[HEAP_END : HEAP_END + len(line)] = line
        return bytes(image) + real_mode_code()

    def job(self, at: int) -> X86StubJob:
        """The stub's job: it enters code_offset bytes after `at`, in 32-bit mode."""
        code = at + self.code_offset
        return X86StubJob(0, code, rax=HEAP_END, rbx=at // PARAGRAPH, rdi=code, entry_32=True)


def plan_real_mode(image: KernelImage, machine: Machine, request: LoadRequest) -> NormalPlan:
    """Raises UsageError if the image has no setup code, NotSupported on a machine without a BIOS,
    DoesNotFit."""
    boot, setup = _boot_and_setup(image, machine, request)
    load = NormalLoad.begin(image, machine, request, boot.cmdline_size)
    segment = SetupSegment(setup, load.line)
    below = purgatory_end(boot)
    purgatory = load.take_purgatory(MAX_REGIONS, lowest=layout.PURGATORY_MIN, below=below)
    setup_at = take_low(load.space, labels.SETUP_CODE, segment.size)
    kernel, *rest = kernel_and_initrd(image, boot, request, load.space)
    entry = kernel.range.start + (boot.entry_offset or 0)
    initrd = rest[0].range if rest else None
    size = request.initrd.size if request.initrd else 0
    low = Placed(
        Role.BOOT_INFORMATION,
        setup_at,
        "at the lowest free address, below 640 KiB; the code at its end enters real mode",
        Built(segment.encode(setup_at.start, entry, initrd, size)),
        Source.BUILT,
        label=labels.SETUP_CODE,
    )
    return load.plan(
        (low, kernel, *rest),
        purgatory,
        segment.job(setup_at.start),
        f"at the highest free address below {below:#x}",
        map_given=False,
        warnings=tuple(warnings(load.line)),
    )


def refuse_real_mode(image: KernelImage, machine: Machine, request: LoadRequest) -> None:
    """Raises UsageError or NotSupported if it cannot be started by its real-mode entry here."""
    _boot_and_setup(image, machine, request)


def _boot_and_setup(
    image: KernelImage, machine: Machine, request: LoadRequest
) -> tuple[Linux32Boot, bytes]:
    """The boot value, and the setup code in the file."""
    boot = image.boot
    if not isinstance(boot, Linux32Boot) or boot.setup is None:
        raise UsageError(
            f"{image.path} is of type {image.type}, which has no real-mode entry",
            hint=any_of(LEAVE_OUT, "use a bzImage"),
        )
    if request.kind is not ImageKind.NORMAL:
        raise UsageError(
            "a capture kernel runs in the crash region, but real mode needs memory below 1 MiB",
            hint=LEAVE_OUT,
        )
    if isinstance(machine.pc.efi, Efi):
        raise NotSupported(
            "real mode needs a BIOS, but this machine was booted by EFI",
            hint=LEAVE_OUT,
        )
    if boot.protocol < OLDEST_PROTOCOL or boot.setup.size > SETUP_MAX:
        version = f"{boot.protocol >> 8}.{boot.protocol & 255:02}"
        raise NotSupported(
            f"the real-mode entry needs protocol 2.02 and setup code of at most {SETUP_MAX:#x} "
            f"bytes, but {image.path} has {version} and {boot.setup.size:#x}",
            hint=Use(Wish.TYPE, "bzImage", " to start it by its 32-bit entry"),
        )
    return boot, contents_bytes(boot.setup, SETUP_MAX)


def warnings(line: CommandLine) -> Iterator[str]:
    """The BIOS's own drivers do not know what the running kernel did to their devices."""
    if not line.has("edd"):
        yield (
            "the setup code reads from disks through the BIOS, which may wait forever: add "
            "edd=off to avoid that"
        )
