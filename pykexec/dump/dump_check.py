"""What a compressed, filtered or flattened dump holds, and whether it is complete as far as can be
known: the file does not record which missing pages were filtered on purpose and which are lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.dump.cpu_notes import cpu_registers
from pykexec.dump.elf_memory import ElfMemory
from pykexec.dump.page_map import first_missing, held, listed, unreadable_page
from pykexec.dump.vmcore_check import NEEDED_KEYS, Expected, lent
from pykexec.dump.vmcoreinfo import page_size_of
from pykexec.dump.watch import Watch, unwatched
from pykexec.placement.kernel_rules import Check

if TYPE_CHECKING:
    from pykexec.dump.reader import Dump
    from pykexec.dump.vmcoreinfo import VmcoreInfo
    from pykexec.memory.ranges import RangeSet

SAMPLES = 1024
"""Number of pages to unpack as a sample: all of them would take minutes."""


@dataclass(frozen=True)
class DumpContents:
    """`memory` is in the file; `left_out` is listed as memory, but not in the file. `level` is
    makedumpfile's dump level, None if the file does not record it."""

    dump: Dump
    memory: RangeSet
    left_out: RangeSet
    info: VmcoreInfo | None
    cpus: list[tuple[int, int]]
    """(PID, instruction pointer) of each CPU whose registers were saved."""

    @property
    def page_size(self) -> int:
        return page_size_of(self.info.values if self.info else None)

    @property
    def level(self) -> int | None:
        return self.dump.memory.level


@dataclass(frozen=True)
class DumpVerdict:
    """Contents, and the result of every rule."""

    contents: DumpContents
    checks: tuple[Check, ...]

    @property
    def whole(self) -> bool:
        """An unknown result does not count as a failure."""
        return all(check.ok is not False for check in self.checks)


def contents_of(dump: Dump) -> DumpContents:
    """The contents of a dump, unchecked. Raises DamagedDump, UnreadableDump."""
    there, every = held(dump.memory), listed(dump.memory)
    cpus = [(pid, found.ip) for pid, found in cpu_registers(dump)]
    return DumpContents(dump, there, every - there, dump.noted_info(), cpus)


def verify_dump(
    dump: Dump, expected: Expected | None = None, watch: Watch = unwatched
) -> DumpVerdict:
    """Check every rule. Raises DamagedDump, UnreadableDump."""
    watch("tables", 0)
    contents = contents_of(dump)
    return DumpVerdict(
        contents,
        (
            _cpu_notes(contents, expected),
            vmcoreinfo(contents),
            complete(dump),
            _file_size(dump, watch),
            _page_contents(contents, watch),
            filtered(contents),
            coverage(contents, expected),
            *lent(contents.memory, expected, contents.page_size),
        ),
    )


def _cpu_notes(contents: DumpContents, expected: Expected | None) -> Check:
    found = len(contents.cpus)
    wanted = expected.cpus if expected else None
    of = "" if wanted is None else f" of {wanted}"
    detail = f"registers of {found} CPU{'' if found == 1 else 's'}{of}"
    return Check("cpu-notes", found >= (1 if wanted is None else wanted), detail)


def vmcoreinfo(contents: DumpContents) -> Check:
    info = contents.info
    if info is None:
        return Check("vmcoreinfo", False, "no VMCOREINFO note")
    missing = [key for key in NEEDED_KEYS if not info.has(key)]
    if missing:
        return Check("vmcoreinfo", False, f"VMCOREINFO has no {' and no '.join(missing)}")
    return Check("vmcoreinfo", True, f"{len(info.values)} keys, release {info.release}")


def complete(dump: Dump) -> Check:
    """What the program that wrote the dump recorded about finishing."""
    if dump.memory.file.cut:
        return Check("complete", False, "cut off: the mark at the end of the stream is missing")
    if dump.memory.incomplete:
        return Check("complete", False, "makedumpfile marked it as incomplete: no space left")
    return Check("complete", True, "nothing says that it is incomplete")


def _file_size(dump: Dump, watch: Watch) -> Check:
    memory = dump.memory
    missing = first_missing(memory, watch)
    if missing:
        return Check("file-size", False, f"cut off or damaged: {missing}")
    if not isinstance(memory, ElfMemory) and not memory.checks_all:
        some = "the file has every page of those that were checked, which are evenly spread"
        return Check("file-size", True, some)
    return Check("file-size", True, "the file has every page that its tables list")


def _page_contents(contents: DumpContents, watch: Watch) -> Check:
    memory = contents.dump.memory
    if isinstance(memory, ElfMemory):
        return Check("page-contents", None, "the pages are not compressed")
    done, wrong = unreadable_page(memory, contents.memory, SAMPLES, watch)
    if wrong:
        return Check("page-contents", False, wrong)
    return Check("page-contents", True, f"{done} pages, evenly spread, can be unpacked")


def filtered(contents: DumpContents) -> Check:
    pages = contents.left_out.size // contents.page_size
    if not pages:
        return Check("filtered", True, "all memory that is listed is in the file")
    level = "" if contents.level is None else f"dump level {contents.level}: "
    memory = contents.dump.memory
    split = not isinstance(memory, ElfMemory) and memory.split
    elsewhere = ", or are in another file of this split dump" if split else ""
    detail = f"{level}{pages} pages are left out, on purpose or not{elsewhere}"
    return Check("filtered", None, detail)


def coverage(contents: DumpContents, expected: Expected | None) -> Check:
    """Check that all required memory is listed; the file does not record why pages are left out."""
    page = contents.page_size
    pages = contents.memory.size // page
    if expected is None:
        return Check(
            "coverage", None, f"{pages} pages; what should be there is unknown",
            "--machine DIR, or --plan FILE of the load",
        )  # fmt: skip
    lost = expected.pages - contents.memory - contents.left_out
    if lost:
        detail = f"{lost.size // page} pages are not listed, the first at {lost.ranges[0].start:#x}"
        return Check("coverage", False, detail)
    gone = expected.pages - contents.memory
    if not gone:
        return Check("coverage", True, f"{pages} pages, all that must be there among them")
    detail = f"{pages} pages; {gone.size // page} that must be there are left out"
    return Check("coverage", False if contents.level == 0 else None, detail)
