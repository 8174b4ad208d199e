"""Compares what is read from the dump of a real kernel with what the guest reported before it
panicked (/proc/kallsyms, tasks, memory, modules), and with the kernel's own backtrace."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from pykexec.cli.report.crash_cause_document import crash_document
from pykexec.documents.report import CrashReport
from pykexec.dump.linux import Linux
from pykexec.dump.log import records
from pykexec.dump.modules import modules
from pykexec.dump.reader import open_dump
from pykexec.dump.report import Report, make_report
from pykexec.dump.tasks import current_task, current_tasks, threads
from pykexec.dump.unwinders import unwinder_of

from .panicked import Panicked, panicked
from .supplies import DEFAULT_SERIES, SUITES, Kernel, kernel

pytestmark = pytest.mark.vm
ALL_SERIES = tuple(SUITES)
ENDS = ("ret_from_fork", "entry_SYSCALL_64", "el0t_64_sync")
"""Where the stacks of tasks end."""
SECONDS, MIB = 5, 100
"""Limits for processor time and memory of a report in a separate process."""


@pytest.fixture(scope="module")
def crash(kernel: Kernel) -> Panicked:
    return panicked(kernel)


@cache
def report_of(crash: Panicked) -> Report:
    return make_report(open_dump(str(crash.elf)))


@cache
def linux_of(crash: Panicked) -> Linux:
    return Linux(open_dump(str(crash.elf)))


def test_nothing_is_unknown(crash: Panicked) -> None:
    report = report_of(crash)
    assert report.problems == []
    assert report.system
    assert report.system.release == crash.kernel.release
    assert report.system.cpus == 2
    assert report.log
    assert report.log.message == "sysrq triggered crash"
    assert report.panic_cpu == 1
    assert report.panic_task
    assert report.panic_task.comm == "sh"
    assert report.taint == int((crash.known / "tainted").read_text())


def test_symbols_are_those_of_proc_kallsyms(crash: Panicked) -> None:
    symbols = linux_of(crash).symbols
    own = [line.split() for line in (crash.known / "kallsyms").read_text().splitlines()]
    wanted: dict[str, int] = {}
    for row in own:
        if len(row) == 3:  # symbols of modules have a fourth word
            wanted.setdefault(row[2], int(row[0], 16))
    assert len(wanted) > 40_000
    assert {name: symbols.find(name) for name in wanted} == wanted


def stats(crash: Panicked, name: str) -> dict[int, tuple[str, str, int]]:
    """PID: (comm, state, parent) from /proc/PID/stat; comm may contain any character."""
    found = {}
    for line in (crash.known / name).read_bytes().splitlines():
        pid, _, rest = line.decode("utf-8", "backslashreplace").partition(" (")
        comm, _, fields = rest.rpartition(") ")
        found[int(pid)] = comm, fields.split()[0], int(fields.split()[1])
    return found


def test_every_thread_is_there(crash: Panicked) -> None:
    """A kernel thread's name may be longer in /proc, and some tasks come and go. Tasks that have
    slept for long are still there."""
    found = {task.pid: task for task in threads(linux_of(crash))}
    wanted = stats(crash, "threads")
    gone = {pid for pid in wanted if pid not in found}
    assert all(wanted[pid][0].startswith(("cat", "kworker", "sed")) for pid in gone)
    assert len(found) - len(wanted) < 5
    changed = 0
    for pid in wanted.keys() - gone:
        comm, state, parent = wanted[pid]
        assert comm[:15].startswith(found[pid].comm.partition("-")[0][:15]), comm
        assert found[pid].parent == parent
        changed += found[pid].state != state
    assert changed < 6
    assert "a) (b" in {task.comm for task in found.values()}


def test_what_was_blocked(crash: Panicked) -> None:
    report = report_of(crash)
    assert report.tasks
    (blocked,) = report.tasks.blocked
    assert blocked.task.comm == "python3"
    names = [frame.place.name for frame in blocked.frames if frame.place]
    assert names[names[0] == "__switch_to" :][:2] == ["__schedule", "schedule"]
    assert "kernel_clone" in names, "vfork(2), which is clone(2) on arm64"
    assert names[-1].startswith(ENDS)


def test_memory_of_the_processes(crash: Panicked) -> None:
    """VmRSS, except for what the CPUs have counted since."""
    report = report_of(crash)
    assert report.tasks
    known = {}
    for line in (crash.known / "rss").read_text().splitlines():
        pid, *rest = line.split()
        if rest:
            known[int(pid)] = int(rest[0])
    compared = [
        (resident >> 10, known[task.pid])
        for task, resident in report.tasks.largest
        if task.pid in known
    ]
    assert len(compared) >= 4
    assert all(abs(found - wanted) < 512 for found, wanted in compared), compared


def test_memory_in_all(crash: Panicked) -> None:
    report = report_of(crash)
    text = (crash.known / "meminfo").read_text()
    known = {name: int(value) << 10 for name, value in re.findall(r"(?m)^(\w+): +(\d+) kB", text)}
    assert report.memory
    counters = report.memory.counters
    assert 0 <= report.memory.total - known["MemTotal"] < 8 << 20, "some is freed of the start"
    slab = counters["slab"] + counters["reclaimable_slab"]
    assert abs(slab - known["Slab"]) < 4 << 20
    assert abs(counters["anonymous"] - known["AnonPages"]) < 4 << 20
    assert abs(counters["files"] - known["Cached"]) < 8 << 20


def test_modules_are_those_of_proc_modules(crash: Panicked) -> None:
    rows = [line.split() for line in (crash.known / "modules").read_text().splitlines()]
    wanted = [(row[0], int(row[1]), int(row[5], 16)) for row in rows]
    assert len(wanted) > 2
    found = [(one.name, one.size, one.spans[0][0]) for one in modules(linux_of(crash))]
    assert found == wanted


TRACE = re.compile(rb" +(\? )?([\w.]+\+0x[0-9a-f]+)/0x[0-9a-f]+")


def test_the_backtrace_is_the_kernels_own(crash: Panicked) -> None:
    """Starting with the caller of panic(): in panic() itself the kernel was at another
    instruction."""
    texts = [record.text for record in records(open_dump(str(crash.elf)))]
    own = [match[2].decode() for text in texts if (match := TRACE.match(text)) and not match[1]]
    start = next(at for at, name in enumerate(own) if name.startswith("panic+"))
    report = report_of(crash)
    assert report.cpus
    ours = [str(frame) for frame in report.cpus[1].frames]
    here = next(at for at, name in enumerate(ours) if name.startswith("panic+"))
    assert ours[here + 1 :] == own[start + 1 : start + len(ours) - here]
    assert ours[-1].startswith(ENDS)


def test_where_the_other_cpu_was_stopped(crash: Panicked) -> None:
    """Nearly always where it idled."""
    report = report_of(crash)
    assert report.cpus
    other = report.cpus[0]
    assert other.task
    names = [frame.place.name for frame in other.frames if frame.place]
    assert names[0] == "stop_this_cpu"
    assert not any(frame.guess for frame in other.frames)
    if other.task.pid:
        assert names[-1].startswith(ENDS)
    else:
        assert {"do_idle", "cpu_startup_entry", "start_kernel"} <= set(names)


def test_every_sleeping_task_has_a_whole_backtrace(crash: Panicked) -> None:
    linux = linux_of(crash)
    unwinder = unwinder_of(linux)
    running = {task.pid for task in current_tasks(linux)}
    count = 0
    for task in threads(linux):
        if task.pid not in running:
            frames = unwinder.of_task(task)
            assert not any(frame.guess for frame in frames), [str(frame) for frame in frames]
            assert frames[-1].place
            assert frames[-1].place.name.startswith(ENDS)
            count += 1
    assert count > 40


def without_file(crash: Panicked, path: Path) -> CrashReport:
    """The report on another file, as if it were the first."""
    document = crash_document(make_report(open_dump(str(path))))
    return replace(document, dump=crash_document(report_of(crash)).dump)


def test_the_compressed_dump_tells_the_same(crash: Panicked) -> None:
    assert without_file(crash, crash.kdump) == without_file(crash, crash.elf)


def test_vmcoreinfo_is_found_in_memory(crash: Panicked, tmp_path: Path) -> None:
    """As in a guest without the device: the note has another name."""
    data = bytearray(crash.elf.read_bytes())
    at = data.index(b"VMCOREINFO\0")
    data[at : at + 4] = b"XXXX"
    other = tmp_path / "dump"
    other.write_bytes(data)
    assert open_dump(str(other)).noted_info() is None
    assert without_file(crash, other) == without_file(crash, crash.elf)


def test_a_dump_whose_end_is_missing(crash: Panicked, tmp_path: Path) -> None:
    """Without its last 32 MiB: the rest is reported, and the missing part is named."""
    short = tmp_path / "dump"
    data = crash.elf.read_bytes()
    short.write_bytes(data[: len(data) - (32 << 20)])
    report = make_report(open_dump(str(short)))
    assert report.system
    assert report.system.release == crash.kernel.release
    assert report.log
    assert report.problems or report.log.message == "sysrq triggered crash"


def test_drgn_reads_the_same_at_every_kind_of_address(crash: Panicked) -> None:
    """With its own reader and page table walk, without debug symbols."""
    drgn = pytest.importorskip("drgn", reason="no drgn")
    program = drgn.Program()
    program.set_core_dump(str(crash.elf))
    linux = linux_of(crash)
    addresses = {
        "text": linux.symbols.address("_stext"),
        "data": linux.address("init_task"),
        "heap": next(threads(linux)).address,
        "stack": linux.pointer(next(threads(linux)).address, "task_struct.stack"),
        "module": next(iter(modules(linux))).spans[0][0],
        "per-CPU": linux.per_cpu(1, current_task(linux)),
    }
    for kind, addr in addresses.items():
        assert linux.memory.read(addr, 64) == program.read(addr, 64), kind


def test_it_is_quick_and_small(crash: Panicked) -> None:
    for dump in (crash.elf, crash.kdump):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        code = (
            "from pykexec.dump.reader import open_dump\n"
            "from pykexec.dump.report import make_report\n"
            f"make_report(open_dump({str(dump)!r}))\n"
            "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
        )
        words = [sys.executable, "-c", code]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert int(done.stdout) >> 10 < MIB
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < SECONDS


def test_five_levels_of_page_tables() -> None:
    crash = panicked(kernel(DEFAULT_SERIES), cpu="qemu64,+la57")
    report = make_report(open_dump(str(crash.elf)))
    assert report.dump.info.number("pgtable_l5_enabled") == 1
    assert report.problems == []
    assert report.log
    assert report.log.message == "sysrq triggered crash"
    assert report.tasks
    assert len(report.tasks.blocked) == 1
