"""Compressed and flattened dumps: each has one fault, which one rule reports."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.dump.dump_check import DumpVerdict, contents_of, verify_dump
from pykexec.dump.file import DumpFile
from pykexec.dump.kdump_memory import BATCH, CHECKED_MAX, checked
from pykexec.dump.page_map import bit_runs, held, listed, ones
from pykexec.dump.reader import open_dump
from pykexec.dump.vmcore_check import Expected
from pykexec.memory.ranges import PhysRange, RangeSet
from tests.builders import write
from tests.documents import validate
from tests.dump.builders import PAGE, Memory, elf, flattened, kdump

LEVEL = PAGE + 8
"""Offset of the dump level in the sub-header."""


def verdict(folder: Path, data: bytes, expected: Expected | None = None) -> DumpVerdict:
    return verify_dump(open_dump(str(write(folder, "dump", data))), expected)


def broken(found: DumpVerdict) -> list[str]:
    return [check.rule for check in found.checks if check.ok is False]


def unknown(found: DumpVerdict) -> list[str]:
    return [check.rule for check in found.checks if check.ok is None]


@pytest.mark.parametrize("data", [kdump(Memory()), flattened(kdump(Memory()))])
def test_a_whole_dump(data: bytes, tmp_path: Path) -> None:
    found = verdict(tmp_path, data)
    assert (broken(found), unknown(found)) == ([], ["coverage"])
    assert found.contents.memory == RangeSet.of([PhysRange(0, Memory().size)])


def test_a_flattened_elf_core(tmp_path: Path) -> None:
    found = verdict(tmp_path, flattened(elf(Memory())))
    assert (broken(found), unknown(found)) == ([], ["page-contents", "coverage"])


def odd(frame: int) -> bool:
    return frame % 3 != 2


def filtered_dump(level: int = 31) -> bytes:
    """Every third page is RAM, according to the first bitmap, and not in the file."""
    data = bytearray(kdump(Memory(), keep=odd))
    frames = Memory().size // PAGE
    data[2 * PAGE : 2 * PAGE + frames // 8] = b"\xff" * (frames // 8)
    struct.pack_into("<i", data, LEVEL, level)
    return bytes(data)


def test_a_filtered_dump(tmp_path: Path) -> None:
    """Pages that are left out are counted; the reason is not known."""
    found = verdict(tmp_path, filtered_dump())
    assert (broken(found), unknown(found)) == ([], ["filtered", "coverage"])
    frames = Memory().size // PAGE
    assert found.contents.left_out.size // PAGE == frames // 3
    (check,) = (check for check in found.checks if check.rule == "filtered")
    assert check.detail == f"dump level 31: {frames // 3} pages are left out, on purpose or not"


def test_what_must_be_in_it(tmp_path: Path) -> None:
    """It is unknown whether a filtered dump lost pages; one of level 0 did."""
    every = RangeSet.of([PhysRange(0, Memory().size)])
    more = RangeSet.of([PhysRange(0, Memory().size + PAGE)])
    assert broken(verdict(tmp_path, kdump(Memory()), Expected(every, every))) == []
    assert broken(verdict(tmp_path, kdump(Memory()), Expected(more, more))) == ["coverage"]
    assert broken(verdict(tmp_path, filtered_dump(), Expected(every, every))) == []
    assert broken(verdict(tmp_path, filtered_dump(0), Expected(every, every))) == ["coverage"]
    assert broken(verdict(tmp_path, kdump(Memory()), Expected(every, every, 1))) == []
    assert broken(verdict(tmp_path, kdump(Memory()), Expected(every, every, 2))) == ["cpu-notes"]


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def damages() -> dict[str, tuple[bytes, list[str]]]:
    whole = kdump(Memory())
    stream = flattened(whole, end=False)
    descriptors = 4 * PAGE
    noisy = kdump(Memory(), pack=lambda page: zlib.compress(page)[:-6] + bytes(6))
    return {
        "marked incomplete": (changed(whole, 424, struct.pack("<I", 1 | 8)), ["complete"]),
        "no mark at the end": (stream, ["complete"]),
        "a descriptor past the end": (
            changed(whole, descriptors + 24 * 7, struct.pack("<Q", 1 << 40)),
            ["file-size", "page-contents"],
        ),
        "a page that is too large": (
            changed(whole, descriptors + 24 * 7 + 8, struct.pack("<I", PAGE + 1)),
            ["file-size", "page-contents"],
        ),
        "a descriptor that was never written": (
            changed(whole, descriptors + 24 * 7, bytes(24)),
            ["file-size", "page-contents"],
        ),
        "pages that do not unpack": (noisy, ["page-contents"]),
        "no VMCOREINFO": (kdump(Memory(), with_info=False), ["vmcoreinfo"]),
    }


@pytest.mark.parametrize("kind", damages())
def test_one_thing_is_wrong(kind: str, tmp_path: Path) -> None:
    data, rules = damages()[kind]
    assert broken(verdict(tmp_path, data)) == rules


def test_one_file_of_a_split_dump(tmp_path: Path) -> None:
    """It has the descriptors and pages of its part, and both bitmaps completely."""
    found = verdict(tmp_path, kdump(Memory(), split=(200, 300)))
    assert broken(found) == []
    assert found.contents.memory == RangeSet.of([PhysRange(200 * PAGE, 300 * PAGE)])
    assert found.contents.left_out.size == Memory().size - 100 * PAGE
    (check,) = [check for check in found.checks if check.rule == "filtered"]
    assert check.detail.endswith("or are in another file of this split dump")


def test_of_very_many_descriptors_evenly_spread_ones_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pykexec.dump.kdump_memory.CHECKED_MAX", 500)
    monkeypatch.setattr("pykexec.dump.kdump_memory.BATCH", 10)
    found = verdict(tmp_path, kdump(Memory()))
    (check,) = [check for check in found.checks if check.rule == "file-size"]
    assert check.ok
    assert "evenly spread" in check.detail
    assert "file-size" in broken(verdict(tmp_path, kdump(Memory())[: -(8 << 10)])), "the last one"


@given(count=st.integers(0, 9 << 25))
def test_which_descriptors_are_checked(count: int) -> None:
    found = checked(count)
    assert len(found) * BATCH <= CHECKED_MAX + 2 * BATCH
    assert all(at % BATCH == 0 and at < count for at in found)
    assert [at for at in found if at + BATCH >= count] == [*range(0, count, BATCH)][-1:]
    if count <= CHECKED_MAX:
        assert found == [*range(0, count, BATCH)]


LENGTHS = st.sampled_from((1, 7, 8, 4096, 8192, 70_000, 524_288))


@given(size=st.integers(0, 200_000), lengths=st.lists(st.tuples(LENGTHS, LENGTHS), max_size=9))
def test_runs_in_a_bitmap(
    size: int, lengths: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Runs of zeros and ones that end anywhere in the parts that it is read in."""
    wanted, number, at = [], 0, 0
    for zeros, count in lengths:
        start, at = min(at + zeros, size * 8), min(at + zeros + count, size * 8)
        if start < at:
            wanted.append((start, at))
            number |= (1 << at) - (1 << start)
    path = tmp_path_factory.getbasetemp() / "bitmap"
    path.write_bytes(b"header" + number.to_bytes(size, "little"))
    assert list(bit_runs(DumpFile(str(path)), 6, size)) == wanted


