"""A 32-bit Debian kernel with a 32-bit Python starts another one, and that one a 64-bit kernel by
its 32-bit entry; a 64-bit kernel starts a 32-bit one without PAE."""

from __future__ import annotations

import pytest

from . import supplies
from .lab import VM
from .machine import Result
from .product import PYKEXEC, document, site, text

LINUX = "console=ttyS0 panic=1 quiet"

FIRST = f"""
    uname -m > /out/machine
    {PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel \\
        --append "{LINUX} stage=two" --json > /out/plan.json
    {PYKEXEC} status --backend kernel --json > /out/status.json
    copyout /out
    {PYKEXEC} exec --backend kernel --yes
"""

SECOND = f"""
    uname -m > /out/machine
    cat /proc/cmdline > /out/cmdline
    K="{PYKEXEC} load /boot/vmlinuz-64 --initrd /boot/initrd3 --backend kernel"
    set +e
    $K 2> /out/refused.err
    echo $? > /out/refused.status
    set -e
    $K --type bzImage --append "{LINUX} stage=three" --json > /out/plan.json
    {PYKEXEC} unload --backend kernel > /out/unload.txt
    cat /sys/kernel/kexec_loaded > /out/unloaded
    $K --type bzImage --append "{LINUX} stage=three" > /out/load.txt
    copyout /out
    {PYKEXEC} exec --backend kernel --yes
"""

THIRD = """
    grep -q stage=three /proc/cmdline
    test "$(uname -m)" = x86_64
    exit 7
"""


@pytest.fixture(scope="module")
def result(vm: VM) -> Result:
    """One boot, two kexecs."""
    return (
        VM(supplies.kernel_i386(), vm.folder)
        .run(
            FIRST,
            SECOND,
            python=True,
            second_python=True,
            site=site(),
            second_files={"/boot/vmlinuz-64": vm.kernel.image, "/boot/initrd3": vm.initrd(THIRD)},
        )
        .expect(7)
    )


def test_a_32_bit_kernel_starts_a_32_bit_kernel(result: Result) -> None:
    plan = document(result, "first/plan.json")
    assert plan["kernel"]["type"] == "bzImage"
    assert plan["syscall"]["name"] == "kexec_load"
    assert document(result, "first/status.json")["normal"] == "loaded"
    assert text(result, "first/machine") == text(result, "second/machine") == "i686"
    assert text(result, "second/cmdline") == f"{LINUX} stage=two"


def test_a_32_bit_kernel_starts_a_64_bit_kernel_by_its_32_bit_entry(result: Result) -> None:
    """And reports that it cannot use the other entry. The third kernel ended the run."""
    assert text(result, "second/refused.status") == "5"
    assert "the running kernel is a 32-bit kernel" in text(result, "second/refused.err")
    assert document(result, "second/plan.json")["kernel"]["type"] == "bzImage"
    assert text(result, "second/unloaded") == "0"


FROM_64 = f"""
    {PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel \\
        --append "{LINUX} stage=two" --json > /out/plan.json
    copyout /out
    {PYKEXEC} exec --backend kernel --yes
"""

WITHOUT_PAE = """
    uname -rm > /out/machine
    cat /proc/cmdline > /out/cmdline
    copyout /out
"""


def test_a_64_bit_kernel_starts_a_32_bit_kernel_without_pae(vm: VM) -> None:
    """By its 32-bit entry, the only one."""
    plain = supplies.kernel_i386("686")
    result = vm.run(FROM_64, WITHOUT_PAE, second_kernel=plain, python=True, site=site()).expect(0)
    assert document(result, "first/plan.json")["kernel"]["type"] == "bzImage"
    assert text(result, "second/machine") == f"{plain.release} i686"
    assert text(result, "second/cmdline") == f"{LINUX} stage=two"
