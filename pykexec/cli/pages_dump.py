"""The pages of a compressed, filtered or flattened dump."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.kexec import PAGE_SIZE
from pykexec.cli.out.blocks import Block, Facts, Lines, Table
from pykexec.cli.pages import Pairs, checks, many, size
from pykexec.cli.pages_findings import BAD, GOOD, whole_line

if TYPE_CHECKING:
    from pykexec.dump.dump_check import DumpContents, DumpVerdict
    from pykexec.memory.ranges import RangeSet


def dump_info(contents: DumpContents, verbose: int = 0) -> list[Block]:
    page: list[Block] = [Facts(dump_facts(contents))]
    if verbose and contents.info:
        page.append(Facts(list(contents.info.values.items())))
    if verbose:
        rows = [(f"{span.start:#x}", f"{span.end:#x}") for span in contents.memory]
        page.append(Table(("start", "end"), rows))
    return page


def dump_facts(contents: DumpContents) -> Pairs:
    info = contents.info
    facts = [
        ("file", f"{contents.dump.format}, {size(contents.dump.file_size)}"),
        ("memory", pages(contents.memory)),
        ("left out", pages(contents.left_out)),
    ]
    if contents.level is not None:
        facts.append(("level", str(contents.level)))
    facts.append(("release", info.release if info else "no VMCOREINFO"))
    facts.append(("vmcoreinfo", many(len(info.values) if info else 0, "key")))
    cpus = [(f"CPU {n}", f"pid {pid}, ip {ip:#x}") for n, (pid, ip) in enumerate(contents.cpus)]
    return [*facts, *(cpus or [("CPUs", "no registers of any")])]


def pages(spans: RangeSet) -> str:
    return f"{many(spans.size // PAGE_SIZE, 'page')} in {many(len(spans), 'range')}"


def dump_verdict(verdict: DumpVerdict, verbose: int = 0) -> list[Block]:
    line = Lines([whole_line(verdict)], GOOD if verdict.whole else BAD)
    return [*dump_info(verdict.contents, verbose), checks(verdict.checks), line]
