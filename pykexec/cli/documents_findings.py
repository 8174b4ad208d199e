"""The documents of what was found out: dumps, machines, files, preconditions."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from pykexec.cli.documents import Document, check, fact, kernel, span, spans

if TYPE_CHECKING:
    from pykexec.cli.reports import (
        CapturedReport,
        DoctorReport,
        ExplainReport,
        ImageReport,
        MachineReport,
    )
    from pykexec.crash.core_file import CoreFile
    from pykexec.doctor import Row
    from pykexec.explain import KernelCheck, Verdict
    from pykexec.images.initrd import Initrd
    from pykexec.images.kernel_image import Boot
    from pykexec.inspection import CoreHeaders, ZeroPage
    from pykexec.rehearse import Rehearsal
    from pykexec.vmcore_check import VmcoreVerdict
    from pykexec.vmcore_pages import PatternCount

NUMBERS_IN_HEX = frozenset(
    {"protocol", "xloadflags", "pref_address", "load_addr", "initrd_addr_max", "entry", "addr"}
)
"""Of a boot: addresses and bit fields; the other numbers are sizes and counts."""


def rehearsal(report: Rehearsal) -> Document:
    """pykexec.rehearsal/1"""
    plan, bound = report.loaded.planned.plan, report.loaded.bound
    return {
        "schema": "pykexec.rehearsal/1",
        "engine": report.engine,
        "good": report.good,
        "kernel": kernel(report.image),
        "machine": {
            "memory": report.stage.memory,
            "used": report.stage.used,
            "allocator": report.stage.allocator,
            "relocate": report.stage.relocate,
            "seed": report.stage.seed,
        },
        "window": span(plan.window) if plan.window else None,
        "backup_pages": report.backup_pages,
        "backup_runs": len(bound.backup_map.moved) if bound else 0,
        "program_headers": bound.program_headers if bound else 0,
        "filled_pages": report.filled,
        "pattern_pages": patterns(report.patterns),
        "checks": [check(item) for item in report.checks],
    }


def patterns(count: PatternCount) -> Document:
    return {
        "right": count.right,
        "copies": count.copies,
        "lost": count.lost,
        "broken": count.broken,
        "first_bad": None if count.first_bad is None else hex(count.first_bad),
    }


def vmcore_info(core: CoreFile) -> Document:
    """pykexec.vmcore/1: what is in a dump, unchecked."""
    from pykexec.vmcore_check import covered, direct_offsets

    offsets = direct_offsets(core)
    return {
        "schema": "pykexec.vmcore/1",
        "size": core.size,
        "program_headers": len(core.headers),
        "loads": len(core.loads),
        "cpus": [{"pid": cpu.pid, "ip": hex(cpu.ip)} for cpu in core.cpus],
        "vmcoreinfo": core.vmcoreinfo,
        "page_offset": hex(offsets[0]) if len(offsets) == 1 else None,
        "memory": spans(covered(core)),
    }


def vmcore_verdict(verdict: VmcoreVerdict) -> Document:
    """pykexec.vmcore/1 with the checks, and what came of them."""
    return vmcore_info(verdict.core) | {
        "whole": verdict.whole,
        "checks": [check(item) for item in verdict.checks],
        "pattern_pages": patterns(verdict.patterns) if verdict.patterns else None,
    }


def machine(report: MachineReport) -> Document:
    """pykexec.machine/1"""
    return report.shown.json()


def captured(report: CapturedReport) -> Document:
    """pykexec.captured/1: that a file was written; it is pykexec.capture/1 itself."""
    return {
        "schema": "pykexec.captured/1",
        "file": report.file,
        "files": report.files,
        "folders": report.folders,
        "unreadable": list(report.unreadable),
    }


def doctor(report: DoctorReport) -> Document:
    """pykexec.doctor/1"""
    return {
        "schema": "pykexec.doctor/1",
        "machine": report.machine,
        "problems": len(report.problems),
        "rows": [row(item) for item in report.rows],
    }


def row(item: Row) -> Document:
    return {
        "name": item.name,
        "level": str(item.level),
        "evidence": item.evidence,
        "fix": item.fix or None,
    }


def explanation(report: ExplainReport) -> Document:
    """pykexec.explanation/1; `error` is null for an errno, `plan` without one."""
    kind = report.kind_of_error
    return {
        "schema": "pykexec.explanation/1",
        "word": report.word,
        "kernel_checks": [kernel_check(item) for item in report.checks],
        "error": {"code": kind.code, "meaning": kind.meaning, "exit_status": kind.exit_status}
        if kind
        else None,
        "plan": None if report.plan is None else [plan_verdict(item) for item in report.plan],
    }


def kernel_check(item: KernelCheck) -> Document:
    return {
        "syscall": item.syscall,
        "stage": item.stage,
        "errno": item.errno,
        "check": item.check,
        "fix": item.fix,
        "rules": list(item.rules),
    }


def plan_verdict(item: Verdict) -> Document:
    return {"rule": item.rule, "ok": item.ok, "detail": item.detail, "answer": item.answer}


def image(report: ImageReport) -> Document:
    """pykexec.image/1"""
    found = report.image
    return {
        "schema": "pykexec.image/1",
        **kernel(found),
        "wrapped": list(found.wrapped),
        "initrd_inside": found.implied.initrd.size if found.implied.initrd else None,
        "cmdline_inside": found.implied.cmdline,
        "boot": boot(found.boot),
    }


def boot(asked: Boot) -> Document:
    """What the image asks for: its fields, but for those that are bytes of the file."""
    found: Document = {}
    for field in fields(asked):
        value = getattr(asked, field.name)
        if isinstance(value, bytes):
            continue
        if type(value) is int and field.name in NUMBERS_IN_HEX:
            value = hex(value)
        found[field.name] = boot_fact(value)
    return found


def boot_fact(value: object) -> object:
    """Pieces of an image by address and size; everything else as in an error."""
    if isinstance(value, tuple):
        return [boot_fact(item) for item in value]
    if hasattr(value, "memsz") and hasattr(value, "addr"):
        return {"addr": hex(value.addr), "memsz": value.memsz}
    return fact(value)


def initrd(found: Initrd) -> Document:
    """pykexec.initrd/1"""
    return {
        "schema": "pykexec.initrd/1",
        "size": found.size,
        "unpacked": found.unpacked,
        "archives": [
            {
                "offset": hex(item.offset),
                "codec": item.codec,
                "unpacked": item.unpacked,
                "files": item.files,
                "complete": item.complete,
            }
            for item in found.archives
        ],
    }


ADDRESSES_OF_A_PAGE = (
    "protocol",
    "type_of_loader",
    "loadflags",
    "xloadflags",
    "cmd_line_ptr",
    "ramdisk_image",
    "setup_data",
    "acpi_rsdp",
    "pref_address",
)


def zero_page(found: ZeroPage) -> Document:
    """pykexec.zero-page/1"""
    numbers = {name: getattr(found, name) for name in ADDRESSES_OF_A_PAGE}
    return {
        "schema": "pykexec.zero-page/1",
        **{name: hex(value) for name, value in numbers.items()},
        "ramdisk_size": found.ramdisk_size,
        "init_size": found.init_size,
        "efi": found.efi,
        "screen": found.screen,
        "e820": [
            {"start": hex(row.start), "end": hex(row.end), "type": row.type} for row in found.e820
        ],
    }


def core_headers(found: CoreHeaders) -> Document:
    """pykexec.core-headers/1"""
    return {
        "schema": "pykexec.core-headers/1",
        "program_headers": found.program_headers,
        "memory": found.memory,
        "moved": found.moved,
        "overlaps": found.overlaps,
        "notes": [span(item) for item in found.notes],
        "loads": [
            {"paddr": hex(item.paddr), "offset": hex(item.offset), "size": item.size}
            for item in found.loads
        ],
    }
