"""bzImage by its 32-bit entry: what each protocol has, and what it has not yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pykexec.errors import NotSupported
from pykexec.images.contents import contents_bytes
from pykexec.images.identify import identify
from pykexec.images.kernel_image import KernelImage, Linux32Boot, NotAnImage
from tests.builders import MIB, make_bzimage, write


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
    """Protocol 2.02 ends its header at 0x22c: alignment and the rest are zeros for us."""
    _, boot = parsed(tmp_path, version=0x202, jump=0x2A)
    assert len(boot.setup_header) == 0x268 - 0x1F1
    assert boot.setup_header[0x22C - 0x1F1 :] == bytes(0x268 - 0x22C)
    assert not boot.relocatable


def test_a_64_bit_kernel_by_its_32_bit_entry(tmp_path: Path) -> None:
    path = write(tmp_path, "vmlinuz", make_bzimage())
    assert identify(path).type == "bzImage64"
    assert identify(path, "bzImage").type == "bzImage"


def test_it_cannot_capture_a_dump(tmp_path: Path) -> None:
    image, _ = parsed(tmp_path)
    with pytest.raises(NotSupported) as caught:
        image.linux  # noqa: B018
    assert caught.value.message == (
        f"{image.path} is of type bzImage: this needs a Linux x86_64 kernel"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 0x100}, "boot protocol 1.00: 2.00 is the oldest"),
        ({"loadflags": 0}, "a zImage: LOADED_HIGH is not set"),
        ({"payload": b"", "banner": b""}, "truncated: the kernel starts at 0x400"),
        ({"init_size": 0x1000}, "init_size 0x1000, expected 0x3000 to 0x40000000"),
        ({"alignment": 0x3000}, "kernel_alignment 0x3000 is no power of two from 4K to 1G"),
        ({"cmdline_size": 0}, "cmdline_size 0x0, expected 1 to 0xffff"),
        ({"pref_address": 0xFFFFF000}, "pref_address 0xfffff000 and its memory end above 4 GiB"),
    ],
)
def test_a_lying_header_is_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    path = write(tmp_path, "vmlinuz", make_bzimage(**{"xloadflags": 0, **change}))
    with pytest.raises(NotAnImage) as caught:
        identify(path)
    assert caught.value.message.startswith(f"{path}: not a bzImage: {reason}")
