"""What encrypts the memory of an x86 machine."""

from __future__ import annotations

import pytest

from pykexec.abi.elf import EHDR, EI_IDENT, EM_X86_64, ET_CORE, PHDR, PT_NOTE
from pykexec.crash.notes import Note
from pykexec.host.captured import capture
from pykexec.host.facts import read_machine
from pykexec.machine import (
    Unknown,
)
from tests.host.conftest import (
    MakeTree,
    without,
)


def kcore_with_notes(*notes: Note) -> bytes:
    """A /proc/kcore with nothing but notes, at 0x1000."""
    data = b"".join(note.encoded for note in notes)
    header = EHDR.pack(
        EI_IDENT, ET_CORE, EM_X86_64, 1, 0, EHDR.size, 0, 0, EHDR.size, PHDR.size, 1, 0, 0, 0
    )
    head = header + PHDR.pack(PT_NOTE, 0, 0x1000, 0, 0, len(data), 0, 4)
    return head.ljust(0x1000, b"\0") + data


CORE_NOTE = Note(b"CORE", 4, b"the memory of a task")


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        (b"OSRELEASE=6.1\nNUMBER(sme_mask)=0\n", 0),
        (b"NUMBER(sme_mask)=2251799813685248\nCRASHTIME=1\n", 1 << 51),
        (b"OSRELEASE=4.19\n", None),
        (b"NUMBER(sme_mask)=many\n", None),
        (b"NUMBER(sme_mask)=" + b"9" * 5000 + b"\n", None),
    ],
)
def test_sme_mask_is_in_vmcoreinfo(tree: MakeTree, text: bytes, mask: int | None) -> None:
    kcore = kcore_with_notes(CORE_NOTE, Note(b"VMCOREINFO", 0, text))
    found = read_machine(tree({"/proc/kcore": kcore})).sme_mask
    assert found == mask if mask is not None else isinstance(found, Unknown)


@pytest.mark.parametrize(
    "kcore",
    [
        kcore_with_notes(CORE_NOTE),
        kcore_with_notes(*[CORE_NOTE] * 100),
        kcore_with_notes(Note(b"VMCOREINFO", 0, b"NUMBER(sme_mask)=1"))[:-8],
        kcore_with_notes()[:0x1000] + b"\xff" * 64,
    ],
)
def test_a_kcore_without_vmcoreinfo_tells_no_sme_mask(tree: MakeTree, kcore: bytes) -> None:
    assert isinstance(read_machine(tree({"/proc/kcore": kcore})).sme_mask, Unknown)


def test_a_captured_machine_has_no_memory_of_a_task(tree: MakeTree) -> None:
    kcore = kcore_with_notes(CORE_NOTE, Note(b"VMCOREINFO", 0, b"NUMBER(sme_mask)=0\n"))
    captured = capture(tree({"/proc/kcore": kcore}))
    assert read_machine(captured).sme_mask == 0
    parts = [data for path, data in captured.files.items() if path.startswith("/proc/kcore@")]
    assert parts
    assert not any(CORE_NOTE.desc in data for data in parts if isinstance(data, bytes))


BLOB = b"\0" * 0x13C + b"\x00\x10\x20\x7f"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"/sys/kernel/boot_params/data": BLOB.ljust(4096, b"\0")}, True),
        ({"/sys/devices/system/cpu/sev/vmpl": "0\n"}, True),
        ({"/sys/bus/platform/devices/sev-guest/uevent": ""}, True),
    ],
)
def test_snp_guest(tree: MakeTree, changes: dict[str, str | bytes | None], expected: bool) -> None:
    assert read_machine(tree(changes)).snp_guest is expected


def test_snp_guest_is_unknown_without_boot_params(tree: MakeTree) -> None:
    machine = read_machine(tree(without("/sys/kernel/boot_params/data")))
    assert isinstance(machine.snp_guest, Unknown)
