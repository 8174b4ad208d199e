"""crash(8) with the kernel's debug symbols reads the dump of a panic: a separate lane, because
Debian's package of the symbols is large. Run it with --crash-lane."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pykexec.dump.log import records
from pykexec.dump.reader import open_dump

from .crash_tool import Answers, ask, only_in_its_lane
from .lab import VM
from .product import CAPTURE_APPEND, PYKEXEC, site

FIRST = """
    {pykexec} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel --crash-by-normal \\
        --mode {mode} --append "{append}" > /out/load 2>&1
    taskset 2 sh -c 'echo c > /proc/sysrq-trigger'
    sleep 60
"""
SECOND = """
    makedumpfile -l -d 31 /proc/vmcore /out/dump > /out/makedumpfile 2>&1
    copyout /out
"""
PID_MESSAGE = "not found in PID hash"


@pytest.fixture(scope="module", params=("in-place", "stub-swap"))
def answers(request: pytest.FixtureRequest, vm: VM, tmp_path_factory: Any) -> Answers:
    """About the dump of a panic on the second CPU, saved by makedumpfile."""
    only_in_its_lane(request.config)
    result = vm.run(
        FIRST.format(pykexec=PYKEXEC, mode=request.param, append=CAPTURE_APPEND),
        SECOND,
        append="crashkernel=64K",
        smp=2,
        python=True,
        site=site(),
        programs=["makedumpfile"],
    )
    dump = result.expect(0).files / "second/dump"
    return ask(vm.kernel, dump, tmp_path_factory.mktemp("answers"))


def test_nothing_is_wrong_with_the_dump(answers: Answers) -> None:
    """Except for a message of crash 8.0.2 about every dump of Debian's 6.1, also with kexec-tools:
    it does not find the tasks by their PIDs."""
    lines = answers.messages.splitlines()
    wrong = [line for line in lines if line.startswith(("crash:", "WARNING:"))]
    assert [line for line in wrong if not line.endswith(PID_MESSAGE)] == []


def test_the_system_is_the_one_that_panicked(answers: Answers) -> None:
    system = answers.text("sys")
    assert f"RELEASE: {answers.kernel.release}" in system
    assert "CPUS: 2" in system
    assert 'PANIC: "Kernel panic - not syncing: sysrq triggered crash"' in system


def test_the_backtrace_leads_to_the_panic(answers: Answers) -> None:
    for name in ("machine_kexec", "panic", "sysrq_handle_crash", "write_sysrq_trigger"):
        assert re.search(rf"^ *#\d+ .* {name} at ", answers.text("backtraces"), re.M)


def test_ps_has_what_each_cpu_ran(answers: Answers) -> None:
    running = [line.split() for line in answers.text("tasks").splitlines() if line[0] == ">"]
    assert [(row[3], row[-1]) for row in running] == [("0", "[swapper/0]"), ("1", "sh")]


def test_ps_has_every_task(answers: Answers) -> None:
    """And one idle task for each CPU."""
    if PID_MESSAGE in answers.messages:
        pytest.skip("crash 8.0.2 does not find the tasks of 6.1")
    rows = answers.text("tasks").splitlines()[1:]
    assert answers.report.tasks
    assert len(rows) == answers.report.tasks.threads + 2


def test_the_log_is_ours_byte_for_byte(answers: Answers) -> None:
    """Except that crash gives the time of a record in its first line alone."""
    ours = []
    for record in records(open_dump(str(answers.dump))):
        first, *more = record.lines()
        start = first.index(b"] ") + 2
        ours += [first, *(b" " * start + line[start:] for line in more)]
    assert (answers.folder / "log").read_bytes() == b"".join(line + b"\n" for line in ours)
    assert b"Kernel panic - not syncing: sysrq triggered crash" in b"\n".join(ours[-60:])


def test_the_modules_are_ours(answers: Answers) -> None:
    rows = [line.split() for line in answers.text("modules").splitlines()[1:]]
    theirs = {(row[1], int(row[0], 16)) for row in rows}
    assert theirs
    assert {(module.name, module.address) for module in answers.report.modules or ()} == theirs


def test_the_registers_are_ours(answers: Answers) -> None:
    theirs = answers.registers()
    assert theirs.keys() == {0, 1}
    for cpu in answers.report.cpus or ():
        assert cpu.registers
        common = cpu.registers.values.keys() & theirs[cpu.number].keys()
        assert len(common) > 18
        for name in common:
            assert cpu.registers.values[name] == theirs[cpu.number][name], name


def own_frames(answers: Answers, number: int, without: str = "") -> list[int]:
    """The addresses in our backtrace of a CPU, without guesses and one function; from panic() on if
    it panicked."""
    (cpu,) = [cpu for cpu in answers.report.cpus or () if cpu.number == number]
    names = [frame.place.name if frame.place else "" for frame in cpu.frames]
    start = names.index("panic") if number == answers.report.panic_cpu else 0
    named = zip(cpu.frames[start:], names[start:], strict=True)
    return [frame.ip for frame, name in named if not frame.guess and name != without]


def program_of(answers: Answers) -> Any:
    """drgn, which has the debug symbols."""
    drgn = pytest.importorskip("drgn")
    core = drgn.Program()
    core.set_core_dump(str(answers.dump))
    core.load_debug_info([str(answers.symbols)])
    return core


def test_all_processes_are_there(answers: Answers) -> None:
    """drgn finds them by their PIDs."""
    pids = pytest.importorskip("drgn.helpers.linux.pid")
    tasks = list(pids.for_each_task(program_of(answers)))
    names = {task.pid.value_(): task.comm.string_() for task in tasks}
    assert (names[1], names[2]) == (b"init", b"kthreadd")
    assert {b"payload", b"sh"} <= set(names.values())
    assert answers.report.tasks
    assert answers.report.tasks.threads == len(tasks)


def test_our_backtrace_is_that_of_drgn(answers: Answers) -> None:
    """drgn lists functions that were inlined with the same address."""
    frames = program_of(answers).crashed_thread().stack_trace()
    theirs = list(dict.fromkeys(frame.pc for frame in frames if frame.pc >> 63))
    ours = own_frames(answers, 1)
    assert len(ours) > 6
    assert ours == theirs[theirs.index(ours[0]) :]


def test_our_backtraces_are_part_of_those_of_crash(answers: Answers) -> None:
    """crash starts in the functions that stop a CPU. It stops in start_kernel, before the assembly
    code that calls it on arm64, and for x86_64 it also lists older return addresses that are left
    on the stack."""
    found = answers.addresses()
    assert found.keys() == {0, 1}
    for number, theirs in found.items():
        ours = own_frames(answers, number, without="__primary_switched")
        assert len(ours) > 4
        same = theirs[theirs.index(ours[0]) :]
        if answers.kernel.architecture != "arm64":
            same = [addr for addr in same if addr in ours]
        assert same == ours
