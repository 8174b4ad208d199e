"""The documents of a compressed, filtered or flattened dump."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.cli.documents import Document, check, spans

if TYPE_CHECKING:
    from pykexec.dump.dump_check import DumpContents, DumpVerdict


def dump_info(contents: DumpContents) -> Document:
    """pykexec.dump/1: what is in a dump that is no plain ELF core, unchecked."""
    dump, info = contents.dump, contents.info
    return {
        "schema": "pykexec.dump/1",
        "format": dump.format,
        "size": dump.file_size,
        "level": contents.level,
        "cpus": [{"pid": pid, "ip": hex(ip)} for pid, ip in contents.cpus],
        "vmcoreinfo": info.values if info else None,
        "memory": spans(contents.memory),
        "left_out": spans(contents.left_out),
    }


def dump_verdict(verdict: DumpVerdict) -> Document:
    """pykexec.dump/1 with the checks, and what came of them."""
    return dump_info(verdict.contents) | {
        "whole": verdict.whole,
        "checks": [check(item) for item in verdict.checks],
    }
