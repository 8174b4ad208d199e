"""Dumps of arm64: a report on a small kernel, and page tables of every geometry."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.cli.report.crash_cause_document import crash_document
from pykexec.documents.codec import encode
from pykexec.dump.arm64.paging import kernel_memory, text_start
from pykexec.dump.arm64.references import KNOWN, address
from pykexec.dump.dump_check import verify_dump
from pykexec.dump.elf_memory import ElfMemory
from pykexec.dump.faults import DamagedDump, NotInDump, OutOfTime, UnknownKernel
from pykexec.dump.file import DumpFile
from pykexec.dump.linux import Linux
from pykexec.dump.reader import open_dump
from pykexec.dump.report import Report, make_report
from pykexec.dump.vmcore_check import verify
from pykexec.dump.vmcoreinfo import VmcoreInfo
from tests.builders import write
from tests.documents import validate
from tests.dump.arm64_kernel import ArmKernel, prstatus
from tests.dump.builders import DIRECT, EM_AARCH64, TEXT, Memory, elf, kdump
from tests.dump.kernel import Task

PANICKED = [
    "vpanic+0x10", "panic+0x10", "drv_read+0x10 [drv]", "asm_exc_page_fault+0x10", "sys_wait+0x5",
    "entry_SYSCALL_64+0x10",
]  # fmt: skip
SIGNATURE = 0x007F000000000000


def report_of(folder: Path, kernel: ArmKernel, data: bytes | None = None) -> Report:
    report = make_report(open_dump(str(write(folder, "dump", data or kernel.elf()))))
    validate(json.loads(encode(crash_document(report))))
    return report


@pytest.mark.parametrize("names", ["all", "text"])
@pytest.mark.parametrize("meta", [False, True])
@pytest.mark.parametrize("signature", [0, SIGNATURE])
def test_every_section(
    names: Literal["all", "text"], meta: bool, signature: int, tmp_path: Path
) -> None:
    kernel = ArmKernel(names=names, meta=meta, signature=signature)
    report = report_of(tmp_path, kernel)
    missing = [] if names == "all" else ["system", "panic"]
    assert [name for name, _ in report.problems if name not in missing] == []
    assert report.system
    assert report.system.cpus == 2
    assert report.taint == 0x1200
    assert report.cpus
    assert [cpu.task.comm for cpu in report.cpus if cpu.task] == ["swapper/0", "init"]
    assert [str(frame) for frame in report.cpus[1].frames] == PANICKED
    assert [str(frame) for frame in report.cpus[0].frames] == ["0x401000"], "it was in user space"
    interrupted = [frame.registers is not None for frame in report.cpus[1].frames]
    assert interrupted == [False, False, False, False, True, False]
    assert report.tasks
    assert (report.tasks.processes, report.tasks.threads) == (6, 7)
    assert [str(frame) for frame in report.tasks.blocked[0].frames] == [
        "schedule+0x10", "do_wait+0x10", "sys_wait+0x10", "entry_SYSCALL_64+0x10"
    ]  # fmt: skip
    assert report.memory
    assert report.memory.total == 4096000
    assert report.modules
    assert [(module.name, module.taint) for module in report.modules] == [("drv", "O")]
    assert report.armed
    assert (report.armed.reserved, report.armed.segments) == ((0x1000000, 0x1010000), 5)


@pytest.mark.parametrize("meta", [False, True])
def test_a_fault_of_user_space_is_the_end(meta: bool, tmp_path: Path) -> None:
    report = report_of(tmp_path, ArmKernel(interrupted_cs=0x33, meta=meta))
    assert report.cpus
    assert [str(frame) for frame in report.cpus[1].frames] == PANICKED[:4]


@pytest.mark.parametrize("signature", [0, SIGNATURE])
@pytest.mark.parametrize(
    ("link", "skipped"),
    [
        (0x610, ["entry_SYSCALL_64+0x10"]),
        (0x310, []),  # panic, which the frame record returns to
        (0x210, []),  # vpanic itself, after a call
        (0x100000, []),
        (-(1 << 40), []),
    ],
)
def test_the_caller_of_a_leaf_is_in_the_link_register(
    link: int, skipped: list[str], signature: int, tmp_path: Path
) -> None:
    report = report_of(tmp_path, ArmKernel(returns_to=TEXT + link, signature=signature))
    assert report.cpus
    assert [str(frame) for frame in report.cpus[1].frames] == [
        PANICKED[0], *skipped, *PANICKED[1:]
    ]  # fmt: skip


def test_a_damaged_frame_record_is_followed_by_guesses(tmp_path: Path) -> None:
    kernel = ArmKernel()
    kernel.word(kernel.stack_bp, 0x1234568)
    report = report_of(tmp_path, kernel)
    assert report.cpus
    frames = [str(frame) for frame in report.cpus[1].frames]
    assert frames[:4] == ["vpanic+0x10", "panic+0x10", "? drv_read+0x10 [drv]", f"? {PANICKED[3]}"]


def test_a_circle_of_frame_records_ends(tmp_path: Path) -> None:
    kernel = ArmKernel()
    kernel.word(kernel.stack_bp, kernel.stack_bp)
    report = report_of(tmp_path, kernel)
    assert report.cpus
    assert len(report.cpus[1].frames) < 100


def test_data_that_no_function_shows_is_unknown(tmp_path: Path) -> None:
    """With the reason; everything else is there."""
    kernel = ArmKernel()
    kernel.poke(TEXT + 0x8C0, bytes(16))
    kernel.poke(TEXT + 0x800, struct.pack("<4I", *[0xD503201F] * 4))
    report = report_of(tmp_path, kernel)
    reasons = dict(report.problems)
    assert reasons["modules"].startswith("the kernel has no symbol modules, and print_modules")
    assert reasons["taint"].startswith("the kernel has no symbol tainted_mask, and get_taint")
    assert report.tasks
    assert report.armed


@pytest.mark.parametrize("name", KNOWN)
def test_a_limit_of_reads_is_no_evidence(name: str, tmp_path: Path) -> None:
    """Whatever is not found within it is not called missing."""
    kernel = ArmKernel(names="text")
    outcomes = set()
    for reads in range(100):
        linux = Linux(open_dump(str(write(tmp_path, "dump", kernel.elf()))))
        assert linux.types.has("task_struct.tasks")
        assert linux.per_cpu_offsets
        linux.memory.limit(reads, math.inf)
        try:
            assert address(linux, name) == kernel.symbols[name]
            outcomes.add(True)
        except OutOfTime:
            outcomes.add(False)
    assert outcomes == {True, False}


def test_a_wrong_neighbour_is_not_taken_for_a_list(tmp_path: Path) -> None:
    kernel = ArmKernel()
    kernel.word(kernel.symbols["modules"] + 8, 0)
    assert report_of(tmp_path, kernel).modules is None


def test_a_compressed_file_that_names_another_machine(tmp_path: Path) -> None:
    """QEMU writes "Unknown"; VMCOREINFO shows the architecture."""
    kernel = ArmKernel()
    dump = open_dump(str(write(tmp_path, "dump", kdump(kernel.memory))))
    assert dump.architecture == "aarch64"
    assert (
        dump.kernel.read(TEXT + 0x100, 8)
        == kernel.memory.ram[kernel.memory.phys_base + 0x100 :][:8]
    )
    assert verify_dump(dump).contents.info


def test_verify_and_the_registers_of_a_note(tmp_path: Path) -> None:
    notes = prstatus(7, 0xFFFF800080001234, 0, 0, 5)
    memory = Memory(machine=EM_AARCH64)
    core = verify(write(tmp_path, "dump", elf(memory, notes=notes + memory.note))).core
    assert core.architecture == "aarch64"
    assert [(cpu.pid, cpu.ip) for cpu in core.cpus] == [(7, 0xFFFF800080001234)]
    assert core.text_start == 0xFFFF800000000000


def test_where_the_image_is_shown() -> None:
    starts = {"48": 47, "52": 47, "39": 38, "": 47, "x": 47, "9" * 9: 47}
    for page in ("4096", "65536", ""):
        assert {bits: text_start(bits, page) for bits in starts} == {
            bits: (1 << 64) - (1 << shift) for bits, shift in starts.items()
        }
    small = {"52": 46, "48": 47, "47": 46}
    assert {bits: text_start(bits, "16384") for bits in small} == {
        bits: (1 << 64) - (1 << shift) for bits, shift in small.items()
    }


# --- page tables ----------------------------------------------------------------------------


@dataclass
class Tables:
    """Page tables in sparse memory: `words` by physical address."""

    page: int
    words: dict[int, int] = field(default_factory=dict)
    used: int = 0x100000
    work: int = 0

    def read(self, addr: int, size: int) -> bytes:
        out = bytearray(size)
        for at, word in self.words.items():
            if addr <= at < addr + size:
                out[at - addr : at - addr + 8] = word.to_bytes(8, "little")
        return bytes(out)

    def new(self) -> int:
        self.used += self.page
        return self.used


GEOMETRY = {
    # page, VA_BITS, bits of the processor: (levels, entries of the first table)
    (4096, 39, 39): (3, 512), (4096, 48, 48): (4, 512), (4096, 52, 52): (5, 16),
    (4096, 52, 48): (4, 512), (16384, 47, 47): (3, 2048), (16384, 48, 48): (4, 2),
    (16384, 52, 52): (4, 32), (16384, 52, 47): (3, 2048), (65536, 42, 42): (2, 8192),
    (65536, 48, 48): (3, 64), (65536, 52, 52): (3, 1024), (65536, 52, 48): (3, 1024),
}  # fmt: skip


def memory_of(page: int, bits: int, actual: int, tables: Tables, root: int) -> object:
    text = (
        f"PAGESIZE={page}\nNUMBER(VA_BITS)={bits}\nNUMBER(TCR_EL1_T1SZ)={64 - actual:#x}\n"
        f"NUMBER(kimage_voffset)=0xffff800000000000\n"
        f"SYMBOL(swapper_pg_dir)={root + 0xFFFF800000000000:x}\n"
    )
    return kernel_memory(tables, VmcoreInfo(text.encode()))  # type: ignore[arg-type]


@pytest.mark.parametrize("geometry", GEOMETRY, ids=str)
@given(data=st.data())
def test_every_geometry(geometry: tuple[int, int, int], data: st.DataObject) -> None:
    """An address is taken apart by hand, as the processor does, and mapped as page or as block."""
    page, bits, actual = geometry
    levels, entries = GEOMETRY[geometry]
    index_bits = (page // 8).bit_length() - 1
    page_bits = page.bit_length() - 1
    used = bits if page == 65536 else actual
    addr = (1 << 64) - data.draw(st.integers(1, 1 << min(actual, 48)))
    last = data.draw(st.integers(max(0, levels - 3), levels - 1))
    shifts = [page_bits + index_bits * (levels - 1 - level) for level in range(levels)]
    high = {65536: 51, 4096: 51 if actual == 52 else 47, 16384: 51 if actual == 52 else 47}[page]
    frame = data.draw(st.integers(0, (1 << high + 1) - 1)) >> shifts[last] << shifts[last]
    tables = Tables(page)
    table = root = tables.new()
    for level in range(last + 1):
        mask = entries - 1 if level == 0 else page // 8 - 1
        at = table + (addr >> shifts[level] & mask) * 8
        if level == last:
            kind = 3 if level == levels - 1 else 1
            tables.words[at] = encoded(frame, page, actual) | kind | 0x700000000000000
        else:
            table = tables.new()
            tables.words[at] = encoded(table, page, actual) | 3 | 1 << 59
    memory = memory_of(page, bits, actual, tables, root)
    offset = addr & (1 << shifts[last]) - 1
    assert memory.translate(addr) == (frame + offset, (1 << shifts[last]) - offset)  # type: ignore[attr-defined]
    with pytest.raises(NotInDump):
        memory.translate((1 << 64) - (1 << used) - 1)  # type: ignore[attr-defined]


def encoded(frame: int, page: int, actual: int) -> int:
    """An address as an entry has it; with 52 bits of it, or with shareability where these are."""
    if page == 65536:
        return frame & (1 << 48) - 1 | frame >> 48 << 12
    if actual == 52:
        return frame & (1 << 50) - 1 | frame >> 50 << 8
    return frame | 3 << 8


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("PAGESIZE", "8192", DamagedDump), ("PAGESIZE", "0", DamagedDump),
        ("PAGESIZE", "4097", DamagedDump), ("NUMBER(VA_BITS)", "64", DamagedDump),
        ("NUMBER(VA_BITS)", "0", DamagedDump), ("NUMBER(VA_BITS)", "-4", DamagedDump),
        ("NUMBER(TCR_EL1_T1SZ)", "0x40", DamagedDump), ("NUMBER(TCR_EL1_T1SZ)", "zz", DamagedDump),
        ("NUMBER(VA_BITS)", None, UnknownKernel), ("SYMBOL(swapper_pg_dir)", None, UnknownKernel),
    ],
)  # fmt: skip
def test_false_numbers(key: str, value: str | None, fault: type[Exception], tmp_path: Path) -> None:
    memory = Memory(machine=EM_AARCH64)
    memory.info.pop(key)
    if value is not None:
        memory.info[key] = value
    dump = open_dump(str(write(tmp_path, "dump", elf(memory))))
    with pytest.raises(fault):
        dump.kernel.read(DIRECT, 8)


def test_a_whole_file_by_virtual_address(tmp_path: Path) -> None:
    for huge in (True, False):
        memory = Memory(machine=EM_AARCH64, huge=huge)
        path = write(tmp_path, "dump", elf(memory))
        assert ElfMemory(DumpFile(str(path))).machine == "aarch64"
        kernel = open_dump(str(path)).kernel
        assert kernel.read(DIRECT + 12345, 5000) == memory.ram[12345:17345]
        for addr in (DIRECT - 4096, DIRECT + memory.size, 0, 1 << 47, 1 << 64):
            with pytest.raises(NotInDump):
                kernel.read(addr, 8)


def test_a_stack_of_one_task(tmp_path: Path) -> None:
    """Whose last call is the last instruction of its function."""
    task = Task(5, b"x", 2, calls=(0x110, 0x200, 0x510, 0x610))
    report = report_of(tmp_path, ArmKernel(tasks=(Task(1, b"init"), task)))
    assert report.tasks
    assert [str(frame) for frame in report.tasks.blocked[0].frames] == [
        "schedule+0x10", "schedule+0x100", "sys_wait+0x10", "entry_SYSCALL_64+0x10"
    ]  # fmt: skip
