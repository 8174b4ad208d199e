"""bzImage by its 32-bit entry: the fields that each protocol version has."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import pytest

from pykexec.errors import NotSupported
from pykexec.images.contents import contents_bytes
from pykexec.images.identify import identify
from pykexec.images.kernel_image import KernelImage, Linux32Boot, NotAnImage
from tests.builders import MIB, make_bzimage, pack, write


def parsed(tmp_path: Path, **change: Any) -> tuple[KernelImage, Linux32Boot]:
    given = {"xloadflags": 0, **change}
    image = identify(write(tmp_path, "vmlinuz", make_bzimage(**given)), "bzImage")
    assert isinstance(image.boot, Linux32Boot)
    return image, image.boot


def test_an_i386_kernel_of_today(tmp_path: Path) -> None:
    image, boot = parsed(tmp_path, alignment=0x1000000)
    assert image.version == "6.1.0-test (builder) #1"
    assert contents_bytes(image.payload, MIB) == b"\xf4" * 0x3000
    assert (boot.memory, boot.load_addr, boot.kernel_alignment) == (0x100000, 0x1000000, 0x1000000)
    assert (boot.relocatable, boot.cmdline_size, boot.entry_offset) == (True, 2047, 0)
    assert boot.initrd_addr_max == 0x7FFFFFFF


@pytest.mark.parametrize(
    ("version", "has"),
    [
        (0x200, (0x3000, 0x100000, False, 255, 0x37FFFFFF)),
        (0x203, (0x3000, 0x100000, False, 255, 0x7FFFFFFF)),
        (0x205, (0x3000, 0x100000, True, 255, 0x7FFFFFFF)),
        (0x206, (0x3000, 0x100000, True, 2047, 0x7FFFFFFF)),
        (0x20A, (0x100000, 0x1000000, True, 2047, 0x7FFFFFFF)),
    ],
)
def test_what_a_protocol_does_not_have_yet(
    tmp_path: Path, version: int, has: tuple[object, ...]
) -> None:
    _, boot = parsed(tmp_path, version=version)
    assert has == (
        boot.memory,
        boot.load_addr,
        boot.relocatable,
        boot.cmdline_size,
        boot.initrd_addr_max,
    )


def test_what_stands_behind_a_short_header_is_code(tmp_path: Path) -> None:
    """The header of protocol 2.02 ends at 0x22c: alignment and later fields are read as zeros."""
    _, boot = parsed(tmp_path, version=0x202, jump=0x2A)
    assert len(boot.setup_header) == 0x268 - 0x1F1
    assert boot.setup_header[0x22C - 0x1F1 :] == bytes(0x268 - 0x22C)
    assert not boot.relocatable


def test_a_64_bit_kernel_by_its_32_bit_entry(tmp_path: Path) -> None:
    path = write(tmp_path, "vmlinuz", make_bzimage())
    assert identify(path).type == "bzImage64"
    assert identify(path, "bzImage").type == "bzImage"


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize("codec", [None, "gzip", "xz"])
@pytest.mark.parametrize("kind", [None, "bzImage"])
@pytest.mark.parametrize("change", [{}, {"xloadflags": 0}, {"version": 0x204, "jump": 0x2E}])
def test_half_a_kernel_is_refused_by_either_entry(
    tmp_path: Path, codec: str | None, kind: str | None, change: dict[str, Any]
) -> None:
    data = half(make_bzimage(**change))
    path = write(tmp_path, "k", pack(data, codec) if codec else data)
    with pytest.raises(
        NotAnImage, match=r"truncated: syssize is 0x3000 bytes, but the file has 0x1600"
    ):
        identify(path, kind)


def test_syssize_of_an_old_kernel_has_16_bits(tmp_path: Path) -> None:
    """The next field is swap_dev, and the size of a kernel above 1 MiB lacks its high bits."""
    old = {"version": 0x203, "jump": 0x2E, "xloadflags": 0}
    payload = bytes(0x120000)
    for syssize in (0x2000, 0xFFFF2000):
        image, _ = parsed(tmp_path, payload=payload, syssize=syssize, **old)
        assert image.payload.size == len(payload)
    with pytest.raises(
        NotAnImage, match="truncated: syssize is 0x20000 bytes, but the file has 0x1000"
    ):
        parsed(tmp_path, payload=bytes(0x1000), syssize=0x12000, **old)
    image, _ = parsed(tmp_path, payload=bytes(0x3000 - 8), syssize=0x300)
    assert image.payload.size == 0x3000 - 8  # memtest86+ lacks less than a paragraph


PACKED = b"\xf4" * 0x300 + gzip.compress(bytes(0x4000)).ljust(0x4D00, b"\xf4")


@pytest.mark.parametrize("kind", ["bzImage64", "bzImage"])
@pytest.mark.parametrize(
    ("sectors", "reason"),
    [
        (
            2,
            "setup_sects 2: there is no packed kernel at payload_offset 0x300, but with 8",
        ),
        (
            7,
            "setup_sects 7: there is no packed kernel at payload_offset 0x300, but with 8",
        ),
        (
            9,
            "setup_sects 9: there is no packed kernel at payload_offset 0x300, but with 8",
        ),
        (1, "setup_sects 1: kernel_version points to 0x400, beyond the setup code"),
        (99, "truncated: the kernel starts at 0xc800, the file ends at"),
        (40, "truncated: syssize is 0x2000 bytes, but the file has 0x1000"),
    ],
)
def test_a_setup_sects_that_lies(tmp_path: Path, kind: str, sectors: int, reason: str) -> None:
    """The kernel would be entered some sectors too early or too late. The file is longer than
    syssize, like a signed one, so the size alone would not show it."""
    good = bytearray(make_bzimage(PACKED, setup_sects=8, packed=(0x300, 0x100), syssize=0x200))
    struct.pack_into("<H", good, 0x20E, 0x200)
    assert identify(write(tmp_path, "good", bytes(good)), kind).payload.size == len(PACKED)
    good[0x1F1] = sectors
    with pytest.raises(NotAnImage) as caught:
        identify(write(tmp_path, "k", bytes(good)), kind)
    assert f": not a {kind}: {reason}" in caught.value.message


def test_a_packing_that_nobody_knows_is_no_lie(tmp_path: Path) -> None:
    image = identify(write(tmp_path, "k", make_bzimage(packed=(0x300, 0x100))))
    assert image.type == "bzImage64"
    with pytest.raises(NotAnImage, match="truncated: the packed kernel ends at 0x3401"):
        identify(write(tmp_path, "k", make_bzimage(packed=(0x300, 0x2D01))))


def test_it_cannot_capture_a_dump(tmp_path: Path) -> None:
    image, _ = parsed(tmp_path)
    with pytest.raises(NotSupported) as caught:
        image.linux  # noqa: B018
    assert caught.value.message == (
        f"{image.path} is of type bzImage, but a Linux kernel for x86_64 is needed"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 0x100}, "boot protocol 1.00, but 2.00 or later is needed"),
        ({"loadflags": 0}, "a zImage: LOADED_HIGH is not set"),
        ({"payload": b"", "banner": b""}, "truncated: the kernel starts at 0x400"),
        ({"init_size": 0x1000}, "init_size 0x1000, expected 0x3000 to 0x40000000"),
        ({"alignment": 0x3000}, "kernel_alignment 0x3000 is not a power of two from 4K to 1G"),
        ({"cmdline_size": 0}, "cmdline_size 0x0, expected 1 to 0xffff"),
        ({"pref_address": 0xFFFFF000}, "pref_address 0xfffff000 and its memory end above 4 GiB"),
    ],
)
def test_a_lying_header_is_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    path = write(tmp_path, "vmlinuz", make_bzimage(**{"xloadflags": 0, **change}))
    with pytest.raises(NotAnImage) as caught:
        identify(path)
    assert caught.value.message.startswith(f"{path}: not a bzImage: {reason}")
