"""Normal loads on a real kernel: both system calls start the next kernel, and impossible requests
are refused with a message and the right exit status, leaving nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykexec.host.captured import open_root
from pykexec.host.facts import read_machine
from pykexec.machine import SerialConsole

from .lab import VM
from .machine import Result
from .product import PYKEXEC, document, site, text
from .supplies import efi_firmware

REFUSALS = f"""
    check() {{
        name=$1; shift
        set +e
        "$@" > /out/$name.out 2> /out/$name.err
        echo $? > /out/$name.status
        set -e
    }}
    K="{PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel"
    check no-reservation $K --crash
    check no-panic-mode $K --crash-by-normal --mode in-place
    check flag-mode $K --crash-by-normal --mode flag
    check nothing-to-start {PYKEXEC} exec --backend kernel --yes
    check not-a-kernel {PYKEXEC} load /etc/disk --backend kernel
    check ignored-option $K --syscall file --mem-min 64M
    check nobody-to-ask {PYKEXEC} exec --backend kernel
    check window {PYKEXEC} load /boot/vmlinuz --crash-by-normal --dry-run \\
        --mem-min 1M --mem-max 0xffffff
    echo 2 > /proc/sys/kernel/kptr_restrict
    check hidden-symbols $K --crash-by-normal --mode kernel-swap
    echo 1 > /proc/sys/kernel/kptr_restrict
    check empty-status {PYKEXEC} status --backend kernel
    cat /sys/kernel/kexec_loaded > /out/loaded-before
    cat /proc/sys/vm/nr_hugepages > /out/pool-before
    test ! -e /run/pykexec/stage.json
