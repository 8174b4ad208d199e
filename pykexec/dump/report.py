"""One page about a crash: everything that can be read from a dump without debug symbols.

Sections are read one after the other, each in limited time. A section that cannot be read is None,
and a missing part is noted; the reasons are in `problems`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from pykexec.crash.armed_note import NAME, TYPE, ArmedNote, armed_note
from pykexec.dump.cpu_notes import cpu_registers, cpus_of_notes
from pykexec.dump.faults import OutOfTime, UnknownKernel
from pykexec.dump.linux import CPUS_MAX, Linux
from pykexec.dump.log import records
from pykexec.dump.memory import Memory, read_memory
from pykexec.dump.modules import Module, modules
from pykexec.dump.panic import LogEnd, read_end
from pykexec.dump.reader import Dump, uts_name
from pykexec.dump.tasks import (
    TASKS_MAX,
    Task,
    TaskReader,
    current_tasks,
    largest,
    processes,
    threads_of,
)
from pykexec.dump.unwinders import unwinder_of
from pykexec.dump.watch import Watch, unwatched
from pykexec.errors import KexecError

if TYPE_CHECKING:
    from pykexec.dump.kernel_memory import KernelMemory
    from pykexec.dump.registers import Registers
    from pykexec.dump.stacks import Frame, Unwinder

SECTION_READS, ALL_READS = 600_000, 1_000_000
"""At some microseconds each, a report on any dump takes five seconds at most. A machine with 10,000
processes takes 200,000 reads."""
SECTION_SECONDS, ALL_SECONDS = 20.0, 40.0
"""Processor time, for slow machines."""
SECTIONS = 9
NOUNS = {"panic": "the CPU that panicked", "cpus": "CPUs", "armed": "the crash kernel"}
"""What a section is called while it is read, if not by its name."""
LARGEST = 10
BLOCKED_MAX = 100
CPUS_SHOWN = 256
INVALID_CPU = 0xFFFFFFFF
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class System:
    """`uptime` in seconds: the time of the last log record. `crashed` in UTC, if a capture kernel
    made the dump."""

    release: str
    version: str | None
    hostname: str | None
    hardware: str | None
    cpus: int | None
    crashed: datetime | None


@dataclass(frozen=True, slots=True)
class Cpu:
    """What a CPU was running. `task` is None if the kernel's tasks cannot be read, `registers` if
    they were not saved."""

    number: int
    task: Task | None
    registers: Registers | None
    frames: list[Frame]


@dataclass(frozen=True, slots=True)
class Blocked:
    """A task in uninterruptible sleep."""

    task: Task
    frames: list[Frame]


@dataclass(frozen=True, slots=True)
class Tasks:
    """All tasks that were read; `largest` has the processes with most memory, in bytes."""

    processes: int
    threads: int
    blocked: list[Blocked]
    largest: list[tuple[Task, int]]


@dataclass(frozen=True, slots=True)
class Armed:
    """The crash kernel that was loaded: `reserved` is [start, end) of its reserved memory, or None;
    `entry` and `segments` of the image in the crash slot, or None. `note` is how a crash by normal
    was armed, None for anything else."""

    reserved: tuple[int, int] | None
    entry: int | None
    segments: int | None
    note: ArmedNote | None = None


@dataclass
class Report:
    """Sections in the order in which they are shown; None means unknown."""

    dump: Dump
    system: System | None = None
    log: LogEnd | None = None
    panic_cpu: int | None = None
    taint: int | None = None
    cpus: list[Cpu] | None = None
    tasks: Tasks | None = None
    memory: Memory | None = None
    modules: list[Module] | None = None
    armed: Armed | None = None
    problems: list[tuple[str, str]] = field(default_factory=list)
    """(section, reason)."""

    @property
    def panic_task(self) -> Task | None:
        """The task that ran on the CPU that panicked."""
        found = [cpu.task for cpu in self.cpus or () if cpu.number == self.panic_cpu]
        return found[0] if found else None


class Maker:
    """Makes the report on one dump."""

    def __init__(self, dump: Dump, watch: Watch = unwatched) -> None:
        self.dump, self.linux, self.watch = dump, Linux(dump), watch
        self.started = 0
        self.report = Report(dump)
        self.reads, self.until = ALL_READS, time.process_time() + ALL_SECONDS
        self.known_unwinder: Unwinder | None = None

    def make(self) -> Report:
        report = self.report
        report.log = self.section("log", self.log)
        report.system = self.section("system", self.system)
        report.panic_cpu = self.section("panic", self.panic_cpu)
        report.taint = self.section("taint", self.taint)
        report.cpus = self.section("cpus", self.cpus)
        report.tasks = self.section("tasks", self.tasks)
        report.memory = self.section("memory", lambda: read_memory(self.linux))
        report.modules = self.section("modules", self.modules)
        report.armed = self.section("armed", self.armed)
        return report

    def section(self, name: str, read: Callable[[], T]) -> T | None:
        """None for a section that cannot be read; adds the reason to the problems."""
        self.watch(NOUNS.get(name, name), self.started / SECTIONS)
        self.started += 1
        most = min(SECTION_READS, self.reads)
        memory = self.known_memory()
        if memory:
            memory.limit(most, min(time.process_time() + SECTION_SECONDS, self.until))
        try:
            return read()
        except KexecError as error:
            self.problem(name, error)
            return None
        finally:
            if memory:
                self.reads -= most - max(memory.left, 0)

    def known_memory(self) -> KernelMemory | None:
        """None if the kernel's memory cannot be read: then there is nothing to limit."""
        try:
            return self.dump.kernel
        except KexecError:
            return None

    def problem(self, name: str, error: KexecError | str) -> None:
        self.report.problems.append((name, error if isinstance(error, str) else error.message))

    @property
    def unwinder(self) -> Unwinder:
        if self.known_unwinder is None:
            self.known_unwinder = unwinder_of(self.linux)
        return self.known_unwinder

    def optional(self, name: str, read: Callable[[], T]) -> T | None:
        """A part of a section."""
        try:
            return read()
        except KexecError as error:
            self.problem(name, error)
            return None

    def system(self) -> System:
        dump, info = self.dump, self.dump.info
        memory = dump.kernel

        def name(field: int) -> str | None:
            found = self.optional("system", lambda: uts_name(memory, info, field))
            return None if found is None else found.decode("utf-8", "backslashreplace")

        return System(
            info.release,
            name(VERSION),
            name(NODENAME),
            self.optional("system", self.hardware),
            self.optional("system", lambda: len(self.linux.per_cpu_offsets)),
            crash_time(info.values.get("CRASHTIME", "")),
        )

    def hardware(self) -> str | None:
        """What an oops calls the hardware's name (lib/dump_stack.c)."""
        if self.report.log and self.report.log.hardware:
            return self.report.log.hardware
        at = self.linux.address("dump_stack_arch_desc_str")
        found = self.linux.memory.text(at, 128)
        return found.decode("utf-8", "backslashreplace") or None

    def log(self) -> LogEnd:
        end = read_end(records(self.dump))
        if end.problem:
            self.problem("log", end.problem)
        return end

    def panic_cpu(self) -> int | None:
        """None if no CPU has panicked."""
        if self.linux.symbols.find("panic_cpu") is None and self.report.log:
            return self.report.log.cpu
        found = self.linux.memory.u32(self.linux.address("panic_cpu"))
        return None if found == INVALID_CPU else found

    def taint(self) -> int:
        return self.linux.memory.u64(self.linux.address("tainted_mask"))

    def cpus(self) -> list[Cpu]:
        tasks = self.optional("cpus", lambda: current_tasks(self.linux)) or []
        notes = list(islice(cpu_registers(self.dump), CPUS_MAX + 1))
        numbers = cpus_of_notes(self.linux, [pid for pid, _ in notes], [task.pid for task in tasks])
        saved = {number: found for number, (_, found) in zip(numbers, notes, strict=True)}
        found = []
        for number in range(max(len(tasks), len(notes))):
            if number == CPUS_SHOWN:
                self.problem("cpus", f"more than {CPUS_SHOWN} CPUs")
                break
            task = tasks[number] if number < len(tasks) else None
            registers = saved.get(number)
            frames = self.frames_of(registers) if registers else []
            found.append(Cpu(number, task, registers, frames))
        if not found:
            raise UnknownKernel("the dump does not have the registers of any CPU")
        return found

    def frames_of(self, registers: Registers) -> list[Frame]:
        return self.optional("cpus", lambda: self.unwinder.of_registers(registers)) or []

    def tasks(self) -> Tasks:
        """Damaged lists are read up to the damage."""
        leaders: list[Task] = []
        try:
            leaders.extend(processes(self.linux))
        except KexecError as error:
            if not leaders:
                raise
            self.problem("tasks", error)
        count, blocked = self.threads(leaders)
        most = self.optional("tasks", lambda: largest(self.linux, leaders, LARGEST)) or []
        shown = [Blocked(task, self.stack_of(task)) for task in blocked]
        return Tasks(len(leaders), count, shown, most)

    def threads(self, leaders: list[Task]) -> tuple[int, list[Task]]:
        """How many there are, and those that are blocked. A process whose list cannot be read
        counts with its first thread."""
        count, blocked, lost = 0, list[Task](), list[KexecError]()
        reader = TaskReader(self.linux)
        for leader in leaders:
            found: list[Task] = []
            try:
                found.extend(threads_of(reader, leader, TASKS_MAX - count))
            except OutOfTime as error:
                self.problem("tasks", error)
                break
            except KexecError as error:
                lost.append(error)
            found = found or [leader]
            count += len(found)
            blocked += [task for task in found if task.blocked]
        if lost:
            who = "1 process" if len(lost) == 1 else f"{len(lost)} processes"
            self.problem("tasks", f"threads of {who}: {lost[0].message}")
        return count, blocked[:BLOCKED_MAX]

    def stack_of(self, task: Task) -> list[Frame]:
        return self.optional("tasks", lambda: self.unwinder.of_task(task)) or []

    def modules(self) -> list[Module]:
        found: list[Module] = []
        try:
            found.extend(modules(self.linux))
        except KexecError as error:
            if not found:
                raise
            self.problem("modules", error)
        return found

    def armed(self) -> Armed:
        linux = self.linux
        at = linux.address("crashk_res")
        start, last = linux.number(at, "resource.start"), linux.number(at, "resource.end")
        image = linux.memory.u64(linux.address("kexec_crash_image"))
        return Armed(
            (start, last + 1) if last > start else None,
            linux.pointer(image, "kimage.start") if image else None,
            linux.number(image, "kimage.nr_segments") if image else None,
            self.armed_note(),
        )

    def armed_note(self) -> ArmedNote | None:
        for name, kind, desc in self.dump.notes:
            if (name, kind) == (NAME, TYPE):
                return armed_note(desc)
        return None


NODENAME, VERSION = 1, 3
"""Indexes of fields of new_utsname."""


def crash_time(text: str) -> datetime | None:
    """CRASHTIME of VMCOREINFO, in seconds since the epoch."""
    if not text.isascii() or not text.isdigit() or len(text) > 11:
        return None
    return datetime.fromtimestamp(int(text), UTC)


def make_report(dump: Dump, watch: Watch = unwatched) -> Report:
    """Everything that can be read. Raises only errors that prevent reading the file at all."""
    return Maker(dump, watch).make()
