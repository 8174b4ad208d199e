"""The documents of what was found out: dumps, machines, preconditions, differences."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from pykexec.cli.documents import Document, check, kernel, map_entries, span, spans

if TYPE_CHECKING:
    from pykexec.cli.reports import (
        CapturedReport,
        DoctorReport,
        ExplainReport,
        MachineReport,
    )
    from pykexec.dump.core_file import CoreFile
    from pykexec.dump.vmcore_check import VmcoreVerdict
    from pykexec.dump.vmcore_pages import PatternCount
    from pykexec.flows.diff import Piece, PlanDiff
    from pykexec.flows.doctor import Row
    from pykexec.flows.explain import KernelCheck, Verdict
    from pykexec.flows.rehearse.simulated import Rehearsal


def rehearsal(report: Rehearsal) -> Document:
    """pykexec.rehearsal/1"""
    load = report.load
    return {
        "schema": "pykexec.rehearsal/1",
        "engine": report.engine,
        "good": report.good,
        "kernel": kernel(load.image),
        "machine": asdict(report.stage),
        "mode": str(load.mode),
        "window": span(load.window) if load.window else None,
        "backup_pages": load.backup_map.backup_pages,
        "backup_runs": len(load.backup_map.moved),
        "program_headers": load.program_headers,
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
    from pykexec.dump.vmcore_check import covered, direct_offsets, without_contents

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
        "without_contents": spans(without_contents(core)),
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
    shown = report.shown
    return {
        "schema": "pykexec.machine/1",
        "memory_map": map_entries(shown.memory_map),
        "in_use": spans(shown.in_use),
        "free": spans(shown.free),
        "kernel": spans(shown.kernel),
        "images": spans(shown.images),
        "reservation": span(shown.reservation) if shown.reservation else None,
    }


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


def diff(found: PlanDiff) -> Document:
    """pykexec.diff/1; null is what that plan does not have."""
    return {
        "schema": "pykexec.diff/1",
        "same": found.same,
        "fields": [{"field": item.field, "a": item.a, "b": item.b} for item in found.fields],
        "segments": [
            {"name": item.name, "what": list(item.what), "a": piece(item.a), "b": piece(item.b)}
            for item in found.pieces
        ],
    }


def piece(item: Piece | None) -> Document | None:
    if item is None:
        return None
    return {
        "bufsz": item.bufsz,
        "mem": hex(item.range.start),
        "memsz": item.range.size,
        "sha256": item.sha256,
    }
