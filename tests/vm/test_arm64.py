"""The lane of arm64: the lab itself, and Debian's kexec-tools as the judge of a plan.

With --reuse-cmdline, --append, --dtb and --serial. The same: the kernel at the lowest free 2 MiB,
the properties of the device tree and their values, the words of the command line. On purpose
otherwise:

    seeds          random; kexec-tools sets no rng-seed if the running kernel has wiped its own
    initrd         above the kernel in both, but pykexec keeps the device tree in a block of 2 MiB
    the stub       is pykexec's own, and larger than the purgatory of kexec-tools
"""

from __future__ import annotations

import re

import pytest

from pykexec.abi.devicetree import MAX_SIZE, Node, parse_device_tree
from pykexec.host.captured import open_root
from pykexec.host.facts import read_machine
from pykexec.images.contents import Built, contents_bytes
from pykexec.images.identify import identify
from pykexec.placement.plan import Plan
from pykexec.placement.plan_load import plan_load
from pykexec.placement.request import LoadRequest
from pykexec.placement.role import Role

from .lab import VM
from .machine import Result
from .product import PYKEXEC, site, text

SECOND_APPEND = "quiet second=1"
GIVEN = """
from dataclasses import replace
from pykexec.abi.devicetree import Node, parse_device_tree
tree = parse_device_tree(open("/sys/firmware/fdt", "rb").read())
root = replace(tree.root, children=(*tree.root.children, Node("from-the-user")))
open("/out/given.dtb", "wb").write(replace(tree, root=root).encode())
"""
"""The tree of the machine with a node more, for --dtb."""


@pytest.fixture(scope="module")
def normal(arm_vm: VM) -> Result:
    """kexec -l and kexec -e of the same kernel."""
    first = f"""
        uname -rm > /out/release
        python3 -c 'import ctypes, json, mmap, sys; print(sys.byteorder)' > /out/python
        {PYKEXEC} machine capture /out/machine.json > /dev/null
        wc -c < /boot/initrd2 > /out/initrd-size
        cat /proc/cmdline > /out/cmdline
        python3 /boot/given.py
        kexec -d -l /boot/vmlinuz --initrd=/boot/initrd2 --append="{SECOND_APPEND}" \\
            --reuse-cmdline --dtb=/out/given.dtb --serial=ttyAMA0 > /out/theirs 2>&1
        cat /sys/kernel/kexec_loaded > /out/loaded
        copyout /out
        host mark "kexec -e"
        kexec -e
    """
    second = """
        cat /proc/cmdline > /out/cmdline
        cp /sys/firmware/fdt /out/fdt
        copyin /first
        cp /first/release /out/release-of-first
        copyout /out
        exit 7
    """
    files = {"/boot/given.py": GIVEN}
    return arm_vm.run(
        first, second, python=True, site=site(), programs=["kexec"], files=files
    ).expect(7)


def test_the_first_kernel_runs_its_script(arm_vm: VM, normal: Result) -> None:
    assert text(normal, "first/release") == f"{arm_vm.kernel.release} aarch64"
    assert text(normal, "first/python") == "little"


def test_kexec_starts_the_second_kernel(arm_vm: VM, normal: Result) -> None:
    assert text(normal, "first/loaded") == "1"
    assert text(normal, "second/cmdline") == f"{text(normal, 'first/cmdline')} {SECOND_APPEND}"
    assert "I'm in purgatory" in normal.console
    assert text(normal, "second/release-of-first") == f"{arm_vm.kernel.release} aarch64"


@pytest.fixture(scope="module")
def ours(arm_vm: VM, normal: Result) -> Plan:
    """The same load, planned for the captured machine."""
    machine = read_machine(open_root(normal.files / "first/machine.json"))
    initrd = Built(bytes(int(text(normal, "first/initrd-size"))))
    request = LoadRequest(
        initrd=initrd,
        append=(SECOND_APPEND,),
        reuse_cmdline=True,
        dtb=Built((normal.files / "first/given.dtb").read_bytes()),
    )
    return plan_load(identify(arm_vm.kernel.image), machine, request)


def test_kexec_tools_chooses_the_same_places(normal: Result, ours: Plan) -> None:
    """Of the kernel; initrd and device tree follow it, and where depends on gaps below it."""
    output = text(normal, "first/theirs")
    mem = {int(at, 16) for at in re.findall(r"segment\[\d+\]\.mem\s+= (0x[0-9a-f]+)", output)}
    assert len(mem) == 4
    kernel = ours.first(Role.KERNEL)
    assert kernel
    assert kernel.range.start in mem, output


CHOSEN_ON_PURPOSE = {
    "rng-seed": "random, and pykexec always sets one",
    "kaslr-seed": "random",
    "linux,initrd-start": "an address",
    "linux,initrd-end": "an address",
}
"""Properties of /chosen that may differ, with the reasons."""


def test_kexec_tools_passes_the_same_device_tree(normal: Result, ours: Plan) -> None:
    theirs = parse_device_tree((normal.files / "second/fdt").read_bytes())
    item = ours.first(Role.BOOT_INFORMATION)
    assert item
    assert item.contents
    tree = parse_device_tree(contents_bytes(item.contents, MAX_SIZE))
    mine, yours = flat(tree.root), flat(theirs.root)
    assert {node.name for node in tree.root.children} >= {"from-the-user"}
    assert mine.keys() - yours.keys() <= {"/chosen/rng-seed"}
    assert yours.keys() - mine.keys() == set()
    line = "/chosen/bootargs"
    assert mine.pop(line).rstrip(b"\0").split() == yours.pop(line).rstrip(b"\0").split()
    different = {name for name, value in yours.items() if mine[name] != value}
    assert different <= {f"/chosen/{name}" for name in CHOSEN_ON_PURPOSE}


def flat(node: Node, path: str = "") -> dict[str, bytes]:
    """Every property by its path."""
    found = {f"{path}/{name}": value for name, value in node.properties}
    for child in node.children:
        found |= flat(child, f"{path}/{child.name}")
    return found
