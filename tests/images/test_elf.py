"""ELF files: vmlinux is distinguished from others, and each bad file has its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from elftools.common.exceptions import ELFError
from elftools.construct import ArrayError

from pykexec.abi.x86.bootparam import setup_header
from pykexec.images.contents import OpenFile, contents_bytes
from pykexec.images.identify import identify
from pykexec.images.kernel_image import LinuxX86Boot, NotAnImage
from tests.builders import BANNER, MIB, START_KERNEL_MAP, make_elf, make_vmlinux, pack, write


def test_the_version_is_looked_for_in_what_is_loaded(tmp_path: Path) -> None:
    """And not in debug information after it, which can be ten times as long."""
    loads = ((0x1000000, b"\xf4" * 0x1000, 0x200000), (0x1400000, BANNER, 0x1000))
    assert identify(write(tmp_path, "second", make_vmlinux(loads))).version is not None
    behind = make_vmlinux(loads[:1]) + BANNER
    assert identify(write(tmp_path, "behind", behind)).version is None


def test_a_vmlinux_gets_the_linux_protocol(tmp_path: Path) -> None:
    image = identify(write(tmp_path, "vmlinux", make_vmlinux(entry=0x1000200)))
    boot = image.linux_for(LinuxX86Boot)
    assert (image.type, image.version) == ("vmlinux", "6.1.0-test (builder) #1")
    assert (boot.pref_address, boot.init_size) == (0x1000000, 0x500000)
    assert (boot.kernel_alignment, boot.entry_offset, boot.lowest) == (0x200000, 0x200, True)
    header = setup_header.parse(boot.setup_header)
    assert (header.header, header.boot_flag, header.version) == (b"HdrS", 0xAA55, 0x20F)
    assert (header.loadflags, header.xloadflags, header.init_size) == (1, 3, 0x500000)
    assert header.cmdline_size == boot.cmdline_size == 2047


def test_its_parts_are_laid_flat_with_zeros_between(tmp_path: Path) -> None:
    image = identify(write(tmp_path, "vmlinux", make_vmlinux()))
    raw = contents_bytes(image.payload, 16 * MIB)
    text = b"\xf4" * 0x1000 + BANNER
    assert raw == text.ljust(0x400000, b"\0") + b"data" * 0x400
    assert image.payload.size == len(raw)


@pytest.mark.parametrize("codec", ["gzip", "xz"])
def test_a_wrapped_vmlinux(tmp_path: Path, codec: str) -> None:
    image = identify(write(tmp_path, "vmlinux", pack(make_vmlinux(), codec)))
    assert (image.type, image.wrapped) == ("vmlinux", (codec,))


@pytest.mark.parametrize(
    "marks",
    [
        {"notes": ()},
        {"sections": ()},
        {"sections": (), "notes": ((b"Xen", 6, b"linux\0"),)},
    ],
    ids=["by a section", "by its own note", "by the Xen note"],
)
def test_what_marks_linux(tmp_path: Path, marks: dict[str, Any]) -> None:
    assert identify(write(tmp_path, "k", make_vmlinux(**marks))).type == "vmlinux"


def refusal(tmp_path: Path, data: bytes, kind: str | None = None) -> str:
    path = write(tmp_path, "k", data)
    with pytest.raises(NotAnImage) as caught:
        identify(path, kind)
    reasons = "; ".join((caught.value.message, *caught.value.details))
    return reasons.replace(f"{path}: ", "")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            make_vmlinux(notes=(), sections=()),
            "not Linux: it has none of the notes and sections of Linux",
        ),
        (
            make_vmlinux(notes=((b"Xen", 6, b"FreeBSD\0"),), sections=()),
            "its Xen note names another guest operating system",
        ),
        (
            make_vmlinux(base=0x1000),
            f"not Linux: its text is linked 0x1000 above its physical address, expected "
            f"{START_KERNEL_MAP:#x}",
        ),
        (make_vmlinux(entry=0x10), "not a vmlinux: entry 0x10 is in no PT_LOAD"),
        (
            make_vmlinux([(0x1000000, b"a", 0x200000), (0x1100000, b"b", 0x1000)]),
            "not a vmlinux: PT_LOAD 0 ends at 0x1200000, the next one starts at 0x1100000",
        ),
        (
            make_vmlinux([(0x1000000, b"a" * 32, 16)]),
            "not a vmlinux: PT_LOAD 0 at 0x1000000: p_filesz 0x20 above p_memsz",
        ),
        (
            make_vmlinux([(0x1000000, b"a", 16), (0x1000000 + (2 << 30), b"a", 16)]),
            "not a vmlinux: its PT_LOADs span 0x80000010 bytes, more than the limit of 1 GiB",
        ),
        (make_elf(machine=62, bits=64, loads=()), "it has no program headers: an object file?"),
        (make_vmlinux()[:0x50], "truncated: 3 program headers at 0x40, the file ends at 0x50"),
        (make_vmlinux()[:0x30], "truncated: 0x30 bytes, the ELF header has 0x40"),
        (b"\x7fELF\x02\x02\x01" + bytes(60), "EI_DATA 2: not little-endian"),
        (b"\x7fELF\x07\x01\x01" + bytes(60), "EI_CLASS 7, expected 1 or 2"),
    ],
)
def test_a_vmlinux_is_refused_with_a_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    assert reason in refusal(tmp_path, data, "vmlinux")


def test_a_part_that_is_cut_off(tmp_path: Path) -> None:
    data = make_vmlinux(sections=())[:-0x500]
    assert "not a vmlinux: truncated: PT_LOAD 1 at 0x1400000 ends at" in refusal(tmp_path, data)


@pytest.mark.parametrize(("bits", "machine", "reach"), [(32, 3, 32), (64, 62, 46)])
def test_a_part_that_no_kernel_reaches(tmp_path: Path, bits: int, machine: int, reach: int) -> None:
    last = (1 << reach) - 0x1000
    for size, refused in ((0x1000, False), (0x1001, True)):
        data = make_elf([(last, last, b"a", size)], bits=bits, machine=machine, entry=last)
        if refused:
            assert f"PT_LOAD 0 at {last:#x} ends above 2^{reach}" in refusal(tmp_path, data)
        else:
            assert identify(write(tmp_path, "k", data)).type.startswith("elf-x86")


def test_a_field_that_lies_ten_thousand_headers(tmp_path: Path) -> None:
    data = bytearray(make_vmlinux())
    data[56:58] = (10_000).to_bytes(2, "little")
    assert "10000 program headers; a kernel has at most 256" in refusal(tmp_path, bytes(data))


@pytest.mark.parametrize(
    "fault", [ELFError("Magic number does not match"), OverflowError(), KeyError("x"), ArrayError()]
)
def test_whatever_pyelftools_raises_is_one_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def parsed(file: OpenFile) -> None:
        raise fault

    monkeypatch.setattr("pykexec.images.elf_file.parsed", parsed)
    why = str(fault) or type(fault).__name__
    assert f"its ELF headers cannot be read: {why}" in refusal(tmp_path, make_vmlinux())
