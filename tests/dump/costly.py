"""Dumps that would cost much time or memory, if a number in them were believed: files of 4 GiB,
mostly holes, and small ones whose tables show the same bytes again and again."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from pykexec.crash.notes import CORE, Note
from pykexec.dump.kallsyms_tables import DIGITS
from pykexec.dump.vmcoreinfo import NEEDLE
from tests.dump.btf import Btf
from tests.dump.builders import DIRECT, PAGE, PRSTATUS, TEXT, kdump
from tests.dump.kernel import MODULE_TEXT, TASK_SIZE, TASKS, Kernel, Task, Unnamed

GIB = 1 << 30
SIZE = 4 * GIB
NOTE, LOAD, PN_XNUM = 4, 1, 0xFFFF


def header(count: int, sections: int = 0) -> bytes:
    """The header of an ELF core, directly followed by its program headers; 65,535 of them or more
    are counted in the first section header, at `sections`."""
    return struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 4, 62, 1, 0, 64, sections, 0, 64, 56,
        min(count, PN_XNUM), 0, 0, 0,
    )  # fmt: skip


def program(kind: int, offset: int, paddr: int, size: int) -> bytes:
    return struct.pack("<IIQQQQQQ", kind, 7, offset, 0, paddr, size, size, 0)


def core(path: Path, notes: bytes, pieces: dict[int, bytes], size: int = SIZE) -> None:
    """An ELF core with one PT_LOAD, from address 0; `pieces` of it by address."""
    start = 64 + 2 * 56 + len(notes)
    with path.open("wb") as file:
        file.write(header(2))
        file.write(program(NOTE, 64 + 2 * 56, 0, len(notes)) + program(LOAD, start, 0, size))
        file.write(notes)
        for addr, data in pieces.items():
            file.seek(start + addr)
            file.write(data)
        file.truncate(start + size)


def with_note(path: Path) -> None:
    kernel = Kernel()
    core(path, kernel.notes + kernel.memory.note, {0: bytes(kernel.memory.ram)})


def without_note(path: Path) -> None:
    """VMCOREINFO is on the last page."""
    kernel = Kernel()
    notes, info = kernel.notes, kernel.memory.note
    core(path, notes, {0: bytes(kernel.memory.ram), SIZE - 2 * PAGE: info})


def cut_off(path: Path) -> None:
    without_note(path)
    with path.open("r+b") as file:
        file.truncate(SIZE - 32 * 1024 * 1024)


def of_zeros(path: Path) -> None:
    core(path, PRSTATUS, {})


def full_of_vmcoreinfo(path: Path) -> None:
    """A start of VMCOREINFO every 24 bytes."""
    one = struct.pack("<II", 1000, 0) + NEEDLE
    core(path, PRSTATUS, {PAGE: one * ((8 << 20) // len(one))}, 64 << 20)


def shared_by_many_headers(path: Path) -> None:
    """65,000 PT_LOADs for the same 16 MiB."""
    count, size = 65_000, 16 << 20
    start = 64 + 56 * count
    with path.open("wb") as file:
        file.write(header(count))
        file.writelines(program(LOAD, start, number * size, size) for number in range(count))
        file.truncate(start + size)


def many_headers(path: Path) -> None:
    """131,072 PT_LOADs of one page each."""
    count = 1 << 17
    section = 64 + 56 * count
    start = section + 64
    with path.open("wb") as file:
        file.write(header(count, section))
        file.writelines(
            program(LOAD, start + number * PAGE, 2 * number * PAGE, PAGE) for number in range(count)
        )
        file.write(struct.pack("<44xI16x", count))
        file.truncate(start + count * PAGE)


def many_notes(path: Path) -> None:
    """16 MiB of registers and empty notes."""
    kernel = Kernel()
    notes = kernel.memory.note + Note(CORE, 1, bytes(336)).encoded * 10_000
    core(path, notes.ljust(15 << 20, b"\0"), {0: bytes(kernel.memory.ram)}, 16 << 20)


def kdump_of_holes(path: Path) -> None:
    """A bitmap of 4 GiB."""
    compressed(path, bitmap=SIZE - 64 * PAGE, info=True)


def kdump_of_tiny_pages(path: Path) -> None:
    """A page for each bit, each of them empty, and no VMCOREINFO."""
    compressed(path, bitmap=16 << 20, info=False)


def kdump_of_specks(path: Path) -> None:
    """A page in each 131,072, a hundred thousand in all."""
    kdump_of_holes(path)
    with path.open("r+b") as file:
        file.seek(2 * PAGE)
        for _ in range((SIZE - 64 * PAGE) >> 20):
            file.write((b"\x10" + bytes((16 << 10) - 1)) * 64)


def compressed(path: Path, bitmap: int, info: bool) -> None:
    """A kdump-compressed file of 4 GiB with two bitmaps of this size together."""
    blocks = bitmap // PAGE
    frames = bitmap // 2 * 8
    start = kdump(Kernel().memory, with_info=info)[: 2 * PAGE]
    head, sub = bytearray(start[:PAGE]), bytearray(start[PAGE:])
    struct.pack_into("<III", head, 8 + 4 + 390 + 6 + 16 + 4, PAGE, 1, blocks)
    struct.pack_into("<Q", sub, 16 + 8 * 10, frames)
    with path.open("wb") as file:
        file.write(head + sub)
        if not info:
            file.seek((2 + blocks // 2) * PAGE)
            file.write(b"\xff" * (bitmap // 2))
        file.truncate(SIZE)


def many_pieces(path: Path) -> None:
    """Flattened: 500,000 pieces of a byte in reverse order, each over half of another."""
    kernel = Kernel().elf()
    count = 500_000
    with path.open("wb") as file:
        file.write(b"makedumpfile".ljust(16, b"\0") + struct.pack(">qq", 1, 1))
        file.seek(PAGE)
        file.write(struct.pack(">qq", 0, len(kernel)) + kernel)
        for number in range(count, 0, -1):
            file.write(struct.pack(">qq", len(kernel) + number, 2) + b"ab")
        file.write(struct.pack(">qq", -1, -1))
        file.truncate(SIZE)


def deep_types(path: Path) -> None:
    """Structures of thousands of anonymous members, each of which has as many."""
    btf = Btf()
    number = btf.struct("", 8, [])
    for _ in range(12):
        number = btf.struct("", 8, [("", 0, number)] * 2000)
    btf.struct("task_struct", 8, [("", 0, number)] * 2000)
    with_types(path, btf.data)


def many_types(path: Path) -> None:
    """As many types as are allowed."""
    btf = Btf()
    btf.types = [struct.pack("<III", 1, 2 << 24, 0)] * ((1 << 19) - 10)
    btf.struct("task_struct", TASK_SIZE, [("x" * (5 << 20), 0, 1)])
    with_types(path, btf.data)


def large_kernel(
    size: int = 32 << 20,
    tasks: tuple[Task, ...] = TASKS,
    symbols: dict[str, int] | None = None,
    unnamed: Unnamed | None = None,
) -> Kernel:
    """With room for the page tables of a kernel of this size before it."""
    return Kernel(tasks=tasks, symbols=symbols or {}, size=size, phys_base=1 << 20, unnamed=unnamed)


def with_types(path: Path, data: bytes) -> None:
    kernel = large_kernel()
    start = kernel.put(data)
    kernel.symbols |= {"__start_BTF": start, "__stop_BTF": start + len(data)}
    kernel.add_kallsyms()
    path.write_bytes(kernel.elf())


def many_symbols(path: Path) -> None:
    """As many symbols as are allowed, with 6 MiB of names."""
    more = {f"name{number:07}": TEXT + 0x1000 for number in range((1 << 19) - 1000)}
    path.write_bytes(large_kernel(symbols=more).elf())


def digits_everywhere(path: Path) -> None:
    """VMCOREINFO does not name kallsyms, and everything looks a bit like it."""
    kernel = large_kernel(unnamed="5.10")
    memory = kernel.memory
    memory.ram[memory.used :] = (DIGITS * (memory.size // len(DIGITS) + 1))[memory.used :]
    tables = memory.ram.find(DIGITS)
    memory.ram[tables : tables + 2] = b"00"
    path.write_bytes(kernel.elf())


def large_log(path: Path) -> None:
    """A ring of 2^26 records in 2 GiB of text, all of them in the same 2 MiB."""
    kernel = large_kernel(8 << 20)
    memory = kernel.memory
    ring = memory.take(2 << 20, 2 << 20)
    base = DIRECT + (1 << 38)
    for number in range(1 << 10):
        memory.map(base + (number << 21), ring, True)
    head = memory.ring.head - DIRECT
    struct.pack_into("<I4xQQQQ", memory.ram, head, 26, base, base, (1 << 26) - 1, 0)
    struct.pack_into("<I4xQ", memory.ram, head + 40, 31, base)
    path.write_bytes(kernel.elf())


def many_tasks(path: Path) -> None:
    """5,000 blocked threads, each with 60 calls in the module."""
    calls = (MODULE_TEXT + 0x110,) * 60
    threads = (Task(number, b"x", 2, 1, calls=calls) for number in range(2, 5002))
    path.write_bytes(large_kernel(tasks=(Task(1, b"init"), *threads)).elf())


COSTLY: dict[str, Callable[[Path], None]] = {
    function.__name__: function
    for function in (
        with_note, without_note, cut_off, of_zeros, full_of_vmcoreinfo, shared_by_many_headers,
        many_headers, many_notes, kdump_of_holes, kdump_of_tiny_pages, many_pieces, deep_types,
        many_types, many_symbols, digits_everywhere, large_log, many_tasks,
    )
}  # fmt: skip
VERIFIED = {
    function.__name__: function
    for function in (kdump_of_holes, kdump_of_tiny_pages, kdump_of_specks)
}
