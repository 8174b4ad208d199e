"""Every file format, read by physical and by virtual address."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.dump.faults import DamagedDump, NotADump, NotInDump, UnknownKernel, UnreadableDump
from pykexec.dump.flattened import Pieces, settled
from pykexec.dump.reader import Dump, open_dump, uts_name
from tests.builders import write
from tests.dump import codecs_of_debian
from tests.dump.builders import (
    DIRECT,
    PAGE,
    PRSTATUS,
    RELEASE,
    TEXT,
    Memory,
    elf,
    flattened,
    kdump,
)

SECRET = b"the frame at its place"


def filled() -> Memory:
    """Noise, runs and zeros in its pages."""
    memory = Memory()
    source = random.Random(3)
    for frame in range(memory.used // PAGE + 1, memory.size // PAGE, 3):
        at = frame * PAGE
        memory.ram[at : at + PAGE] = source.choice((source.randbytes(PAGE), b"abc~" * 1024))
    return memory


def opened(folder: Path, data: bytes) -> Dump:
    return open_dump(str(write(folder, "dump", data)))


def zstd(data: bytes) -> bytes:
    packed: bytes = pytest.importorskip("zstandard").compress(data)
    return packed


FILES: dict[str, Callable[[Memory], bytes]] = {
    "elf": elf,
    "zlib": kdump,
    "none": lambda memory: kdump(memory, "none"),
    "lzo": lambda memory: kdump(memory, "lzo", codecs_of_debian.lzo),
    "snappy": lambda memory: kdump(memory, "snappy", codecs_of_debian.snappy),
    "zstd": lambda memory: kdump(memory, "zstd", zstd),
    "flattened elf": lambda memory: flattened(elf(memory)),
    "flattened zlib": lambda memory: flattened(kdump(memory), iter(range(1, 9000, 7))),
}


@pytest.mark.parametrize("kind", FILES)
def test_every_page_of_every_format(kind: str, tmp_path: Path) -> None:
    memory = filled()
    dump = opened(tmp_path, FILES[kind](memory))
    for frame in range(memory.size // PAGE):
        assert dump.memory.read(frame * PAGE, PAGE) == memory.ram[frame * PAGE :][:PAGE]
    assert dump.memory.read(PAGE - 100, 3 * PAGE) == memory.ram[PAGE - 100 : 4 * PAGE - 100]
    assert dump.kernel.read(DIRECT + 12345, 5000) == memory.ram[12345:17345]
    assert dump.info.release == RELEASE
    assert dump.memory.size == memory.size
    assert [note[:2] for note in dump.notes][:1] == [(b"CORE", 1)]


@pytest.mark.parametrize("levels", [4, 5])
@pytest.mark.parametrize("huge", [True, False])
def test_the_kernels_own_page_tables(levels: int, huge: bool, tmp_path: Path) -> None:
    memory = Memory(levels=levels, huge=huge)
    at = memory.phys_base + 0x1234
    memory.ram[at : at + len(SECRET)] = SECRET
    kernel = opened(tmp_path, elf(memory)).kernel
    assert kernel.read(DIRECT + at, len(SECRET)) == SECRET
    assert kernel.text(TEXT + 0x1234, 99) == SECRET
    assert kernel.translate(TEXT + 0x1234)[0] == at
    for addr in (DIRECT - PAGE, DIRECT + memory.size, 0, 0x1000, 1 << 47, 1 << 64):
        with pytest.raises(NotInDump):
            kernel.read(addr, 8)


def test_a_page_of_a_gigabyte(tmp_path: Path) -> None:
    memory = Memory()
    upper = memory.next_table(memory.root, 1)
    memory.entry(upper, 3, 0x83)
    kernel = opened(tmp_path, elf(memory)).kernel
    addr = 0xFFFF000000000000 | 1 << 39 | 3 << 30
    with pytest.raises(NotInDump):
        kernel.read(addr, 8)  # the lower half, even if mapped
    memory.entry(memory.next_table(memory.root, 300), 3, 0x83)
    addr = 0xFFFF000000000000 | 300 << 39 | 3 << 30
    assert opened(tmp_path, elf(memory)).kernel.translate(addr + 0x345678)[0] == 0x345678


def test_the_bit_of_encrypted_memory_is_no_address(tmp_path: Path) -> None:
    memory = Memory()
    bit = 1 << 47
    for at in range(0, memory.used, 8):
        value = int.from_bytes(memory.ram[at : at + 8], "little")
        if value & 3 == 3 and value < memory.size | 0xFFF:
            memory.ram[at : at + 8] = (value | bit).to_bytes(8, "little")
    memory.info["NUMBER(sme_mask)"] = str(bit)
    assert opened(tmp_path, elf(memory)).kernel.translate(DIRECT + 5)[0] == 5


def test_filtered_pages_are_named(tmp_path: Path) -> None:
    memory = filled()
    dump = opened(tmp_path, kdump(memory, keep=lambda frame: frame % 5 != 3))
    for frame in range(memory.size // PAGE):
        if frame % 5 == 3:
            with pytest.raises(NotInDump, match=f"{frame:#x} is not in the dump"):
                dump.memory.read(frame * PAGE + 7, 9)
        else:
            assert dump.memory.read(frame * PAGE, 9) == memory.ram[frame * PAGE :][:9]


def test_a_part_of_a_split_dump(tmp_path: Path) -> None:
    memory = filled()
    dump = opened(tmp_path, kdump(memory, keep=lambda frame: frame % 7 != 1, split=(200, 300)))
    assert dump.memory.read(203 * PAGE, PAGE) == memory.ram[203 * PAGE :][:PAGE]
    for frame in (199, 300):
        with pytest.raises(NotInDump):
            dump.memory.read(frame * PAGE, 1)


def test_what_a_file_leaves_out_at_the_end_of_a_load_is_zeros(tmp_path: Path) -> None:
    """makedumpfile -E: p_filesz is less than p_memsz."""
    memory = filled()
    data = bytearray(elf(memory))
    struct.pack_into("<Q", data, 64 + 56 + 32, memory.size // 2)
    dump = opened(tmp_path, bytes(data))
    half = memory.size // 2
    assert dump.memory.read(half - 8, 16) == bytes(memory.ram[half - 8 : half]) + bytes(8)
    with pytest.raises(NotInDump):
        dump.memory.read(memory.size - 8, 16)


def test_memory_that_is_listed_twice_counts_once(tmp_path: Path) -> None:
    """Like the kernel's text in /proc/vmcore."""
    memory = filled()
    data = elf(memory)
    twice = bytearray(data[:64] + data[64 + 56 : 64 + 112] + data[64 + 56 : 64 + 112] + data[176:])
    struct.pack_into("<QQ", twice, 64 + 32, 8192, 8192)
    note = struct.unpack_from("<Q", data, 64 + 8)[0]
    assert note == 176
    dump = opened(tmp_path, bytes(twice))
    assert dump.memory.size == memory.size
    assert dump.memory.read(8000, 400) == memory.ram[8000:8400]


