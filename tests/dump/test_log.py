"""The three log formats of the kernel, built byte by byte."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pykexec.dump.faults import DamagedDump, UnknownKernel
from pykexec.dump.log import records
from pykexec.dump.log_record import Record
from pykexec.dump.log_text import escaped_as_kexec_tools, safe
from pykexec.dump.reader import open_dump
from tests.builders import write
from tests.dump.builders import (
    DIRECT,
    IDS,
    LINES,
    Line,
    Memory,
    add_plain,
    add_records,
    add_ring,
    elf,
)

WANTED = [
    b"[    0.000000] Linux version 6.1.0-built",
    b"[    1.500000] two",
    b"[    1.500000] lines",
    b"[    2.000001] control \x1b[31m and \xff, \xc3\xbc",
    b"[    3.000000] ",
    b"[123456.000007] Kernel panic - not syncing: built",
]


def read(folder: Path, memory: Memory) -> list[Record]:
    return list(records(open_dump(str(write(folder, "dump", elf(memory))))))


def lines(found: list[Record]) -> list[bytes]:
    return [line for record in found for line in record.lines()]


def test_the_ring(tmp_path: Path) -> None:
    memory = Memory()
    add_ring(memory)
    found = read(tmp_path, memory)
    assert lines(found) == WANTED
    assert [record.level for record in found] == [5, 6, 4, 6, 0]
    assert [record.sequence for record in found] == [0, 1, 2, 3, 4]


@given(
    sizes=st.lists(st.integers(0, 200), min_size=1, max_size=60),
    newest=st.booleans(),
    first=st.sampled_from([0, 1, IDS - 20, 1 << 40]),
)
@example(sizes=[120] * 9, newest=True, first=5)
@example(sizes=[120] * 9, newest=False, first=5)
def test_a_ring_that_went_around(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], newest: bool, first: int
) -> None:
    """Blocks that cross the ring's end, and those that end with its last byte, by both rules."""
    source = [Line(bytes(((number + at) % 90 + 33) for at in range(size)), number)
              for number, size in enumerate(sizes)]  # fmt: skip
    memory = Memory()
    kept = add_ring(memory, source, newest=newest, first_id=first)
    found = read(tmp_path_factory.mktemp("ring"), memory)
    assert [record.text for record in found] == [line.text for line in source[-kept:]]


def test_what_no_writer_has_finished_is_left_out(tmp_path: Path) -> None:
    memory = Memory()
    add_ring(memory, count_bits=3, first_id=16)
    descs = memory.ring.descs - DIRECT
    for number, state in ((1, 0), (2, 3), (3, 1)):  # reserved, reusable, committed
        memory.ram[descs + number * 24 : descs + number * 24 + 8] = struct.pack(
            "<Q", state << 62 | 16 + number
        )
    memory.ram[descs + 3 * 24] ^= 8  # the id of the previous record in this place
    assert [record.text for record in read(tmp_path, memory)] == [
        LINES[0].text, LINES[4].text
    ]  # fmt: skip


def test_records_without_text(tmp_path: Path) -> None:
    """NO_LPOS and EMPTY_LINE_LPOS."""
    memory = Memory()
    add_ring(memory, LINES[:2], count_bits=3, first_id=8)
    at = memory.ring.descs - DIRECT
    struct.pack_into("<QQ", memory.ram, at + 8, 1, 1)
    struct.pack_into("<QQ", memory.ram, at + 24 + 8, 3, 3)
    assert [record.text for record in read(tmp_path, memory)] == [b"", b""]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("OFFSET(prb_desc_ring.count_bits)", "76"),
        ("OFFSET(prb_desc_ring.count_bits)", "79"),
        ("SIZE(prb_desc)", "20"),
        ("SIZE(printk_info)", "16"),
        ("OFFSET(printk_info.text_len)", "85"),
        ("OFFSET(prb_data_ring.data)", "1048575"),
        ("SIZE(printk_ringbuffer)", "8"),
    ],
)
def test_a_ring_that_lies(key: str, value: str, tmp_path: Path) -> None:
    memory = Memory()
    add_ring(memory)
    memory.info[key] = value
    with pytest.raises(DamagedDump):
        read(tmp_path, memory)


def test_a_ring_with_more_records_than_room(tmp_path: Path) -> None:
    memory = Memory()
    add_ring(memory, first_id=5)
    struct.pack_into("<Q", memory.ram, memory.ring.head - DIRECT + 24, IDS)
    with pytest.raises(DamagedDump, match="has room for 16"):
        read(tmp_path, memory)


@pytest.mark.parametrize("name", ["printk_log", "log"])
def test_the_records_of_3_5_to_5_9(name: str, tmp_path: Path) -> None:
    memory = Memory()
    add_records(memory, LINES, (), name)
    found = read(tmp_path, memory)
    assert lines(found) == WANTED
    assert [record.level for record in found] == [5, 6, 4, 6, 0]


@pytest.mark.parametrize("name", ["printk_log", "log"])
def test_the_records_have_wrapped(name: str, tmp_path: Path) -> None:
    memory = Memory()
    add_records(memory, LINES[:3], LINES[3:], name)
    assert lines(read(tmp_path, memory)) == WANTED


