"""The same as test_dump_report and test_dump_log for dumps of arm64, whose kernel names its
functions alone. drgn judges the page tables; Debian's programs for arm64, which run in QEMU's
emulation of a process, judge the log and write the other kinds of files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pykexec.dump.arm64.paging import Arm64Memory
from pykexec.dump.log import records
from pykexec.dump.reader import open_dump
from pykexec.dump.report import make_report
from pykexec.dump.vmcore_check import verify
from tests.dump.as_vmcore import vmcore_of

from .panicked import Panicked, panicked
from .product import VA_52
from .supplies import Kernel, command, program
from .test_dump_log import (
    MAKEDUMPFILE,
    log,
    test_qemus_own_compressed_file,
    test_the_log_is_the_console_byte_for_byte,
)
from .test_dump_report import (
    ENDS,
    TRACE,
    linux_of,
    report_of,
    test_a_dump_whose_end_is_missing,
    test_drgn_reads_the_same_at_every_kind_of_address,
    test_every_sleeping_task_has_a_whole_backtrace,
    test_every_thread_is_there,
    test_it_is_quick_and_small,
    test_memory_in_all,
    test_memory_of_the_processes,
    test_modules_are_those_of_proc_modules,
    test_nothing_is_unknown,
    test_symbols_are_those_of_proc_kallsyms,
    test_the_compressed_dump_tells_the_same,
    test_vmcoreinfo_is_found_in_memory,
    test_what_was_blocked,
)

pytestmark = pytest.mark.vm
__all__ = [
    "test_a_dump_whose_end_is_missing",
    "test_drgn_reads_the_same_at_every_kind_of_address",
    "test_every_sleeping_task_has_a_whole_backtrace",
    "test_every_thread_is_there",
    "test_it_is_quick_and_small",
    "test_memory_in_all",
    "test_memory_of_the_processes",
    "test_modules_are_those_of_proc_modules",
    "test_nothing_is_unknown",
    "test_qemus_own_compressed_file",
    "test_symbols_are_those_of_proc_kallsyms",
    "test_the_compressed_dump_tells_the_same",
    "test_the_log_is_the_console_byte_for_byte",
    "test_vmcoreinfo_is_found_in_memory",
    "test_what_was_blocked",
]


@pytest.fixture(scope="module")
def crash(arm_kernel: Kernel) -> Panicked:
    return panicked(arm_kernel)


def test_the_page_tables(crash: Panicked) -> None:
    memory = linux_of(crash).memory
    assert isinstance(memory, Arm64Memory)
    known = {"6.1": (12, 4), "6.12": (12, 4), "7.x": (12, 4), "16k": (14, 3)}
    assert (memory.page_shift, len(memory.shifts)) == known[crash.kernel.series]


def test_addresses_of_52_bits(arm_kernel: Kernel, pytestconfig: pytest.Config) -> None:
    """On a processor with LPA2; without it, the same kernels have one level of tables fewer."""
    if arm_kernel.series not in VA_52 or not pytestconfig.getoption("--all-kernels"):
        pytest.skip("kernels with addresses of 52 bits are for --all-kernels")
    crash = panicked(arm_kernel, cpu="max,pauth-impdef=on")
    memory = linux_of(crash).memory
    assert isinstance(memory, Arm64Memory)
    assert memory.wide
    assert len(memory.shifts) == (4 if memory.page_shift == 14 else 5)
    assert report_of(crash).problems == []
    test_drgn_reads_the_same_at_every_kind_of_address(crash)


def test_where_the_other_cpu_was_stopped(crash: Panicked) -> None:
    """Nearly always where it idled."""
    report = report_of(crash)
    assert report.cpus
    other = report.cpus[0]
    assert other.task
    names = [frame.place.name for frame in other.frames if frame.place]
    assert names[0] in ("local_cpu_stop", "ipi_cpu_stop")
    assert not any(frame.guess for frame in other.frames)
    (interrupted,) = [frame for frame in other.frames if frame.registers]
    assert interrupted.place
    if other.task.pid:
        assert names[-1].startswith(ENDS)
        return
    assert interrupted.place.name in ("cpu_do_idle", "arch_cpu_idle", "default_idle_call")
    assert {"do_idle", "cpu_startup_entry", "start_kernel"} <= set(names)


def test_the_backtrace_is_the_kernels_own(crash: Panicked) -> None:
    """Starting with the second caller of panic(): the kernel names the function after the first
    one, whose last instruction is the call."""
    texts = [record.text for record in records(open_dump(str(crash.elf)))]
    own = [match[2].decode() for text in texts if (match := TRACE.match(text)) and not match[1]]
    start = next(at for at, name in enumerate(own) if name.startswith("panic+"))
    report = report_of(crash)
    assert report.cpus
    ours = [str(frame) for frame in report.cpus[1].frames]
    here = next(at for at, name in enumerate(ours) if name.startswith("panic+"))
    assert ours[here + 1].startswith("sysrq_handle_crash+")
    assert ours[here + 2 :] == own[start + 2 : start + len(ours) - here]
    assert ours[-1].startswith(ENDS)


def tool(name: str, *words: str | Path) -> bytes:
    """Output of a program from Debian for arm64, which must succeed."""
    done = subprocess.run([*command(program(name, "arm64"), "arm64"), *words], capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def vmcore(crash: Panicked, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With virtual addresses, which the guest itself reported."""
    return vmcore_of(crash.elf, tmp_path_factory.mktemp("vmcore") / "vmcore", crash.symbols)


def test_vmcore_dmesg_of_debian(vmcore: Path) -> None:
    code = "from pykexec.vmcore_dmesg import main; main()"
    ours = subprocess.run([sys.executable, "-c", code, vmcore], capture_output=True)
    assert (ours.returncode, ours.stderr) == (0, b"")
    assert ours.stdout == tool("vmcore-dmesg", vmcore)


def test_a_vmcore_is_complete(vmcore: Path) -> None:
    found = verify(vmcore, None)
    assert found.whole
    assert [check.rule for check in found.checks if check.ok is None] == [
        "coverage",
        "pattern-pages",
    ]


@pytest.mark.parametrize("kind", MAKEDUMPFILE)
def test_files_of_makedumpfile(kind: str, crash: Panicked, vmcore: Path, tmp_path: Path) -> None:
    path = tmp_path / "dump"
    if crash.kernel.series in VA_52:
        pytest.skip("makedumpfile up to 1.7.9 has no addresses of 52 bits and pages below 64 KiB")
    tool("makedumpfile", *MAKEDUMPFILE[kind], vmcore, path)
    assert log(path) == log(crash.elf)
    report = make_report(open_dump(str(path)))
    assert report.problems == []
    assert report.cpus == report_of(crash).cpus
    assert report.modules == report_of(crash).modules
