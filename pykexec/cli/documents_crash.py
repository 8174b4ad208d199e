"""The document of what a dump tells about a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.cli.documents import Document

if TYPE_CHECKING:
    from pykexec.dump.memory import Memory
    from pykexec.dump.modules import Module
    from pykexec.dump.panic import LogEnd
    from pykexec.dump.registers import Registers
    from pykexec.dump.report import Armed, Blocked, Cpu, Report, System, Tasks
    from pykexec.dump.stacks import Frame
    from pykexec.dump.tasks import Task

PAGE = 4096


def crash_report(report: Report) -> Document:
    """pykexec.report/1; a section is null where it cannot be read, and `problems` has why."""
    from pykexec.dump.taint import taint_words

    dump, log = report.dump, report.log
    panicked = report.panic_cpu
    return {
        "schema": "pykexec.report/1",
        "dump": {"format": dump.format, "size": dump.file_size, "vmcoreinfo": dump.info_source},
        "system": system(report.system, log) if report.system else None,
        "panic": {
            "message": log.message if log else None,
            "cause": log.cause if log else None,
            "cpu": panicked,
            "task": task(report.panic_task) if report.panic_task else None,
        },
        "taint": None
        if report.taint is None
        else {"mask": hex(report.taint), "words": taint_words(report.taint)},
        "cpus": None if report.cpus is None else [cpu(item) for item in report.cpus],
        "tasks": tasks(report.tasks) if report.tasks else None,
        "memory": memory(report.memory) if report.memory else None,
        "modules": None if report.modules is None else [module(item) for item in report.modules],
        "armed": armed(report.armed) if report.armed else None,
        "log": None
        if log is None
        else {"records": log.records, "last": [text(line) for line in log.lines]},
        "problems": [{"section": name, "reason": why} for name, why in report.problems],
    }


def system(found: System, log: LogEnd | None) -> Document:
    uptime = log.nanoseconds if log else None
    return {
        "release": found.release,
        "version": found.version,
        "hostname": found.hostname,
        "hardware": found.hardware,
        "cpus": found.cpus,
        "uptime": None if uptime is None else uptime // 1000 / 1_000_000,
        "crashed": found.crashed.isoformat() if found.crashed else None,
    }


def task(found: Task) -> Document:
    return {
        "pid": found.pid,
        "tgid": found.tgid,
        "parent": found.parent,
        "comm": found.comm,
        "state": found.state,
    }


def cpu(found: Cpu) -> Document:
    return {
        "cpu": found.number,
        "task": task(found.task) if found.task else None,
        "registers": registers(found.registers) if found.registers else None,
        "backtrace": [frame(item) for item in found.frames],
    }


def registers(found: Registers) -> Document:
    return {name: hex(value) for name, value in found.values.items()}


def frame(found: Frame) -> Document:
    place = found.place
    return {
        "address": hex(found.ip),
        "symbol": place.name if place else None,
        "offset": place.offset if place else None,
        "module": (place.module or None) if place else None,
        "guess": found.guess,
    }


def blocked(found: Blocked) -> Document:
    return task(found.task) | {"backtrace": [frame(item) for item in found.frames]}


def tasks(found: Tasks) -> Document:
    return {
        "processes": found.processes,
        "threads": found.threads,
        "blocked": [blocked(item) for item in found.blocked],
        "largest": [task(item) | {"resident": pages * PAGE} for item, pages in found.largest],
    }


def memory(found: Memory) -> Document:
    return {"total": found.total, **found.counters}


def module(found: Module) -> Document:
    return {"name": found.name, "size": found.size, "taint": found.taint}


def armed(found: Armed) -> Document:
    reserved = found.reserved
    return {
        "reserved": {"start": hex(reserved[0]), "size": reserved[1] - reserved[0]}
        if reserved
        else None,
        "loaded": found.entry is not None,
        "entry": None if found.entry is None else hex(found.entry),
        "segments": found.segments,
    }


def text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace")
