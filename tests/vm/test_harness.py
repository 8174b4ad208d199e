"""The lab itself: kexec-tools works in it."""

from __future__ import annotations

import json

import pytest

from .guest.check_pattern import Verdict
from .lab import VM
from .machine import TIMED_OUT, Qmp, Result

SECOND_APPEND = "console=ttyS0 panic=1 quiet second=1"
PATTERN_MIB = 256


@pytest.fixture(scope="module")
def normal(vm: VM) -> Result:
    """kexec -l and kexec -e of the same kernel."""
    first = f"""
        uname -r > /out/release
        python3 -c 'import ctypes, json, sys; print(sys.version.split()[0])' > /out/python
        kexec -l /boot/vmlinuz --initrd=/boot/initrd2 --append="{SECOND_APPEND}"
        cat /sys/kernel/kexec_loaded > /out/loaded
        host qmp pmemsave '{{"val": 0, "size": 4096, "filename": "FILES/page0"}}'
        copyout /out
        host mark "kexec -e"
        kexec -e
    """
    second = """
        cat /proc/cmdline > /out/cmdline
        copyin /first
        cp /first/release /out/release-of-first
        copyout /out
        exit 7
    """
    return vm.run(first, second, python=True, programs=["kexec"]).expect(7)


@pytest.fixture(scope="module")
def panic(vm: VM) -> Result:
    """kexec -p, and a panic on one of two CPUs."""
    first = f"""
        python3 -m guest.pattern hold {PATTERN_MIB} /out/frames
        host mark "pattern laid out"
        kexec -p /boot/vmlinuz --initrd=/boot/initrd2 --append="{SECOND_APPEND} nr_cpus=1"
        cat /sys/kernel/kexec_crash_loaded > /out/loaded
        python3 -m guest.pattern settle /out/frames
        python3 -m guest.pattern moved /out/frames
        copyout /out
        host mark panic
        echo c > /proc/sysrq-trigger
        sleep 60
    """
    second = """
        copyin /first
        ls -l /proc/vmcore
        host mark "check_pattern"
        python3 -m guest.check_pattern /first/frames /proc/vmcore > /out/verdict.json
        host mark "makedumpfile"
        makedumpfile -l -d 31 /proc/vmcore /out/dump > /out/makedumpfile 2>&1 || true
        host mark "vmcore-dmesg"
        vmcore-dmesg /proc/vmcore > /out/dmesg
        host mark "copyout"
        copyout /out
        ls -l /out
    """
    programs = ["kexec", "makedumpfile", "vmcore-dmesg"]
    append = "crashkernel=192M"
    return vm.run(
        first, second, append=append, smp=2, python=True, second_python=True, programs=programs
    ).expect(0)


def text(result: Result, name: str) -> str:
    return (result.files / name).read_text(errors="replace").strip()


def test_first_kernel_runs_its_script(vm: VM, normal: Result) -> None:
    assert text(normal, "first/release") == vm.kernel.release
    assert text(normal, "first/python").startswith("3.")


def test_qmp_saves_memory(normal: Result) -> None:
    assert (normal.files / "page0").stat().st_size == 4096


def test_kexec_starts_the_second_kernel(vm: VM, normal: Result) -> None:
    assert text(normal, "first/loaded") == "1"
    assert text(normal, "second/cmdline") == SECOND_APPEND
    assert text(normal, "second/release-of-first") == vm.kernel.release


def test_panic_starts_the_capture_kernel(panic: Result) -> None:
    assert text(panic, "first/loaded") == "1"
    assert "sysrq: Trigger a crash" in text(panic, "second/dmesg")


def test_makedumpfile_filters_the_dump(panic: Result) -> None:
    assert "The dumpfile is saved" in text(panic, "second/makedumpfile")
    with open(panic.files / "second/dump", "rb") as dump:
        assert dump.read(8) == b"KDUMP   "


def test_vmcore_holds_every_page_of_the_pattern(panic: Result) -> None:
    verdict = Verdict(**json.loads(text(panic, "second/verdict.json")))
    assert verdict.expected == PATTERN_MIB * 256
    assert verdict.intact == verdict.expected
    assert (verdict.repeated, verdict.missing, verdict.broken) == (0, 0, 0)


def test_nmi_reaches_the_guest(vm: VM) -> None:
    def send_nmi(text: str, qmp: Qmp) -> None:
        if text == "waiting":
            qmp.nmi()

    script = """
        host mark waiting
        for try in 1 2 3 4 5 6 7 8 9 10; do
            grep -q 'NMI: *[1-9]' /proc/interrupts && exit 0
            sleep 1
        done
        exit 1
    """
    vm.run(script, on_mark=send_nmi).expect(0)


def test_a_run_that_hangs_is_ended(vm: VM) -> None:
    assert vm.run("host mark asleep; sleep 1000", timeout_s=8).status == TIMED_OUT
