"""Placement in pages of 16 and 64 KiB, as other architectures have them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.arch import ARM64, X86_64
from pykexec.errors import KexecError, NotSupported, UsageError
from pykexec.machine import Unknown
from pykexec.memory.hole import NoHole
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.boot_protocol import boot_protocol, memory_encryption
from pykexec.placement.kernel_rules import check_table
from pykexec.placement.request import LoadRequest
from pykexec.placement.segment import SegmentTable
from pykexec.placement.space import PlaceTaken, Space
from pykexec.placement.window import requested_window
from pykexec.placement.x86.protocol import X86Protocol
from tests.builders import make_machine, pc_map, ram, segment

SIZES = st.sampled_from(ARM64.page_sizes)
SPANS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(1, 300)).map(
        lambda pair: PhysRange.sized(pair[0] << 12, pair[1] << 12)
    ),
    max_size=5,
)


@given(SPANS, SIZES, st.lists(st.integers(1, 1 << 18), max_size=5), st.booleans())
def test_what_is_taken_is_free_and_in_whole_pages(
    spans: list[PhysRange], page: int, sizes: list[int], from_top: bool
) -> None:
    free = MemoryMap.of(ram(*((span.start, span.end) for span in spans))).whole_page_ram(page)
    space, taken = Space(free, page), RangeSet()
    for size in sizes:
        try:
            found = space.take("a thing", size, from_top=from_top)
        except NoHole:
            continue
        assert found.is_aligned(page)
        assert size <= found.size < size + page
        assert free.covers(found)
        assert not taken.overlaps(found)
        taken |= RangeSet((found,))
    assert space.free == free - taken


@given(SIZES, st.integers(1, 1 << 20), st.integers(1, 1 << 18))
def test_a_fixed_address_takes_the_pages_around_it(page: int, start: int, size: int) -> None:
    space = Space(RangeSet((PhysRange(0, 1 << 22),)), page)
    wanted = PhysRange.sized(start, size)
    assert space.take_at("a thing", wanted) == wanted.outward(page)
    with pytest.raises(PlaceTaken):
        space.take_at("another", wanted)


@given(SIZES, st.integers(0, 1 << 20), st.integers(0, 1 << 20))
def test_a_window_has_whole_pages(page: int, low: int, high: int) -> None:
    request = LoadRequest(mem_min=low, mem_max=high)
    try:
        found = requested_window(request, page)
    except UsageError:
        assert high < low or PhysRange.from_inclusive(low, high).inward(page) is None
        return
    assert found is not None
    assert found.is_aligned(page)
    assert low <= found.start
    assert found.end <= high + 1


@given(SIZES, st.integers(1, 64))
def test_the_kernels_rules_count_its_pages(page: int, count: int) -> None:
    protocol = X86Protocol(replace(X86_64, page_size=page))
    table = SegmentTable((segment("a thing", 1 << 24, count << 12),), 1 << 24)
    checks = {
        check.rule: check
        for check in check_table(
            table,
            protocol=protocol,
            totalram=1 << 30,
            memory_map=pc_map(),
            reservation=RangeSet(),
        )
    }
    assert checks["alignment"].ok == ((count << 12) % page == 0)
    assert (
        checks["half-of-ram"].detail
        == f"{-(-(count << 12) // page)} of at most {(1 << 29) // page} pages"
    )


@pytest.mark.parametrize(
    ("architecture", "size", "words"),
    [
        ("riscv64", 4096, "is of the architecture riscv64"),
        ("aarch64", Unknown("no"), "the page size of test is unknown: no"),
        ("aarch64", 12345, "has pages of 12345 bytes"),
        (Unknown("no"), 4096, "the architecture of test is unknown: no"),
    ],
)
def test_an_unknown_architecture_is_an_error(
    architecture: str | Unknown, size: int | Unknown, words: str
) -> None:
    machine = replace(make_machine(), architecture=architecture, page_size=size)
    assert machine.arch is None
    with pytest.raises(NotSupported, match=words) as caught:
        _ = machine.known_arch
    assert isinstance(caught.value, KexecError)
    assert caught.value.hint


@pytest.mark.parametrize("size", ARM64.page_sizes)
def test_the_arch_of_a_machine_has_its_page_size(size: int) -> None:
    found = replace(make_machine(), architecture="aarch64", page_size=size).known_arch
    assert found == replace(ARM64, page_size=size)


def test_no_page_size_is_assumed() -> None:
    """Not even for a machine that has several of them."""
    unknown = replace(make_machine(), architecture="aarch64", page_size=Unknown("no auxv"))
    with pytest.raises(NotSupported, match="the page size of test is unknown: no auxv") as caught:
        boot_protocol(unknown)
    assert "auxv" in str(caught.value.hint)
    assert isinstance(memory_encryption(unknown), Unknown)
    known = replace(unknown, page_size=64 << 10)
    assert boot_protocol(known).arch.page_size == 64 << 10
    assert memory_encryption(known) is None
