"""kexec_load(2): every check in the kernel's order, then the load.

Rule names are those of kernel-contract 1.2. A kernel that swaps behaves like 6.1, one that copies
like 6.14. The former also has KEXEC_CRASH_BY_NORMAL, a normal load whose destination is
kexec_crash_image. A kernel that copies cannot keep the old pages, and so does not support that
flag.
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import EACCES, EADDRNOTAVAIL, EBUSY, EINVAL, ENOMEM, EPERM
from typing import TYPE_CHECKING

from pykexec.abi.kexec import (
    KEXEC_ARCH_MASK,
    KEXEC_ARCH_X86_64,
    KEXEC_SEGMENT_MAX,
    KexecFlag,
    kexec_load_text,
)
from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.arch import X86_64
from pykexec.backends.backend import Slot
from pykexec.backends.simulated.kernel.gates import Lockdown
from pykexec.backends.simulated.kernel.kimage_crash import load_crash
from pykexec.backends.simulated.kernel.kimage_normal import OutOfMemory, load_normal
from pykexec.errors import DoesNotFit, NotSupported
from pykexec.memory.ranges import RangeSet
from pykexec.remedies import Advice, Use, Wish, any_of
from pykexec.syscalls import SyscallError

if TYPE_CHECKING:
    from pykexec.backends.simulated.kernel.kimage import KImage
    from pykexec.backends.simulated.kernel.running import SimulatedKernel
    from pykexec.placement.segment import Segment, SegmentTable

DESTINATION_LIMIT = X86_64.destination_limit
"""KEXEC_DESTINATION_MEMORY_LIMIT of x86_64 with 4-level paging."""
ADDRESSES = 1 << 64

FITS_NOT, KNOWS_NOT = DoesNotFit.exit_status, NotSupported.exit_status
ON_CRASH, BY_NORMAL = KexecFlag.KEXEC_ON_CRASH, KexecFlag.KEXEC_CRASH_BY_NORMAL
SINCE_6_10 = KexecFlag.KEXEC_UPDATE_ELFCOREHDR | KexecFlag.KEXEC_CRASH_HOTPLUG_SUPPORT
"""Accepted with and without KEXEC_ON_CRASH; there is no hotplug here."""
LOW_FLAGS = 0xFFFF
"""Bits that are checked, besides those of the architecture; the upper half of the word is
ignored."""


class Refusal:
    """Makes the errors of one call."""

    def __init__(self, table: SegmentTable) -> None:
        self.call = kexec_load_text(table.entry, len(table.segments), table.flags)

    def __call__(
        self,
        rule: str,
        errno: int,
        why: str,
        *,
        exit_status: int | None = None,
        hint: Advice | None = None,
        segment: Segment | None = None,
    ) -> SyscallError:
        return SyscallError(
            self.call,
            errno,
            why,
            rule=rule,
            exit_status=exit_status,
            hint=hint,
            segment=segment.name if segment else None,
        )


def kexec_load(kernel: SimulatedKernel, table: SegmentTable) -> KImage | None:
    """The loaded image; None after nr_segments 0, which frees one.

    Raises SyscallError, and may still have changed `kernel`: limits count down, and KEXEC_ON_CRASH
    frees the old crash image before checking the new one.
    """
    refuse = Refusal(table)
    slot = Slot.CRASH if table.flags & (ON_CRASH | BY_NORMAL) else Slot.NORMAL
    _check_permission(kernel, slot, refuse)
    _check_arguments(kernel, table, refuse)
    if kernel.gates.busy:
        raise refuse("B", EBUSY, "another kexec call is in progress", hint="try again")
    if not table.segments:
        kernel.free(slot)
        return None
    kernel.boot_if_down()
    if table.flags & ON_CRASH:
        kernel.free(slot)
        _check_entry(kernel, table, refuse)
    _check_segments(kernel, table, refuse)
    image = load(kernel, table, refuse)
    kernel.free(slot)
    kernel.images[slot] = image
    return image


def _check_permission(kernel: SimulatedKernel, slot: Slot, refuse: Refusal) -> None:
    """Stages A1 to A4: kexec_load_permitted, the LSM hooks."""
    gates = kernel.gates
    if not gates.cap_sys_boot:
        raise refuse("A1", EPERM, "CAP_SYS_BOOT is missing", hint="run as root")
    if gates.kexec_load_disabled:
        raise refuse("A1", EPERM, "kernel.kexec_load_disabled is 1", hint="only a reboot clears it")
    if not gates.limit(slot):
        name = "panic" if slot is Slot.CRASH else "reboot"
        raise refuse("A2", EPERM, f"kernel.kexec_load_limit_{name} is used up")
    kernel.gates = gates.counted(slot)
    if gates.ima_appraise:
        raise refuse("A3", EACCES, "the IMA policy requires a signed kernel")
    if gates.lockdown is not Lockdown.NONE:
        raise refuse("A4", EPERM, f"the kernel is locked down ({gates.lockdown})")


def _check_arguments(kernel: SimulatedKernel, table: SegmentTable, refuse: Refusal) -> None:
    """Stages A5 to A7; also before an unload."""
    known = int(ON_CRASH | (BY_NORMAL if kernel.swaps else SINCE_6_10))
    unknown = int(table.flags) & LOW_FLAGS & ~known
    if unknown:
        raise refuse(
            "A5",
            EINVAL,
            f"unknown flags {unknown:#x}",
            exit_status=KNOWS_NOT,
            hint="a kernel that copies pages cannot keep the old ones"
            if unknown == BY_NORMAL
            else None,
        )
    if table.flags & ON_CRASH and table.flags & BY_NORMAL:
        raise refuse("A5", EINVAL, "KEXEC_ON_CRASH and KEXEC_CRASH_BY_NORMAL exclude each other")
    if len(table.segments) > KEXEC_SEGMENT_MAX:
        raise refuse("A6", EINVAL, f"more than {KEXEC_SEGMENT_MAX} segments", exit_status=FITS_NOT)
    if int(table.flags) & KEXEC_ARCH_MASK not in (0, KEXEC_ARCH_X86_64):
        raise refuse("A7", EINVAL, "an image of another architecture", exit_status=KNOWS_NOT)


def _check_entry(kernel: SimulatedKernel, table: SegmentTable, refuse: Refusal) -> None:
    """Stage E: kimage_alloc_init."""
    reservation = kernel.layout.reservation
    if reservation is None:
        raise refuse(
            "E", EADDRNOTAVAIL, "nothing is reserved for a crash kernel", exit_status=FITS_NOT,
            hint=any_of(
                Use(Wish.RESERVATION, rest=" when the machine is created"),
                Use(Wish.CRASH_BY_NORMAL, rest=", which needs no reservation"),
            ),
        )  # fmt: skip
    if table.entry not in reservation:
        raise refuse(
            "E", EADDRNOTAVAIL, f"the entry is outside of the reservation {reservation}",
            exit_status=FITS_NOT,
        )  # fmt: skip


def _check_segments(kernel: SimulatedKernel, table: SegmentTable, refuse: Refusal) -> None:
    """Stage F: sanity_check_segment_list; each rule is checked for all segments before the next."""
    segments = table.segments
    for segment in segments:
        end = (segment.mem + segment.memsz) % ADDRESSES
        for wrong, why in (
            (segment.mem > end, "wraps around"),
            (segment.mem % PAGE_SIZE, "does not start at a page"),
            (end % PAGE_SIZE, "does not end at a page"),
            (end >= DESTINATION_LIMIT, "ends above the destination limit"),
        ):
            if wrong:
                raise refuse("F1", EADDRNOTAVAIL, f"{_place(segment)} {why}", segment=segment)
    for one, other in overlaps(segments):
        raise refuse("F2", EINVAL, f"{_place(other)} overlaps {_place(one)}", segment=other)
    for segment in segments:
        if segment.bufsz > segment.memsz:
            why = f"{_place(segment)} is smaller than its {segment.bufsz:#x} bytes of content"
            raise refuse("F3", EINVAL, why, segment=segment)
    half = kernel.layout.totalram // PAGE_SIZE // 2
    for segment in segments:
        if segment.pages(PAGE_SIZE) > half:
            why = f"{_place(segment)} is more than half of memory ({half} pages)"
            raise refuse("F4", EINVAL, why, exit_status=FITS_NOT, segment=segment)
    if table.pages(PAGE_SIZE) > half:
        why = f"{table.pages(PAGE_SIZE)} pages are more than half of memory ({half} pages)"
        raise refuse("F5", EINVAL, why, exit_status=FITS_NOT)
    reservation = kernel.layout.reservation
    if table.flags & ON_CRASH and reservation:
        for segment in segments:
            end = segment.mem + segment.memsz
            if segment.mem < reservation.start or end > reservation.end:
                why = f"{_place(segment)} is outside of the reservation {reservation}"
                raise refuse("F6", EADDRNOTAVAIL, why, exit_status=FITS_NOT, segment=segment)


def _place(segment: Segment) -> str:
    """A segment for a message; it may not be a valid PhysRange."""
    return f'segment "{segment.name}" at {segment.mem:#x}..{segment.mem + segment.memsz:#x}'


def overlaps(segments: tuple[Segment, ...]) -> Iterator[tuple[Segment, Segment]]:
    """Pairs that share a byte; an empty one inside another counts, as in the kernel."""
    for number, one in enumerate(segments):
        for other in segments[:number]:
            if one.mem + one.memsz > other.mem and one.mem < other.mem + other.memsz:
                yield other, one


def load(kernel: SimulatedKernel, table: SegmentTable, refuse: Refusal) -> KImage:
    """Stage G. On failure every frame is free again."""
    crash = bool(table.flags & ON_CRASH)
    dests = RangeSet.of(segment.range for segment in table.segments if segment.memsz)
    orders = kernel.control_orders(dests, crash=crash)
    reservation = kernel.layout.reservation
    owners = bytes(kernel.frames.owners)
    image = None
    try:
        if not kernel.swaps and any(not s.mem and not s.memsz for s in table.segments):
            # Since 6.12 an end is inclusive: that of an empty segment at 0 is the last byte of all.
            raise OutOfMemory("control code page: an empty segment at 0 is all of memory")
        if crash and reservation:
            image = load_crash(table, reservation, kernel.ram, control_orders=orders)
        else:
            image = load_normal(
                table,
                kernel.allocator(),
                kernel.ram,
                control_orders=orders,
                by_normal=bool(table.flags & BY_NORMAL),
            )
    except OutOfMemory as error:
        where = f' for segment "{error.segment}"' if error.segment else ""
        raise refuse(
            "G", ENOMEM, f"no {error.what}{where}", exit_status=FITS_NOT,
            hint="use a smaller window, or a machine with less memory in use",
        ) from None  # fmt: skip
    finally:
        if image is None:
            kernel.frames.owners[:] = owners
    return image
