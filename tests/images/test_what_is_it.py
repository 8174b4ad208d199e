"""What a file is: each kind is recognized by few bytes, as its own tools write them, and named in
one line."""

from __future__ import annotations

import gzip
import os
import struct
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.errors import KexecError
from pykexec.images.contents import OpenFile
from pykexec.images.identify import identify
from pykexec.images.kernel_image import NotAnImage
from pykexec.images.signatures import SIGNATURES
from pykexec.images.what_is_it import A_KERNEL, HEAD, Identity, Role, identity_of, what_is_it
from tests.builders import (
    make_arm64_image,
    make_bzimage,
    make_cpio,
    make_elf,
    make_pe,
    make_uimage,
    make_uki,
    pack,
    write,
)
from tests.images.fixtures import FIXTURES


def at(offset: int, magic: bytes, size: int = 0x1000) -> bytes:
    """`magic` at this offset, surrounded by 0xff."""
    return (b"\xff" * offset + magic).ljust(size, b"\xff")


def efi(subsystem: int, *sections: bytes, magic: int = 0x20B) -> bytes:
    """A PE file with an optional header, as firmware requires."""
    optional = struct.pack("<H66xH", magic, subsystem).ljust(112, b"\0")
    table = b"".join(struct.pack("<8s32x", name) for name in sections)
    coff = struct.pack("<HHIIIHH", 0x8664, len(sections), 0, 0, 0, len(optional), 0x22E)
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x80)
    return head.ljust(0x80, b"\0") + b"PE\0\0" + coff + optional + table + bytes(0x400)


