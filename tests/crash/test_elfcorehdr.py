"""ELF core headers and the file that fs/proc/vmcore.c makes of them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from pykexec.abi.elf import EHDR, PHDR, PT_LOAD, PT_NOTE
from pykexec.arch import X86_64
from pykexec.crash import elfcorehdr
from pykexec.crash.backup_map import BackupMap
from pykexec.crash.elfcorehdr import OldMemory, TooManyHeaders, image_pieces, old_memory
from pykexec.crash.notes import CORE, CPU_NOTE_SIZE, VMCOREINFO, Note, moved_note, parse_notes
from pykexec.dump.vmcore import NOTE_MAX, VmcoreNotInitialized, open_vmcore
from pykexec.machine import KernelMapping, NoteArea
from pykexec.memory.ranges import PhysRange, RangeSet

P = 0x1000
DIRECT_MAP = 0xFFFF888000000000
HEADERS_AT = 0x100 * P
NOTE = Note(VMCOREINFO, 0, b"OSRELEASE=6.1\nPAGESIZE=4096\n")
RAM = RangeSet.of([PhysRange(P, 9 * P), PhysRange(0x20 * P, 0x30 * P)])


class Bytes:
    """Physical memory in a bytearray."""

    def __init__(self, size: int = 0x200 * P) -> None:
        self.data = bytearray(size)

    def put(self, addr: int, data: bytes) -> None:
        self.data[addr : addr + len(data)] = data

    def read(self, addr: int, size: int) -> bytes:
        return bytes(self.data[addr : addr + size])

    def copy_to(self, fd: int, offset: int, span: PhysRange) -> None:
        os.pwrite(fd, self.read(span.start, span.size), offset)


def test_each_page_once_by_its_original_address() -> None:
    #  RAM      1-8, 0x20-0x2f; pages 2,3 moved to 0x25,0x24; page 4 in place
    backup = BackupMap.from_pages([(2 * P, 0x25 * P), (3 * P, 0x24 * P), (4 * P, 4 * P)], P)
    left_out = RangeSet.of([PhysRange(0x28 * P, 0x2A * P)])
    assert old_memory(RAM, backup, left_out) == (
        OldMemory(P, P, P),
        OldMemory(2 * P, 0x25 * P, P),
        OldMemory(3 * P, 0x24 * P, P),
        OldMemory(5 * P, 5 * P, 4 * P),
        OldMemory(0x20 * P, 0x20 * P, 8 * P),
        OldMemory(0x2A * P, 0x2A * P, 6 * P),
    )


def test_a_run_is_cut_to_ram() -> None:
    backup = BackupMap.from_pages([(8 * P, 0x24 * P), (9 * P, 0x25 * P)], P)
    assert OldMemory(8 * P, 0x24 * P, P) in old_memory(RAM, backup)
    assert all(piece.paddr != 9 * P for piece in old_memory(RAM, backup))


def test_the_headers_as_another_reader_sees_them() -> None:
    loads = (OldMemory(P, P, P), OldMemory(2 * P, 0x25 * P, 2 * P))
    raw = elfcorehdr.build(
        HEADERS_AT,
        [NoteArea(0x30 * P, CPU_NOTE_SIZE)],
        loads,
        arch=X86_64,
        page_offset_base=DIRECT_MAP,
        copied_note=NOTE.encoded,
    )
    core = ELFFile(io.BytesIO(raw))
    assert core["e_type"] == "ET_CORE"
    assert core["e_machine"] == "EM_X86_64"
    segments = [segment.header for segment in core.iter_segments()]
    assert [s["p_type"] for s in segments] == ["PT_NOTE", "PT_NOTE", "PT_LOAD", "PT_LOAD"]
    copied = segments[1]
    assert raw[copied["p_offset"] - HEADERS_AT :] == NOTE.encoded
    moved = segments[3]
    assert (moved["p_paddr"], moved["p_offset"]) == (2 * P, 0x25 * P)
    assert moved["p_vaddr"] == DIRECT_MAP + 2 * P
    assert moved["p_filesz"] == moved["p_memsz"] == 2 * P
    assert len(raw) == elfcorehdr.size_of(2, 2, len(NOTE.encoded))


TEXT = 0xFFFFFFFF81000000


def test_the_kernels_image_is_shown_by_its_own_addresses_too() -> None:
    """Pages 6 to 0x23 are the image: cut where memory ends, and where a page has moved."""
    backup = BackupMap.from_pages([(0x21 * P, 0x2A * P)], P)
    loads = old_memory(RAM, backup, RangeSet.of([PhysRange(0x2A * P, 0x2B * P)]))
    image = image_pieces(loads, KernelMapping(TEXT, PhysRange(6 * P, 0x23 * P)))
    assert image == (
        (TEXT, OldMemory(6 * P, 6 * P, 3 * P)),
        (TEXT + 0x1A * P, OldMemory(0x20 * P, 0x20 * P, P)),
        (TEXT + 0x1B * P, OldMemory(0x21 * P, 0x2A * P, P)),
        (TEXT + 0x1C * P, OldMemory(0x22 * P, 0x22 * P, P)),
    )
    raw = elfcorehdr.build(
        HEADERS_AT, [], loads, arch=X86_64, page_offset_base=DIRECT_MAP, image=image
    )
    found = [s.header for s in ELFFile(io.BytesIO(raw)).iter_segments()]
    assert [(s["p_vaddr"], s["p_paddr"], s["p_offset"]) for s in found[:4]] == [
        (vaddr, piece.paddr, piece.offset) for vaddr, piece in image
    ]
    assert [s["p_vaddr"] - s["p_paddr"] for s in found[4:]] == [DIRECT_MAP] * len(loads)
    assert len(raw) == elfcorehdr.size_of(0, len(loads) + len(image))


def test_more_than_65535_headers_are_refused_in_words() -> None:
    many = [OldMemory(n * 2 * P, n * 2 * P, P) for n in range(0xFFFF)]
    assert elfcorehdr.build(0, [], many, arch=X86_64, page_offset_base=0)
    with pytest.raises(TooManyHeaders) as caught:
        elfcorehdr.build(0, [NoteArea(0, 1)], many, arch=X86_64, page_offset_base=0)
    assert caught.value.message == (
        "65536 program headers are needed, but ELF core headers can have at most 65535"
    )
    assert caught.value.exit_status == 6


def header(phnum: int, **change: int) -> bytes:
    fields = {"type": 4, "machine": 62, "version": 1, "ehsize": 64, "phentsize": 56}
    fields |= {"phoff": 64} | change
    ident = b"\x7fELF\2\1\1" + bytes(9)
    return EHDR.pack(
        ident, fields["type"], fields["machine"], fields["version"], 0, fields["phoff"], 0, 0,
        fields["ehsize"], fields["phentsize"], phnum, 0, 0, 0,
    )  # fmt: skip


def load(offset: int, paddr: int, size: int) -> bytes:
    return PHDR.pack(PT_LOAD, 7, offset, DIRECT_MAP + paddr, paddr, 0, size, 0)


def note(offset: int, size: int) -> bytes:
    return PHDR.pack(PT_NOTE, 0, offset, 0, 0, size, size, 0)


def dump(tmp_path: Path, memory: Bytes, raw: bytes) -> bytes:
    memory.put(HEADERS_AT, raw)
    path = tmp_path / "vmcore"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        open_vmcore(memory, HEADERS_AT, P).write(fd)
    finally:
        os.close(fd)
    return path.read_bytes()


def test_the_file_is_headers_then_notes_then_old_pages(tmp_path: Path) -> None:
    memory = Bytes()
    memory.put(0x40 * P, NOTE.encoded)
    memory.put(0x25 * P, b"old page 2".ljust(P, b"."))
    core = dump(tmp_path, memory, header(2) + note(0x40 * P, P) + load(0x25 * P, 2 * P, P))
    elf = ELFFile(io.BytesIO(core))
    merged, moved = elf.iter_segments()
    assert isinstance(merged, NoteSegment)
    assert [n["n_name"] for n in merged.iter_notes()] == ["VMCOREINFO"]
    assert merged["p_offset"] % P == moved["p_offset"] % P == 0
    assert (moved["p_paddr"], moved["p_vaddr"]) == (2 * P, DIRECT_MAP + 2 * P)
    assert core[moved["p_offset"] :].startswith(b"old page 2")
    assert len(core) == 3 * P


def test_a_piece_inside_a_page_shows_the_whole_page(tmp_path: Path) -> None:
    memory = Bytes()
    memory.put(0x40 * P, NOTE.encoded)
    memory.put(0x25 * P, bytes(range(256)) * 16)
    core = dump(tmp_path, memory, header(2) + note(0x40 * P, P) + load(0x25 * P + 16, 16, 32))
    moved = list(ELFFile(io.BytesIO(core)).iter_segments())[1]
    assert moved["p_offset"] == 2 * P + 16
    assert core[moved["p_offset"]] == 16


def test_a_load_before_the_notes_is_lost(tmp_path: Path) -> None:
    memory = Bytes()
    memory.put(0x40 * P, NOTE.encoded)
    raw = header(3) + load(0x20 * P, 0x20 * P, P) + note(0x40 * P, P) + load(0x25 * P, 2 * P, P)
    core = dump(tmp_path, memory, raw)
    kinds = [s["p_type"] for s in ELFFile(io.BytesIO(core)).iter_segments()]
    assert kinds == ["PT_NOTE", "PT_NOTE", "PT_LOAD"], "as merge_note_headers leaves them"


def test_e_phoff_is_ignored() -> None:
    memory = Bytes()
    memory.put(0x40 * P, NOTE.encoded)
    memory.put(HEADERS_AT, header(2, phoff=0xDEAD) + note(0x40 * P, P) + load(P, P, P))
    assert open_vmcore(memory, HEADERS_AT, P).pages == ((2 * P, PhysRange(P, 2 * P)),)


def test_empty_cpu_notes_beside_a_good_one_are_fine(tmp_path: Path) -> None:
    memory = Bytes()
    memory.put(0x40 * P, NOTE.encoded)
    raw = header(3) + note(0x41 * P, CPU_NOTE_SIZE) + note(0x40 * P, P) + load(P, P, P)
    merged = next(iter(ELFFile(io.BytesIO(dump(tmp_path, memory, raw))).iter_segments()))
    assert isinstance(merged, NoteSegment)
    assert [n["n_name"] for n in merged.iter_notes()] == ["VMCOREINFO"]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\0" * 64, "no ELF magic"),
        (header(1, type=2), "not a core file"),
        (header(1, machine=3), "not of x86_64"),
        (header(1, version=2), "not of version 1"),
        (header(1, ehsize=52), "e_ehsize is not 64"),
        (header(1, phentsize=32), "e_phentsize is not 56"),
        (header(0), "no program headers"),
        (header(1) + note(0x40 * P, P), "all notes are empty"),
        (header(1) + load(P, P, P), "all notes are empty"),
    ],
)
def test_what_the_kernel_does_not_initialize(tmp_path: Path, raw: bytes, reason: str) -> None:
    with pytest.raises(VmcoreNotInitialized, match="vmcore not initialized") as caught:
        dump(tmp_path, Bytes(), raw)
    assert reason in caught.value.message


def test_a_note_of_4_mib_is_the_largest() -> None:
    memory = Bytes(NOTE_MAX + 0x41 * P)
    memory.put(0x40 * P, NOTE.encoded)
    memory.put(HEADERS_AT - P, header(1) + note(0x40 * P, NOTE_MAX))
    assert NOTE.encoded in open_vmcore(memory, HEADERS_AT - P, P).notes
    memory.put(HEADERS_AT - P, header(1) + note(0x40 * P, NOTE_MAX + 1))
    with pytest.raises(VmcoreNotInitialized, match="a note of 0x400001 bytes at 0x40000"):
        open_vmcore(memory, HEADERS_AT - P, P)


@pytest.mark.parametrize(("end", "good"), [((1 << 64) - P, True), ((1 << 64) - P + 1, False)])
def test_a_load_ends_before_the_last_page_of_all(end: int, good: bool) -> None:
    """The end of a higher one, rounded up to a page, would be 0."""
    memory = Bytes()
    memory.put(0x40 * P, NOTE.encoded)
    memory.put(HEADERS_AT, header(2) + note(0x40 * P, P) + load(end - 16, P, 16))
    if good:
        assert open_vmcore(memory, HEADERS_AT, P).pages[0][1].end == end
        return
    with pytest.raises(VmcoreNotInitialized, match="wraps around"):
        open_vmcore(memory, HEADERS_AT, P)


def test_more_memory_than_there_are_addresses() -> None:
    """Two PT_LOADs of 60% of 64 bits: a file offset would not fit into its field."""
    memory = Bytes()
    memory.put(0x40 * P, NOTE.encoded)
    huge = load(P, P, 0x999 << 52)
    memory.put(HEADERS_AT, header(3) + note(0x40 * P, P) + huge + huge)
    with pytest.raises(VmcoreNotInitialized, match="vmcore not initialized: 0x1332"):
        open_vmcore(memory, HEADERS_AT, P)


def test_notes_are_parsed_as_they_were_encoded() -> None:
    cpu = Note(CORE, 1, bytes(336))
    assert len(cpu.encoded) + 12 == CPU_NOTE_SIZE == 368
    assert list(parse_notes(cpu.encoded + NOTE.encoded + bytes(12))) == [cpu, NOTE]
    for missing in (1, 4, 8):
        assert list(parse_notes(NOTE.encoded[:-missing])) == [], "an overrunning note is dropped"


def test_a_note_moves_with_its_page_or_is_lost() -> None:
    backup = BackupMap.from_pages([(P, 7 * P), (2 * P, 5 * P)], P)
    assert moved_note(NoteArea(P + 0x100, 368), backup) == NoteArea(7 * P + 0x100, 368)
    assert moved_note(NoteArea(P + 0x100, P), backup) is None