def test_a_dump_whose_end_is_missing(tmp_path: Path) -> None:
    found = verdict(tmp_path, kdump(Memory())[: -(8 << 10)])
    assert "file-size" in broken(found)


@given(bits=st.integers(0, 1 << 200))
def test_runs_of_ones(bits: int) -> None:
    found = {at for start, end in ones(bits) for at in range(start, end)}
    assert found == {at for at in range(201) if bits >> at & 1}
    runs = list(ones(bits))
    assert all(a[1] < b[0] for a, b in pairwise(runs)), "none touch"


def test_an_elf_file_whose_loads_overlap(tmp_path: Path) -> None:
    """Text is listed twice, once without contents: nothing is missing."""
    data = bytearray(elf(Memory()))
    dump = open_dump(str(write(tmp_path, "dump", bytes(data))))
    dump.memory.spans = [(0, 4096, 1024, 4096), (4096, 8192, 4096, 1 << 50)]  # type: ignore[union-attr]
    assert held(dump.memory) == RangeSet.of([PhysRange(0, 1024)])
    assert listed(dump.memory) == RangeSet.of([PhysRange(0, 8192)])
    assert [check.ok for check in verify_dump(dump).checks if check.rule == "file-size"] == [True]


# --- the verbs -------------------------------------------------------------------------------


def pykexec(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pykexec", "vmcore", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def test_info_and_verify(tmp_path: Path) -> None:
    path = write(tmp_path, "dump", filtered_dump())
    for words, status in ((("info", path), 0), (("verify", path), 0)):
        done = pykexec(*words)
        assert (done.returncode, done.stderr) == (status, "")
        assert "left out     341 pages in 341 ranges" in done.stdout
        document = json.loads(pykexec(*words, "--json").stdout)
        validate(document)
        assert document["level"] == 31
    assert "complete, as far as can be determined (unknown: filtered, coverage)" in done.stdout
    short = write(tmp_path, "short", filtered_dump()[: -(9 << 10)])
    assert pykexec("verify", short).returncode == 3
    assert contents_of(open_dump(str(path))).level == 31