def test_a_file_that_ends_early(tmp_path: Path) -> None:
    memory = filled()
    for data in (elf(memory), kdump(memory)):
        dump = opened(tmp_path, data[: len(data) - (1 << 20)])
        assert dump.memory.read(0, 64) == memory.ram[:64]
        with pytest.raises(NotInDump):
            dump.memory.read(memory.size - PAGE, PAGE)


@pytest.mark.parametrize("build", [elf, kdump, lambda memory, **_: flattened(kdump(memory))])
def test_vmcoreinfo_is_found_in_memory(build: Callable[..., bytes], tmp_path: Path) -> None:
    """It is preceded by that of another kernel, by which nothing can be read."""
    memory = Memory()
    stale = Memory(info={"OSRELEASE": "5.0-stale", "SYMBOL(init_uts_ns)": f"{DIRECT:x}"})
    memory.put(stale.note, PAGE)
    memory.hide_note()
    data = elf(memory, notes=PRSTATUS) if build is elf else kdump(memory, with_info=False)
    dump = opened(tmp_path, data if build in (elf, kdump) else flattened(data))
    assert (dump.info.release, dump.info_source) == (RELEASE, "memory")
    assert uts_name(dump.kernel, dump.info, 0) == b"Linux"


def test_memory_without_vmcoreinfo(tmp_path: Path) -> None:
    with pytest.raises(UnknownKernel, match="no VMCOREINFO"):
        _ = opened(tmp_path, elf(Memory(), notes=PRSTATUS)).info


