"""Normal loads on a real arm64 kernel."""

from __future__ import annotations

import pytest

from pykexec.abi.devicetree import Node, parse_device_tree

from .lab import VM
from .machine import Result
from .product import PYKEXEC, document, site, text

APPEND = "console=ttyAMA0 panic=1 quiet"

FIRST = f"""
    {PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel \\
        --append "{APPEND} stage=two" --json > /out/plan.json
    cat /sys/kernel/kexec_loaded > /out/loaded
    cp /sys/firmware/fdt /out/fdt
    copyout /out
    host mark "exec"
    {PYKEXEC} exec --backend kernel --yes
"""

TREE = """
from dataclasses import replace
from pykexec.abi.devicetree import Node, parse_device_tree
tree = parse_device_tree(open("/sys/firmware/fdt", "rb").read())
kept = [node for node in tree.root.children if node.text("device_type") != "memory"]
kept = [Node("chosen") if node.name == "chosen" else node for node in kept]
root = replace(tree.root, children=(*kept, Node("from-the-user")))
open("/tmp/given.dtb", "wb").write(replace(tree, root=root).encode())
"""
"""The tree of QEMU's machine as a file has it: without memory, and nothing in /chosen."""

SECOND = """
    cat /proc/cmdline > /out/cmdline
    cp /sys/firmware/fdt /out/fdt
    grep MemTotal /proc/meminfo > /out/memory
    cat /proc/iomem > /out/iomem
    python3 /boot/tree.py
    gzip -c /boot/vmlinuz > /tmp/vmlinuz.gz
    echo "console=tty1 panic=1 quiet stage=bound" > /tmp/cmdline
    mount -o bind /tmp/cmdline /proc/cmdline
    kexec -c -l /tmp/vmlinuz.gz --initrd=/boot/initrd3 --reuse-cmdline \\
        --append=stage=three --dtb=/tmp/given.dtb --serial=ttyAMA0 > /out/kexec8 2>&1
    cat /sys/kernel/kexec_loaded >> /out/kexec8
    copyout /out
    kexec -e
"""

KEXEC8 = """#!/bin/sh
exec python3 -c 'from pykexec.cli.kexec8 import main; main()' "$@"
"""

THIRD = """
    grep -q stage=three /proc/cmdline
    grep -q "console=tty1 panic=1 quiet" /proc/cmdline
    test -d /proc/device-tree/from-the-user
    exit 7
"""


@pytest.fixture(scope="module")
def result(arm_vm: VM) -> Result:
    """One boot, two kexecs."""
    return arm_vm.run(
        FIRST,
        SECOND,
        smp=2,
        python=True,
        second_python=True,
        site=site(),
        second_files={
            "/boot/vmlinuz": arm_vm.kernel.image,
            "/boot/initrd3": arm_vm.initrd(THIRD),
            "/boot/tree.py": TREE,
            "/bin/kexec": KEXEC8,
        },
    ).expect(7)


def test_the_next_kernel_starts(result: Result) -> None:
    plan = document(result, "first/plan.json")
    assert plan["kernel"]["type"] == "arm64-image"
    assert text(result, "first/loaded") == "1"
    assert text(result, "second/cmdline") == f"{APPEND} stage=two"
    assert int(text(result, "second/memory").split()[1]) > 900 << 10


def chosen(result: Result, stage: str) -> Node:
    found = parse_device_tree((result.files / stage / "fdt").read_bytes()).node("/chosen")
    assert found
    return found


def test_the_device_tree_of_the_next_kernel(result: Result) -> None:
    before, after = chosen(result, "first"), chosen(result, "second")
    assert after.get("stdout-path") == before.get("stdout-path")
    assert after.text("bootargs") == f"{APPEND} stage=two"
    assert after.number("linux,initrd-start") != before.number("linux,initrd-start")
    assert after.get("linux,usable-memory-range") is None


def test_the_purgatory_writes_to_the_requested_uart(result: Result) -> None:
    """To the console of the first kernel, and to a UART that is the console of none."""
    assert text(result, "second/kexec8").endswith("1")
    assert result.console.count("pykexec: starting") == 2
