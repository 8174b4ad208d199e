"""Multiboot headers: where they are found, what they request, what is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from pykexec.images.contents import contents_bytes
from pykexec.images.identify import identify
from pykexec.images.kernel_image import (
    KernelImage,
    LoadRange,
    MultibootBoot,
    NotAnImage,
    UnservedImage,
)
from tests.builders import MIB, make_multiboot, multiboot2_header, multiboot_header, write


def parsed(tmp_path: Path, data: bytes) -> tuple[KernelImage, MultibootBoot]:
    image = identify(write(tmp_path, "k", data))
    assert isinstance(image.boot, MultibootBoot)
    return image, image.boot


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("header", [multiboot_header(3), multiboot2_header((6, 0, b""))])
def test_an_elf_file_with_a_header(tmp_path: Path, bits: int, header: bytes) -> None:
    image, boot = parsed(tmp_path, make_multiboot(header, bits=bits))
    assert image.type == ("multiboot" if boot.version == 1 else "multiboot2")
    (part,) = boot.parts
    assert (part.addr, part.memsz, boot.entry) == (0x100000, 0x3000, 0x100000)
    assert (boot.memory_info, boot.framebuffer) == (True, False)
    assert part.contents is not None
    assert contents_bytes(part.contents, MIB) == b"\xf4" * 0x100


def test_what_version_1_asks_for(tmp_path: Path) -> None:
    _, boot = parsed(tmp_path, make_multiboot(multiboot_header(4)))
    assert (boot.memory_info, boot.framebuffer) == (False, True)


def test_a_header_in_the_last_place_of_the_window(tmp_path: Path) -> None:
    elf_head = 88  # the headers of the file, and 4 bytes up to a multiple of 8
    for window, align, header in ((8192, 4, multiboot_header()), (32768, 8, multiboot2_header())):
        room = (window - len(header) - elf_head) // align * align
        found = identify(write(tmp_path, "k", make_multiboot(bytes(room) + header)))
        assert isinstance(found.boot, MultibootBoot)
        beyond = make_multiboot(bytes(room + 16) + header)
        assert identify(write(tmp_path, "k", beyond)).type == "elf-x86"


@pytest.mark.parametrize(
    "header",
    [
        b"\0" + multiboot_header() + bytes(3),
        multiboot_header()[:-1] + b"\0",
        bytes(4) + multiboot2_header(),
    ],
    ids=["not aligned", "bad checksum", "not aligned to 8"],
)
def test_what_is_no_header(tmp_path: Path, header: bytes) -> None:
    pad = bytes(-len(make_multiboot(b"")) % 8)
    assert identify(write(tmp_path, "k", make_multiboot(pad + header))).type == "elf-x86"


def kludge(header_addr: int, load: int, load_end: int, bss_end: int, entry: int) -> bytes:
    return multiboot_header(0x10002, (header_addr, load, load_end, bss_end, entry))


CODE = bytes(range(256))


@pytest.mark.parametrize(
    ("addresses", "part", "size"),
    [
        ((0x100010, 0x100000, 0x100080, 0x108000, 0x100040), (0x100000, 0x8000), 0x80),
        ((0x100010, 0x100000, 0, 0, 0x100040), (0x100000, 0x130), 0x130),
        ((0x100010, 0x100008, 0x100080, 0, 0x100040), (0x100008, 0x78), 0x78),
        ((0x100010, 0xFFFFFFFF, 0, 0, 0x100040), (0x100000, 0x130), 0x130),
    ],
    ids=["all given", "to the file's end", "from the middle", "load_addr -1: the file's start"],
)
def test_the_aout_kludge(
    tmp_path: Path, addresses: tuple[int, ...], part: tuple[int, int], size: int
) -> None:
    data = bytes(16) + multiboot_header(0x10002, addresses) + CODE
    _, boot = parsed(tmp_path, data)
    assert [(item.addr, item.memsz) for item in boot.parts] == [part]
    contents = boot.parts[0].contents
    assert contents is not None
    assert contents_bytes(contents, MIB) == data[part[0] - 0x100000 :][:size]
    assert boot.entry == 0x100040


def test_version_2_by_addresses(tmp_path: Path) -> None:
    address = struct.pack("<4I", 0x200000, 0x200000, 0, 0x204000)
    header = multiboot2_header((2, 0, address), (3, 0, struct.pack("<I", 0x200080)))
    _, boot = parsed(tmp_path, header + CODE)
    assert [(item.addr, item.memsz) for item in boot.parts] == [(0x200000, 0x4000)]
    assert boot.entry == 0x200080


def test_the_relocatable_tag(tmp_path: Path) -> None:
    wish = struct.pack("<4I", 0x200000, 0x3FFFFFFF, 0x200000, 2)
    entry = struct.pack("<I", 0x100010)
    header = multiboot2_header((10, 0, wish), (3, 0, entry), (5, 1, bytes(12)))
    _, boot = parsed(tmp_path, make_multiboot(header))
    assert boot.relocation == LoadRange(0x200000, 0x3FFFFFFF, 0x200000, from_top=True)
    assert (boot.entry, boot.framebuffer) == (0x100010, True)


def test_optional_tags_are_optional(tmp_path: Path) -> None:
    wanted = struct.pack("<4I", 14, 8, 9, 77)
    header = multiboot2_header((77, 1, b"odd"), (7, 1, b""), (1, 1, wanted))
    _, boot = parsed(tmp_path, make_multiboot(header))
    assert (boot.version, boot.required, boot.framebuffer) == (2, (), True)


def test_what_depends_on_the_machine_is_decided_later(tmp_path: Path) -> None:
    first, second = (struct.pack("<2I", *kinds) for kinds in ((15, 6), (14, 8)))
    _, boot = parsed(tmp_path, make_multiboot(multiboot2_header((1, 0, first), (1, 0, second))))
    assert boot.required == (6, 8, 14, 15)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (multiboot_header(0x8), "it requires flags 0x8 of its header"),
        (multiboot2_header(architecture=4), "it is for architecture 4, expected 0 (i386)"),
        (multiboot2_header((77, 0, b"")), "it requires header tag 77, which is not in the"),
        (multiboot2_header((7, 0, b"")), "it requires EFI boot services, which the running kernel"),
        (
            multiboot2_header((1, 0, struct.pack("<4I", 6, 14, 99, 9))),
            "it requires information of type 9 (ELF symbols), 99 (not in the specification)",
        ),
    ],
)
def test_a_good_image_that_cannot_be_served(tmp_path: Path, header: bytes, why: str) -> None:
    """The error says neither that it is damaged nor that its type is unknown."""
    path = write(tmp_path, "k", make_multiboot(header))
    with pytest.raises(UnservedImage) as caught:
        identify(path)
    kind = "multiboot2" if len(header) > 12 else "multiboot"
    assert caught.value.message.startswith(f"{path}: this {kind} image cannot be loaded: {why}")
    assert caught.value.exit_status == 5
    assert caught.value.hint


@pytest.mark.parametrize("header", [multiboot_header(), multiboot2_header()])
def test_a_header_in_what_is_no_elf_file(tmp_path: Path, header: bytes) -> None:
    path = write(tmp_path, "k", bytes(16) + header + CODE)
    with pytest.raises(NotAnImage) as caught:
        identify(path)
    assert "the header has no addresses, and the file is not an ELF file" in "".join(
        caught.value.details
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            bytes(16) + kludge(0x100000, 0x100000, 0, 0, 0x900000),
            "multiboot: entry 0x900000 is outside of its parts",
        ),
        (
            bytes(16) + kludge(0x100010, 0x100000, 0x200000, 0, 0x100000),
            "multiboot: load_end_addr 0x200000 needs 0x100000 bytes, but the file has 0x30",
        ),
        (
            bytes(16) + kludge(0x100000, 0x100010, 0, 0, 0x100000),
            "multiboot: header_addr 0x100000 and load_addr 0x100010 contradict each other",
        ),
        (
            bytes(16) + kludge(0x100010, 0x100000, 0, 0xFFFFFFFF, 0x100000),
            "multiboot: bss_end_addr 0xffffffff is too large",
        ),
        (bytes(16) + multiboot_header(0x10000), "multiboot: truncated: the addresses of its"),
        (make_multiboot(multiboot2_header((10, 0, b"x"))), "multiboot2: tag 10 of 0x9 bytes"),
        (
            make_multiboot(multiboot2_header((10, 0, struct.pack("<4I", 0, 1 << 30, 3, 0)))),
            "multiboot2: relocatable tag: align 0x3 is not a power of two",
        ),
        (
            make_multiboot(multiboot2_header((10, 0, struct.pack("<4I", 0, 0x1000, 4096, 0)))),
            "multiboot2: relocatable tag: 0x0 to 0x1000 has no room for 0x3000 bytes",
        ),
        (make_multiboot(multiboot2_header(end=False)), "multiboot2: its tags have no end tag"),
        (
            multiboot2_header((2, 0, bytes(16))) + CODE,
            "multiboot2: it has an address tag but no entry address tag",
        ),
        (
            make_multiboot(bits=64, addr=0xFFFFF000, memsz=0x3000),
            "multiboot: it ends at 0x100002000, above 4 GiB",
        ),
    ],
)
def test_a_header_that_cannot_be_served(tmp_path: Path, data: bytes, reason: str) -> None:
    path = write(tmp_path, "k", data)
    with pytest.raises(NotAnImage) as caught:
        identify(path)
    assert caught.value.message.startswith(f"{path}: not a {reason}")
