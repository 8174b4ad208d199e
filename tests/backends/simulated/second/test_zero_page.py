"""What the simulated capture kernel reads from the boot_params that a plan built."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator

import pytest

from pykexec.backends.simulated.kernel.ram import Ram
from pykexec.backends.simulated.second.relocate import SwitchFailed
from pykexec.backends.simulated.second.zero_page import read_zero_page
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import PhysRange, RangeSet
from tests.builders import pc_map, ram
from tests.placement.x86.test_boot_params import AT, built, u64

COUNT, TABLE, SETUP_DATA = 0x1E8, 0x2D0, 0x250
MANY = MemoryMap.of(ram(*((n << 16, (n << 16) + 0x1000) for n in range(1, 201))))
Memory = Callable[[bytes], Ram]


@pytest.fixture
def memory() -> Iterator[Memory]:
    """Memory with these bytes above 4 GiB, where a plan would put them."""
    fd = os.memfd_create("ram")

    def made(raw: bytes) -> Ram:
        os.pwrite(fd, raw, AT)
        size = AT + (1 << 20)
        return Ram(fd, size, RangeSet((PhysRange(0, size),)))

    yield made
    os.close(fd)


@pytest.mark.parametrize("e820", [pc_map(), MANY], ids=["a few ranges", "200 ranges"])
def test_the_map_comes_back_whole(memory: Memory, e820: MemoryMap) -> None:
    """Of 200 ranges, 128 are in the page, and the others in setup_data."""
    found = read_zero_page(memory(built(e820)), AT)
    assert found.memory_map == e820
    assert found.entries == len(e820.ranges)
    assert found.cmdline == "root=/dev/vda1 ro"


def test_a_count_beyond_the_table_starts_nothing(memory: Memory) -> None:
    raw = bytearray(built(MANY))
    raw[COUNT] = 129
    with pytest.raises(SwitchFailed, match=f"boot_params at {AT:#x}: 129 e820 entries"):
        read_zero_page(memory(bytes(raw)), AT)


def test_an_entry_that_wraps_around_is_skipped(memory: Memory) -> None:
    raw = bytearray(built(MANY))
    struct.pack_into("<QQI", raw, TABLE, (1 << 64) - 0x1000, 0x1001, 1)
    found = read_zero_page(memory(bytes(raw)), AT)
    assert found.memory_map == MemoryMap.of(MANY.ranges[1:])
    assert found.entries == 200


def test_setup_data_without_an_end(memory: Memory) -> None:
    raw = bytearray(built(MANY))
    first = u64(bytes(raw), SETUP_DATA)
    struct.pack_into("<Q", raw, first - AT, first)
    with pytest.raises(SwitchFailed, match="the setup_data list has no end"):
        read_zero_page(memory(bytes(raw)), AT)
