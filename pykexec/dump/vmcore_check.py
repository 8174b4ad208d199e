"""Whether a dump is complete: checks the headers of an ELF core against each other, against the
file, and against what a machine or a bound plan requires to be in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from pykexec.abi.elf import PT_NOTE
from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.documents.plan import BadPlan, PlanDocument, backup_map_of, read_plan
from pykexec.dump.core_file import CoreFile, open_core
from pykexec.dump.vmcore_pages import (
    PatternCount,
    count_patterns,
    direct_loads,
    is_kernel_text,
)
from pykexec.dump.vmcoreinfo import page_size_of
from pykexec.dump.watch import Watch, unwatched
from pykexec.images.contents import data_extents
from pykexec.memory.map import DRIVER_RAM, MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import BadRange, PhysRange, RangeSet
from pykexec.placement.kernel_rules import Check

if TYPE_CHECKING:
    from pykexec.crash.backup_map import BackupMap
    from pykexec.crash.elfcorehdr import ProgramHeader

NEEDED_KEYS = ("OSRELEASE", "PAGESIZE")
"""No dump tool can start without these."""


NOTHING_LENT = RangeSet()


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be in a dump (whole pages), and the RAM that everything in it must be part of."""

    pages: RangeSet
    ram: RangeSet
    cpus: int | None = None
    """CPUs whose registers must be in the dump; None for at least one."""
    lent: RangeSet = NOTHING_LENT
    """Memory that was in use until the panic, and must not be shown: it was overwritten."""


@dataclass(frozen=True)
class VmcoreVerdict:
    """`patterns` is None if no page of the dump describes itself."""

    core: CoreFile
    checks: tuple[Check, ...]
    patterns: PatternCount | None

    @property
    def whole(self) -> bool:
        """An unknown result does not count as a failure."""
        return all(check.ok is not False for check in self.checks)


def verify(
    path: str | os.PathLike[str], expected: Expected | None = None, watch: Watch = unwatched
) -> VmcoreVerdict:
    """Open the file and check every rule. Raises NotADump, DamagedDump, NotSupported or
    UnreadableDump if it is not a readable dump."""
    return judge(open_core(path), expected, watch=watch)


def judge(
    core: CoreFile,
    expected: Expected | None = None,
    counted: PatternCount | None = None,
    watch: Watch = unwatched,
) -> VmcoreVerdict:
    """`counted` has the pages that describe themselves, if another kernel has counted them."""
    sound = (_inside_file(core), _file_pieces(core))
    checks = [
        _cpu_notes(core, expected),
        vmcoreinfo(core),
        sound[0],
        _disjoint(core),
        sound[1],
        *(() if counted else (_file_holes(core),)),
        _page_offset(core),
        coverage(core, expected),
        *lent(covered(core), expected, page_size_of(core.vmcoreinfo)),
    ]
    patterns = None
    if all(check.ok for check in sound):  # otherwise the same bytes may appear a thousand times
        patterns = counted or count_patterns(core, watch)
        checks.append(pattern_pages(patterns))
    return VmcoreVerdict(core, tuple(checks), patterns if patterns != PatternCount() else None)


def covered(core: CoreFile) -> RangeSet:
    """Physical memory whose bytes are in the file: p_filesz of each PT_LOAD, as far as the file
    goes. PT_LOADs that wrap around are left out."""
    return RangeSet.of(span for item in direct_loads(core) if (span := _contents_of(item, core)))


def _contents_of(item: ProgramHeader, core: CoreFile) -> PhysRange | None:
    """The part of a PT_LOAD that the file holds, or None."""
    size = min(item.p_filesz, item.p_memsz, max(0, core.size - item.p_offset))
    if not size or item.p_paddr + size > 1 << 64:
        return None
    return PhysRange.sized(item.p_paddr, size)


def without_contents(core: CoreFile) -> RangeSet:
    """Memory that a PT_LOAD lists (p_memsz) and the file does not hold. /proc/vmcore has none;
    makedumpfile -E lists the pages that it filters in this way."""
    listed = (
        item.paddr_range
        for item in direct_loads(core)
        if item.p_memsz and item.p_paddr + item.p_memsz <= 1 << 64
    )
    return RangeSet.of(listed) - covered(core)


def page_count(spans: RangeSet, page_size: int) -> int:
    """Number of pages, of `page_size` bytes, with at least one byte in `spans`."""
    return RangeSet.of(span.outward(page_size) for span in spans).size // page_size


