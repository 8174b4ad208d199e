"""Dumps built from arguments: each has one fault, which one rule reports."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec.abi.elf import EHDR, EI_IDENT, EM_X86_64, ET_CORE, PHDR, PT_LOAD, PT_NOTE
from pykexec.crash.notes import CORE, VMCOREINFO, Note
from pykexec.crash.pattern import pattern_page
from pykexec.documents.plan import BadPlan
from pykexec.dump.core_file import open_core
from pykexec.dump.faults import DamagedDump, NotADump
from pykexec.dump.vmcore import NOTE_MAX
from pykexec.dump.vmcore_check import (
    Expected,
    VmcoreVerdict,
    covered,
    expected_of_plan,
    verify,
    without_contents,
)
from pykexec.dump.vmcore_pages import PatternCount
from pykexec.errors import KexecError, NotSupported
from pykexec.memory.ranges import PhysRange, RangeSet
from tests.crash.test_elfcorehdr import header, note
from tests.plans import plan, segment

PAGE = 4096
BASE = 0xFFFF888000000000
PRSTATUS = Note(CORE, 1, struct.pack("<32xI", 42).ljust(336, b"\0")).encoded
INFO = Note(VMCOREINFO, 0, b"OSRELEASE=6.1.0\nPAGESIZE=4096\n").encoded


@dataclass(frozen=True)
class Load:
    """One PT_LOAD: `pages` are the addresses in its self-describing pages; None for other pages."""

    paddr: int
    pages: tuple[int | None, ...]
    vaddr: int | None = None
    filesz: int | None = None
    offset: int | None = None


def run_of(paddr: int, count: int) -> Load:
    return Load(paddr, tuple(paddr + n * PAGE for n in range(count)))


GOOD = (run_of(0x1000, 3), run_of(0x100000, 2), run_of(0x200000, 4))


def make_core(
    loads: tuple[Load, ...] = GOOD, notes: tuple[bytes, ...] = (PRSTATUS, PRSTATUS, INFO)
) -> bytes:
    """Like /proc/vmcore: headers, one merged note, memory."""
    merged = b"".join(notes)
    count = len(loads) + 1
    at = EHDR.size + PHDR.size * count
    table = [PHDR.pack(PT_NOTE, 0, at, 0, 0, len(merged), len(merged), 0)]
    at += len(merged)
    memory = []
    for load in loads:
        data = b"".join(bytes(PAGE) if a is None else pattern_page(a) for a in load.pages)
        vaddr = (BASE + load.paddr) % (1 << 64) if load.vaddr is None else load.vaddr
        filesz = len(data) if load.filesz is None else load.filesz
        offset = at if load.offset is None else load.offset
        table.append(PHDR.pack(PT_LOAD, 7, offset, vaddr, load.paddr, filesz, len(data), 0))
        at += len(data)
        memory.append(data)
    head = EHDR.pack(
        EI_IDENT, ET_CORE, EM_X86_64, 1, 0, EHDR.size, 0, 0, EHDR.size, PHDR.size, count, 0, 0, 0
    )
    return b"".join((head, *table, merged, *memory))


def verdict_of(folder: Path, core: bytes, expected: Expected | None = None) -> VmcoreVerdict:
    path = folder / "core"
    path.write_bytes(core)
    return verify(path, expected)


def broken(verdict: VmcoreVerdict) -> dict[str, str]:
    return {check.rule: check.detail for check in verdict.checks if check.ok is False}


def ranges(*loads: Load) -> RangeSet:
    return RangeSet.of(PhysRange.sized(load.paddr, len(load.pages) * PAGE) for load in loads)


EXPECTED = Expected(ranges(*GOOD), ranges(*GOOD), 2)


def test_a_good_dump(tmp_path: Path) -> None:
    verdict = verdict_of(tmp_path, make_core(), EXPECTED)
    assert verdict.whole
    assert all(check.ok for check in verdict.checks)
    assert verdict.patterns == PatternCount(right=9)
    assert [cpu.pid for cpu in verdict.core.cpus] == [42, 42]


def test_without_an_expectation_coverage_is_unknown(tmp_path: Path) -> None:
    verdict = verdict_of(tmp_path, make_core())
    assert verdict.whole
    assert [check.rule for check in verdict.checks if check.ok is None] == ["coverage"]


A, B, C = GOOD
WRONG: list[tuple[str, tuple[Load, ...], str, str]] = [
    ("out of order", (B, A, C), "paddr-order",
     "not sorted by physical address: 0x1000 follows 0x100000"),
    ("shown twice", (A, B, run_of(0x101000, 1), C), "paddr-order",
     "shown twice: 0x100000..0x102000 and 0x101000"),
    ("the same bytes for two addresses", (A, B, replace(C, offset=0x800, filesz=0x1000)),
     "file-pieces", "memory at 0x1000 and memory at 0x200000 are the same bytes of the file"),
    ("bytes of the headers", (A, B, C, Load(0x300000, (None,), offset=0)),
     "file-pieces", "the headers and memory at 0x300000 are the same bytes of the file"),
    ("bytes of a note", (A, B, C, Load(0x300000, (None,), offset=0x200)),
     "file-pieces", "a note and memory at 0x300000 are the same bytes of the file"),
    ("bytes without memory", (A, B, Load(0x180000, (), filesz=0x1000, offset=0x420), C),
     "file-size", "memory at 0x180000: p_filesz 0x1000 above p_memsz 0x0"),
    ("no contents at all", tuple(replace(load, filesz=0) for load in GOOD), "coverage",
     "9 pages are missing, the first at 0x1000; 9 pages are listed without contents "
     "(p_filesz below p_memsz)"),
    ("the end without contents", (A, B, replace(C, filesz=0x1800)), "coverage",
     "3 pages are missing, the first at 0x201800; 3 pages are listed without contents "
     "(p_filesz below p_memsz)"),
    ("listed besides, without contents", (*GOOD, replace(run_of(0x300000, 2), filesz=0)),
     "coverage", "2 pages are listed without contents (p_filesz below p_memsz), the first at "
     "0x300000"),
    ("behind the end", (A, B, replace(C, offset=1 << 40)), "file-size",
     "cut off: memory at 0x200000 ends at 0x10000004000 of a file of 0x9420"),
    ("a wrong direct map", (A, replace(B, vaddr=BASE), C), "page-offset",
     f"p_vaddr - p_paddr is not one value: {BASE - 0x100000:#x}, {BASE:#x}"),
    ("more bytes than memory", (replace(A, filesz=0x3001), B, C), "file-size",
     "memory at 0x1000: p_filesz 0x3001 above p_memsz 0x3000"),
    ("around the end of addresses", (A, B, C, Load((1 << 64) - PAGE, (None, None))), "file-size",
     "memory at 0xfffffffffffff000 wraps around"),
    ("no memory at all", (), "file-size", "no memory in it: there is no PT_LOAD"),
    ("a piece that is missing", (A, C), "coverage",
     "2 pages are missing, the first at 0x100000"),
    ("a piece that is no RAM", (*GOOD, run_of(0x300000, 1)), "coverage",
     "0x300000..0x301000 is in the dump and is not RAM"),
    ("a page that is another's", (A, Load(0x100000, (0x101000, 0x101000)), C), "", ""),
    ("a page that is nowhere else", (A, Load(0x100000, (0x101000, None)), C), "pattern-pages",
     "7 pages are at their own address; 1 are not, 0 are damaged, the first at 0x101000"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "loads", "rule", "detail"), WRONG, ids=[row[0] for row in WRONG])
def test_one_thing_is_wrong(
    tmp_path: Path, case: str, loads: tuple[Load, ...], rule: str, detail: str
) -> None:
    found = broken(verdict_of(tmp_path, make_core(loads), EXPECTED))
    if rule:
        assert found[rule] == detail
    else:
        assert found == {}


def test_memory_without_contents_is_not_whole_whatever_is_expected(tmp_path: Path) -> None:
    """As written by `makedumpfile -E -d 31`: the start of one PT_LOAD, and nothing of another."""
    core = make_core((replace(A, filesz=0x1000), replace(B, filesz=0), C))
    verdict = verdict_of(tmp_path, core)
    assert broken(verdict) == {
        "coverage": "4 pages are listed without contents (p_filesz below p_memsz), the first at "
        "0x2000"
    }
    assert covered(verdict.core) == ranges(run_of(0x1000, 1), C)
    assert without_contents(verdict.core) == ranges(run_of(0x2000, 2), B)


def test_a_file_that_was_cut_off_holds_less(tmp_path: Path) -> None:
    verdict = verdict_of(tmp_path, make_core()[: -3 * PAGE], EXPECTED)
    assert broken(verdict).keys() == {"file-size", "coverage"}
    assert broken(verdict)["coverage"].startswith("3 pages are missing, the first at 0x201000")
    assert covered(verdict.core).ranges[-1] == PhysRange(0x200000, 0x201000)


def test_a_hole_is_named_and_a_file_of_holes_is_no_dump(tmp_path: Path) -> None:
    path = tmp_path / "core"
    to_a_page = Note(CORE, 99, bytes(PAGE - 0x420 - 20)).encoded
    core = make_core(notes=(PRSTATUS, PRSTATUS, INFO, to_a_page))
    assert len(core) == 10 * PAGE
    path.write_bytes(core[: -4 * PAGE])
    os.truncate(path, len(core))
    found = {check.rule: check for check in verify(path).checks}
    assert found["file-holes"].ok
    assert found["file-holes"].detail.startswith("1 of 3 PT_LOADs are holes in the file")
    path.write_bytes(core[: -9 * PAGE])
    os.truncate(path, len(core))
    assert broken(verify(path))["file-holes"].startswith("3 of 3 PT_LOADs are holes in the file")


def test_kernel_text_may_be_shown_once_more(tmp_path: Path) -> None:
    text = replace(run_of(0x200000, 1), vaddr=0xFFFFFFFF81000000)
    assert broken(verdict_of(tmp_path, make_core((text, *GOOD)), EXPECTED)) == {}


NOTES = [
    ((INFO,), "cpu-notes", "registers of 0 CPUs of 2"),
    ((PRSTATUS, INFO), "cpu-notes", "registers of 1 CPU of 2"),
    ((PRSTATUS, PRSTATUS), "vmcoreinfo", "no VMCOREINFO note"),
    ((PRSTATUS, PRSTATUS, Note(VMCOREINFO, 0, b"OSRELEASE=6\n").encoded), "vmcoreinfo",
     "VMCOREINFO has no PAGESIZE"),
]  # fmt: skip


@pytest.mark.parametrize(("notes", "rule", "detail"), NOTES)
def test_notes(tmp_path: Path, notes: tuple[bytes, ...], rule: str, detail: str) -> None:
    assert broken(verdict_of(tmp_path, make_core(notes=notes), EXPECTED)) == {rule: detail}


def test_a_damaged_page(tmp_path: Path) -> None:
    core = bytearray(make_core())
    core[-100] ^= 1
    found = broken(verdict_of(tmp_path, bytes(core), EXPECTED))
    assert found == {
        "pattern-pages": "8 pages are at their own address; 0 are not, 1 are damaged, the first "
        "at 0x203000"
    }


def test_copies_in_backup_frames_are_no_fault(tmp_path: Path) -> None:
    """A source page still has, at its own address, the contents that were moved into it."""
    loads = (A, B, Load(0x200000, (0x1000, 0x2000, None, None)))
    verdict = verdict_of(tmp_path, make_core(loads), EXPECTED)
    assert verdict.patterns == PatternCount(right=5, copies=2)
    assert verdict.whole


def test_holes_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "core"
    size = 1 << 40
    path.write_bytes(make_core((Load(0x1000, (0x1000,)),)))
    with path.open("r+b") as file:
        file.seek(EHDR.size + PHDR.size + 32)
        file.write(struct.pack("<QQ", size, size))
    os.truncate(path, size + PAGE)
    verdict = verify(path)
    assert verdict.patterns == PatternCount(right=1)


HOSTILE = [
    (b"", "not a dump: it is empty"),
    (b"text", "not a dump: it starts with 'text'"),
    (b"\x7fELF", "4 bytes, an ELF header has 64"),
    (b"\x7fELF" + bytes(60), "not a 64-bit little-endian ELF file"),
    (make_core()[:100], "cut off: 4 program headers at 0x40, the file ends at 0x64"),
    (make_core()[:400], "cut off: a PT_NOTE ends at 0x420, the file at 0x190"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), HOSTILE)
def test_what_is_no_core(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "core"
    path.write_bytes(data)
    with pytest.raises((NotADump, DamagedDump)) as raised:
        open_core(path)
    assert raised.value.message.removeprefix(f"{path}: ").endswith(message)


@pytest.mark.parametrize(
    ("sizes", "good"),
    [((NOTE_MAX,), True), ((NOTE_MAX + 1,), False), ((NOTE_MAX - PAGE, PAGE + 1), False)],
)
def test_4_mib_of_notes_are_read_and_no_more(
    tmp_path: Path, sizes: tuple[int, ...], good: bool
) -> None:
    """In one segment or in several: a file can claim any number of them."""
    path = tmp_path / "core"
    table = b"".join(note(PAGE, size) for size in sizes)
    path.write_bytes((header(len(sizes)) + table).ljust(PAGE, b"\0") + INFO)
    os.truncate(path, PAGE + NOTE_MAX + 1)
    if good:
        assert open_core(path).vmcoreinfo
        return
    with pytest.raises(DamagedDump, match="more than 0x400000 bytes of notes"):
        open_core(path)


def test_other_formats_of_dumps_are_named(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(b"KDUMP   " + bytes(100))
    with pytest.raises(
        NotSupported, match="a kdump-compressed file, but only ELF dumps are supported"
    ):
        open_core(path)


def test_not_a_regular_file(tmp_path: Path) -> None:
    with pytest.raises(NotADump, match="a folder, not a regular file"):
        open_core(tmp_path)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 0x41F), st.binary(min_size=1, max_size=8)), max_size=6),
    st.integers(0, 0x9420),
)
def test_any_header_gives_a_verdict_or_a_typed_error(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, bytes]], end: int
) -> None:
    core = bytearray(make_core())
    for at, data in flips:
        core[at : at + len(data)] = data
    path = tmp_path_factory.getbasetemp() / "hostile"
    path.write_bytes(core if end > 0x9000 else core[:end])
    try:
        verify(path, EXPECTED)
    except KexecError as error:
        assert error.message


PLAN: dict[str, Any] = plan(
    state="bound",
    memory_map=[
        {"start": "0x1000", "end": "0x10000", "type": "System RAM"},
        {"start": "0x10000", "end": "0x20000", "type": "Reserved"},
    ],
    reservation=[{"start": "0x8000", "end": "0xa000"}],
    backup_map=[
        {"dest": "0x2000", "source": "0x2000", "size": 4096},
        {"dest": "0x3000", "source": "0x9000", "size": 4096},
    ],
)


def plan_file(folder: Path, document: Any) -> Path:
    path = folder / "plan.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_what_a_plan_expects(tmp_path: Path) -> None:
    expected = expected_of_plan(plan_file(tmp_path, PLAN))
    ram = RangeSet((PhysRange(0x1000, 0x8000), PhysRange(0xA000, 0x10000)))
    assert expected == Expected(ram.without(PhysRange(0x2000, 0x3000)), ram)


def test_ram_that_a_driver_added_is_expected(tmp_path: Path) -> None:
    """It may be persistent memory at the same time."""
    added = {"start": "0x30000", "end": "0x38000", "type": "System RAM (driver)"}
    persistent = {"start": "0x30000", "end": "0x40000", "type": "Persistent Memory"}
    document = PLAN | {"memory_map": [*PLAN["memory_map"], persistent, added]}
    expected = expected_of_plan(plan_file(tmp_path, document))
    assert expected.ram.ranges[-1] == expected.pages.ranges[-1] == PhysRange(0x30000, 0x38000)


MIB = 1 << 20
STAGED: dict[str, Any] = PLAN | {
    "memory_map": [{"start": "0x1000", "end": hex(64 * MIB), "type": "System RAM"}],
    "reservation": [],
}
LOW = segment("memory below 1 MiB", 0x1000, 0x9E000)
HEADERS = segment("ELF core headers", 20 * MIB, 0x2000)


@pytest.mark.parametrize(
    ("mode", "window_runs", "ours"),
    [
        ("in-place", [], [(20, 22), (30, 32), (40, 44)]),
        (
            "stub-swap",
            [(40 * MIB, 50 * MIB), (42 * MIB, 10 * MIB)],
            [(10, 12), (20, 22), (30, 32), (50, 52)],
        ),
    ],
)
def test_a_plan_of_a_panic_mode_expects_nothing_of_its_huge_pages(
    tmp_path: Path, mode: str, window_runs: list[tuple[int, int]], ours: list[tuple[int, int]]
) -> None:
    """The image for the window from 40 to 44 MiB is there, or at 50 and 10 MiB; the low pages go to
    30."""
    kernel = segment("kernel", 40 * MIB, 4 * MIB)
    runs = [{"dest": hex(d), "source": hex(s), "size": 2 * MIB} for d, s in window_runs]
    low = {"dest": "0x1000", "source": hex(30 * MIB + 0x1000), "size": 0x9E000}
    document = STAGED | {"mode": mode, "stage": [LOW, HEADERS, kernel], "backup_map": [low, *runs]}
    expected = expected_of_plan(plan_file(tmp_path, document))
    held = RangeSet.of(PhysRange(start * MIB, end * MIB) for start, end in ours)
    assert expected.pages == RangeSet.of([PhysRange(0x1000, 64 * MIB)]) - held


def test_a_plan_of_mode_lent_expects_the_slots_and_counts_the_rest_apart(tmp_path: Path) -> None:
    """Of the window from 40 to 44 MiB the first slot is exchanged, and the second is lent."""
    kernel, rest = segment("kernel", 40 * MIB, 2 * MIB), segment("memory", 42 * MIB, 2 * MIB)
    run = {"dest": hex(40 * MIB), "source": hex(50 * MIB), "size": 2 * MIB}
    lent = PhysRange(42 * MIB, 44 * MIB)
    document = STAGED | {
        "mode": "lent",
        "stage": [HEADERS, kernel, rest],
        "backup_map": [run],
        "lent": [{"start": hex(lent.start), "end": hex(lent.end)}],
    }
    expected = expected_of_plan(plan_file(tmp_path, document))
    assert expected.lent == RangeSet((lent,))
    assert not expected.pages.overlaps(lent)
    assert expected.pages.covers(PhysRange(40 * MIB, 42 * MIB))


def test_lent_memory_is_counted_apart(tmp_path: Path) -> None:
    """It is not missing where it is not shown, and wrong where it is."""
    lent = RangeSet((PhysRange(0x400000, 0x500000),))
    ram = EXPECTED.ram | lent
    verdict = verdict_of(tmp_path, make_core(), replace(EXPECTED, ram=ram, lent=lent))
    assert verdict.whole
    details = {check.rule: check.detail for check in verdict.checks}
    assert details["lent"] == "1 MiB lent: user memory that is not in this dump"
    shown = replace(EXPECTED, lent=RangeSet((PhysRange(0x200000, 0x202000),)))
    assert (
        "2 pages of lent memory are shown"
        in broken(verdict_of(tmp_path, make_core(), shown))["lent"]
    )


BAD_PLANS: list[tuple[Any, str]] = [
    ("{", "not a plan: not valid JSON"),
    ("[" * 100_000, "not a plan: "),
    ([], "not a plan: its schema is not pykexec.plan/1"),
    (PLAN | {"schema": "pykexec.machine/1"}, "not a plan: its schema is not pykexec.plan/1"),
    (PLAN | {"state": "requested"}, "the plan is not bound"),
    (PLAN | {"memory_map": 3}, "incomplete plan: memory_map: expected "),
    (PLAN | {"memory_map": [{"start": "0x2", "end": "0x1", "type": "System RAM"}]},
     "incomplete plan: BadRange"),
    (PLAN | {"memory_map": [{"start": 1, "end": 2, "type": "System RAM"}]},
     "incomplete plan: memory_map: start: expected text, found 1"),
    (PLAN | {"memory_map": [{"start": "0x1", "end": "0x2", "type": "x"}]},
     "incomplete plan: ValueError"),
    (PLAN | {"backup_map": [{}]}, "incomplete plan: backup_map: dest: missing"),
    (PLAN | {"backup_map": [{"dest": "0x0", "source": "0x0", "size": float("inf")}]},
     "incomplete plan: backup_map: size: expected a whole number, found inf"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "message"), BAD_PLANS)
def test_bad_plans(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(BadPlan) as raised:
        expected_of_plan(plan_file(tmp_path, document))
    assert message in raised.value.message


def test_the_guests_of_the_vm_tests_write_the_same_pages() -> None:
    from tests.vm.guest.pattern import page

    for addr in (0, 0x1000, 0x123456789000, (1 << 64) - PAGE):
        assert page(addr) == pattern_page(addr)


def test_bytes_that_stand_for_many_addresses_are_not_read_as_often(tmp_path: Path) -> None:
    """Reading 65,534 PT_LOADs of one big piece would take days."""
    loads = [replace(run_of(at << 20, 2), offset=0x800) for at in range(1, 4)]
    verdict = verdict_of(tmp_path, make_core(tuple(loads)))
    assert "file-pieces" in broken(verdict)
    assert verdict.patterns is None
    assert "pattern-pages" not in {check.rule for check in verdict.checks}
