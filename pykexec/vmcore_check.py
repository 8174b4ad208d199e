"""Is this dump whole: the headers of an ELF core against each other, against the file,
and against what a machine or a bound plan says must be in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pykexec.abi.kexec import PAGE_SIZE
from pykexec.crash.core_file import CoreFile, open_core
from pykexec.crash.elfcorehdr import ProgramHeader
from pykexec.crash.pattern import MAGIC, named_addr, pattern_page
from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import BadRange, PhysRange, RangeSet, align_down, align_up
from pykexec.placement.kernel_rules import Check
from pykexec.plan_document import BadPlan, number, read_plan, span_of

START_KERNEL_MAP = 0xFFFFFFFF80000000
"""Kernel text is shown once more above this address; it is no direct map."""
NEEDED_KEYS = ("OSRELEASE", "PAGESIZE")
"""Without them no dump tool can start."""
CHUNK = 4 << 20


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be in a dump (whole pages), and the RAM outside of which nothing may be."""

    pages: RangeSet
    ram: RangeSet
    cpus: int | None = None
    """CPUs that must have left their registers; None for at least one."""


@dataclass(frozen=True, slots=True)
class PatternCount:
    """Self-describing pages, counted by the address that they name."""

    right: int = 0
    """Shown at their own address."""
    copies: int = 0
    """Shown at another address too: what a backup frame holds, seen at that frame."""
    lost: int = 0
    """Shown only at another address."""
    broken: int = 0
    """They start as such a page does, and are none."""
    first_bad: int | None = None
    """Physical address of the first one lost or broken."""

    @property
    def whole(self) -> bool:
        return not self.lost and not self.broken


@dataclass(frozen=True)
class VmcoreVerdict:
    """`patterns` is None where no page of the dump describes itself."""

    core: CoreFile
    checks: tuple[Check, ...]
    patterns: PatternCount | None

    @property
    def whole(self) -> bool:
        """Unknown is not broken."""
        return all(check.ok is not False for check in self.checks)


def verify(path: str | os.PathLike[str], expected: Expected | None = None) -> VmcoreVerdict:
    """Every rule. Raises NotACore, NotSupported or UnreadableFile where there is no dump."""
    core = open_core(path)
    checks = [
        cpu_notes(core, expected),
        vmcoreinfo(core),
        inside_file(core),
        disjoint(core),
        file_pieces(core),
        page_offset(core),
        coverage(core, expected),
    ]
    patterns = None
    if checks[2].ok:
        patterns = count_patterns(core)
        checks.append(pattern_pages(patterns))
    return VmcoreVerdict(core, tuple(checks), patterns if patterns != PatternCount() else None)


def direct_loads(core: CoreFile) -> list[ProgramHeader]:
    """By physical address, without the second view of the kernel's text."""
    loads = (item for item in core.loads if not is_kernel_text(item))
    return sorted(loads, key=lambda item: item.p_paddr)


def is_kernel_text(item: ProgramHeader) -> bool:
    return item.p_vaddr >= START_KERNEL_MAP and item.p_vaddr != (1 << 64) - 1


def covered(core: CoreFile) -> RangeSet:
    """Physical memory that the dump shows; what wraps around is left out."""
    return RangeSet.of(
        item.paddr_range for item in direct_loads(core) if item.p_paddr + item.p_memsz <= 1 << 64
    )


def cpu_notes(core: CoreFile, expected: Expected | None) -> Check:
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


def inside_file(core: CoreFile) -> Check:
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


def disjoint(core: CoreFile) -> Check:
    """Each address once: in order, and no two that meet."""
    loads = [item for item in core.loads if not is_kernel_text(item)]
    for a, b in pairwise(loads):
        if b.p_paddr < a.p_paddr:
            detail = f"{b.p_paddr:#x} follows {a.p_paddr:#x}"
            return Check("paddr-order", False, f"not sorted by physical address: {detail}")
        if a.p_paddr + a.p_memsz > b.p_paddr:
            detail = f"{a.p_paddr:#x}..{a.p_paddr + a.p_memsz:#x} and {b.p_paddr:#x}"
            return Check("paddr-order", False, f"shown twice: {detail}")
    return Check("paddr-order", True, "sorted by physical address, none shown twice")


def file_pieces(core: CoreFile) -> Check:
    """No bytes of the file stand for two addresses."""
    pieces = sorted((i.p_offset, i.p_offset + i.p_filesz, i.p_paddr) for i in direct_loads(core))
    for a, b in pairwise(pieces):
        if a[1] > b[0]:
            detail = f"memory at {a[2]:#x} and at {b[2]:#x} is the same bytes of the file"
            return Check("file-pieces", False, detail)
    return Check("file-pieces", True, "each piece of memory has bytes of its own")


def page_offset(core: CoreFile) -> Check:
    """makedumpfile derives page_offset from any one PT_LOAD."""
    offsets = direct_offsets(core)
    if not offsets:
        return Check("page-offset", None, "no PT_LOAD of the direct map")
    if len(offsets) > 1:
        found = ", ".join(f"{value:#x}" for value in offsets[:3])
        return Check("page-offset", False, f"p_vaddr - p_paddr is not one value: {found}")
    return Check("page-offset", True, f"p_vaddr - p_paddr is {offsets[0]:#x} everywhere")