def _cpu_notes(core: CoreFile, expected: Expected | None) -> Check:
    found = len(core.cpus)
    wanted = expected.cpus if expected else None
    detail = f"registers of {found} CPU{'' if found == 1 else 's'}"
    if wanted is not None:
        detail += f" of {wanted}"
    return Check("cpu-notes", found >= (1 if wanted is None else wanted), detail)


def vmcoreinfo(core: CoreFile) -> Check:
    if core.vmcoreinfo is None:
        return Check("vmcoreinfo", False, "no VMCOREINFO note")
    missing = [key for key in NEEDED_KEYS if key not in core.vmcoreinfo]
    if missing:
        return Check("vmcoreinfo", False, f"VMCOREINFO has no {' and no '.join(missing)}")
    release = core.vmcoreinfo["OSRELEASE"]
    return Check("vmcoreinfo", True, f"{len(core.vmcoreinfo)} keys, release {release}")


def _inside_file(core: CoreFile) -> Check:
    if not core.loads:
        return Check("file-size", False, "no memory in it: there is no PT_LOAD")
    for item in core.loads:
        end = item.p_offset + item.p_filesz
        if end > core.size:
            detail = f"memory at {item.p_paddr:#x} ends at {end:#x} of a file of {core.size:#x}"
            return Check("file-size", False, f"cut off: {detail}")
        if item.p_filesz > item.p_memsz:
            detail = f"p_filesz {item.p_filesz:#x} above p_memsz {item.p_memsz:#x}"
            return Check("file-size", False, f"memory at {item.p_paddr:#x}: {detail}")
        if max(item.p_paddr, item.p_offset) + item.p_memsz > 1 << 64:
            return Check("file-size", False, f"memory at {item.p_paddr:#x} wraps around")
    return Check("file-size", True, f"all {len(core.loads)} PT_LOADs end inside the file")


def _disjoint(core: CoreFile) -> Check:
    """Each address appears once: in order, without overlap."""
    loads = [item for item in core.loads if not is_kernel_text(core, item)]
    for a, b in pairwise(loads):
        if b.p_paddr < a.p_paddr:
            detail = f"{b.p_paddr:#x} follows {a.p_paddr:#x}"
            return Check("paddr-order", False, f"not sorted by physical address: {detail}")
        if a.p_paddr + a.p_memsz > b.p_paddr:
            detail = f"{a.p_paddr:#x}..{a.p_paddr + a.p_memsz:#x} and {b.p_paddr:#x}"
            return Check("paddr-order", False, f"shown twice: {detail}")
    return Check("paddr-order", True, "sorted by physical address, none shown twice")


def _file_pieces(core: CoreFile) -> Check:
    """No byte of the file stands for two addresses, or for an address and a header."""
    pieces = [(i.p_offset, i.p_filesz, f"memory at {i.p_paddr:#x}") for i in direct_loads(core)]
    pieces += [(i.p_offset, i.p_filesz, "a note") for i in core.headers if i.p_type == PT_NOTE]
    pieces += [(0, core.headers_size, "the headers")]
    used = sorted((at, at + size, what) for at, size, what in pieces if size)
    for a, b in pairwise(used):
        if a[1] > b[0] and "memory" in a[2] + b[2]:
            return Check("file-pieces", False, f"{a[2]} and {b[2]} are the same bytes of the file")
    return Check("file-pieces", True, "each piece of memory has bytes of its own")


def _file_holes(core: CoreFile) -> Check:
    """Holes of the file read as zeros, and count as contents: a copy may have turned pages of zeros
    into holes. A dump with nothing but holes was never written."""
    held = [item for item in direct_loads(core) if item.p_filesz]
    holes = [item for item in held if _is_hole(item, core)]
    if not holes:
        return Check("file-holes", True, "no PT_LOAD is one hole in the file")
    detail = f"{len(holes)} of {len(held)} PT_LOADs are holes in the file, which read as zeros"
    return Check("file-holes", len(holes) < len(held), f"{detail}: {holes[0].p_paddr:#x} is one")


def _is_hole(item: ProgramHeader, core: CoreFile) -> bool:
    """Whether a PT_LOAD inside the file has no bytes on disk."""
    end = item.p_offset + item.p_filesz
    return end <= core.size and not any(data_extents(core.file.fd, item.p_offset, end))


def _page_offset(core: CoreFile) -> Check:
    """makedumpfile derives page_offset from any one PT_LOAD."""
    offsets = direct_offsets(core)
    if not offsets:
        return Check("page-offset", None, "no PT_LOAD of the direct map")
    if len(offsets) > 1:
        found = ", ".join(f"{value:#x}" for value in offsets[:3])
        return Check("page-offset", False, f"p_vaddr - p_paddr is not one value: {found}")
    return Check("page-offset", True, f"p_vaddr - p_paddr is {offsets[0]:#x} everywhere")


