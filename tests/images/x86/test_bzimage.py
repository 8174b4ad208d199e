"""bzImage: what a valid one requires, and one clear reason for each bad one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pykexec.cli.terms import PYKEXEC
from pykexec.images.contents import UnreadableFile, contents_bytes, joined_initrd
from pykexec.images.identify import identify
from pykexec.images.kernel_image import LinuxX86Boot, NotAnImage
from tests.builders import make_bzimage, write


def test_what_a_bzimage_asks_for(tmp_path: Path) -> None:
    payload = bytes(range(256)) * 64
    image = identify(write(tmp_path, "vmlinuz", make_bzimage(payload, setup_sects=3)))
    assert contents_bytes(image.payload, 1 << 20) == payload
    assert image.version == "6.1.0-test (builder) #1"
    assert image.linux_for(LinuxX86Boot).init_size == 0x100000
    assert image.linux_for(LinuxX86Boot).pref_address == 0x1000000
    assert image.linux_for(LinuxX86Boot).kernel_alignment == 0x200000
    assert image.linux_for(LinuxX86Boot).cmdline_size == 2047
    assert image.linux_for(LinuxX86Boot).protocol == 0x20F
    assert image.linux_for(LinuxX86Boot).entry_offset == 0x200
    assert len(image.linux_for(LinuxX86Boot).setup_header) == 0x26C - 0x1F1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"setup_sects": 1, "payload": b""}, "truncated: the kernel starts at 0x400"),
        ({"syssize": 0x10000}, "truncated: syssize is 0x100000 bytes, but the file has 0x3000"),
        ({"init_size": 0x1000}, "init_size 0x1000, expected 0x3000 to 0x40000000"),
        ({"init_size": 0xFFFFFFFF}, "init_size 0xffffffff, expected 0x3000 to 0x40000000"),
        ({"alignment": 0}, "kernel_alignment 0x0 is not a power of two from 4K to 1G"),
        ({"alignment": 0x300000}, "kernel_alignment 0x300000 is not a power of two from 4K to 1G"),
        ({"cmdline_size": 0}, "cmdline_size 0x0, expected 1 to 0xffff"),
        ({"pref_address": 1 << 60}, "pref_address 0x1000000000000000 is above 2^46"),
        ({"jump": 0x10}, "setup header ends at 0x212, expected 0x268"),
    ],
)
def test_a_lying_header_is_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    path = write(tmp_path, "vmlinuz", make_bzimage(**change))
    with pytest.raises(NotAnImage) as caught:
        identify(path)
    assert caught.value.message.startswith(f"{path}: not a bzImage64: {reason}")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 0x20B}, "boot protocol 2.11, but 2.12 or later is needed"),
        ({"loadflags": 0}, "a zImage: LOADED_HIGH is not set"),
        (
            {"xloadflags": 2},
            "it is a 32-bit kernel, without a 64-bit entry: XLF_KERNEL_64 is not set",
        ),
        ({"xloadflags": 1}, "XLF_CAN_BE_LOADED_ABOVE_4G is not set"),
    ],
)
def test_what_has_no_64_bit_entry_for_us(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    path = write(tmp_path, "vmlinuz", make_bzimage(**change))
    with pytest.raises(NotAnImage) as caught:
        identify(path, "bzImage64")
    assert caught.value.message == f"{path}: not a bzImage64: {reason}"
    assert caught.value.hint_in(PYKEXEC) == "omit --type to detect the type"
    if "loadflags" not in change:
        assert identify(path).type == "bzImage"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\0", "0x1 bytes, but a setup header ends at 0x268"),
        (bytes(0x200), "0x200 bytes, but a setup header ends at 0x268"),
        (bytes(0x1000), "no boot flag 0xaa55 and HdrS at 0x1fe and 0x202"),
        (make_bzimage(magic=b"Hdr?"), "no boot flag"),
        (make_bzimage(boot_flag=0xAA54), "no boot flag"),
    ],
)
def test_another_file_is_refused_with_a_reason_each_type(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    path = write(tmp_path, "file", data)
    with pytest.raises(NotAnImage) as caught:
        identify(path)
    assert any(line.startswith(f"bzImage64: {reason}") for line in caught.value.details)


@pytest.mark.parametrize("banner", [b"", b"no end" * 200, b"\xff\x1b[31m\0"])
def test_a_banner_is_text_or_nothing(tmp_path: Path, banner: bytes) -> None:
    payload = b"\xf4" * 0x3000
    image = identify(write(tmp_path, "k", make_bzimage(payload, setup_sects=8, banner=banner)))
    assert image.version is None or image.version.isprintable()


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="No such file or directory"):
        identify(tmp_path / "missing")
    with pytest.raises(UnreadableFile, match="not a regular file"):
        identify(tmp_path)
    with pytest.raises(UnreadableFile, match="not a regular file"):
        identify("/dev/null")


def test_a_file_that_shrinks_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, "k", make_bzimage())
    image = identify(path)
    path.write_bytes(b"")
    with pytest.raises(UnreadableFile, match="ends early"):
        image.payload.sha256  # noqa: B018


def test_initrds_are_joined_at_multiples_of_four(tmp_path: Path) -> None:
    paths = tuple(write(tmp_path, name, data) for name, data in (("a", b"abcde"), ("b", b"fg")))
    contents = joined_initrd(paths)
    assert contents is not None
    assert contents_bytes(contents, 100) == b"abcde\0\0\0fg"
    assert contents.size == 10
    assert joined_initrd(()) is None
    with pytest.raises(UnreadableFile, match="an initrd cannot be an empty file"):
        joined_initrd((write(tmp_path, "c", b""),))