def direct_offsets(core: CoreFile) -> list[int]:
    """Every p_vaddr - p_paddr of the direct map; one in a good dump."""
    return sorted({(item.p_vaddr - item.p_paddr) % (1 << 64) for item in direct_loads(core)})


def coverage(core: CoreFile, expected: Expected | None) -> Check:
    """All that must be there is, and nothing that is not RAM."""
    found = covered(core)
    pages = found.size // PAGE_SIZE
    if expected is None:
        return Check(
            "coverage", None, f"{pages} pages; what should be there is unknown",
            "--machine DIR, or --plan FILE of the load",
        )  # fmt: skip
    lost = expected.pages - found
    if lost:
        detail = (
            f"{lost.size // PAGE_SIZE} pages are missing, the first at {lost.ranges[0].start:#x}"
        )
        return Check("coverage", False, detail)
    strange = found - expected.ram
    if strange:
        return Check("coverage", False, f"{strange.ranges[0]} is shown and is no RAM")
    return Check("coverage", True, f"{pages} pages, all that must be there among them")


def pattern_pages(count: PatternCount) -> Check:
    if count == PatternCount():
        return Check("pattern-pages", None, "no page describes itself")
    detail = f"{count.right} pages are at their own address"
    if not count.whole:
        bad = f"{count.lost} are not, {count.broken} are damaged, the first at {count.first_bad:#x}"
        return Check("pattern-pages", False, f"{detail}; {bad}")
    return Check("pattern-pages", True, detail)


def count_patterns(core: CoreFile) -> PatternCount:
    """Every self-describing page against the address at which the dump shows it."""
    right: set[int] = set()
    elsewhere: set[int] = set()
    broken: list[int] = []
    for addr, page in self_describing(core):
        named = named_addr(page)
        if page != pattern_page(named):
            broken.append(addr)
        elif named == addr:
            right.add(addr)
        else:
            elsewhere.add(named)
    lost = elsewhere - right
    bad = min([*lost, *broken], default=None)
    return PatternCount(len(right), len(elsewhere & right), len(lost), len(broken), bad)


def self_describing(core: CoreFile) -> Iterator[tuple[int, bytes]]:
    """(physical address, contents) of the whole pages that start with the magic; holes of
    the file are not read."""
    for item in direct_loads(core):
        for start, data in whole_pages(core, item):
            at = data.find(MAGIC)
            while at >= 0:
                if at % PAGE_SIZE == 0:
                    yield start + at, data[at : at + PAGE_SIZE]
                at = data.find(MAGIC, at + 1 if at % PAGE_SIZE else at + PAGE_SIZE)


def whole_pages(core: CoreFile, item: ProgramHeader) -> Iterator[tuple[int, bytes]]:
    """(physical address, bytes) of the pages of a PT_LOAD that are not all in holes."""
    pages = (
        PhysRange.sized(item.p_paddr, item.p_filesz).inward(PAGE_SIZE) if item.p_filesz else None
    )
    if pages is None:
        return
    shift = item.p_offset - item.p_paddr
    done = pages.start
    for start, end in data_extents(core.file.fd, pages.start + shift, pages.end + shift):
        done = max(done, align_down(start - shift, PAGE_SIZE))
        last = min(align_up(end - shift, PAGE_SIZE), pages.end)
        while done < last:
            step = min(CHUNK, last - done)
            yield done, core.file.read(done + shift, step)
            done += step


def data_extents(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of a file that are no holes; all of it where the file system cannot tell."""
    at = start
    while at < end:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
            hole = min(os.lseek(fd, at, os.SEEK_HOLE), end)
        except OSError:
            return
        if at < end:
            yield at, hole
        at = max(hole, at + 1)


def expected_of_plan(path: str | os.PathLike[str]) -> Expected:
    """From the document of `load --json`: all whole-page RAM but the reservation and the
    frames that were free before the load and hold the image in place. Raises BadPlan."""
    document = read_plan(path)
    if document.get("state") != "bound":
        raise BadPlan(
            f"{path}: the plan is not bound: where the old pages went is not in it",
            hint="the document of a load, and not that of a dry run",
        )
    try:
        return expected_of_document(document)
    except (KeyError, TypeError, ValueError, BadRange) as error:
        raise BadPlan(f"{path}: not a whole plan: {error!r}") from error


def expected_of_document(document: dict[str, Any]) -> Expected:
    """What `expected_of_plan` reads, from a document that may be anything."""
    entries = [
        MemoryRange(span_of(item), RangeType(item["type"])) for item in document["memory_map"]
    ]
    ram = MemoryMap.of(entries).whole_page_ram
    reserved = document.get("reservation")
    if reserved:
        ram = ram - RangeSet.of(span_of(item) for item in reserved)
    runs = [
        (number(run["dest"]), number(run["source"]), int(run["size"]))
        for run in document["backup_map"]
    ]
    in_place = RangeSet.of(
        PhysRange.sized(dest, size) for dest, source, size in runs if dest == source
    )
    return Expected(ram - in_place, ram)
