"""The kernel's checks (kernel/kexec.c, kexec_core.c:sanity_check_segment_list), made beforehand and
with the segment's name, and checks that the kernel does not make but that matter later (boot
protocol)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from pykexec.abi.kexec import KEXEC_SEGMENT_MAX
from pykexec.errors import DoesNotFit
from pykexec.frozen import dataclass
from pykexec.machine import Machine, Unknown
from pykexec.placement.boot_protocol import BootProtocol, boot_protocol
from pykexec.placement.plan import PanicPlan, Plan, segment_table
from pykexec.placement.request import ImageKind
from pykexec.placement.role import Role
from pykexec.placement.segment import Segment, SegmentTable
from pykexec.remedies import Advice, SmallerWindow, Wish, any_of, saying

if TYPE_CHECKING:
    from pykexec.memory.map import MemoryMap
    from pykexec.memory.ranges import PhysRange, RangeSet

Numbered = list[tuple[int, Segment]]
"""Segments with their index in the table, for error messages."""


@dataclass(frozen=True, slots=True)
class Check:
    """One rule and its result; `ok` is None if a fact is unknown."""

    rule: str
    ok: bool | None
    detail: str
    hint: Advice | None = None


class RuleBroken(DoesNotFit):
    """The first rule that a segment table breaks."""

    code = "rule-broken"

    def __init__(self, check: Check) -> None:
        super().__init__(check.detail, hint=check.hint, rule=check.rule)


def _label(number: int, segment: Segment) -> str:
    return f"segment {number} ({segment.name})"


def check_plan(plan: Plan, machine: Machine) -> tuple[Check, ...]:
    """Every rule, in the kernel's order, then those of the boot protocol. The kernel does not check
    the contents of a stage, but they must still be in RAM and where a kernel can run."""
    staged = isinstance(plan, PanicPlan)
    kind = ImageKind.CRASH if staged else plan.request.kind
    protocol = boot_protocol(machine)
    given = check_table(
        segment_table(plan),
        protocol=protocol,
        totalram=machine.totalram,
        memory_map=plan.memory_map,
        window=None if staged else plan.window,
        kind=kind,
        reservation=machine.crash_kernel,
    )
    if not staged:
        return given
    waiting = [(number, item.segment) for number, item in enumerate(plan)]
    floor = _above_floor(waiting, protocol.limits.kernel_floor)
    return (*given, _in_ram(waiting, plan.memory_map), *([floor] if floor else []))


def refuse_broken(checks: tuple[Check, ...]) -> None:
    """Raises RuleBroken for the first rule that is broken."""
    for check in checks:
        if check.ok is False:
            raise RuleBroken(check)


def check_table(
    table: SegmentTable,
    *,
    protocol: BootProtocol,
    totalram: int | Unknown,
    memory_map: MemoryMap,
    window: PhysRange | None = None,
    kind: ImageKind = ImageKind.NORMAL,
    reservation: RangeSet | Unknown,
) -> tuple[Check, ...]:
    """The rules for a table alone; sizes in bytes, `reservation` has the Crash kernel ranges."""
    segments, page = list(enumerate(table.segments)), protocol.arch.page_size
    held = [(number, item) for number, item in segments if item.memsz]
    checks = [
        _segment_count(table),
        _entry_in_reservation(table, kind, reservation),
        alignment(segments, page),
        _destination_limit(segments, protocol.arch.destination_limit),
        overlap(segments),
        _buffer_size(segments),
        _half_of_ram(segments, totalram, page),
        _in_reservation(held, kind, reservation),
        _in_ram(held, memory_map),
        _in_window(held, window, protocol.limits.low_end),
        _above_floor(segments, protocol.limits.kernel_floor),
        _entry_in_segment(held, table.entry),
    ]
    return tuple(check for check in checks if check)


def _segment_count(table: SegmentTable) -> Check:
    """kexec.c:kexec_load_check."""
    count = len(table.segments)
    if count > KEXEC_SEGMENT_MAX:
        return Check(
            "segment-count",
            False,
            f"{count} segments, but kexec_load accepts only {KEXEC_SEGMENT_MAX} "
            "(KEXEC_SEGMENT_MAX)",
            "use a window inside one piece of RAM: each gap costs a segment",
        )
    return Check("segment-count", True, f"{count} of {KEXEC_SEGMENT_MAX} segments")


def alignment(segments: Numbered, page_size: int) -> Check:
    """sanity_check_segment_list; the kernel would accept an empty segment."""
    for number, item in segments:
        if item.mem % page_size or item.memsz % page_size or not item.memsz:
            return Check(
                "alignment",
                False,
                f"{_label(number, item)} at {item.mem:#x}, {item.memsz:#x} bytes: not whole pages",
                f"mem and memsz must be multiples of {page_size:#x} (EADDRNOTAVAIL)",
            )
    return Check("alignment", True, "every segment consists of whole pages")


def _destination_limit(segments: Numbered, limit: int) -> Check:
    """sanity_check_segment_list, which compares the end with the last address."""
    for number, item in segments:
        if item.end > limit:
            return Check(
                "destination-limit",
                False,
                f"{_label(number, item)} ends at {item.end:#x}, above {limit:#x}",
                "KEXEC_DESTINATION_MEMORY_LIMIT (EADDRNOTAVAIL)",
            )
    return Check("destination-limit", True, f"every segment ends below 2^{limit.bit_length()}")


def overlap(segments: Numbered) -> Check:
    """sanity_check_segment_list; segments may touch."""
    by_address = sorted(segments, key=lambda pair: pair[1].mem)
    for (number, item), (after, following) in pairwise(by_address):
        if item.end > following.mem:
            return Check(
                "overlap",
                False,
                f"{_label(number, item)} {item.mem:#x}..{item.end:#x} overlaps "
                f"{_label(after, following)} {following.mem:#x}..{following.end:#x}",
                "EINVAL",
            )
    return Check("overlap", True, "no two segments overlap")


def _buffer_size(segments: Numbered) -> Check:
    """sanity_check_segment_list."""
    for number, item in segments:
        if item.bufsz > item.memsz:
            return Check(
                "bufsz",
                False,
                f"{_label(number, item)} has bufsz {item.bufsz:#x}, "
                f"more than memsz {item.memsz:#x}",
                "EINVAL",
            )
    return Check("bufsz", True, "no bufsz exceeds memsz")


def _half_of_ram(segments: Numbered, totalram: int | Unknown, page_size: int) -> Check:
    """Neither a segment nor all together exceed half of totalram_pages (since 4.8)."""
    total = sum(item.pages(page_size) for _, item in segments)
    if isinstance(totalram, Unknown):
        return Check("half-of-ram", None, f"{total} pages; totalram is {totalram}")
    limit = totalram // page_size // 2
    hint = any_of(SmallerWindow(), "use a smaller initrd (EINVAL)")
    for number, item in segments:
        if (pages := item.pages(page_size)) > limit:
            detail = f"{_label(number, item)} has {pages} pages, half of RAM is {limit} pages"
            return Check("half-of-ram", False, detail, hint)
    if total > limit:
        detail = f"all segments together have {total} pages, half of RAM is {limit} pages"
        return Check("half-of-ram", False, detail, hint)
    return Check("half-of-ram", True, f"{total} of at most {limit} pages")


def _entry_in_reservation(
    table: SegmentTable, kind: ImageKind, reservation: RangeSet | Unknown
) -> Check | None:
    """kexec.c:kimage_alloc_init; for crash images."""
    if kind is not ImageKind.CRASH:
        return None
    if isinstance(reservation, Unknown):
        return Check("reservation-entry", None, f"the crash region is {reservation}")
    inside = table.entry in reservation
    return Check(
        "reservation-entry",
        inside,
        f"entry {table.entry:#x} {('is' if inside else 'is not')} in the crash region",
        None
        if inside
        else "use pykexec region make or crashkernel= to get a crash region (EADDRNOTAVAIL)",
    )


def _in_reservation(
    segments: Numbered, kind: ImageKind, reservation: RangeSet | Unknown
) -> Check | None:
    """sanity_check_segment_list; for crash images."""
    if kind is not ImageKind.CRASH or isinstance(reservation, Unknown):
        return None
    for number, item in segments:
        if not reservation.covers(item.range):
            detail = f"{_label(number, item)} {item.range} is outside of the crash region"
            return Check("reservation", False, detail, "EADDRNOTAVAIL")
    return Check("reservation", True, "every segment is in the crash region")


def _in_ram(segments: Numbered, memory_map: MemoryMap) -> Check:
    """The kernel does not check this; the contents would be lost."""
    ram = memory_map.ram | memory_map.driver_ram
    for number, item in segments:
        if not ram.covers(item.range):
            return Check(
                "ram",
                False,
                f"{_label(number, item)} {item.range} is not entirely RAM",
                "the kernel does not check this; the contents would be lost",
            )
    return Check("ram", True, "every segment is RAM")


def _in_window(segments: Numbered, window: PhysRange | None, low_end: int) -> Check | None:
    """All segments except the low pages, which a capture kernel needs wherever its window is."""
    if window is None:
        return None
    for number, item in segments:
        if item.mem >= low_end and not window.covers(item.range):
            return Check(
                "window",
                False,
                f"{_label(number, item)} {item.range} is outside of the window {window}",
                saying(Wish.MEM_MIN, " and ", Wish.MEM_MAX, " are inclusive"),
            )
    return Check(
        "window", True, f"every segment above {low_end >> 20} MiB is in the window {window}"
    )


def _above_floor(segments: Numbered, floor: int) -> Check | None:
    """A kernel below it would move itself out of its segment (x86: compressed/head_64.S)."""
    if not floor:
        return None
    mib = floor >> 20
    for number, item in segments:
        if item.role is Role.KERNEL and item.mem < floor:
            return Check(
                "above-16-mib",
                False,
                f"{_label(number, item)} at {item.mem:#x} would move itself up to {mib} MiB",
                f"use a window at or above {mib} MiB",
            )
    return Check("above-16-mib", True, f"the kernel is at or above {mib} MiB")


def _entry_in_segment(segments: Numbered, entry: int) -> Check:
    """The kernel does not check this for normal images: it would jump anywhere."""
    holder = next((_label(number, item) for number, item in segments if entry in item.range), None)
    if holder:
        return Check("entry", True, f"entry {entry:#x} is in {holder}")
    return Check(
        "entry",
        False,
        f"entry {entry:#x} is not in any segment",
        saying("use an address inside the loaded image for ", Wish.ENTRY),
    )