def test_records_in_a_circle_end(tmp_path: Path) -> None:
    """The end is in the middle of a record, so that no record leads there."""
    memory = Memory()
    add_records(memory, LINES[:3], LINES[3:], "printk_log")
    where = int(memory.info["SYMBOL(log_next_idx)"], 16) - DIRECT
    memory.ram[where] += 4
    with pytest.raises(DamagedDump):
        read(tmp_path, memory)


def test_records_are_not_read_twice(tmp_path: Path) -> None:
    """The end is in the middle of a record, followed by records that were read first."""
    memory = Memory()
    add_records(memory, LINES[:3], LINES[3:], "printk_log", gap=0)
    where = int(memory.info["SYMBOL(log_next_idx)"], 16) - DIRECT
    memory.ram[where] -= 4
    found: list[Record] = []
    with pytest.raises(DamagedDump, match="a record of the log at"):
        found.extend(records(open_dump(str(write(tmp_path, "dump", elf(memory))))))
    assert len(found) == len(LINES)


def test_plain_text_before_3_5(tmp_path: Path) -> None:
    text = b"<6>[    0.000000] Linux\n<4>second\n"
    memory = Memory()
    add_plain(memory, text)
    assert lines(read(tmp_path, memory)) == text.splitlines()


def test_plain_text_that_went_around(tmp_path: Path) -> None:
    text = b"".join(b"<6>line %d\n" % number for number in range(2000))
    memory = Memory()
    add_plain(memory, text, 1 << 10)
    assert lines(read(tmp_path, memory)) == text[-1024:].splitlines()


def test_a_kernel_without_a_log(tmp_path: Path) -> None:
    with pytest.raises(UnknownKernel, match="none of the kernel's three kinds"):
        read(tmp_path, Memory())


def test_what_a_terminal_obeys_is_escaped() -> None:
    assert safe(b"a\tb \x1b[31m \xc3\xbc \xff \xc2\x9b \x7f") == (
        "a\tb \\x1b[31m ü \\xff \\xc2\\x9b \\x7f"
    )
    assert safe(b"plain \x1b[31m") == "plain \\x1b[31m"
    assert escaped_as_kexec_tools(b"a\tb\n\x1b \xc3 \x7f") == b"a\tb\n\\x1b \\xc3 \\x7f"


# --- the programs ------------------------------------------------------------------------------


def program(*words: str | Path) -> subprocess.CompletedProcess[bytes]:
    code = "from pykexec.vmcore_dmesg import main; main()"
    return subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True)


def pykexec(*words: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "pykexec", *map(str, words)], capture_output=True)


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    memory = Memory()
    add_ring(memory)
    return write(tmp_path, "dump", elf(memory))


def test_vmcore_dmesg(dump: Path) -> None:
    """One timestamp for each record, and everything but ASCII escaped, as in kexec-tools."""
    done = program(dump)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines() == [
        b"[    0.000000] Linux version 6.1.0-built",
        b"[    1.500000] two",
        b"lines",
        b"[    2.000001] control \\x1b[31m and \\xff, \\xc3\\xbc",
        b"[    3.000000] ",
        b"[123456.000007] Kernel panic - not syncing: built",
    ]


def test_the_statuses_of_vmcore_dmesg(dump: Path, tmp_path: Path) -> None:
    assert program().returncode == 1
    assert program(dump, dump).stderr == b"usage: pykexec-vmcore-dmesg <kernel core file>\n"
    for option in (Path("--help"), Path("-h")):
        done = program(option)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(b"Usage: pykexec-vmcore-dmesg FILE\n")
    assert program(tmp_path / "missing").returncode == 2
    assert program(write(tmp_path, "text", b"text")).returncode == 4
    assert program(write(tmp_path, "empty", elf(Memory()))).returncode == 50
    assert program(write(tmp_path, "short", dump.read_bytes()[: 20 << 10])).returncode == 65


def test_it_imports_nothing_that_takes_long(dump: Path) -> None:
    code = (
        "import sys\nfrom pykexec.vmcore_dmesg import run\n"
        f"run([{str(dump)!r}])\nprint(*sys.modules, file=sys.stderr)"
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    words = [sys.executable, "-S", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, env=env)
    loaded = set(done.stderr.split())
    assert "pykexec.dump.log_ring" in loaded
    assert loaded & {"dataclasses", "typing", "re", "enum", "click", "rich", "construct"} == set()


def test_dmesg(dump: Path) -> None:
    done = pykexec("vmcore", "dmesg", dump)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines()[:3] == WANTED[:3]
    assert done.stdout.splitlines()[3] == (b"[    2.000001] control \\x1b[31m and \\xff, \xc3\xbc")
    assert pykexec("vmcore", "dmesg", dump, "--noescape").stdout.splitlines() == WANTED


def test_a_log_that_ends_in_a_damage(tmp_path: Path) -> None:
    """Records before the damage are printed, and the exit status shows the error."""
    memory = Memory()
    add_records(memory, LINES[:3], LINES[3:], "printk_log")
    where = int(memory.info["SYMBOL(log_next_idx)"], 16) - DIRECT
    memory.ram[where] += 4
    dump = write(tmp_path, "dump", elf(memory))
    for done in (program(dump), pykexec("vmcore", "dmesg", dump)):
        assert done.stdout.startswith(WANTED[0])
        assert done.returncode != 0
        assert b"the log's records go around in a circle" in done.stderr
