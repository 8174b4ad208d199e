"""The ACPI root pointer itself, from /dev/mem of a real or captured machine."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from pykexec.host import captured
from pykexec.host.facts import read_machine
from pykexec.host.root import Folder
from pykexec.machine import Unknown
from tests.host.conftest import MakeTree

AT = 0xF5B20


def checked(raw: bytes, at: int, size: int) -> bytes:
    """Set the byte at `at` so that the first `size` bytes add up to zero."""
    return raw[:at] + bytes((-sum(raw[:size]) & 0xFF,)) + raw[at + 1 :]


def pointer(revision: int, length: int = 36) -> bytes:
    raw = b"RSD PTR \0OEMID " + bytes((revision,)) + struct.pack("<I", 0x7FFE0000)
    raw = checked(raw, 8, 20)
    return checked(raw + struct.pack("<IQI", length, 0x7FFE1000, 0), 32, 36)


Files = dict[str, str | bytes | None]


def machine_files(memory: bytes | None) -> Files:
    return {"/proc/cmdline": f"acpi_rsdp={AT:#x}", "/dev/mem": memory}


CASES: dict[str, tuple[bytes, bytes | str]] = {
    "ACPI 2.0": (pointer(2), pointer(2)),
    "ACPI 1.0, and anything behind it": (pointer(0)[:20] + b"x" * 16, pointer(0)[:20]),
    "a wrong checksum": (pointer(0)[:19] + b"x" * 17, "no RSDP with a valid checksum"),
    "zeros, as /dev/mem has for RAM": (bytes(36), "no RSDP with a valid checksum"),
    "a wrong extended checksum": (pointer(2)[:35] + b"x", "or an invalid checksum"),
    "an absurd length": (pointer(2, 1 << 31), "an invalid length of 0x80000000 bytes"),
    "the end of the memory": (pointer(2)[:30], "does not have 36 bytes at 0xf5b20"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_lies_there(tree: MakeTree, name: str) -> None:
    memory, expected = CASES[name]
    root = tree(machine_files(bytes(AT) + memory))
    found = read_machine(root).pc.acpi_rsdp_table
    if isinstance(expected, bytes):
        assert found == expected
    else:
        assert isinstance(found, Unknown)
        assert expected in found.why
    kept = captured.encode(captured.capture(root))
    assert len(kept) < 200_000, "the memory in front of it is not captured"
    assert read_machine(captured.decode(kept, "k")).pc.acpi_rsdp_table == found


def test_what_keeps_it_from_being_read(tree: MakeTree) -> None:
    table = read_machine(tree(machine_files(None))).pc.acpi_rsdp_table
    assert table == Unknown("/dev/mem: no such file or directory")
    files = machine_files(bytes(AT) + pointer(2))
    locked: Files = {**files, "/sys/kernel/security/lockdown": "none [integrity] confidentiality"}
    table = read_machine(tree(locked)).pc.acpi_rsdp_table
    assert table == Unknown("/dev/mem is disabled by lockdown=integrity")
    table = read_machine(tree({**files, "/proc/cmdline": "quiet"})).pc.acpi_rsdp_table
    assert isinstance(table, Unknown)


@pytest.mark.skipif(os.geteuid() != 0, reason="mknod needs root")
def test_a_device_in_a_folder_is_not_read(tmp_path: Path) -> None:
    """A captured folder must not reach this machine's memory."""
    (tmp_path / "dev").mkdir()
    try:
        os.mknod(tmp_path / "dev/mem", 0o20600, os.makedev(1, 5))  # /dev/zero
    except OSError:
        pytest.skip("no mknod here")
    assert Folder(tmp_path).part("/dev/mem", 0, 4) == Unknown("/dev/mem: not a regular file")