def test_numbers_of_vmcoreinfo_are_checked(tmp_path: Path) -> None:
    memory = Memory(info={
        "SIZE(a)": "0", "SIZE(b)": "99999999999", "OFFSET(c)": "-4", "SYMBOL(d)": "1" * 17,
        "NUMBER(e)": "-3", "OFFSET(f)": "4\x1b[m", "SYMBOL(g)": "9" * 5000,
    })  # fmt: skip
    info = opened(tmp_path, elf(memory)).info
    asked = (
        (info.size_of, "a"), (info.size_of, "b"), (info.offset, "c"), (info.symbol, "d"),
        (info.offset, "f"), (info.symbol, "g"),
    )  # fmt: skip
    for ask, name in asked:
        with pytest.raises(DamagedDump) as caught:
            ask(name)
        assert caught.value.message.isprintable()
    assert info.number("e") == -3
    with pytest.raises(UnknownKernel, match=r"VMCOREINFO has no SYMBOL\(missing\)"):
        info.symbol("missing")


def test_what_is_no_dump(tmp_path: Path) -> None:
    for data in (b"", b"\x7fEL", b"text", b"DISKDUMP" + bytes(99), bytes(9000)):
        with pytest.raises(NotADump):
            opened(tmp_path, data)
    with pytest.raises(UnreadableDump, match="cannot be opened"):
        open_dump(str(tmp_path / "missing"))
    with pytest.raises(NotADump, match="not a regular file"):
        open_dump(str(tmp_path))


def test_a_damaged_page_is_said(tmp_path: Path) -> None:
    memory = filled()
    broken = kdump(memory, pack=lambda page: zlib.compress(page)[:-9] + b"\xff" * 9)
    with pytest.raises(DamagedDump):
        opened(tmp_path, broken).memory.read(0, PAGE)


@pytest.mark.parametrize(
    ("at", "value"), [(16, 2), (24, 2), (24, -1)], ids=["type", "version", "negative"]
)
def test_a_flattened_file_of_another_version(at: int, value: int, tmp_path: Path) -> None:
    data = bytearray(flattened(elf(Memory())))
    struct.pack_into(">q", data, at, value)
    with pytest.raises(DamagedDump, match="a flattened file of type"):
        opened(tmp_path, bytes(data))


@pytest.mark.parametrize("size", [16, 31, 463])
@pytest.mark.parametrize("build", [kdump, lambda memory: flattened(kdump(memory))])
def test_headers_that_are_cut_off(
    size: int, build: Callable[[Memory], bytes], tmp_path: Path
) -> None:
    with pytest.raises((DamagedDump, NotADump)):
        opened(tmp_path, build(Memory())[:size])


@given(
    pieces=st.lists(
        st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda p: (p[0], p[0] + p[1])),
        max_size=12,
    )
)
def test_of_pieces_that_overlap_the_last_one_counts(pieces: list[tuple[int, int]]) -> None:
    """Compared with writing them one after the other."""
    placed, at = Pieces(), 1000
    written: dict[int, int] = {}
    for start, end in pieces:
        placed.append(start, end, at)
        written |= {offset: at + offset - start for offset in range(start, end)}
        at += end - start
    done = settled(placed)
    found = {
        offset: where + offset - start
        for start, end, where in zip(done.starts, done.ends, done.places, strict=True)
        for offset in range(start, end)
    }
    assert found == written
    assert sum(done.ends) - sum(done.starts) == len(written)


def test_the_name_of_a_kernel_whose_vmcoreinfo_has_no_offset_of_it(tmp_path: Path) -> None:
    """Up to 5.10."""
    memory = Memory(uts_offset=4)
    del memory.info["OFFSET(uts_namespace.name)"]
    dump = opened(tmp_path, elf(memory))
    assert uts_name(dump.kernel, dump.info, 2) == RELEASE.encode()
