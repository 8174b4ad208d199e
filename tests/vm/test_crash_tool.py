"""crash(8) with the kernel's debug symbols reads the dump of a panic: a separate lane, because
Debian's package of the symbols is large. Run it with --crash-lane."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from pykexec.dump.reader import open_dump
from pykexec.dump.report import Report, make_report

from .lab import VM
from .product import CAPTURE_APPEND, PYKEXEC, site
from .supplies import Kernel, debug_symbols, program

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
ASKED = ("sys", "bt", "ps", "log", "quit")


@pytest.fixture(scope="module", params=("in-place", "stub-swap"))
def dump(request: pytest.FixtureRequest, vm: VM) -> Path:
    """The dump of a panic on the second CPU, saved by makedumpfile."""
    if not request.config.getoption("--crash-lane"):
        pytest.skip("debug symbols are some 280 MB: --crash-lane fetches them")
    result = vm.run(
        FIRST.format(pykexec=PYKEXEC, mode=request.param, append=CAPTURE_APPEND),
        SECOND,
        append="crashkernel=64K",
        smp=2,
        python=True,
        site=site(),
        programs=["makedumpfile"],
    )
    return result.expect(0).files / "second/dump"


@pytest.fixture(scope="module")
def output(dump: Path, kernel: Kernel) -> str:
    """The output of crash, and its start-up messages, which show missing pages."""
    tool = program("crash")
    folders = ":".join(str(folder) for folder in tool.library_folders)
    done = subprocess.run(
        [tool.path, "-s", debug_symbols(kernel), dump],
        input="\n".join(ASKED),
        env={**os.environ, "LD_LIBRARY_PATH": folders, "TERM": "dumb"},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_nothing_is_wrong_with_the_dump(output: str) -> None:
    """Except for a message of crash 8.0.2 about every dump of Debian's 6.1, also with kexec-tools:
    it does not find the tasks by their PIDs."""
    wrong = [line for line in output.splitlines() if line.startswith(("crash:", "WARNING:"))]
    assert [line for line in wrong if not line.endswith("not found in PID hash")] == []


def test_the_system_is_the_one_that_panicked(output: str, kernel: Kernel) -> None:
    assert f"RELEASE: {kernel.release}" in output
    assert "CPUS: 2" in output
    assert 'PANIC: "Kernel panic - not syncing: sysrq triggered crash"' in output


def test_the_backtrace_leads_to_the_panic(output: str) -> None:
    assert "machine_kexec" in output
    assert "sysrq_handle_crash" in output
    assert "write_sysrq_trigger" in output


def test_ps_has_what_each_cpu_ran(output: str) -> None:
    running = [line.split() for line in output.splitlines() if line.startswith(">")]
    assert [(row[3], row[-1]) for row in running] == [("0", "[swapper/0]"), ("1", "sh")]


def test_all_processes_are_there(dump: Path, kernel: Kernel) -> None:
    """drgn finds them by their PIDs."""
    drgn = pytest.importorskip("drgn")
    pids = pytest.importorskip("drgn.helpers.linux.pid")
    core = drgn.Program()
    core.set_core_dump(str(dump))
    core.load_debug_info([str(debug_symbols(kernel))])
    names = {task.pid.value_(): task.comm.string_() for task in pids.for_each_task(core)}
    assert (names[1], names[2]) == (b"init", b"kthreadd")
    assert {b"payload", b"sh"} <= set(names.values())


def test_the_log_ends_with_the_panic(output: str) -> None:
    assert "sysrq: Trigger a crash" in output
    assert "Kernel panic - not syncing: sysrq triggered crash" in output.rpartition("Trigger")[2]


def own_frames(report: Report) -> list[int]:
    """The addresses in our backtrace of the CPU that panicked, from panic() on, without guesses."""
    (cpu,) = [cpu for cpu in report.cpus or () if cpu.number == report.panic_cpu]
    names = [frame.place.name if frame.place else "" for frame in cpu.frames]
    return [frame.ip for frame in cpu.frames[names.index("panic") :] if not frame.guess]


def test_our_backtrace_is_that_of_drgn(dump: Path, kernel: Kernel) -> None:
    """drgn has the debug symbols; it lists functions that were inlined with the same address."""
    drgn = pytest.importorskip("drgn")
    core = drgn.Program()
    core.set_core_dump(str(dump))
    core.load_debug_info([str(debug_symbols(kernel))])
    frames = core.crashed_thread().stack_trace()
    theirs = list(dict.fromkeys(frame.pc for frame in frames if frame.pc >> 63))
    ours = own_frames(make_report(open_dump(str(dump))))
    assert len(ours) > 6
    assert ours == theirs[theirs.index(ours[0]) :]


def test_our_backtrace_is_part_of_that_of_crash(output: str, dump: Path) -> None:
    """crash also lists older return addresses that are left on the stack."""
    theirs = [int(addr, 16) for addr in re.findall(r"^ *#\d+ .* at ([0-9a-f]{16})$", output, re.M)]
    ours = own_frames(make_report(open_dump(str(dump))))
    assert [addr for addr in theirs if addr in ours] == ours


def test_our_tasks_are_those_of_drgn(dump: Path, kernel: Kernel) -> None:
    drgn = pytest.importorskip("drgn")
    pids = pytest.importorskip("drgn.helpers.linux.pid")
    core = drgn.Program()
    core.set_core_dump(str(dump))
    core.load_debug_info([str(debug_symbols(kernel))])
    tasks = make_report(open_dump(str(dump))).tasks
    assert tasks
    assert tasks.threads == len(list(pids.for_each_task(core)))
