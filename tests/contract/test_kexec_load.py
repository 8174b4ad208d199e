"""kexec_load(2): which check fails first, and what a refusal leaves behind.

Rows are kernel-contract 1.2. Each breaks one rule, and the order test breaks two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from pykexec.abi.kexec import KexecFlag
from pykexec.backends.backend import LoadState, Slot
from pykexec.images.contents import Built, FileSpan, OpenFile, UnreadableFile
from pykexec.memory.ranges import PhysRange
from pykexec.placement.segment import Segment, SegmentTable
from pykexec.syscalls import SyscallError
from tests.contract.rig import MIB, Rig, SimulatedRig

PAGE = 4096
ON_CRASH = KexecFlag.KEXEC_ON_CRASH
BY_NORMAL = KexecFlag.KEXEC_CRASH_BY_NORMAL
NONE = KexecFlag(0)
AARCH64 = KexecFlag(183 << 16)

Break = Callable[[Rig, SegmentTable], SegmentTable]
"""Changes the rig, or the table, so that one rule is broken."""


def good(rig: Rig, flags: KexecFlag = NONE) -> SegmentTable:
    """A valid table: two segments in the window, or in the reservation for a crash image."""
    home = rig.reservation if flags & ON_CRASH and rig.reservation else rig.window
    at = home.start + 32 * PAGE
    return SegmentTable(
        (
            Segment("one", at, 2 * PAGE, "test", Built(b"one" * 2000)),
            Segment("two", at + 4 * PAGE, 2 * PAGE, "test"),
        ),
        entry=at,
        flags=flags,
    )


def changed(table: SegmentTable, number: int, **fields: object) -> SegmentTable:
    """The table with one segment changed."""
    segments = list(table.segments)
    segments[number] = replace(segments[number], **fields)  # type: ignore[arg-type]
    return replace(table, segments=tuple(segments))


def gate(**settings: object) -> Break:
    def broken(rig: Rig, table: SegmentTable) -> SegmentTable:
        rig.set(**settings)
        return table

    return broken


def flag(flags: KexecFlag) -> Break:
    return lambda rig, table: replace(table, flags=table.flags | flags)


def segment(number: int, **fields: object) -> Break:
    return lambda rig, table: changed(table, number, **fields)


def too_many(rig: Rig, table: SegmentTable) -> SegmentTable:
    """One more than allowed."""
    more = [Segment(f"more{n}", rig.window.start + n * PAGE, PAGE, "test") for n in range(15)]
    return replace(table, segments=(*table.segments, *more))


def unaligned(rig: Rig, table: SegmentTable) -> SegmentTable:
    return changed(table, 0, mem=table.segments[0].mem + 1)


def overlapping(rig: Rig, table: SegmentTable) -> SegmentTable:
    return changed(table, 1, mem=table.segments[0].mem + PAGE)


def half(rig: Rig) -> int:
    """The smallest number of pages that is too many."""
    totalram = rig.backend.machine().totalram
    assert isinstance(totalram, int)
    return totalram // PAGE // 2 + 1


def one_too_big(rig: Rig, table: SegmentTable) -> SegmentTable:
    return changed(table, 1, memsz=half(rig) * PAGE)


def all_too_big(rig: Rig, table: SegmentTable) -> SegmentTable:
    each = (half(rig) // 2 + 1) * PAGE
    table = changed(table, 0, memsz=each)
    return changed(table, 1, mem=table.segments[0].mem + each, memsz=each)


# Each rule with errno, exit status, and how to break it. In the kernel's order.
ROWS: dict[str, tuple[str, str, int, Break]] = {
    "no CAP_SYS_BOOT": ("A1", "EPERM", 4, gate(cap_sys_boot=False)),
    "disabled by sysctl": ("A1", "EPERM", 4, gate(kexec_load_disabled=True)),
    "limit used up": ("A2", "EPERM", 4, gate(kexec_load_limit_reboot=0, kexec_load_limit_panic=0)),
    "IMA policy": ("A3", "EACCES", 4, gate(ima_appraise=True)),
    "lockdown": ("A4", "EPERM", 4, gate(lockdown="integrity")),
    "more lockdown": ("A4", "EPERM", 4, gate(lockdown="confidentiality")),
    "unknown flag": ("A5", "EINVAL", 5, flag(KexecFlag(0x4000))),
    "preserve context": ("A5", "EINVAL", 5, flag(KexecFlag.KEXEC_PRESERVE_CONTEXT)),
    "too many segments": ("A6", "EINVAL", 6, too_many),
    "another architecture": ("A7", "EINVAL", 5, flag(AARCH64)),
    "a 32-bit image": ("A7", "EINVAL", 5, flag(KexecFlag(3 << 16))),
    "busy": ("B", "EBUSY", 1, gate(busy=True)),
    "start not at a page": ("F1", "EADDRNOTAVAIL", 1, unaligned),
    "end not at a page": ("F1", "EADDRNOTAVAIL", 1, segment(0, memsz=2 * PAGE + 1)),
    "wraps around": ("F1", "EADDRNOTAVAIL", 1, segment(1, mem=(1 << 64) - PAGE, memsz=2 * PAGE)),
    "above the limit": ("F1", "EADDRNOTAVAIL", 1, segment(1, mem=(1 << 46) - PAGE, memsz=PAGE)),
    "overlap": ("F2", "EINVAL", 1, overlapping),
    "more content than room": ("F3", "EINVAL", 1, segment(0, buf=Built(bytes(2 * PAGE + 1)))),
    "one above half of memory": ("F4", "EINVAL", 6, one_too_big),
    "all above half of memory": ("F5", "EINVAL", 6, all_too_big),
}  # fmt: skip


def assert_refusal(
    rig: Rig, refusal: SyscallError, rule: str, code: str, status: int | None = None
) -> None:
    """Checks the errno, and the rule and the exit status if the backend reports them."""
    assert refusal.code == code
    if rig.says_why:
        assert refusal.rule == rule
        assert status in (None, refusal.exit_status)


@pytest.mark.parametrize("name", ROWS)
def test_each_check(name: str, rig: Rig) -> None:
    rule, code, status, broken = ROWS[name]
    table = broken(rig, good(rig))
    with pytest.raises(SyscallError) as caught:
        rig.backend.load(table)
    refusal = caught.value
    assert_refusal(rig, refusal, rule, code, status)
    assert refusal.message.startswith(f"kexec_load(entry={table.entry:#x}, nr_segments=")
    assert f") = -1 {code} (" in refusal.message
    assert rig.backend.status()[Slot.NORMAL] is LoadState.NOT_LOADED


BEFORE_SEGMENTS = ("A1", "A2", "A3", "A4", "A5", "A6", "A7", "B")
COMBINED = [
    (first, second)
    for first, second in combinations(ROWS, 2)
    if ROWS[first][0] != ROWS[second][0]
    and (ROWS[first][0] in BEFORE_SEGMENTS or ROWS[second][0] != "F5")
]
"""F5 changes both segments, which would hide another fault of a segment."""


@pytest.mark.parametrize(("first", "second"), COMBINED)
def test_the_earlier_check_wins(first: str, second: str, rig: Rig) -> None:
    """With two rules broken at once, the result is that of the first in the kernel's order.

    Rules for segments are broken in different segments if possible.
    """
    table = good(rig)
    for name in (second, first):
        table = ROWS[name][3](rig, table)
    with pytest.raises(SyscallError) as caught:
        rig.backend.load(table)
    assert_refusal(rig, caught.value, *ROWS[first][:3])


def test_a_refusal_prints_as_strace_would(rig: Rig) -> None:
    if not rig.knows_by_normal:
        pytest.skip("this kernel does not know KEXEC_CRASH_BY_NORMAL")
    table = unaligned(rig, replace(good(rig), flags=KexecFlag(0x8000 | 62 << 16)))
    with pytest.raises(SyscallError) as caught:
        rig.backend.load(table)
    at = table.segments[0].mem
    assert caught.value.message == (
        f"kexec_load(entry={table.entry:#x}, nr_segments=2, segments, "
        "flags=KEXEC_CRASH_BY_NORMAL|KEXEC_ARCH_X86_64) = -1 EADDRNOTAVAIL "
        f'(Cannot assign requested address): segment "one" at {at:#x}..{at + 2 * PAGE:#x} '
        "does not start at a page"
    )
    assert caught.value.facts["segment"] == "one"


def test_the_flag_is_known_by_a_kernel_that_swaps(rig: Rig) -> None:
    table = good(rig, BY_NORMAL)
    if rig.knows_by_normal:
        loaded = rig.backend.load(table)
        assert loaded.slot is Slot.CRASH
        assert loaded.backup_map
        return
    with pytest.raises(SyscallError) as caught:
        rig.backend.load(table)
    assert_refusal(rig, caught.value, "A5", "EINVAL", 5)


def test_it_excludes_the_flag_of_a_crash_image(rig: Rig) -> None:
    with pytest.raises(SyscallError) as caught:
        rig.backend.load(good(rig, ON_CRASH | BY_NORMAL))
    assert_refusal(rig, caught.value, "A5", "EINVAL")


def test_a_normal_image_replaces_the_old_one_only_when_it_is_loaded(rig: Rig) -> None:
    rig.backend.load(good(rig))
    with pytest.raises(SyscallError):
        rig.backend.load(overlapping(rig, good(rig)))
    assert rig.backend.status()[Slot.NORMAL] is LoadState.LOADED


def test_a_crash_image_is_freed_before_the_new_one_is_looked_at(rig: Rig) -> None:
    """Stage D: every later refusal leaves no crash image."""
    rig.backend.load(good(rig, ON_CRASH))
    assert rig.backend.status()[Slot.CRASH] is LoadState.LOADED
    with pytest.raises(SyscallError):
        rig.backend.load(overlapping(rig, good(rig, ON_CRASH)))
    assert rig.backend.status()[Slot.CRASH] is LoadState.NOT_LOADED


def test_a_wrong_entry_is_seen_after_the_crash_image_is_freed(rig: Rig) -> None:
    """Stage E comes after D."""
    rig.backend.load(good(rig, ON_CRASH))
    with pytest.raises(SyscallError) as caught:
        rig.backend.load(replace(good(rig, ON_CRASH), entry=0))
    assert_refusal(rig, caught.value, "E", "EADDRNOTAVAIL")
    assert rig.backend.status()[Slot.CRASH] is LoadState.NOT_LOADED


def test_every_pair_of_segments_is_looked_at(rig: Rig) -> None:
    table = good(rig)
    first, second = table.segments
    last = replace(first, mem=first.mem + PAGE)
    with pytest.raises(SyscallError) as caught:
        rig.backend.load(replace(table, segments=(first, second, last)))
    assert_refusal(rig, caught.value, "F2", "EINVAL")


@pytest.mark.parametrize(("parts", "rule"), [((7, 1), "F4"), ((4, 4), "F5")])
def test_a_crash_image_may_not_have_half_of_memory_either(
    parts: tuple[int, int], rule: str, tmp_path: Path
) -> None:
    """Although it uses none of it: totalram does not include the reservation. In sevenths of
    half."""
    rig = SimulatedRig(tmp_path, memory=256 * MIB, crashkernel=96 * MIB, used=10)
    assert rig.reservation
    table = good(rig, ON_CRASH)
    at = rig.reservation.start
    limit = half(rig) * PAGE
    sizes = [limit * part // 7 // PAGE * PAGE for part in parts]
    table = changed(table, 0, mem=at, memsz=sizes[0])
    table = replace(changed(table, 1, mem=at + sizes[0], memsz=sizes[1]), entry=at)
    with pytest.raises(SyscallError) as caught:
        rig.backend.load(table)
    assert_refusal(rig, caught.value, rule, "EINVAL", 6)


def test_what_is_refused_earlier_leaves_the_crash_image(rig: Rig) -> None:
    """Stages A and B come before D."""
    rig.backend.load(good(rig, ON_CRASH))
    with pytest.raises(SyscallError):
        rig.backend.load(too_many(rig, good(rig, ON_CRASH)))
    assert rig.backend.status()[Slot.CRASH] is LoadState.LOADED


def test_by_normal_keeps_the_old_crash_image_until_it_is_loaded(rig: Rig) -> None:
    if not rig.knows_by_normal:
        pytest.skip("this kernel does not know KEXEC_CRASH_BY_NORMAL")
    rig.backend.load(good(rig, BY_NORMAL))
    with pytest.raises(SyscallError):
        rig.backend.load(overlapping(rig, good(rig, BY_NORMAL)))
    assert rig.backend.status()[Slot.CRASH] is LoadState.LOADED


@pytest.mark.parametrize("slot", Slot)
def test_unload_of_nothing_is_fine(slot: Slot, rig: Rig) -> None:
    rig.backend.unload(slot)
    assert rig.backend.status()[slot] is LoadState.NOT_LOADED


@pytest.mark.parametrize(
    ("settings", "status"),
    [({"cap_sys_boot": False}, 4), ({"lockdown": "integrity"}, 4), ({"busy": True}, 1)],
)
def test_unload_needs_the_same_permission(
    settings: dict[str, object], status: int, rig: Rig
) -> None:
    rig.backend.load(good(rig))
    rig.set(**settings)
    with pytest.raises(SyscallError) as caught:
        rig.backend.unload(Slot.NORMAL)
    assert caught.value.exit_status == status
    assert rig.backend.status()[Slot.NORMAL] is LoadState.LOADED


def test_a_limit_counts_unloads_and_failed_loads(rig: Rig) -> None:
    rig.set(kexec_load_limit_reboot=3)
    rig.backend.unload(Slot.NORMAL)
    with pytest.raises(SyscallError):
        rig.backend.load(overlapping(rig, good(rig)))
    rig.backend.load(good(rig))
    with pytest.raises(SyscallError) as caught:
        rig.backend.load(good(rig))
    assert caught.value.rule == "A2"
    rig.backend.load(good(rig, ON_CRASH))


def test_a_limit_counts_what_a_later_gate_refuses(rig: Rig) -> None:
    """A2 counts down before A3 is checked."""
    rig.set(kexec_load_limit_reboot=1, ima_appraise=True)
    with pytest.raises(SyscallError) as caught:
        rig.backend.load(good(rig))
    assert caught.value.rule == "A3"
    rig.set(ima_appraise=False)
    with pytest.raises(SyscallError) as caught:
        rig.backend.load(good(rig))
    assert caught.value.rule == "A2"


# Entry of a crash image: offset from the start of the reservation (or its end), valid or not.
ENTRIES = {
    "at its start": (0, False, True),
    "its last byte": (-1, True, True),
    "right behind it": (0, True, False),
    "before it": (-1, False, False),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_entry_of_a_crash_image(name: str, rig: Rig) -> None:
    """Stage E: the end is inclusive."""
    assert rig.reservation
    offset, from_end, fine = ENTRIES[name]
    base = rig.reservation.end if from_end else rig.reservation.start
    table = replace(good(rig, ON_CRASH), entry=base + offset)
    if fine:
        rig.backend.load(table)
        return
    with pytest.raises(SyscallError) as caught:
        rig.backend.load(table)
    assert_refusal(rig, caught.value, "E", "EADDRNOTAVAIL")


@pytest.mark.parametrize("offset", [-PAGE, 0])
def test_crash_segments_lie_in_the_reservation(offset: int, rig: Rig) -> None:
    """F6, the last pass."""
    assert rig.reservation
    mem = rig.reservation.start + offset if offset else rig.reservation.end - PAGE
    table = changed(good(rig, ON_CRASH), 1, mem=mem, memsz=2 * PAGE)
    with pytest.raises(SyscallError) as caught:
        rig.backend.load(table)
    assert_refusal(rig, caught.value, "F6", "EADDRNOTAVAIL", 6)


# kernel-contract 1.2, "not checked at all".
UNCHECKED: dict[str, Break] = {
    "a destination that is no RAM": segment(1, mem=0xFEE00000, memsz=PAGE),
    "page 0": segment(1, mem=0, memsz=PAGE),
    "an entry in no segment": lambda rig, table: replace(table, entry=0x123),
    "segments out of order": lambda rig, table: replace(table, segments=table.segments[::-1]),
    "an empty segment": segment(1, memsz=0),
    "the last page below the limit": segment(1, mem=(1 << 46) - 2 * PAGE, memsz=PAGE),
    "as much content as room": segment(0, buf=Built(b"x" * (2 * PAGE))),
    "segments that touch": lambda rig, table: changed(
        table, 1, mem=table.segments[0].mem + 2 * PAGE
    ),
    "segments that touch, the second below": lambda rig, table: changed(
        table, 1, mem=table.segments[0].mem - 2 * PAGE
    ),
    "sixteen segments": lambda rig, table: replace(
        table, segments=too_many(rig, table).segments[:16]
    ),
    "flags above the 32nd bit": flag(KexecFlag(1 << 40)),
}


@pytest.mark.parametrize("name", UNCHECKED)
def test_what_the_kernel_does_not_check(name: str, rig: Rig) -> None:
    rig.backend.load(UNCHECKED[name](rig, good(rig)))
    assert rig.backend.status()[Slot.NORMAL] is LoadState.LOADED


def release(rig: Rig) -> tuple[int, ...]:
    """(major, minor) of the kernel."""
    found = rig.backend.machine().release
    assert isinstance(found, str)
    return tuple(int(number) for number in found.split(".")[:2])


@pytest.mark.parametrize(("bit", "since"), [(4, (6, 6)), (8, (6, 10))])
def test_flags_of_later_kernels(bit: int, since: tuple[int, int], rig: Rig) -> None:
    """KEXEC_UPDATE_ELFCOREHDR and KEXEC_CRASH_HOTPLUG_SUPPORT; ignored without ON_CRASH."""
    table = flag(KexecFlag(bit))(rig, good(rig))
    if release(rig) >= since:
        rig.backend.load(table)
        return
    with pytest.raises(SyscallError) as caught:
        rig.backend.load(table)
    assert_refusal(rig, caught.value, "A5", "EINVAL", 5)


def test_an_empty_segment_at_0_is_all_of_memory_to_later_kernels(rig: Rig) -> None:
    table = segment(1, mem=0, memsz=0)(rig, good(rig))
    if release(rig) < (6, 12):
        rig.backend.load(table)
        return
    if not rig.says_why:
        pytest.skip("a real kernel looks through all of its memory for a page")
    with pytest.raises(SyscallError) as caught:
        rig.backend.load(table)
    assert_refusal(rig, caught.value, "G", "ENOMEM", 6)
    assert rig.backend.status()[Slot.NORMAL] is LoadState.NOT_LOADED


@pytest.mark.parametrize("parts", [1, 2])
def test_half_of_memory_is_not_too_much(parts: int, rig: Rig) -> None:
    """F4 and F5 refuse more than half: next, the memory must be available."""
    if not rig.says_why:
        pytest.skip("a real kernel would take half of its memory")
    most = (half(rig) - 1) * PAGE
    first = most // parts // PAGE * PAGE
    table = changed(good(rig), 0, mem=1 << 32, memsz=first)
    table = changed(table, 1, mem=1 << 33, memsz=most - first)
    rig.backend.load(table)
    assert rig.backend.status()[Slot.NORMAL] is LoadState.LOADED


def test_contents_that_shrink_leave_nothing_loaded(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "initrd"
    path.write_bytes(bytes(2 * PAGE))
    span = FileSpan(OpenFile(path), 0, 2 * PAGE)
    path.write_bytes(b"")
    with pytest.raises(UnreadableFile):
        rig.backend.load(changed(good(rig), 0, buf=span))
    assert rig.backend.status()[Slot.NORMAL] is LoadState.NOT_LOADED


def test_the_map_of_a_normal_load(rig: Rig) -> None:
    """Every destination appears once; a kernel that copies does not keep old pages, and has no
    map."""
    table = good(rig)
    loaded = rig.backend.load(table)
    assert loaded.slot is Slot.NORMAL
    if not rig.knows_by_normal:
        assert loaded.backup_map is None
        return
    assert loaded.backup_map
    assert list(loaded.backup_map.destinations) == [
        PhysRange.sized(part.mem, part.memsz) for part in table.segments
    ]
