"""A report on a small kernel that is built here: every section, in complete and damaged dumps."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from pykexec.cli.report.crash_cause import CrashCauseReport
from pykexec.cli.report.crash_cause_document import crash_document
from pykexec.crash.armed_note import ArmedNote
from pykexec.documents.codec import encode
from pykexec.documents.report import Reserved
from pykexec.dump.log_record import Record
from pykexec.dump.panic import read_end
from pykexec.dump.reader import open_dump
from pykexec.dump.report import Report, make_report
from pykexec.dump.taint import taint_words
from tests.builders import write
from tests.documents import validate
from tests.dump.builders import DIRECT, LINES, PRSTATUS, TEXT, Line, Memory, add_ring, elf
from tests.dump.kernel import FORMS, Kernel, Numbers, Rules, Task, Unnamed

PANICKED = [
    "vpanic+0x10", "panic+0x10", "drv_read+0x10 [drv]", "asm_exc_page_fault+0x10", "sys_wait+0x5",
    "entry_SYSCALL_64+0x10",
]  # fmt: skip


def report_of(folder: Path, kernel: Kernel, data: bytes | None = None) -> Report:
    report = make_report(open_dump(str(write(folder, "dump", data or kernel.elf()))))
    validate(json.loads(encode(crash_document(report))))
    return report


def reasons(report: Report) -> dict[str, str]:
    return dict(report.problems)


@pytest.mark.parametrize("rules", ["per-cpu", "base", "entry"])
@pytest.mark.parametrize("numbers", ["6.1", "6.12", "7.x"])
def test_every_section(rules: Rules, numbers: Numbers, tmp_path: Path) -> None:
    """For each rule of kallsyms, and each form of ORC and of a process's counters."""
    report = report_of(tmp_path, Kernel(rules=rules, numbers=numbers))
    assert report.problems == []
    assert report.system
    assert report.system.release == "6.1.0-built"
    assert report.system.hardware == "Built Machine 1.0"
    assert (report.system.cpus, report.panic_cpu, report.taint) == (2, 1, 0x1200)
    assert report.log
    assert (report.log.message, report.log.cause) == ("built", None)
    assert report.cpus
    assert [str(frame) for frame in report.cpus[1].frames] == PANICKED
    assert [str(frame) for frame in report.cpus[0].frames] == ["0x401000"], "it was in user space"
    interrupted = [frame.registers is not None for frame in report.cpus[1].frames]
    assert interrupted == [False, False, False, False, True, False]
    tasks = report.tasks
    assert tasks
    assert (tasks.processes, tasks.threads) == (6, 7)
    assert [item.task.comm for item in tasks.blocked] == ["a) (b\x1b[m"]
    assert [str(frame) for frame in tasks.blocked[0].frames] == [
        "schedule+0x10", "do_wait+0x10", "sys_wait+0x10", "entry_SYSCALL_64+0x10"
    ]  # fmt: skip
    resident = [(task.pid, size // 4096) for task, size in tasks.largest]
    assert resident == [(9, 5010), (1, 307)]
    assert report.memory
    assert report.memory.total == 4096000
    assert report.memory.counters == {
        "free": 600 * 4096, "anonymous": 0, "reclaimable_slab": 20 * 4096
    }  # fmt: skip
    assert report.modules
    assert [(module.name, module.size, module.taint) for module in report.modules] == [
        ("drv", 0x800, "O")
    ]
    assert report.armed
    assert (report.armed.reserved, report.armed.segments) == ((0x1000000, 0x1010000), 5)


def test_how_it_was_armed(tmp_path: Path) -> None:
    kernel = Kernel()
    note = ArmedNote("lent", (0x4000000, 0x8000000), 10, 48 << 20).encoded
    notes = kernel.notes + kernel.memory.note + note
    report = report_of(tmp_path, kernel, elf(kernel.memory, notes=notes))
    assert report.armed
    assert report.armed.note == ArmedNote("lent", (0x4000000, 0x8000000), 10, 48 << 20)
    page = "\n".join(str(block) for block in CrashCauseReport(report).page(0))
    assert "lent, window 64 MiB at 0x4000000, wait 10 s, 48 MiB lent; crash kernel of" in page
    document = crash_document(report).armed
    assert document
    assert (document.mode, document.wait, document.lent) == ("lent", 10, 48 << 20)
    assert document.window == Reserved(0x4000000, 64 << 20)


def test_states_are_those_of_ps(tmp_path: Path) -> None:
    states = (
        (0, 0, "R"), (1, 0, "S"), (0x2001, 0, "S"), (2, 0, "D"), (0x102, 0, "D"), (0x402, 0, "I"),
        (4, 0, "T"), (8, 0, "t"), (0, 0x10, "X"), (0, 0x20, "Z"), (0x40, 0, "P"), (0x8000, 0, "D"),
        (0x1000, 0, "D"), (0x80, 0x20, "Z"),
    )  # fmt: skip
    from pykexec.dump.tasks import state_letter

    for state, exit_state, letter in states:
        assert state_letter(state, exit_state) == letter, hex(state)


def test_a_stack_without_rules_is_guessed(tmp_path: Path) -> None:
    """Marked as in the kernel: addresses in text that are found on the stack."""
    kernel = Kernel(tasks=(Task(1, b"init"), Task(5, b"lost", 2, calls=(0x010, 0x410, 0x510))))
    report = report_of(tmp_path, kernel)
    assert report.tasks
    frames = [str(frame) for frame in report.tasks.blocked[0].frames]
    assert frames[:4] == [
        "_stext+0x10",
        "? do_wait+0x10",
        "? sys_wait+0x10",
        "? asm_exc_page_fault+0xf0",
    ]


def test_a_fault_of_user_space_is_the_end(tmp_path: Path) -> None:
    report = report_of(tmp_path, Kernel(interrupted_cs=0x33))
    assert report.cpus
    assert [str(frame) for frame in report.cpus[1].frames] == PANICKED[:4]


def test_a_call_that_is_the_last_instruction_of_its_function(tmp_path: Path) -> None:
    """It returns to the first instruction of the next function; rule and name are those of the
    call."""
    task = Task(5, b"x", 2, calls=(0x110, 0x200, 0x510, 0x610))
    report = report_of(tmp_path, Kernel(tasks=(Task(1, b"init"), task)))
    assert report.tasks
    assert [str(frame) for frame in report.tasks.blocked[0].frames] == [
        "schedule+0x10", "schedule+0x100", "sys_wait+0x10", "entry_SYSCALL_64+0x10"
    ]  # fmt: skip


@pytest.mark.parametrize("more", [0, *range(697, 705)])
@pytest.mark.parametrize("unnamed", FORMS)
def test_tables_are_found_in_a_kernel_that_does_not_name_them(
    unnamed: Unnamed, more: int, tmp_path: Path
) -> None:
    symbols = {f"more_{number}": TEXT + 0xF00 for number in range(more)}
    report = report_of(tmp_path, Kernel(unnamed=unnamed, symbols=symbols))
    assert report.problems == []
    assert report.cpus
    assert [str(frame) for frame in report.cpus[1].frames] == PANICKED


def test_a_kernel_without_tables(tmp_path: Path) -> None:
    """The log is shown, and everything else is unknown, with the reason."""
    memory = Memory()
    add_ring(memory)
    memory.symbol("_stext", TEXT)
    report = report_of(tmp_path, Kernel(), elf(memory))
    assert report.log
    assert report.log.message == "built"
    assert report.system
    assert report.system.hardware is None
    assert not any((report.tasks, report.memory, report.modules, report.armed, report.taint))
    for section in ("panic", "taint", "tasks", "memory", "modules", "armed"):
        assert reasons(report)[section] == (
            "VMCOREINFO does not name kallsyms, and it is not found in memory"
        )
    assert report.cpus
    assert report.cpus[0].registers, "they are in the notes"


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("missing", [0, 1])
def test_a_cpu_without_registers(missing: int, written: bool, tmp_path: Path) -> None:
    """It was offline, or did not respond to the panic: the other's are not taken for its own. Which
    one it is follows from crash_notes, or without them from the tasks."""
    kernel = Kernel()
    notes = kernel.notes
    kept = notes[len(notes) // 2 :] if missing == 0 else notes[: len(notes) // 2]
    if written:
        area = kernel.put(bytes(64))
        kernel.poke(area + 32 * (1 - missing), struct.pack("<I", 5))
        kernel.word(kernel.symbols["crash_notes"], area)
    report = report_of(tmp_path, kernel, elf(kernel.memory, notes=kept + kernel.memory.note))
    assert report.cpus
    assert [cpu.registers is None for cpu in report.cpus] == [missing == 0, missing == 1]
    shown = [[str(frame) for frame in cpu.frames] for cpu in report.cpus]
    assert shown == ([[], PANICKED] if missing == 0 else [["0x401000"], []])


def test_memory_of_no_kernel(tmp_path: Path) -> None:
    """The registers are still shown, and memory is searched once."""
    dump = open_dump(str(write(tmp_path, "dump", elf(Memory(), notes=PRSTATUS))))
    searched = []
    find = dump.memory.find
    dump.memory.find = lambda needle: searched.append(needle) or find(needle)  # type: ignore
    report = make_report(dump)
    assert not any((report.system, report.log, report.tasks))
    assert "there is no VMCOREINFO" in reasons(report)["system"]
    assert report.cpus
    assert report.cpus[0].registers
    assert len(searched) == 1


# --- damage ------------------------------------------------------------------------------------


def damaged(kernel: Kernel, addr: int, data: bytes) -> Kernel:
    kernel.poke(addr, data)
    return kernel


def test_a_list_of_tasks_in_a_circle(tmp_path: Path) -> None:
    """The third task leads back to the second: the tasks before it are shown."""
    kernel = Kernel()
    second, third = (task.address + 8 for task in kernel.tasks[1:3])
    kernel.word(third, second)
    report = report_of(tmp_path, kernel)
    assert report.tasks
    assert report.tasks.processes == 3
    assert "is a circle, or has no end" in reasons(report)["tasks"]


def test_a_list_of_threads_in_a_circle(tmp_path: Path) -> None:
    kernel = Kernel()
    kernel.word(kernel.tasks[5].address + 80, kernel.tasks[4].address + 80)
    report = report_of(tmp_path, kernel)
    assert report.tasks
    assert report.tasks.processes == 6
    assert "task_struct.thread_node" in reasons(report)["tasks"]


def test_threads_that_are_not_in_the_dump(tmp_path: Path) -> None:
    """makedumpfile 1.7.2 drops memory of newer kernels: the first threads are shown."""
    kernel = Kernel()
    for task in (kernel.tasks[0], kernel.tasks[2]):
        kernel.word(task.address + 72, DIRECT + (1 << 30))
    report = report_of(tmp_path, kernel)
    assert report.tasks
    assert (report.tasks.processes, report.tasks.threads) == (6, 7)
    assert [item.task.pid for item in report.tasks.blocked] == [7]
    assert reasons(report)["tasks"] == "threads of 2 processes: 0xffff888040000000 is not mapped"


def test_a_cpu_whose_own_address_has_no_rule(tmp_path: Path) -> None:
    """As saved by crash_setup_regs: the first return address that leads to the end is found, after
    one that does not."""
    kernel = Kernel()
    kernel.panicked_at = 0x010
    report = report_of(tmp_path, kernel)
    assert report.cpus
    assert [str(frame) for frame in report.cpus[1].frames] == ["_stext+0x10", *PANICKED[1:]]


def test_a_list_of_modules_that_leads_nowhere(tmp_path: Path) -> None:
    kernel = Kernel()
    kernel.word(kernel.module + 8, 0x1000)
    report = report_of(tmp_path, kernel)
    assert report.modules
    assert len(report.modules) == 1
    assert "is not a kernel address" in reasons(report)["modules"]


def test_a_stack_that_leads_back_to_itself(tmp_path: Path) -> None:
    """A frame pointer that points to its own frame ends the trace."""
    kernel = Kernel()
    notes = kernel.notes
    kernel.word(kernel.stack_bp + 8, TEXT + 0x210)
    kernel.word(kernel.stack_bp, kernel.stack_bp)
    data = elf(kernel.memory, notes=notes + kernel.memory.note)
    report = report_of(tmp_path, kernel, data)
    assert report.cpus
    assert len(report.cpus[1].frames) < 80


@pytest.mark.parametrize(
    ("symbol", "value", "section"),
    [
        ("kallsyms_num_syms", 0xFFFFFFFF, "tasks"),
        ("kallsyms_num_syms", 400, "tasks"),
        ("kallsyms_num_syms", 0, "tasks"),
        ("__start_BTF", 0, "tasks"),
        ("nr_cpu_ids", 1 << 30, "cpus"),
        ("nr_cpu_ids", 0, "cpus"),
    ],
)
def test_counts_that_lie(symbol: str, value: int, section: str, tmp_path: Path) -> None:
    kernel = Kernel()
    addr = kernel.symbols.get(symbol) or int(kernel.memory.info[f"SYMBOL({symbol})"], 16)
    kernel.poke(addr, struct.pack("<I", value))
    report = report_of(tmp_path, kernel)
    assert section in reasons(report)
    assert report.log
    assert report.log.message == "built"


def test_a_dump_that_is_cut_off(tmp_path: Path) -> None:
    """Whatever its length, the result is a report or a one-line error."""
    kernel = Kernel()
    whole = kernel.elf()
    for keep in range(kernel.memory.used, 4096, -16384):
        report = report_of(tmp_path, Kernel(), whole[:keep])
        assert report.problems


# --- the log's end -----------------------------------------------------------------------------


def end_of(*texts: str, seconds: int = 1) -> tuple[str | None, str | None]:
    rows = [Record(text.encode(), (100 + at * seconds) * 10**9) for at, text in enumerate(texts)]
    end = read_end(rows)
    return end.message, end.cause


BUG = "BUG: kernel NULL pointer dereference, address: 0000000000000000"


def test_the_cause_of_a_panic() -> None:
    """After an oops the panic message itself says little."""
    panic = "Kernel panic - not syncing: Fatal exception"
    assert end_of("hello", BUG, "more", panic) == ("Fatal exception", BUG)
    assert end_of(BUG, panic, seconds=60) == ("Fatal exception", None), "of a minute before"
    assert end_of("hello", BUG, "more") == (None, BUG), "panic_on_oops with an image: no panic"
    assert end_of("NMI watchdog: Perf NMI watchdog permanently disabled", panic)[1] is None
    lockup = "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [sh:55]"
    assert end_of(lockup, "Kernel panic - not syncing: softlockup: hung tasks")[1] == lockup
    assert end_of("---[ end Kernel panic - not syncing: x ]---") == (None, None)


def test_taint_in_words() -> None:
    assert taint_words(0) == []
    assert taint_words(1 << 9 | 1 << 12) == [
        "W: the kernel issued a warning", "O: an out-of-tree module was loaded"
    ]  # fmt: skip
    assert taint_words(1 << 40 | 1) == ["P: a proprietary module was loaded",
                                        "unknown bits 0x10000000000"]  # fmt: skip


# --- the verb ----------------------------------------------------------------------------------


def test_the_page(tmp_path: Path) -> None:
    lines = (*LINES[:4], Line(b"bell \x07 and \x1b[31m", 4), LINES[4])
    dump = write(tmp_path, "dump", Kernel(lines=lines).elf())
    done = subprocess.run(
        [sys.executable, "-m", "pykexec", "vmcore", "report", str(dump), "-v"], capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    assert all(char.isprintable() or char == "\n" for char in text)
    for part in (
        "panic      built\n",
        "panicked   CPU 1, init (PID 1)\n",
        "           O: an out-of-tree module was loaded\n",
        "a) (b\\x1b[m (PID 7)\n    schedule+0x10\n",
        "    drv_read+0x10 [drv]\n",
        "armed      crash kernel of 5 segments, entry 0x5000; 64 KiB reserved at 0x1000000\n",
        "bell \\x07 and \\x1b[31m",
    ):
        assert part in text, part


def test_the_document(tmp_path: Path) -> None:
    dump = write(tmp_path, "dump", Kernel().elf())
    done = subprocess.run(
        [sys.executable, "-m", "pykexec", "vmcore", "report", str(dump), "--json"],
        capture_output=True,
        text=True,
    )
    document = json.loads(done.stdout)
    validate(document)
    assert document["panic"] == {
        "message": "built", "cause": None, "cpu": 1,
        "task": {"pid": 1, "tgid": 1, "parent": 1, "comm": "init", "state": "S"},
    }  # fmt: skip
    assert document["problems"] == []


def test_reads_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an endless list; the other sections are still shown."""
    monkeypatch.setattr("pykexec.dump.report.SECTION_READS", 130)
    many = tuple(Task(number, b"x") for number in range(1, 60))
    report = report_of(tmp_path, Kernel(tasks=many))
    assert "it takes too many reads" in reasons(report)["tasks"]
    assert report.tasks
    assert 0 < report.tasks.processes < 59
    assert report.memory


def test_reads_of_all_sections_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pykexec.dump.report.ALL_READS", 120)
    report = report_of(tmp_path, Kernel())
    assert report.log
    assert report.armed is None
    assert reasons(report)["armed"] == "it takes too many reads"