def direct_offsets(core: CoreFile) -> list[int]:
    """Every value of p_vaddr - p_paddr of the direct map; a good dump has one."""
    return sorted({(item.p_vaddr - item.p_paddr) % (1 << 64) for item in direct_loads(core)})


def coverage(core: CoreFile, expected: Expected | None) -> Check:
    """Check that the dump contains all required memory, and nothing that is not RAM or only
    listed."""
    found, hollow, page = covered(core), without_contents(core), page_size_of(core.vmcoreinfo)
    empty = f"{page_count(hollow, page)} pages are listed without contents (p_filesz below p_memsz)"
    lost = expected.pages - found if expected else RangeSet()
    if lost:
        detail = (
            f"{page_count(lost, page)} pages are missing, the first at {lost.ranges[0].start:#x}"
        )
        return Check("coverage", False, f"{detail}; {empty}" if hollow else detail)
    if hollow:
        return Check("coverage", False, f"{empty}, the first at {hollow.ranges[0].start:#x}")
    pages = found.size // page
    if expected is None:
        return Check(
            "coverage", None, f"{pages} pages; what should be there is unknown",
            "--machine DIR, or --plan FILE of the load",
        )  # fmt: skip
    strange = found - expected.ram
    if strange:
        return Check("coverage", False, f"{strange.ranges[0]} is in the dump and is not RAM")
    return Check("coverage", True, f"{pages} pages, all that must be there among them")


def lent(found: RangeSet, expected: Expected | None, page_size: int) -> tuple[Check, ...]:
    """Check that lent memory is not in the dump; it is not counted as missing. `found` is what a
    dump shows; nothing for a load that lends nothing."""
    if expected is None or not expected.lent:
        return ()
    shown = found & expected.lent
    if shown:
        detail = (
            f"{page_count(shown, page_size)} pages of lent memory are shown: they were overwritten"
        )
        return (Check("lent", False, detail),)
    detail = f"{expected.lent.size >> 20} MiB lent: user memory that is not in this dump"
    return (Check("lent", True, detail),)


def pattern_pages(count: PatternCount) -> Check:
    if count == PatternCount():
        return Check("pattern-pages", None, "no page describes itself")
    detail = f"{count.right} pages are at their own address"
    if not count.whole:
        bad = f"{count.lost} are not, {count.broken} are damaged, the first at {count.first_bad:#x}"
        return Check("pattern-pages", False, f"{detail}; {bad}")
    return Check("pattern-pages", True, detail)


BOUND = "use the document of a load, not of a dry run"


def expected_of_plan(path: str | os.PathLike[str]) -> Expected:
    """What must be in the dump, from the document of `load --json`: all whole-page RAM but the
    reservation, the frames that were free before the load and hold the image in place, and the huge
    pages of a stage. Raises BadPlan."""
    plan = read_plan(path)
    if plan.state != "bound":
        raise BadPlan(
            f"{path}: the plan is not bound: it does not record where the old pages went",
            hint=BOUND,
        )
    try:
        return expected_of_document(plan)
    except (ValueError, BadRange) as error:
        raise BadPlan(f"{path}: incomplete plan: {error!r}"[:300], hint=BOUND) from error


def expected_of_document(plan: PlanDocument) -> Expected:
    """As `expected_of_plan`, for a parsed document. Raises BadRange, and ValueError for an unknown
    type of memory."""
    added = [item.range for item in plan.memory_map if item.type == DRIVER_RAM]
    ranges = [
        MemoryRange(item.range, RangeType(item.type))
        for item in plan.memory_map
        if item.type != DRIVER_RAM
    ]
    ram = MemoryMap.of(ranges, RangeSet.of(added)).old_memory(plan.page_size)
    ram = ram - RangeSet.of(item.range for item in plan.reservation or ())
    exchanged = backup_map_of(plan)
    in_place = RangeSet.of(run.dest_range for run in exchanged if run.in_place)
    lent = RangeSet.of(item.range for item in plan.lent)
    return Expected(ram - in_place - _staged_in(plan, exchanged) - lent, ram, lent=lent)


def _staged_in(plan: PlanDocument, exchanged: BackupMap) -> RangeSet:
    """The huge pages that hold the image of a panic mode: a dump does not contain them."""
    if not plan.stage:
        return RangeSet()
    waiting = RangeSet.of(piece.range for piece in plan.stage) - exchanged.destinations
    sources = (run.source_range for run in exchanged)
    return RangeSet.of(span.outward(HUGE_PAGE_SIZE) for span in (*waiting, *sources))
