"""The results of `vmcore info` and `vmcore verify` for a compressed, filtered or flattened dump."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Facts, Lines, Table
from pykexec.cli.report import document_parts
from pykexec.cli.report.page_parts import BAD, GOOD, Pairs, checks, many, size
from pykexec.cli.report.vmcore import whole_line
from pykexec.documents.base import spans
from pykexec.documents.vmcore import DumpCpu, DumpFile

if TYPE_CHECKING:
    from pykexec.dump.dump_check import DumpContents, DumpVerdict
    from pykexec.memory.ranges import RangeSet


@dataclass(frozen=True)
class DumpReport:
    """The contents of a dump, unchecked."""

    contents: DumpContents

    def document(self) -> DumpFile:
        contents = self.contents
        dump, info = contents.dump, contents.info
        return DumpFile(
            format=dump.format,
            size=dump.file_size,
            level=contents.level,
            cpus=tuple(DumpCpu(pid, ip) for pid, ip in contents.cpus),
            vmcoreinfo=info.values if info else None,
            memory=spans(contents.memory),
            left_out=spans(contents.left_out),
        )

    def page(self, verbose: int) -> list[Block]:
        contents = self.contents
        page: list[Block] = [Facts(facts(contents))]
        if verbose and contents.info:
            page.append(Facts(list(contents.info.values.items())))
        if verbose:
            rows = [(f"{span.start:#x}", f"{span.end:#x}") for span in contents.memory]
            page.append(Table(("start", "end"), rows))
        return page


@dataclass(frozen=True)
class DumpVerdictReport:
    """The contents of a dump, and whether it is complete."""

    verdict: DumpVerdict

    def document(self) -> DumpFile:
        verdict = self.verdict
        return replace(
            DumpReport(verdict.contents).document(),
            whole=verdict.whole,
            checks=document_parts.checks(verdict.checks),
        )

    def page(self, verbose: int) -> list[Block]:
        verdict = self.verdict
        line = Lines([whole_line(verdict.checks)], GOOD if verdict.whole else BAD)
        return [*DumpReport(verdict.contents).page(verbose), checks(verdict.checks), line]


def facts(contents: DumpContents) -> Pairs:
    info = contents.info
    found = [
        ("file", f"{contents.dump.format}, {size(contents.dump.file_size)}"),
        ("memory", pages(contents.memory, contents.page_size)),
        ("left out", pages(contents.left_out, contents.page_size)),
    ]
    if contents.level is not None:
        found.append(("level", str(contents.level)))
    found.append(("release", info.release if info else "no VMCOREINFO"))
    found.append(("vmcoreinfo", many(len(info.values) if info else 0, "key")))
    cpus = [("NT_PRSTATUS", f"pid {pid}, ip {ip:#x}") for pid, ip in contents.cpus]
    return [*found, *(cpus or [("CPUs", "no registers of any")])]


def pages(spans: RangeSet, page_size: int) -> str:
    return f"{many(spans.size // page_size, 'page')} in {many(len(spans), 'range')}"
