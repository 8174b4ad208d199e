"""A kernel by its real-mode entry: it calls the BIOS, whose devices a kernel has reprogrammed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders import make_bzimage

from .lab import VM
from .machine import Result
from .product import site, text
from .test_callers import DROP_IN

LINE = "console=ttyS0 panic=1 edd=off by=bios"
STATE = """
    STAGE=$(cat /etc/stage)
    host qmp pmemsave '{"val": 0, "size": 1280, "filename": "FILES/low-'$STAGE'"}'
    host qmp pmemsave '{"val": 654336, "size": 1024, "filename": "FILES/ebda-'$STAGE'"}'
    cat /proc/cmdline > /out/cmdline
    cat /sys/kernel/boot_params/data > /out/boot_params
    dmesg | sed -n 's/.*BIOS-e820: //p' > /out/e820
    copyout /out
"""
"""The BIOS's vectors and data are below 0x500, and its EBDA is in the last KiB below 640 KiB."""
CLOCK = slice(0x46C, 0x471)
"""Ticks, and whether midnight has passed: these change while the BIOS runs."""
FIRST = f"""
    kexec -l /boot/vmlinuz --initrd=/boot/initrd2 --real-mode 2> /out/warning --append=a
    kexec -l /boot/vmlinuz --initrd=/boot/initrd2 --real-mode --append="{LINE}" 2> /out/load
    cat /sys/kernel/kexec_loaded > /out/loaded
    {STATE}
    host mark exec
    kexec -e
"""
SECOND = f"""
    {STATE}
    exit 7
"""

TICKS = bytes.fromhex(
    "fb"  # sti
    "31c08ee0"  # FS = 0
    "648b1e6c04"  # BX = word at 0x46c: ticks of 18.2 Hz, counted by the BIOS
    "f4643b1e6c0474f8"  # hlt until it changes
    "be8004baf802"  # SI = 0x480, DX = the second serial port
    "ac84c07403eeebf8"  # sends its string
    "f4ebfd"  # sleep
)
"""Setup code, at 0x26c."""


def ticking_kernel() -> bytes:
    """A kernel that waits for the BIOS's clock to tick, and ends the test."""
    data = bytearray(make_bzimage(setup_sects=4))
    data[0x26C : 0x26C + len(TICKS)] = TICKS
    data[0x480:0x488] = b"exit 7\n\0"
    return bytes(data)


@pytest.fixture(scope="module")
def result(vm: VM) -> Result:
    files: dict[str, bytes | str | Path] = {"/sbin/kexec": DROP_IN}
    return vm.run(FIRST, SECOND, mem_mib=512, python=True, site=site(), files=files).expect(7)


def test_the_next_kernel_runs(result: Result) -> None:
    assert text(result, "first/loaded") == "1", text(result, "first/load")
    assert text(result, "first/load") == ""
    assert text(result, "second/cmdline") == LINE


def test_a_disk_that_cannot_be_asked_is_warned_of(result: Result) -> None:
    """SeaBIOS waits forever for a virtio disk that Linux has reset."""
    assert "through the BIOS, which may wait forever: add edd=off" in text(result, "first/warning")


def test_it_came_by_its_setup_code(result: Result) -> None:
    """The setup code fills in boot_params itself: heap_end_ptr is from the loader."""
    params = (result.files / "second/boot_params").read_bytes()
    assert params[0x224:0x226] == (0xDE00).to_bytes(2, "little")
    assert params[0x211] & 0x80
    assert text(result, "second/e820") == text(result, "first/e820") != ""


@pytest.mark.parametrize("name", ["low", "ebda"])
def test_what_the_bios_keeps_in_memory_is_untouched(result: Result, name: str) -> None:
    first, second = (
        bytearray((result.files / f"{name}-{stage}").read_bytes()) for stage in ("first", "second")
    )
    if name == "low":
        del first[CLOCK], second[CLOCK]
    assert any(first)
    assert first == second


def test_the_clock_of_the_bios_ticks(vm: VM) -> None:
    """Although Linux has moved and masked the interrupts and stopped the timer."""
    first = """
        kexec -l /ticking --real-mode --append=edd=off
        host mark exec
        kexec -e
    """
    files: dict[str, bytes | str | Path] = {"/sbin/kexec": DROP_IN, "/ticking": ticking_kernel()}
    vm.run(first, mem_mib=512, python=True, site=site(), files=files, timeout_s=300).expect(7)