def elf(kind: int, machine: int, *, order: str = "<", bits: int = 64, entry: int = 0x1000) -> bytes:
    """The header of an ELF file, of any byte order."""
    ident = b"\x7fELF" + bytes((bits // 32, 1 if order == "<" else 2, 1)) + bytes(9)
    word = "Q" if bits == 64 else "I"
    return ident + struct.pack(f"{order}HHI{word}", kind, machine, 1, entry).ljust(0x100, b"\0")


ABI_TAG = struct.pack("<III4s4I", 4, 16, 1, b"GNU\0", 0, 3, 2, 0)
FIT = b"\xd0\x0d\xfe\xed" + struct.pack(">9I", 0x200, 0x38, 0x100, 0x28, 17, 16, 0, 9, 9) + (
    bytes(16) + b"\0\0\0\1\0\0\0\0\0\0\0\1images\0\0"
)  # fmt: skip
DTB = FIT.replace(b"images\0\0", b"cpus\0\0\0\0")

KINDS: dict[str, tuple[bytes, str]] = {
    "efi application": (efi(10, b".text"), "an EFI application for x86_64"),
    "32-bit efi": (efi(10, b".text", magic=0x10B), "an EFI application for x86_64"),
    "efi driver": (efi(11, b".text"), "an EFI driver for x86_64"),
    "systemd-boot": (efi(10, b".text", b".sdmagic"), "an EFI boot loader (systemd-boot)"),
    "grub": (efi(10, b".text", b"mods"), "an EFI boot loader (GRUB)"),
    "windows": (efi(3, b".text"), "a Windows program for x86_64"),
    "windows driver": (efi(1, b".text"), "a Windows driver or kernel"),
    "bootmgr": (efi(16, b".text"), "a Windows boot application"),
    "no subsystem": (efi(0, b".text"), "an EFI program or another PE file"),
    "addon": (efi(10, b".cmdline", b".sbat"), "an addon for a unified kernel image"),
    "dos": (b"MZ" + b"\x90" * 0x100, "a DOS or Windows program"),
    "fit": (FIT, "a FIT image"),
    "dtb": (DTB, "a flattened device tree"),
    "android": (at(0, b"ANDROID!"), "an Android boot image"),
    "vendor boot": (at(0, b"VNDRBOOT"), "an Android vendor_boot image"),
    "iso": (at(0x8001, b"CD001", 0x9000), "an ISO 9660 image"),
    "bootable iso": (bytes(0x1FE) + b"\x55\xaa" + at(0x7E01, b"CD001"), "an ISO 9660 image"),
    "squashfs": (at(0, b"hsqs"), "a file system (squashfs)"),
    "ext4": (bytes(0x438) + b"\x53\xef" + bytes(0x400), "a file system (ext2"),
    "btrfs": (at(0x10040, b"_BHRfS_M", 0x11000), "a file system (btrfs)"),
    "qcow2": (at(0, b"QFI\xfb"), "a disk image (qcow2)"),
    "gpt": (bytes(0x1FE) + b"\x55\xaa" + at(0, b"EFI PART"), "a disk image with a GPT"),
    "mbr": (bytes(0x1FE) + b"\x55\xaa" + bytes(0x200), "a boot sector"),
    "deb": (b"!<arch>\ndebian-binary   1", "a Debian package"),
    "library": (b"!<arch>\n/               0", "a static library"),
    "rpm": (b"\xed\xab\xee\xdb\3\0", "an RPM package"),
    "tar": (at(0x101, b"ustar"), "a tar archive"),
    "zip": (b"PK\3\4\x14\0", "a zip archive"),
    "kdump": (b"KDUMP   \6\0\0\0", "a compressed dump of makedumpfile"),
    "flattened": (b"makedumpfile\0\0\0\0", "a flattened dump"),
    "cpio": (make_cpio(("init", b"x")), "an initrd (a cpio archive)"),
    "old cpio": (b"070707000001", "a cpio archive in an old format"),
    "module": (elf(1, 62), "an ELF object file or kernel module (.o, .ko) for x86_64, 64 bits"),
    "core": (elf(4, 62), "an ELF core file (a dump) for x86_64"),
    "arm64 elf": (elf(2, 183), "an ELF executable for arm64, 64 bits"),
    "ppc64": (elf(2, 21, order=">"), "an ELF executable for ppc64, 64 bits, big-endian"),
    "big-endian x86": (elf(2, 62, order=">"), "an ELF executable for x86_64, 64 bits, big-endian"),
    "mips": (elf(2, 8, order=">", bits=32), "an ELF executable for mips, 32 bits, big-endian"),
    "unknown machine": (elf(2, 999), "an ELF executable for machine 999"),
    "library elf": (elf(3, 62, entry=0), "a shared library for x86_64"),
    "static program": (
        make_elf([(0x400000, 0x400000, b"\xf4", 1)], notes=((b"GNU", 1, ABI_TAG[16:]),)),
        "a user-space program for Linux",
    ),
    "program": (Path("/bin/ls").read_bytes(), "a user-space program for Linux"),
    "python": (Path(sys.executable).read_bytes()[:HEAD], "a user-space program for Linux"),
    "uimage ramdisk": (make_uimage(kind=3, arch=2), "a ramdisk for arm with a U-Boot header"),
    "uimage of several": (make_uimage(kind=4), "a multi-file image for x86_64 with a U-Boot"),
    "uimage of type 99": (make_uimage(kind=99), "an image of type 99 for x86_64 with a U-Boot"),
    "arm zImage": (at(0x24, b"\x18\x28\x6f\x01"), "a kernel for arm (zImage)"),
    "script": (b"#!/bin/sh\nexit 0\n", "a script"),
    "html": (b"\n<!DOCTYPE html>\n<html>", "a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "a pointer to a file in Git LFS"),
    "text": ("r\u00f6ot=/dev/vda\r\n".encode() * 400, "a text file"),
    "zeros": (bytes(100), "nothing but zeros"),
    "many zeros": (bytes(1 << 20), "zeros, at least in the first 64 KiB"),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_no_kernel_is_named(tmp_path: Path, name: str) -> None:
    data, what = KINDS[name]
    path = write(tmp_path, "file", data)
    known = what_is_it(OpenFile(path))
    assert known is not None
    assert known.what.startswith(what)
    assert known.role is (Role.INITRD if name == "cpio" else Role.NEITHER)
    with pytest.raises(NotAnImage) as caught:
        identify(path)
    assert caught.value.message == f"{path}: not a kernel image: it is {known.what}"
    assert caught.value.hint == known.hint
    assert caught.value.details
    assert "damaged" not in caught.value.message + known.hint


@pytest.mark.parametrize("name", KINDS)
def test_also_where_it_is_compressed(tmp_path: Path, name: str) -> None:
    data, what = KINDS[name]
    known = what_is_it(OpenFile(write(tmp_path, "file.gz", gzip.compress(data, 1))))
    assert known is not None
    assert known.what.startswith(what)
    assert known.what.endswith(", compressed with gzip")


def test_each_signature_is_met_by_its_own_bytes() -> None:
    """None is hidden by an earlier one."""
    for item in SIGNATURES:
        head = bytearray(b"\xff" * HEAD)
        head[item.at : item.at + len(item.magic)] = item.magic
        known = identity_of(bytes(head))
        assert known is not None
        assert known.what == item.what


@pytest.mark.parametrize("name", sorted(set(FIXTURES) - {"nbi", "beoboot"}))
def test_what_a_type_takes_is_a_kernel(tmp_path: Path, name: str) -> None:
    """So that one given as an initrd can be named; also by the start of a file alone."""
    for data in (FIXTURES[name], FIXTURES[name][: len(FIXTURES[name]) // 2]):
        known = what_is_it(OpenFile(write(tmp_path, "k", data)))
        assert known is not None
        assert known.role is Role.KERNEL


def test_a_short_arm64_image_is_no_damaged_uki(tmp_path: Path) -> None:
    """It is a PE file whose sections end past the file's end."""
    image = bytearray(make_pe([(b".text", bytes(0x400)), (b".data", bytes(0x4000))], 0xAA64))
    image[:64] = make_arm64_image()[:60] + struct.pack("<I", 0x80)
    path = write(tmp_path, "Image", bytes(image[:0x300]))
    assert identify(path).type == "arm64-image"


def test_what_tells_nothing(tmp_path: Path) -> None:
    for data in (b"\xff" * 5000, b"\x80"):
        assert what_is_it(OpenFile(write(tmp_path, "k", data))) is None
    known = what_is_it(OpenFile(write(tmp_path, "k", gzip.compress(b"\xff" * 999))))
    assert known == Identity("unknown data compressed with gzip", A_KERNEL)
    known = what_is_it(OpenFile(write(tmp_path, "k", gzip.compress(os.urandom(9999))[:99])))
    assert known == Identity("data compressed with gzip", "unpack it to find out what it is")


def test_an_empty_file(tmp_path: Path) -> None:
    for data in (b"", gzip.compress(b"")):
        known = what_is_it(OpenFile(write(tmp_path, "k", data)))
        assert known is not None
        assert known.what.startswith("an empty file")


def test_little_is_read(tmp_path: Path) -> None:
    """Of 100 GiB, and of 4 GiB of zeros in 4 MiB of gzip."""
    path = write(tmp_path, "disk", KINDS["gpt"][0])
    os.truncate(path, 100 << 30)
    bomb = write(tmp_path, "bomb", gzip.compress(bytes(1 << 20), 9) * 4096)
    started = time.process_time()
    assert what_is_it(OpenFile(bomb)) is not None
    with pytest.raises(NotAnImage, match="0x40000000; it is a disk image with a GPT"):
        identify(path)
    assert time.process_time() - started < 1


def test_what_is_inside_is_said_to_be_inside(tmp_path: Path) -> None:
    path = write(tmp_path, "k", pack(make_uki(b"#!/bin/sh\n"), "xz"))
    with pytest.raises(NotAnImage) as caught:
        identify(path)
    assert caught.value.message == f"{path}: not a kernel image: it is a script (inside xz, uki)"


def test_a_kernel_that_is_cut_off_is_still_one(tmp_path: Path) -> None:
    """The reason given by its own type remains, and a requested type is named."""
    path = write(tmp_path, "k", make_bzimage()[:0x480])
    with pytest.raises(NotAnImage, match="not a bzImage64: truncated"):
        identify(path)
    path = write(tmp_path, "k", make_bzimage()[:0x230])
    with pytest.raises(NotAnImage, match=r"looks like a Linux kernel \(bzImage\)"):
        identify(path)
    with pytest.raises(NotAnImage, match="not a kernel image: it is a text file") as caught:
        identify(write(tmp_path, "k", b"text"), "bzImage")
    assert caught.value.details == ("bzImage: 0x4 bytes, less than two sectors",)


@given(st.one_of(*(st.just(data[:512]) for data, _ in KINDS.values())), st.data())
def test_any_bytes_have_one_line(head: bytes, data: st.DataObject) -> None:
    raw = bytearray(head)
    for where, new in data.draw(
        st.lists(st.tuples(st.integers(0, len(raw)), st.binary(max_size=8)), max_size=4)
    ):
        raw[where : where + len(new)] = new
    known = identity_of(bytes(raw))
    assert known is None or (known.what.isprintable() and len(known.what) < 120)


def test_a_section_name_breaks_no_line(tmp_path: Path) -> None:
    """Text from a file is escaped in the error, exactly once."""
    path = write(tmp_path, "k", make_uki(extra=((b".a\nb\x1b", b"x" * 99),))[:-0x200])
    with pytest.raises(KexecError) as caught:
        identify(path)
    assert caught.value.message.isprintable()
    assert r".a\nb\x1b" in caught.value.message
    error = KexecError("a\nb", hint="c\rd", details=("e\x00f",))
    error.put_first("g\nh")
    shown = (error.message, str(error), error.hint, *error.details)
    assert shown == (r"g\nh: a\nb", r"g\nh: a\nb", r"c\rd", r"e\x00f")
