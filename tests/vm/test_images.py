"""Every kind of image started by a real kexec: each kernel loads the next one, until a multiboot
test kernel prints what it was passed and ends the run."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import pytest

from pykexec import __version__
from pykexec.flows.inspect import extract_vmlinux
from tests.builders import make_uimage, make_uki, pack

from .debian import sh
from .lab import VM, Guest
from .machine import Result
from .product import PYKEXEC, site

END = 7
LINUX = "console=ttyS0 panic=1 quiet"
INITRD = "--initrd /run/initrd"
MODULE = b"what the module says"
MULTIBOOT = "--append 'one two' --module '/run/module its string'"

LOADS = {
    "entries": f"/run/vmlinux.xz {INITRD} --append '{LINUX} stage=vmlinux'",
    "vmlinux": "/run/uki --syscall load",
    "uki": f"/run/uki --syscall file --append '{LINUX} stage=uki-file'",
    "uki-file": f"/run/multiboot2 {MULTIBOOT}",
    "wrapped": f"/run/vmlinuz --type bzImage {INITRD} --append '{LINUX} stage=bzimage-32'",
    "bzimage-32": f"/run/uimage {INITRD} --append '{LINUX} stage=uimage'",
    "uimage": f"/run/multiboot {MULTIBOOT}",
}
"""The image that each stage loads and starts; a kernel finds its stage on its command line."""

CASES = "".join(f"{stage}) $load {words} > /run/said ;;\n" for stage, words in LOADS.items())
SCRIPT = f"""#!/bin/sh -e
stage=$(sed -n 's/.* stage=//p' /proc/cmdline)
host mark "stage $stage"
echo "stage $stage: $(cat /proc/cmdline)"
tar -xf /dev/vdc -C /run
load="{PYKEXEC} load --backend kernel"
case $stage in
{CASES}*) exit 1 ;;
esac
cat /run/said
echo "ram $(cd /sys/firmware/memmap && for n in *; do
    echo "$(cat $n/start)-$(cat $n/end) : $(cat $n/type);"
done | tr -d "\\n")"
stty onlcr < /dev/console  # returns when the console has sent all
{PYKEXEC} exec --backend kernel --yes
"""


def multiboot_kernel(version: int, target: Path) -> Path:
    """multiboot.S, assembled."""
    source, made = Path(__file__).with_name("multiboot.S"), target.with_suffix(".o")
    why = "no multiboot kernel of our own"
    sh("as", "--32", "--defsym", f"VERSION={version}", "-o", made, source, why=why)
    sh("ld", "-m", "elf_i386", "-Ttext=0x400000", "-e", "start", "-o", target, made, why=why)
    return target


@pytest.fixture(scope="module")
def disk(vm: VM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw disk that is a tar archive of all images."""
    pytest.importorskip("lz4.block", reason="no lz4: the vmlinux in Debian's kernel stays there")
    folder = tmp_path_factory.mktemp("images")
    kernel = vm.kernel.image.read_bytes()
    guest = Guest(SCRIPT, python=True, site=tuple(site()))
    initrd = pack(b"".join(guest.parts(vm.kernel, "second")), "gzip")  # hashed at every load
    built = {
        "vmlinuz": kernel,
        "initrd": initrd,
        "uki": make_uki(kernel, initrd=initrd, cmdline=f"{LINUX} stage=uki".encode()),
        "uimage": make_uimage(pack(kernel, "gzip"), comp=1),
        "module": MODULE,
    }
    for name, contents in built.items():
        (folder / name).write_bytes(contents)
    extract_vmlinux(vm.kernel.image, folder / "vmlinux")
    (folder / "vmlinux.xz").write_bytes(pack((folder / "vmlinux").read_bytes(), "xz"))
    multiboot_kernel(1, folder / "multiboot")
    multiboot_kernel(2, folder / "multiboot2")
    with tarfile.open(folder / "disk", "w") as tar:
        for name in (*built, "vmlinux.xz", "multiboot", "multiboot2"):
            tar.add(folder / name, name)
    return folder / "disk"


def chain(vm: VM, disk: Path, stage: str) -> Result:
    """Run from this stage to the end."""
    append = f"stage={stage}"
    return vm.run(SCRIPT, append=append, python=True, site=site(), disks=[disk]).expect(END)


@pytest.fixture(scope="module")
def entries(vm: VM, disk: Path) -> Result:
    return chain(vm, disk, "entries")


@pytest.fixture(scope="module")
def wrapped(vm: VM, disk: Path) -> Result:
    return chain(vm, disk, "wrapped")


def told(result: Result, stage: str) -> str:
    """The console output of a stage: its command line, its load, and what it started."""
    _, found, rest = result.console.replace("\r\n", "\n").partition(f"\nstage {stage}: ")
    assert found, f"no stage {stage}"
    return rest.partition("\nstage ")[0]


def assert_linux(result: Result, before: str, kernel: str, syscall: str, stage: str) -> None:
    """Checks the load of one stage, and the command line of the next one."""
    load = told(result, before)
    assert f"\nkernel     {kernel} " in load
    assert f"\nsyscall    {syscall}: " in load
    assert told(result, stage).splitlines()[0] == f"{LINUX} stage={stage}"


def test_a_vmlinux_is_started_as_linux(entries: Result) -> None:
    """Also from an xz file, which kexec-tools does not unpack."""
    assert_linux(entries, "entries", "vmlinux", "kexec_load", "vmlinux")


def test_a_uki_brings_its_initrd_and_its_command_line(entries: Result) -> None:
    assert_linux(entries, "vmlinux", "uki", "kexec_load", "uki")


def test_a_uki_by_kexec_file_load(entries: Result) -> None:
    """And with a command line other than its own."""
    assert_linux(entries, "uki", "uki", "kexec_file_load", "uki-file")


def test_linux_by_its_32_bit_entry(wrapped: Result) -> None:
    assert_linux(wrapped, "wrapped", "bzImage", "kexec_load", "bzimage-32")


def test_a_uimage_of_a_compressed_kernel(wrapped: Result) -> None:
    assert_linux(wrapped, "bzimage-32", "uImage", "kexec_load", "uimage")


def available(output: str) -> int:
    """Bytes of RAM in the firmware's map, which the next kernel gets."""
    line = re.search(r"(?m)^ram (.*)$", output)
    assert line
    spans = re.findall(r"0x([0-9a-f]+)-0x([0-9a-f]+) : System RAM;", line[1])
    return sum(int(last, 16) + 1 - int(start, 16) for start, last in spans)


def assert_multiboot(result: Result, stage: str, eax: int, *more: str) -> None:
    """Checks registers, then the lines that multiboot.S prints for what it was passed."""
    output = told(result, stage)
    first, *lines = output.partition("\nentered: ")[2].splitlines()
    assert first == f"eax={eax:08x} cs=00000010 ds=00000018 ss=00000018 cr0=00000011 if=00000000"
    expected = {
        f"cmdline={LOADS[stage].split()[0]} one two",
        f"loader=pykexec {__version__}",
        f"module=/run/module its string size={len(MODULE):08x} offset=00000000 {MODULE.decode()}",
        f"mem_lower={639:08x}",
        f"available={available(output):016x}",
        "that is all",
        *more,
    }
    assert expected - set(lines) == set()


def test_multiboot_1(wrapped: Result) -> None:
    """Its flags: memory, command line, modules, memory map, loader name."""
    assert_multiboot(wrapped, "uimage", 0x2BADB002, "flags=0000024d")


def test_multiboot_2(entries: Result) -> None:
    assert_multiboot(entries, "uki-file", 0x36D76289)
