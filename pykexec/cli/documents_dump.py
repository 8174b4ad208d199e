"""The documents of a compressed, filtered or flattened dump."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pykexec.cli.documents import checks
from pykexec.documents.base import spans
from pykexec.documents.vmcore import DumpCpu, DumpFile

if TYPE_CHECKING:
    from pykexec.dump.dump_check import DumpContents, DumpVerdict


def dump_info(contents: DumpContents) -> DumpFile:
    """What is in a dump that is no plain ELF core, unchecked."""
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


def dump_verdict(verdict: DumpVerdict) -> DumpFile:
    """With the checks, and what came of them."""
    found = dump_info(verdict.contents)
    return replace(found, whole=verdict.whole, checks=checks(verdict.checks))
