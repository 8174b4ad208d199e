"""Capture images made by hand: a stub, a zero page, something in place of a kernel, a window.

The placement layer is not used: tests must not depend on it.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from pykexec.abi.kexec import KEXEC_ARCH_X86_64, KexecFlag
from pykexec.abi.x86.bootparam import BootParamsField
from pykexec.arch import X86_64
from pykexec.backends.backend import Loaded
from pykexec.backends.simulated import SimulatedBackend
from pykexec.crash import elfcorehdr
from pykexec.crash.backup_map import BackupMap
from pykexec.crash.notes import moved_note
from pykexec.images.contents import Built
from pykexec.machine import Machine, NoteArea
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.segment import Segment, SegmentTable, Source
from pykexec.purgatory import (
    SEAL_SIZE,
    STUB_MEMSZ,
    Region,
    Seal,
    StubParams,
    stub_image,
    tables,
)

PAGE = 4096
BY_NORMAL = KexecFlag(int(KexecFlag.KEXEC_CRASH_BY_NORMAL) | KEXEC_ARCH_X86_64)
ON_CRASH = KexecFlag(int(KexecFlag.KEXEC_ON_CRASH) | KEXEC_ARCH_X86_64)
NORMAL = KexecFlag(KEXEC_ARCH_X86_64)


def noise(size: int, name: str) -> bytes:
    """Nonzero bytes that are the same in every run."""
    return hashlib.shake_128(name.encode()).digest(size)


def zero_page(
    cmdline_addr: int, e820: list[tuple[int, int, int]], cmdline_size: int = 2047
) -> bytes:
    """boot_params with a setup header, a command line pointer and an e820 of (start, end, type)."""
    page = bytearray(PAGE)
    page[BootParamsField.E820_ENTRIES] = len(e820)
    for number, (start, end, kind) in enumerate(e820):
        struct.pack_into(
            "<QQI", page, BootParamsField.E820_TABLE + 20 * number, start, end - start, kind
        )
    struct.pack_into("<H", page, 0x1FE, 0xAA55)
    page[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", page, 0x206, 0x20F)
    struct.pack_into("<I", page, 0x228, cmdline_addr & 0xFFFFFFFF)
    struct.pack_into("<I", page, BootParamsField.EXT_CMD_LINE_PTR, cmdline_addr >> 32)
    struct.pack_into("<I", page, 0x238, cmdline_size)
    return bytes(page)


@dataclass(frozen=True)
class CaptureImage:
    """A table, and where its parts are."""

    table: SegmentTable
    own: tuple[PhysRange, ...]
    """RAM of the capture kernel: its e820."""
    elfcorehdr: PhysRange
    """The space for the ELF core headers, outside of `own`."""
    kernel: PhysRange

    def sealed(self, headers: bytes) -> bytes:
        """The complete segment of the headers, with the seal at its end."""
        room = self.elfcorehdr.size - SEAL_SIZE
        assert len(headers) <= room
        seal = bytes(Seal.of(self.elfcorehdr.start, headers))
        return headers.ljust(room, b"\0") + seal


def core_headers(machine: Machine, loaded: Loaded, addr: int) -> bytes:
    """ELF core headers at `addr` for the loaded image, built by pykexec itself."""
    backup = loaded.backup_map or BackupMap()
    assert isinstance(machine.cpus, tuple)
    assert isinstance(machine.vmcoreinfo, NoteArea)
    assert isinstance(machine.memory_map, MemoryMap)
    assert isinstance(machine.crash_kernel, RangeSet)
    assert isinstance(machine.page_offset_base, int)
    areas = [
        moved for cpu in machine.cpus if (moved := moved_note(NoteArea(cpu.addr, cpu.size), backup))
    ]
    note = moved_note(machine.vmcoreinfo, backup)
    if note:
        areas.append(note)
    return elfcorehdr.build(
        addr,
        areas,
        elfcorehdr.old_memory(
            machine.memory_map.whole_page_ram(4096), backup, machine.crash_kernel
        ),
        arch=X86_64,
        page_offset_base=machine.page_offset_base,
        copied_note=b"" if note else loaded.vmcoreinfo_note,
    )


def load_bound(backend: SimulatedBackend, image: CaptureImage) -> Loaded:
    """Load with the flag, and bind the headers: one turn, as in `pykexec load`."""
    with backend.session():
        loaded = backend.load(image.table)
        headers = core_headers(backend.machine(), loaded, image.elfcorehdr.start)
        backend.bind_headers(image.elfcorehdr.start, image.sealed(headers))
    return loaded


def capture_image(
    window: PhysRange,
    low: tuple[PhysRange, ...] = (PhysRange(0x1000, 0x9F000),),
    *,
    flags: KexecFlag = BY_NORMAL,
    headers: int = 64 << 10,
    kernel_pages: int = 5,
    cmdline: str | None = None,
    sealed: bool = True,
    elfcorehdr_bytes: bytes | None = None,
) -> CaptureImage:
    """Everything in `window`, from its start up; the low ranges and the rest are memory only.

    With `elfcorehdr_bytes` the headers are known before the load, and nothing is sealed.
    """
    at = window.start
    places: dict[str, PhysRange] = {}
    sizes = {
        "stub": STUB_MEMSZ,
        "tables": PAGE,
        "boot_params": 2 * PAGE,
        "kernel": kernel_pages * PAGE,
        "elfcorehdr": -(-headers // PAGE) * PAGE,
    }
    for name, size in sizes.items():
        places[name] = PhysRange.sized(at, size)
        at += size
    assert at <= window.end, "the window is too small for this image"
    headers_at = places["elfcorehdr"]
    line = f"console=ttyS0 elfcorehdr={headers_at.start:#x}" if cmdline is None else cmdline
    own = (*low, PhysRange(window.start, headers_at.start))
    if at < window.end:
        own += (PhysRange(at, window.end),)
    e820 = [(span.start, span.end, 1) for span in own]
    e820.append((headers_at.start, headers_at.end, 2))
    boot = zero_page(places["boot_params"].start + PAGE, e820) + line.encode() + b"\0"
    kernel = noise(kernel_pages * PAGE - 100, "kernel")
    seal = headers_at.end - SEAL_SIZE if sealed and elfcorehdr_bytes is None else 0
    regions = [
        Region.of(places["boot_params"].start, boot),
        Region.of(places["kernel"].start, kernel),
    ]
    records = tables(regions, ())
    params = StubParams(
        boot_params=places["boot_params"].start,
        entry=places["kernel"].start + 0x200,
        seal=seal,
    ).with_tables(records, at=places["tables"].start, n_regions=len(regions))
    contents = {
        "stub": stub_image(params),
        "tables": records,
        "boot_params": boot,
        "kernel": kernel,
        "elfcorehdr": elfcorehdr_bytes,
    }
    segments = [memory_only(f"low{number}", span) for number, span in enumerate(low)]
    for name, span in places.items():
        data = contents.get(name)
        segments.append(segment(name, span, data) if data else memory_only(name, span))
    if at < window.end:
        segments.append(memory_only("memory", PhysRange(at, window.end)))
    table = SegmentTable(tuple(segments), entry=window.start, flags=flags)
    return CaptureImage(table, own, headers_at, places["kernel"])


def segment(name: str, span: PhysRange, data: bytes) -> Segment:
    return Segment(name, span.start, span.size, "test", Built(data), Source.BUILT)


def memory_only(name: str, span: PhysRange) -> Segment:
    return Segment(name, span.start, span.size, "test")
