"""The results of `vmcore info` and `vmcore verify` for a dump that is an ELF core."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Facts, Lines, Table
from pykexec.cli.report import document_parts
from pykexec.cli.report.page_parts import BAD, GOOD, Pairs, checks, many, size
from pykexec.cli.report.patterns import patterns
from pykexec.documents.base import spans
from pykexec.documents.vmcore import DumpCpu, Vmcore
from pykexec.dump.vmcore_check import covered, direct_offsets, page_count, without_contents
from pykexec.dump.vmcoreinfo import page_size_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pykexec.dump.core_file import CoreFile
    from pykexec.dump.vmcore_check import VmcoreVerdict
    from pykexec.placement.kernel_rules import Check


@dataclass(frozen=True)
class VmcoreReport:
    """The contents of a dump, unchecked."""

    core: CoreFile

    def document(self) -> Vmcore:
        core = self.core
        offsets = direct_offsets(core)
        return Vmcore(
            size=core.size,
            program_headers=len(core.headers),
            loads=len(core.loads),
            cpus=tuple(DumpCpu(cpu.pid, cpu.ip) for cpu in core.cpus),
            vmcoreinfo=core.vmcoreinfo,
            page_offset=offsets[0] if len(offsets) == 1 else None,
            memory=spans(covered(core)),
            without_contents=spans(without_contents(core)),
        )

    def page(self, verbose: int) -> list[Block]:
        core = self.core
        page: list[Block] = [Facts(facts(core))]
        if verbose and core.vmcoreinfo:
            page.append(Facts(list(core.vmcoreinfo.items())))
        if verbose:
            loads = (
                (item.p_paddr, item.p_memsz, item.p_filesz, item.p_offset, item.p_vaddr)
                for item in core.loads
            )
            rows = [tuple(f"{number:#x}" for number in load) for load in loads]
            page.append(Table(("paddr", "memsz", "filesz", "offset", "vaddr"), rows))
        return page


@dataclass(frozen=True)
class VmcoreVerdictReport:
    """The contents of a dump, and whether it is complete."""

    verdict: VmcoreVerdict

    def document(self) -> Vmcore:
        verdict = self.verdict
        return replace(
            VmcoreReport(verdict.core).document(),
            whole=verdict.whole,
            checks=document_parts.checks(verdict.checks),
            pattern_pages=patterns(verdict.patterns) if verdict.patterns else None,
        )

    def page(self, verbose: int) -> list[Block]:
        verdict = self.verdict
        line = Lines([whole_line(verdict.checks)], GOOD if verdict.whole else BAD)
        return [*VmcoreReport(verdict.core).page(verbose), checks(verdict.checks), line]


def facts(core: CoreFile) -> Pairs:
    memory, offsets, hollow = covered(core), direct_offsets(core), without_contents(core)
    info, page = core.vmcoreinfo, page_size_of(core.vmcoreinfo)
    empty = f"{many(page_count(hollow, page), 'page')} listed, and not in the file"
    release = "no VMCOREINFO" if info is None else info.get("OSRELEASE", "not in VMCOREINFO")
    found = [
        ("file", f"{size(core.size)}, {many(len(core.headers), 'program header')}"),
        ("memory", f"{many(memory.size // page, 'page')} in {many(len(memory), 'range')}"),
        *([("no contents", empty)] if hollow else []),
        ("release", release),
        ("vmcoreinfo", many(len(info or {}), "key")),
    ]
    if offsets:
        shown = " or ".join(f"{offset:#x}" for offset in offsets[:3])
        found.append(("direct map", f"p_vaddr - p_paddr is {shown}"))
    cpus = (("NT_PRSTATUS", f"pid {cpu.pid}, ip {cpu.ip:#x}") for cpu in core.cpus)
    return [*found, *(cpus if core.cpus else [("CPUs", "no registers of any")])]


def whole_line(found: Iterable[Check]) -> str:
    """The verdict of all checks in one line."""
    items = list(found)
    broken = [item.rule for item in items if item.ok is False]
    unknown = [item.rule for item in items if item.ok is None]
    if broken:
        return f"not complete: {', '.join(broken)}"
    return "complete" + (
        f", as far as can be determined (unknown: {', '.join(unknown)})" if unknown else ""
    )
