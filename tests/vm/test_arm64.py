"""The lane of arm64: the lab itself, with kexec-tools."""

from __future__ import annotations

import pytest

from .lab import VM
from .machine import Result
from .product import text

SECOND_APPEND = "console=ttyAMA0 panic=1 quiet second=1"


@pytest.fixture(scope="module")
def normal(arm_vm: VM) -> Result:
    """kexec -l and kexec -e of the same kernel."""
    first = f"""
        uname -rm > /out/release
        python3 -c 'import ctypes, json, mmap, sys; print(sys.byteorder)' > /out/python
        kexec -l /boot/vmlinuz --initrd=/boot/initrd2 --append="{SECOND_APPEND}"
        cat /sys/kernel/kexec_loaded > /out/loaded
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
    return arm_vm.run(first, second, python=True, programs=["kexec"]).expect(7)


def test_the_first_kernel_runs_its_script(arm_vm: VM, normal: Result) -> None:
    assert text(normal, "first/release") == f"{arm_vm.kernel.release} aarch64"
    assert text(normal, "first/python") == "little"


def test_kexec_starts_the_second_kernel(arm_vm: VM, normal: Result) -> None:
    assert text(normal, "first/loaded") == "1"
    assert text(normal, "second/cmdline") == SECOND_APPEND
    assert text(normal, "second/release-of-first") == f"{arm_vm.kernel.release} aarch64"
