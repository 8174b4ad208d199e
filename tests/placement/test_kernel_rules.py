"""Each rule of the kernel, broken once: the refusal names the segment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pykexec.arch import X86_64
from pykexec.machine import Unknown
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.kernel_rules import RuleBroken, check_table, refuse_broken
from pykexec.placement.request import ImageKind
from pykexec.placement.role import Role
from pykexec.placement.segment import Segment, SegmentTable
from pykexec.placement.x86.protocol import X86Protocol
from tests.builders import GIB, MIB, pc_map, segment

S = segment


def checks(
    *segments: Segment,
    entry: int | None = None,
    kind: ImageKind = ImageKind.NORMAL,
    totalram: int | Unknown = GIB,
    window: PhysRange | None = None,
    reservation: tuple[PhysRange, ...] = (),
) -> dict[str, tuple[bool | None, str]]:
    table = SegmentTable(segments, segments[0].mem if entry is None else entry)
    found = check_table(
        table,
        protocol=X86Protocol(X86_64),
        totalram=totalram,
        memory_map=pc_map(),
        window=window,
        kind=kind,
        reservation=RangeSet.of(reservation),
    )
    return {check.rule: (check.ok, check.detail) for check in found}


GOOD = (S("purgatory", 0x2000000, 0x2000, b"x"), S("kernel", 0x2200000, 0x400000, b"y"))


def test_a_good_table_keeps_every_rule() -> None:
    assert all(ok for ok, _ in checks(*GOOD).values())


def test_the_rules_stand_in_the_kernels_order() -> None:
    """kexec_load_check, then kimage_alloc_init, then sanity_check_segment_list."""
    found = checks(*GOOD, kind=ImageKind.CRASH, reservation=(PhysRange(0x2000000, 0x3000000),))
    assert list(found)[:8] == [
        "segment-count",
        "reservation-entry",
        "alignment",
        "destination-limit",
        "overlap",
        "bufsz",
        "half-of-ram",
        "reservation",
    ]


@pytest.mark.parametrize(
    ("rule", "segments", "detail"),
    [
        (
            "segment-count",
            [S("gap", MIB + n * 0x1000, 0x1000) for n in range(17)],
            "17 segments, but kexec_load accepts only 16 (KEXEC_SEGMENT_MAX)",
        ),
        (
            "alignment",
            [S("initrd", 0x2000800, 0x1000, b"x")],
            "segment 0 (initrd) at 0x2000800, 0x1000 bytes: not whole pages",
        ),
        (
            "alignment",
            [S("initrd", 0x2000000, 0x1001, b"x")],
            "segment 0 (initrd) at 0x2000000, 0x1001 bytes: not whole pages",
        ),
        (
            "destination-limit",
            [S("kernel", (1 << 46) - 0x1000, 0x1000)],
            "segment 0 (kernel) ends at 0x400000000000, above 0x3fffffffffff",
        ),
        (
            "overlap",
            [S("initrd", 0x2000000, 0x3000), S("purgatory", 0x2002000, 0x2000)],
            "segment 0 (initrd) 0x2000000..0x2003000 overlaps "
            "segment 1 (purgatory) 0x2002000..0x2004000",
        ),
        (
            "bufsz",
            [S("initrd", 0x2000000, 0x1000, bytes(0x1001))],
            "segment 0 (initrd) has bufsz 0x1001, more than memsz 0x1000",
        ),
        (
            "half-of-ram",
            [S("initrd", 0x2000000, 0x20001000)],
            "segment 0 (initrd) has 131073 pages, half of RAM is 131072 pages",
        ),
        (
            "half-of-ram",
            [S("a", 0x2000000, 0x10000000), S("b", 0x12000000, 0x10001000)],
            "all segments together have 131073 pages, half of RAM is 131072 pages",
        ),
        (
            "ram",
            [S("initrd", 0x9F000, 0x1000)],
            "segment 0 (initrd) 0x9f000..0xa0000 is not entirely RAM",
        ),
        (
            "above-16-mib",
            [replace(S("kernel", 0x200000, 0x400000), role=Role.KERNEL)],
            "segment 0 (kernel) at 0x200000 would move itself up to 16 MiB",
        ),
    ],
)
def test_a_broken_rule_names_the_segment(rule: str, segments: list[Segment], detail: str) -> None:
    assert checks(*segments)[rule] == (False, detail)


def test_the_window_is_half_open_inside_and_spares_the_low_pages() -> None:
    window = PhysRange.from_inclusive(0x2000000, 0x2FFFFFF)
    low = S("memory below 1 MiB", 0x1000, 0x9E000)
    assert checks(low, S("a", 0x2FFF000, 0x1000), window=window)["window"][0]
    found = checks(low, S("a", 0x2FFF000, 0x2000), window=window)["window"]
    assert found == (
        False,
        "segment 1 (a) 0x2fff000..0x3001000 is outside of the window 0x2000000..0x3000000",
    )


def test_low_pages_end_below_1_mib() -> None:
    window = PhysRange(0x2000000, 0x3000000)
    assert checks(S("a", MIB - 0x1000, 0x1000), window=window)["window"][0]
    assert checks(S("a", MIB, 0x1000), window=window)["window"] == (
        False,
        "segment 0 (a) 0x100000..0x101000 is outside of the window 0x2000000..0x3000000",
    )


def test_an_empty_segment_is_in_no_memory_and_breaks_one_rule() -> None:
    region = PhysRange(0x2000000, 0x3000000)
    segments = (GOOD[0], S("nothing", 0x9F000, 0))
    found = checks(*segments, kind=ImageKind.CRASH, window=region, reservation=(region,))
    assert [rule for rule, (ok, _) in found.items() if not ok] == ["alignment"]
    assert found["alignment"][1] == "segment 1 (nothing) at 0x9f000, 0x0 bytes: not whole pages"


def test_the_entry_must_be_in_a_segment() -> None:
    assert checks(*GOOD, entry=0x5000)["entry"] == (False, "entry 0x5000 is not in any segment")


def test_a_crash_image_stays_in_the_reservation() -> None:
    region = PhysRange(0x2000000, 0x2100000)
    found = checks(*GOOD, kind=ImageKind.CRASH, reservation=(region,))
    assert found["reservation-entry"][0]
    assert found["reservation"] == (
        False,
        "segment 1 (kernel) 0x2200000..0x2600000 is outside of the crash region",
    )
    assert checks(*GOOD, kind=ImageKind.CRASH)["reservation-entry"] == (
        False,
        "entry 0x2000000 is not in the crash region",
    )


def test_an_unknown_fact_is_never_a_refusal() -> None:
    ok, detail = checks(*GOOD, totalram=Unknown("no /proc/meminfo"))["half-of-ram"]
    assert ok is None
    assert detail == "1026 pages; totalram is unknown: no /proc/meminfo"


def test_the_first_broken_rule_is_the_refusal() -> None:
    table = SegmentTable((S("a", 1, 1), S("b", 1, 1)), 0)
    found = check_table(
        table,
        protocol=X86Protocol(X86_64),
        totalram=GIB,
        memory_map=pc_map(),
        reservation=RangeSet(),
    )
    with pytest.raises(RuleBroken) as caught:
        refuse_broken(found)
    assert caught.value.facts["rule"] == "alignment"
    assert caught.value.exit_status == 6
