"""The laboratory itself: kexec-tools does in it what kexec-tools does."""

from __future__ import annotations

import pytest

from .lab import VM
from .machine import Result

SECOND_APPEND = "console=ttyS0 panic=1 quiet second=1"


@pytest.fixture(scope="module")
def normal(vm: VM) -> Result:
    """kexec -l and kexec -e of the same kernel."""
    first = f"""
        mkdir /out
        uname -r > /out/release
        python3 -c 'import ctypes, json, sys; print(sys.version.split()[0])' > /out/python
        kexec -l /boot/vmlinuz --initrd=/boot/initrd2 --append="{SECOND_APPEND}"
        cat /sys/kernel/kexec_loaded > /out/loaded
        copyout /out
        host mark "kexec -e"
        kexec -e
    """
    second = """
        mkdir /out
        cat /proc/cmdline > /out/cmdline
        copyin /first
        cp /first/release /out/release-of-first
        copyout /out
        exit 7
    """
    return vm.run(first, second, python=True, programs=["kexec"])


def test_first_kernel_runs_its_script(vm: VM, normal: Result) -> None:
    normal.expect(7)
    assert (normal.files / "first/release").read_text().strip() == vm.kernel.release
