"""Runs kexec-tools and `pykexec-kexec` with the same arguments on the same made-up machine, and
compares what they pass to kexec_load(2), item by item.

ON_PURPOSE lists the differences and their reasons; test_kexec_tools.py compares boot_params byte by
byte."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from pykexec.crash.elfcorehdr import ProgramHeader
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import PhysRange, RangeSet
from tests.builders import GIB, MIB, ram, reserved, write
from tests.host.conftest import DIRECT_MAP
from tests.vm.supplies import Program

from .crash_machine import TEXT, CrashMachine, drop_in
from .kexec_tools import OracleLoad, OracleSegment, kexec_load
from .test_kexec_tools import HOLES, PC, SMALL
from .test_kexec_tools import ON_PURPOSE as ZERO_PAGE

ON_PURPOSE = {
    "purgatory": "our stub is smaller",
    "boot_params": "the command line lies right behind the zero page, and not behind room for the "
    "image's set-up code; setup_data goes with it and has no segment of its own",
    "backup": "no zeros are handed over for it, and it has whole pages only: the stub exchanges",
    "elfcorehdr": "as long as the headers are, without room up to 16 KiB",
    "command line": "elfcorehdr= in bytes and not in K; no acpi_rsdp=, which boot_params has",
    "PT_NOTE": "p_paddr is 0; theirs repeats p_offset",
    "first page": "not among the pages of the backup: no kernel uses it, and it stays readable "
    "where it is",
}
PT_LOAD, PT_NOTE = 1, 4


def many(count: int) -> MemoryMap:
    """Many small ranges of RAM, each followed by a reserved one; kexec-tools gives up above 2048
    ranges in total."""
    starts = [16 * MIB + n * 0x20000 for n in range(count)]
    return MemoryMap.of(
        [
            *ram((0, 0x9FC00), (GIB, 0x7FFE0000), (4 * GIB, 6 * GIB)),
            *reserved((0x9FC00, 0xA0000), (0xF0000, MIB)),
            *ram(*((at, at + 0x10000) for at in starts)),
            *reserved(*((at + 0x10000, at + 0x20000) for at in starts)),
        ]
    )


REGION = (PhysRange(0x6F000000, 0x7F000000),)
MACHINES = {
    "a PC": CrashMachine(PC, REGION, (0, 1, 2, 3)),
    "low and high": CrashMachine(PC, (*REGION, PhysRange(5 * GIB, 5 * GIB + 256 * MIB))),
    "small": CrashMachine(SMALL, (PhysRange(0x4000000, 0xC000000),), (0,)),
    "holes": CrashMachine(HOLES, (PhysRange(0x8000000, 0x10000000),)),
    "more than 128 ranges": CrashMachine(many(140), REGION),
    "more than 1000 ranges": CrashMachine(many(520), REGION),
}


@dataclass(frozen=True)
class Load:
    """What one program passed to the kernel, by item."""

    load: OracleLoad

    def having(self, magic: bytes, offset: int = 0) -> OracleSegment:
        return next(s for s in self.load.segments if s.buf[offset : offset + len(magic)] == magic)

    @property
    def params(self) -> OracleSegment:
        return self.having(b"HdrS", 0x202)

    @property
    def headers(self) -> OracleSegment:
        return self.having(b"\x7fELF")

    @property
    def initrd(self) -> OracleSegment:
        return self.having(b"INITRD")

    @property
    def kernel(self) -> OracleSegment:
        return max(
            (s for s in self.load.segments if s is not self.initrd), key=lambda s: len(s.buf)
        )

    @property
    def purgatory(self) -> OracleSegment:
        return self.load.around(self.load.entry)

    @property
    def backup(self) -> OracleSegment:
        """Above the headers: zeros or nothing."""
        (found,) = (s for s in self.load.segments if s.mem >= self.headers.mem and not any(s.buf))
        return found

    @property
    def cmdline(self) -> str:
        page = self.params.buf
        low, high = (struct.unpack_from("<I", page, at)[0] for at in (0x228, 0xC8))
        return page[(low | high << 32) - self.params.mem :].split(b"\0")[0].decode()

    @property
    def e820(self) -> list[tuple[int, int, int]]:
        """Start, end and type, including entries outside the zero page."""
        page = self.params.buf
        raw = page[0x2D0 : 0x2D0 + 20 * page[0x1E8]]
        (node,) = struct.unpack_from("<Q", page, 0x250)
        while node:
            segment = self.load.around(node)
            node, kind, size = struct.unpack_from("<QII", segment.buf, node - segment.mem)
            if kind == 1:
                at = segment.buf.index(struct.pack("<QII", node, kind, size)) + 16
                raw += segment.buf[at : at + size]
        return sorted(
            (start, start + size, kind) for start, size, kind in struct.iter_unpack("<QQI", raw)
        )

    def e820_of(self, *types: int) -> RangeSet:
        return RangeSet.of(PhysRange(s, e) for s, e, kind in self.e820 if kind in types)

    @property
    def program_headers(self) -> list[ProgramHeader]:
        data = self.headers.buf
        (count,) = struct.unpack_from("<H", data, 56)
        return [
            ProgramHeader(*(f[i] for i in (0, 1, 2, 3, 4, 5, 6, 7)))
            for f in (struct.unpack_from("<IIQQQQQQ", data, 64 + 56 * n) for n in range(count))
        ]


def span(segment: OracleSegment) -> PhysRange:
    return PhysRange.sized(segment.mem, segment.memsz)


@dataclass(frozen=True)
class Both:
    machine: CrashMachine
    theirs: Load
    ours: Load

    @property
    def each(self) -> tuple[Load, Load]:
        return self.theirs, self.ours


@pytest.fixture(scope="module")
def programs(kexec: Program, tmp_path_factory: pytest.TempPathFactory) -> tuple[Program, Program]:
    return kexec, drop_in(tmp_path_factory.mktemp("bin"))


def both_load(
    machine: CrashMachine,
    verb: str,
    words: list[str],
    programs: tuple[Program, Program],
    shim: Path,
    folder: Path,
) -> Both:
    tree = machine.tree(folder / "machine")
    theirs, ours = (
        Load(kexec_load(program, shim, tree, *words, verb=verb)) for program in programs
    )
    return Both(machine, theirs, ours)


@pytest.fixture(scope="module", params=list(MACHINES.values()), ids=list(MACHINES))
def crash(
    request: pytest.FixtureRequest,
    debian_kernel: Path,
    programs: tuple[Program, Program],
    shim: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Both:
    folder = tmp_path_factory.mktemp("crash")
    initrd = write(folder, "initrd", b"INITRD" + bytes(range(256)) * 0x4001)
    words = [str(debian_kernel), "--reuse-cmdline", "--append=maxcpus=1", f"--initrd={initrd}"]
    return both_load(request.param, "-p", words, programs, shim, folder)


@pytest.fixture(scope="module", params=list(MACHINES.values()), ids=list(MACHINES))
def normal(
    request: pytest.FixtureRequest,
    debian_kernel: Path,
    programs: tuple[Program, Program],
    shim: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Both:
    folder = tmp_path_factory.mktemp("normal")
    initrd = write(folder, "initrd", b"INITRD" + bytes(range(256)) * 0x4001)
    words = [str(debian_kernel), "--reuse-cmdline", "--append=debug", f"--initrd={initrd}"]
    return both_load(request.param, "-l", words, programs, shim, folder)


def test_the_flags_of_a_crash_load(crash: Both) -> None:
    assert [item.load.flags for item in crash.each] == [0x3E0001] * 2


def test_the_flags_of_a_normal_load(normal: Both) -> None:
    assert [item.load.flags for item in normal.each] == [0x3E0000] * 2


def assert_same_files(both: Both) -> None:
    """Kernel and initrd: address, sizes, bytes. An initrd directly below boot_params is so in both,
    whose boot_params differ in size."""
    theirs, ours = both.each
    assert ours.kernel.place == theirs.kernel.place
    assert ours.kernel.buf == theirs.kernel.buf
    assert ours.initrd.place[1:] == theirs.initrd.place[1:]
    assert ours.initrd.buf == theirs.initrd.buf
    if span(theirs.initrd).end == theirs.params.mem:
        assert span(ours.initrd).end == ours.params.mem
    else:
        assert ours.initrd.mem == theirs.initrd.mem


def test_kernel_and_initrd_of_a_crash_load(crash: Both) -> None:
    assert_same_files(crash)


def test_kernel_and_initrd_of_a_normal_load(normal: Both) -> None:
    assert_same_files(normal)


def test_the_order_in_the_region(crash: Both) -> None:
    """Backup at its end, then headers, purgatory, boot_params, each directly below the previous
    one."""
    region = crash.machine.regions[-1]
    for item in crash.each:
        chain = [span(s) for s in (item.params, item.purgatory, item.headers, item.backup)]
        assert all(a.end == b.start for a, b in pairwise(chain))
        assert chain[-1].end == region.end
        assert all(span(s).start in region for s in item.load.segments)


def test_the_command_line_of_a_crash_load(crash: Both) -> None:
    """The words are the same, and elfcorehdr= is the address of the headers."""
    for item in crash.each:
        words, _, where = item.cmdline.rpartition(" elfcorehdr=")
        assert words.split() == ["root=/dev/vda1", "ro", "maxcpus=1"]
        assert int(where.rstrip("K"), 0) << 10 * where.endswith("K") == item.headers.mem


def test_the_command_line_of_a_normal_load(normal: Both) -> None:
    """Here a reused command line keeps crashkernel=."""
    theirs, ours = (item.cmdline.split() for item in normal.each)
    assert ours == theirs == ["root=/dev/vda1", "ro", "crashkernel=256M", "debug"]


def test_the_memory_of_the_next_kernel(normal: Both) -> None:
    """All ranges; that of kexec-tools starts at 0x400."""
    theirs, ours = (item.e820 for item in normal.each)
    assert (ours[0][0], theirs[0][0]) == (0, 0x400)
    assert [row[1:] for row in ours] == [row[1:] for row in theirs]
    assert ours[1:] == theirs[1:]


def test_the_memory_of_a_capture_kernel(crash: Both) -> None:
    """RAM: below 640 KiB, and the regions except headers and backup, which kexec-tools leaves out
    and pykexec marks as reserved; and everything that the firmware reserves."""
    found = []
    for item in crash.each:
        kept = RangeSet.of((span(item.headers), span(item.backup)))
        usable = item.e820_of(1) | kept
        pages = (usable - RangeSet((PhysRange(0, 0x1000),))).inward(0x1000)
        found.append((pages, item.e820_of(2, 3, 4) - kept))
    (their_ram, their_kept), (our_ram, our_kept) = found
    assert our_ram == their_ram
    assert our_kept == their_kept


def assert_same_params(both: Both, *more: tuple[int, int]) -> None:
    """Each byte of the zero page, except the fields in the table of test_kexec_tools.py."""
    theirs, ours = (item.params.buf for item in both.each)
    excused = [*ZERO_PAGE, *more]
    wrong = {
        hex(at): (ours[at], theirs[at])
        for at in range(4096)
        if ours[at] != theirs[at] and not any(start <= at < end for start, end in excused)
    }
    assert wrong == {}


def test_boot_params_of_a_crash_load(crash: Both) -> None:
    """The e820 table is compared as a map, above."""
    assert_same_params(crash, (0x1E8, 0x1E9), (0x2D0, 0x2D0 + 128 * 20))


def test_boot_params_of_a_normal_load(normal: Both) -> None:
    """The address of an initrd directly below boot_params depends on their size."""
    assert_same_params(normal, (0x218, 0x21C))


def test_the_notes(crash: Both) -> None:
    for item in crash.each:
        notes = [h for h in item.program_headers if h.p_type == PT_NOTE]
        found = [(h.p_offset, h.p_filesz) for h in notes]
        assert found == crash.machine.notes
        assert all(h.p_memsz == h.p_filesz for h in notes)


def test_the_memory_in_the_dump(crash: Both) -> None:
    """The same pages at the same virtual addresses, in place or in the backup."""
    found = []
    for item in crash.each:
        loads = [h for h in item.program_headers if h.p_type == PT_LOAD and h.p_vaddr < TEXT]
        assert all(h.p_vaddr == DIRECT_MAP + h.p_paddr for h in loads)
        (moved,) = (h for h in loads if h.p_offset != h.p_paddr)
        assert moved.p_offset == item.backup.mem
        assert moved.p_paddr + moved.p_memsz <= 0xA0000
        ranges = RangeSet.of(PhysRange.sized(h.p_paddr, h.p_memsz) for h in loads)
        found.append((ranges - RangeSet((PhysRange(0, 0x1000),))).inward(0x1000))
    assert found[0] == found[1]


def test_the_kernels_text(crash: Both) -> None:
    """By its own virtual addresses: theirs is one piece, also where some of it is no memory."""
    (theirs,), ours = (
        [h for h in item.program_headers if h.p_type == PT_LOAD and h.p_vaddr >= TEXT]
        for item in crash.each
    )
    moved = theirs.p_vaddr - theirs.p_paddr
    assert {(h.p_vaddr - h.p_paddr, h.p_offset - h.p_paddr) for h in ours} == {(moved, 0)}
    ram = RangeSet.of(
        PhysRange.sized(h.p_paddr, h.p_memsz)
        for h in crash.each[1].program_headers
        if h.p_type == PT_LOAD and h.p_vaddr < TEXT
    )
    found = RangeSet.of(PhysRange.sized(h.p_paddr, h.p_filesz) for h in ours)
    assert found == ram.within(PhysRange.sized(theirs.p_paddr, theirs.p_memsz))