"""

FIRST = f"""
    {REFUSALS}
    host mark "refusals done"
    $K --append "console=ttyS0 panic=1 quiet stage=two" --json > /out/plan.json
    {PYKEXEC} status --backend kernel --json > /out/status.json
    cat /sys/kernel/kexec_loaded > /out/loaded
    {PYKEXEC} doctor --json > /out/doctor.json || true
    {PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel --syscall file \\
        --dry-run --json > /out/dry-file.json
    {PYKEXEC} machine capture /out/machine.json > /out/captured.txt
    copyout /out
    host mark "exec"
    {PYKEXEC} exec --backend kernel --yes
"""

SECOND = f"""
    cat /proc/cmdline > /out/cmdline
    {PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel --syscall file \\
        --append "console=ttyS0 panic=1 quiet stage=three" --json > /out/file.json
    {PYKEXEC} unload --backend kernel > /out/unload.txt
    cat /sys/kernel/kexec_loaded > /out/unloaded
    {PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel --syscall file \\
        --append "console=ttyS0 panic=1 quiet stage=three" > /out/file.txt
    copyout /out
    {PYKEXEC} exec --backend kernel --yes
"""


THIRD = "grep -q stage=three /proc/cmdline && exit 7"


@pytest.fixture(scope="module")
def result(vm: VM) -> Result:
    """One boot, two kexecs."""
    files: dict[str, bytes | str | Path] = {
        "/boot/vmlinuz": vm.kernel.image,
        "/boot/initrd2": vm.initrd(THIRD),
    }
    return vm.run(
        FIRST,
        SECOND,
        mem_mib=1024,
        python=True,
        second_python=True,
        site=site(),
        second_files=files,
    ).expect(7)


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("no-reservation", 6, "pykexec: there is no crash region"),
        ("no-panic-mode", 5, "pykexec: mode in-place: there is no crash region"),
        ("flag-mode", 5, "pykexec: mode flag: no stock kernel supports KEXEC_CRASH_BY_NORMAL"),
        ("nothing-to-start", 3, "pykexec: nothing to start: the normal image is not loaded"),
        ("not-a-kernel", 1, "pykexec: /etc/disk: not a kernel image: it is a text file"),
        (
            "ignored-option",
            2,
            "pykexec: a lower bound on addresses has no effect",
        ),
        ("nobody-to-ask", 3, "pykexec: nothing to start"),
        ("window", 6, "pykexec: the window 0x100000..0x1000000 has no room for this kernel"),
    ],
)
def test_a_refusal_says_why(result: Result, name: str, status: int, message: str) -> None:
    assert text(result, f"first/{name}.err").startswith(message)
    assert text(result, f"first/{name}.status") == str(status)
    assert text(result, f"first/{name}.out") == ""


def test_what_kernel_swap_lacks_is_said(vm: VM, result: Result) -> None:
    """Addresses are hidden from all users; a kernel that copies does not need them."""
    swaps = vm.kernel.series in ("6.1", "6.12")
    reason = (
        "/proc/kallsyms hides its addresses" if swaps else "this kernel copies pages at a kexec"
    )
    assert f"pykexec: mode kernel-swap: {reason}" in text(result, "first/hidden-symbols.err")
    assert text(result, "first/hidden-symbols.status") == "5"


def test_refusals_leave_nothing_behind(result: Result) -> None:
    assert text(result, "first/empty-status.status") == "3"
    assert text(result, "first/loaded-before") == "0"
    assert text(result, "first/pool-before") == "0"


def test_kexec_load_starts_the_next_kernel(result: Result) -> None:
    plan = document(result, "first/plan.json")
    assert plan["backend"] == "kernel"
    assert plan["syscall"]["name"] == "kexec_load"
    assert text(result, "first/loaded") == "1"
    assert document(result, "first/status.json")["normal"] == "loaded"
    assert text(result, "second/cmdline") == "console=ttyS0 panic=1 quiet stage=two"


def test_kexec_file_load_starts_the_one_after(result: Result) -> None:
    done = document(result, "second/file.json")
    assert done["syscall"] == {"name": "kexec_file_load", "why": "requested by the user"}
    assert text(result, "second/unloaded") == "0"


def test_the_doctor_knows_this_machine(result: Result) -> None:
    found = document(result, "first/doctor.json")
    assert found["schema"] == "pykexec.doctor/1"
    levels = {row["name"]: row["level"] for row in found["rows"]}
    assert levels["system call"] == "ok"
    assert levels["memory encryption"] == "ok"


def test_a_dry_run_by_file_is_the_load_by_file(result: Result) -> None:
    dry, done = document(result, "first/dry-file.json"), document(result, "second/file.json")
    assert (dry["state"], done["state"]) == ("requested", "loaded")
    assert {name for name in dry if dry[name] != done[name]} == {
        "state",
        "cmdline",
        "cmdline_words",
    }


def test_the_facts_of_a_real_kernel(result: Result, tmp_path: Path) -> None:
    """Its console, from /sys/class/tty; VMCOREINFO, from /proc/kcore."""
    file = tmp_path / "machine.json"
    file.write_text(text(result, "first/machine.json"))
    machine = read_machine(open_root(file))
    assert machine.console == SerialConsole("ttyS0", 0x3F8, False, None, 0, "console=ttyS0")
    assert machine.sme_mask == 0
    assert machine.snp_guest is False
    assert machine.kexec.in_kernel is True
    assert document(result, "first/plan.json")["console"] == {
        "port": "0x3f8",
        "why": "ttyS0, console=ttyS0",
    }


def test_mem_of_the_first_kernel_is_not_the_next_ones(vm: VM) -> None:
    """With kexec_load the next kernel gets what the firmware reported to the first one."""
    first = f"""
        grep MemTotal /proc/meminfo > /out/memory
        {PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel \\
            --append "console=ttyS0 panic=1 quiet" --json > /out/plan.json
        copyout /out
        {PYKEXEC} exec --backend kernel --yes
    """
    second = """
        cat /sys/firmware/memmap/*/start > /out/starts
        grep MemTotal /proc/meminfo > /out/memory
        copyout /out
        exit 7
    """
    result = vm.run(first, second, append="mem=640M", python=True, site=site()).expect(7)
    before, after = (int(text(result, f"{name}/memory").split()[1]) for name in ("first", "second"))
    assert before < 640 << 10
    assert after > 900 << 10
    given = document(result, "first/plan.json")["next_memory_map"]
    assert sorted(item["start"] for item in given) == sorted(text(result, "second/starts").split())


def test_efi_goes_on_in_the_next_kernel(vm: VM) -> None:
    first = f"""
        {PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel \\
            --append "console=ttyS0 panic=1 quiet" > /out/load.txt
        {PYKEXEC} exec --backend kernel --yes
    """
    second = """
        test -d /sys/firmware/efi/runtime-map
        dmesg | grep -q "Registered efivars operations"
        exit 7
    """
    vm.run(first, second, python=True, site=site(), firmware=efi_firmware()).expect(7)
