"""Images inside images: UKI, uImage, zboot; and images that are recognized but not loaded."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import pytest

from pykexec.backends.kernel.buffers import in_memory
from pykexec.errors import NotSupported, UsageError
from pykexec.images.contents import Contents, contents_bytes
from pykexec.images.identify import identify
from pykexec.images.kernel_image import ForeignImage, NotAnImage
from pykexec.images.unwrapped import kernel_file
from pykexec.placement.plan_load import plan_load
from pykexec.placement.request import ImageKind, LoadRequest
from tests.builders import (
    MIB,
    make_bzimage,
    make_machine,
    make_multiboot,
    make_pe,
    make_riscv_image,
    make_uimage,
    make_uki,
    make_vmlinux,
    make_zboot,
    pack,
    write,
)

KERNEL = make_bzimage()


def refusal(tmp_path: Path, data: bytes) -> str:
    path = write(tmp_path, "k", data)
    with pytest.raises(NotAnImage) as caught:
        identify(path)
    return caught.value.message.replace(f"{path}: ", "")


# -- UKI


def test_a_uki_is_a_kernel_with_all_that_it_needs(tmp_path: Path) -> None:
    extra = ((b".uname", b"6.1.0-test\0"), (b".dtb", b"\xd0\x0d\xfe\xed"))
    image = identify(write(tmp_path, "uki.efi", make_uki(extra=extra)))
    assert (image.type, image.wrapped) == ("uki", ("uki",))
    assert image.version == "6.1.0-test (builder) #1"
    assert contents_bytes(image.payload, MIB) == KERNEL[1024:]
    assert image.linux.init_size == 0x100000
    assert image.implied.initrd is not None
    assert contents_bytes(image.implied.initrd, 100) == b"INITRD"
    assert image.implied.cmdline == "root=/dev/vda1 ro"
    assert image.implied.dtb is not None
    assert contents_bytes(image.implied.dtb, 100) == b"\xd0\x0d\xfe\xed"
    assert os.listdir(tmp_path) == ["uki.efi"]


def test_microcode_comes_before_the_initrd(tmp_path: Path) -> None:
    image = identify(write(tmp_path, "k", make_uki(extra=((b".ucode", b"uc5ab"),))))
    assert image.implied.initrd is not None
    assert contents_bytes(image.implied.initrd, 100) == b"uc5ab\0\0\0INITRD"


def test_a_uki_with_a_compressed_or_another_kernel(tmp_path: Path) -> None:
    image = identify(write(tmp_path, "k", make_uki(pack(make_vmlinux(), "xz"))))
    assert (image.type, image.wrapped) == ("uki", ("uki", "xz"))
    assert image.linux.lowest
    image = identify(write(tmp_path, "k", pack(make_uki(initrd=b"", cmdline=b""), "gzip")))
    assert (image.type, image.wrapped) == ("uki", ("gzip", "uki"))
    assert (image.implied.initrd, image.implied.cmdline) == (None, None)


def test_the_first_of_two_sections_counts(tmp_path: Path) -> None:
    image = identify(write(tmp_path, "k", make_uki(extra=((b".cmdline", b"second"),))))
    assert image.implied.cmdline == "root=/dev/vda1 ro"
    assert (image.profiles, image.profile) == ((), None)


def test_control_characters_are_blanks(tmp_path: Path) -> None:
    image = identify(write(tmp_path, "k", make_uki(cmdline=b" a=1\tb\r\nc\n\0d")))
    assert image.implied.cmdline == "a=1 b  c"


OTHER = make_bzimage(b"\x90" * 0x4000, banner=b"other\0")
PROFILES = (
    (b".profile", b"ID=main\nTITLE='Normal start'\n"),
    (b".ucode", b"ucod"),
    (b".profile", b'# no ID\nTITLE="Factory\x1b reset"\0'),
    (b".cmdline", b"systemd.factory_reset=1"),
    (b".cmdline", b"never"),
    (b".profile", b"ID=other\n"),
    (b".linux", OTHER),
    (b".initrd", b"OTHERS"),
    (b".cmdline", b""),
    (b".profile", b"\xff\xfe" * 9),
    (b".profile", b"x" * 20000),
)


def in_profile(folder: Path, number: int | None, **change: Any) -> tuple[object, ...]:
    image = identify(write(folder, "k", make_uki(**{"extra": PROFILES, **change})), profile=number)
    initrd = image.implied.initrd
    return (
        image.profile,
        image.implied.cmdline,
        contents_bytes(initrd, 100) if initrd else None,
        contents_bytes(image.payload, MIB)[0],
    )


def test_a_profile_overrides_the_base(tmp_path: Path) -> None:
    """Section by section; an empty one removes that of the base."""
    line = "root=/dev/vda1 ro"
    assert in_profile(tmp_path, None) == (0, line, b"ucodINITRD", 0xF4)
    assert in_profile(tmp_path, 0) == in_profile(tmp_path, None)
    assert in_profile(tmp_path, 1) == (1, "systemd.factory_reset=1", b"INITRD", 0xF4)
    assert in_profile(tmp_path, 2) == (2, None, b"OTHERS", 0x90)
    assert in_profile(tmp_path, 4) == (4, line, b"INITRD", 0xF4)


def test_what_only_another_profile_has_is_not_used(tmp_path: Path) -> None:
    assert in_profile(tmp_path, None, cmdline=b"", initrd=b"")[1:] == (None, b"ucod", 0xF4)
    kernel = ((b".profile", b"ID=a"), (b".profile", b"ID=b"), (b".linux", KERNEL))
    path = write(tmp_path, "k", make_pe([(b".text", b"x"), *kernel]))
    assert identify(path, profile=1).linux.init_size == 0x100000
    with pytest.raises(NotAnImage, match=r"not a uki: profile 0 has no \.linux section"):
        identify(path)


def test_also_in_a_compressed_uki_and_by_its_type(tmp_path: Path) -> None:
    path = write(tmp_path, "k", pack(make_uki(extra=PROFILES), "gzip"))
    for kind in (None, "uki"):
        assert identify(path, kind, 1).implied.cmdline == "systemd.factory_reset=1"


def test_a_profile_that_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path, "k", make_uki(extra=PROFILES))
    with pytest.raises(UsageError) as caught:
        identify(path, profile=5)
    assert caught.value.code == "no-such-profile"
    assert caught.value.message == f"{path}: there is no profile 5: this UKI has 5 profiles"
    assert caught.value.hint == "profiles: 0 main: Normal start; 1 Factory? reset; 2 other; 3; 4"
    assert [str(item) for item in identify(path).profiles] == caught.value.profiles


def test_a_profile_of_what_has_none(tmp_path: Path) -> None:
    path = write(tmp_path, "k", make_uki())
    assert identify(path, profile=0).implied.cmdline == "root=/dev/vda1 ro"
    with pytest.raises(UsageError, match="no profile 1: this UKI has no profiles"):
        identify(path, profile=1)
    path = write(tmp_path, "k", KERNEL)
    with pytest.raises(UsageError, match=r"k is of type bzImage64, and has no profiles"):
        identify(path, profile=0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (make_pe([(b".linux", b"")]), "not a uki: its .linux section is empty"),
        (make_uki(cmdline=b"x" * 20000), "not a uki: .cmdline has 0x4e20 bytes, more than 0x4000"),
        (make_uki(cmdline=b"\xff\xfe"), "not a uki: .cmdline is not text"),
        (make_uki()[:-0x300], "not a uki: truncated: section .cmdline ends at"),
        (make_uki(b"no kernel" * 300), "not a kernel image: it is a text file (inside uki)"),
        (make_uki(b"\xff" * 999), "not a kernel image of any known type (inside uki)"),
        (make_pe([(b".text", b"x")]), "not a kernel image: it is an EFI program or another PE"),
    ],
)
def test_a_uki_that_is_none(tmp_path: Path, data: bytes, reason: str) -> None:
    assert refusal(tmp_path, data).startswith(reason)


# -- uImage


@pytest.mark.parametrize(
    ("comp", "codec"), [(0, None), (0, "gzip"), (1, "gzip"), (2, "bzip2"), (3, "lzma")]
)
def test_a_uimage(tmp_path: Path, comp: int, codec: str | None) -> None:
    data = pack(KERNEL, codec) if codec else KERNEL
    image = identify(write(tmp_path, "uImage", make_uimage(data, comp=comp)))
    assert (image.type, image.linux.init_size) == ("uImage", 0x100000)
    assert image.wrapped == (("uImage", codec) if codec else ("uImage",))
    assert contents_bytes(image.payload, MIB) == KERNEL[1024:]


def test_a_uimage_keeps_its_name_where_the_kernel_has_none(tmp_path: Path) -> None:
    image = identify(write(tmp_path, "k", make_uimage(make_multiboot())))
    assert (image.version, image.type) == ("Linux-6.1.0-test", "uImage")


def changed(data: bytes, at: int, byte: int) -> bytes:
    return data[:at] + bytes((byte,)) + data[at + 1 :]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (changed(make_uimage(), 40, 1), "header checksum is 0x"),
        (changed(make_uimage(), 3000, 1), "data checksum is 0x"),
        (make_uimage(system=17), "for operating system 17, expected 5 (Linux)"),
        (
            make_uimage(size=0x10000),
            "truncated: the header specifies 0x10000 bytes, but 0x3400 follow",
        ),
        (make_uimage(size=0), "truncated: the header specifies 0x0 bytes"),
        (make_uimage(comp=1), "the header specifies compression gzip, but the data has none"),
        (make_uimage(comp=77), "unknown compression 77"),
    ],
)
def test_a_uimage_that_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    assert refusal(tmp_path, data).startswith(f"not a uImage: {reason}")


# -- not loaded

FOREIGN: dict[str, tuple[bytes, str, str]] = {
    "riscv-image": (
        make_riscv_image(),
        "riscv",
        "it is a kernel for riscv, which pykexec cannot load",
    ),
    "uImage": (
        make_uimage(b"zImage", arch=2),
        "arm",
        "it is a kernel for arm, which pykexec cannot load",
    ),
    "beoboot": (
        b"BeoB" + bytes(0x400),
        "i386",
        "it is a beoboot image: extract the kernel and the initrd from it, and load those",
    ),
    "nbi": (
        b"\x36\x13\x03\x1b" + bytes(0x400),
        "i386",
        "it is a network boot image (NBI) of etherboot: its segments start in real mode "
        "and call firmware that is no longer available; load the kernel inside it",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_recognised_and_not_loaded(tmp_path: Path, name: str) -> None:
    data, architecture, why = FOREIGN[name]
    image = identify(write(tmp_path, "k", data))
    assert image.type == name
    assert isinstance(image.boot, ForeignImage)
    assert image.boot.architecture == architecture
    for kind in ImageKind:
        with pytest.raises(NotSupported) as caught:
            plan_load(image, make_machine(), LoadRequest(kind))
        assert caught.value.message == f"{image.path}: {why}"
        assert caught.value.exit_status == 5


def test_zboot_that_is_cut_off(tmp_path: Path) -> None:
    data = make_zboot()
    assert refusal(tmp_path, data[:-1]).startswith("not a zboot: truncated: the payload is 0x")


# -- for kexec_load


def test_what_is_mapped_is_what_was_digested(tmp_path: Path) -> None:
    """A payload inside another file: its offset is in the outer file."""
    for data in (make_uki(), make_uki(pack(KERNEL, "gzip")), make_uimage(), pack(KERNEL, "xz")):
        image = identify(write(tmp_path, "k", data))
        assert image.implied.initrd is None or mapped_bytes(image.implied.initrd) == b"INITRD"
        assert mapped_bytes(image.payload) == KERNEL[1024:]


def mapped_bytes(contents: Contents) -> bytes:
    with in_memory(contents) as addr:
        return ctypes.string_at(addr, contents.size)


# -- for kexec_file_load


def test_the_bzimage_itself(tmp_path: Path) -> None:
    for name, data in {
        "plain": KERNEL,
        "gzip": pack(KERNEL, "gzip"),
        "uki": make_uki(),
        "uImage in xz": pack(make_uimage(), "xz"),
    }.items():
        image = identify(write(tmp_path, "k", data))
        file = kernel_file(image)
        assert file.fd >= 0
        assert file.read(0, file.size) == KERNEL, name
        assert image.file is not None
        assert (file is image.file.file) == (name == "plain")


def test_kexec_file_load_takes_nothing_else(tmp_path: Path) -> None:
    image = identify(write(tmp_path, "k", make_vmlinux()))
    with pytest.raises(NotSupported) as caught:
        kernel_file(image)
    assert caught.value.message == (
        f"kexec_file_load needs a bzImage, but {image.path} is of type vmlinux"
    )
