"""Tasks: the processes and threads in the list that starts at init_task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.dump.faults import DamagedDump, NotInDump
from pykexec.dump.vmcoreinfo import page_size_of
from pykexec.errors import KexecError

if TYPE_CHECKING:
    from pykexec.dump.linux import Linux

TASKS_MAX = 1 << 18
"""Limit for threads; /proc/sys/kernel/threads-max is lower on most machines."""
UNINTERRUPTIBLE, NOLOAD = 0x2, 0x400
RTLOCK_WAIT, FROZEN = 0x1000, 0x8000
REPORTED = 0x7F
"""TASK_REPORT and TASK_PARKED of include/linux/sched.h."""
LETTERS = "RSDTtXZP"
IDLE = UNINTERRUPTIBLE | NOLOAD
MM_COUNTERS = (0, 1, 3)
"""MM_FILEPAGES, MM_ANONPAGES, MM_SHMEMPAGES: their sum is VmRSS (fs/proc/task_mmu.c)."""


@dataclass(frozen=True, slots=True)
class Task:
    """`address` of its task_struct, `mm` of its mm_struct (0 for a kernel thread); `parent` is a
    PID."""

    address: int
    pid: int
    tgid: int
    parent: int
    comm: str
    state: str
    mm: int

    @property
    def leads(self) -> bool:
        """Whether it is the first thread of its process."""
        return self.pid == self.tgid

    @property
    def blocked(self) -> bool:
        """Whether it is in uninterruptible sleep, state D of ps(1)."""
        return self.state == "D"


def state_letter(state: int, exit_state: int) -> str:
    """As in /proc/PID/stat (include/linux/sched.h: __task_state_index)."""
    if state & IDLE == IDLE:
        return "I"
    if state & (RTLOCK_WAIT | FROZEN):
        return "D"
    bits = (state | exit_state) & REPORTED
    return LETTERS[bits.bit_length()]


class TaskReader:
    """Reads a task_struct in one piece; the offsets of its members are looked up once."""

    def __init__(self, linux: Linux) -> None:
        self.linux = linux
        names = ["pid", "tgid", "comm", "real_parent", "exit_state", "mm"]
        names.append("__state" if linux.types.has("task_struct.__state") else "state")
        self.places = {
            name: (linux.offset(f"task_struct.{name}"), linux.size(f"task_struct.{name}"))
            for name in names
        }
        self.state = names[-1]
        self.size = linux.size("task_struct")
        self.tgid = self.places["tgid"][0]

    def read(self, addr: int) -> Task:
        raw = self.linux.memory.read(addr, self.size)

        def number(name: str) -> int:
            at, size = self.places[name]
            return int.from_bytes(raw[at : at + min(size, 8)], "little")

        at, size = self.places["comm"]
        comm = raw[at : at + size].partition(b"\0")[0].decode("utf-8", "backslashreplace")
        return Task(
            addr,
            number("pid"),
            number("tgid"),
            self.process(number("real_parent")),
            comm,
            state_letter(number(self.state), number("exit_state")),
            number("mm"),
        )

    def process(self, addr: int) -> int:
        """The PID of a task's process; 0 if it cannot be read."""
        try:
            return self.linux.memory.u32(addr + self.tgid)
        except KexecError:
            return 0


def processes(linux: Linux) -> Iterator[Task]:
    """The first thread of each process, without the idle tasks (PID 0)."""
    reader = TaskReader(linux)
    start = linux.address("init_task")
    head = start + linux.offset("task_struct.tasks")
    for addr in linux.list_of(head, "task_struct.tasks", TASKS_MAX):
        yield reader.read(addr)


def threads_of(reader: TaskReader, leader: Task, most: int) -> Iterator[Task]:
    """Every thread of a process, the leader first; at most `most`."""
    linux = reader.linux
    signal = linux.memory.u64(leader.address + linux.offset("task_struct.signal"))
    head = signal + linux.offset("signal_struct.thread_head")
    for addr in linux.list_of(head, "task_struct.thread_node", most):
        yield leader if addr == leader.address else reader.read(addr)


def threads(linux: Linux) -> Iterator[Task]:
    """Every thread of every process."""
    reader, left = TaskReader(linux), TASKS_MAX
    for leader in processes(linux):
        for task in threads_of(reader, leader, left):
            left -= 1
            yield task


def current_tasks(linux: Linux) -> list[Task]:
    """The task that each CPU was running, by CPU number."""
    reader = TaskReader(linux)
    found = current_task(linux)
    return [
        reader.read(linux.memory.u64(linux.per_cpu(cpu, found)))
        for cpu in range(len(linux.per_cpu_offsets))
    ]


def current_task(linux: Linux) -> int:
    """The per-CPU pointer to the task that a CPU runs: a variable of its own, the first member of
    pcpu_hot (x86, 6.2 to 6.14), or what arm64's entry code uses."""
    found = linux.symbols.find("current_task")
    if found is not None:
        return found
    hot = linux.symbols.find("pcpu_hot")
    if hot is not None:
        return hot + linux.offset("pcpu_hot.current_task")
    return linux.address("__entry_task")


class MemoryReader:
    """Pages of a process: counters of its mm_struct, in one of two forms."""

    def __init__(self, linux: Linux) -> None:
        self.linux = linux
        self.parts: int | None = None
        if linux.types.has("mm_struct.rss_stat.count"):  # up to 6.1
            self.base, self.each = linux.offset("mm_struct.rss_stat.count"), 8
            return
        count = linux.offset("percpu_counter.count")
        self.base, self.each = (
            linux.offset("mm_struct.rss_stat") + count,
            linux.size("percpu_counter"),
        )
        self.parts = linux.offset("percpu_counter.counters") - count

    def pages(self, mm: int, *, exact: bool = True) -> int:
        """Without `exact`, pages that the CPUs have not yet added are left out: at most 31 per CPU
        on a small machine. Raises KexecError."""
        total = 0
        for number in MM_COUNTERS:
            at = mm + self.base + number * self.each
            value = int.from_bytes(self.linux.memory.read(at, 8), "little", signed=True)
            if self.parts is not None and exact:
                pointer = self.linux.memory.u64(at + self.parts)
                value += self.linux.sum_per_cpu(pointer, 4) if pointer else 0
            total += max(value, 0)
        return total


def largest(linux: Linux, tasks: Iterable[Task], count: int) -> list[tuple[Task, int]]:
    """(first thread, bytes) of the processes with most memory, the largest first. Processes that
    cannot be read are left out."""
    reader = MemoryReader(linux)

    def sized(exact: bool, chosen: Iterable[Task]) -> list[tuple[Task, int]]:
        found = []
        for task in chosen:
            try:
                found.append((task, reader.pages(task.mm, exact=exact)))
            except (NotInDump, DamagedDump):
                continue
        return sorted(found, key=lambda pair: (-pair[1], pair[0].pid))

    rough = sized(False, (task for task in tasks if task.mm))
    exactly = sized(True, (task for task, _ in rough[: 3 * count]))[:count]
    page = page_size_of(linux.dump.info.values)
    return [(task, pages * page) for task, pages in exactly]
