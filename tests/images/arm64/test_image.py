"""Image as it is, compressed, as zboot, in a UKI and in a uImage."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykexec.errors import NotSupported
from pykexec.images.contents import contents_bytes
from pykexec.images.identify import identify
from pykexec.images.kernel_image import LinuxArm64Boot, NoLinux64, NotAnImage, UnservedImage
from pykexec.placement.plan_load import plan_load
from pykexec.placement.request import ImageKind, LoadRequest
from tests.builders import (
    make_arm64_image,
    make_bzimage,
    make_machine,
    make_uimage,
    make_uki,
    make_zboot,
    pack,
    write,
)

IMAGE = make_arm64_image(body=b"..Linux version 6.1.0-50-arm64 (build@host)\n\0")


def boot_of(tmp_path: Path, data: bytes) -> LinuxArm64Boot:
    boot = identify(write(tmp_path, "Image", data)).boot
    assert isinstance(boot, LinuxArm64Boot)
    return boot


@pytest.mark.parametrize(
    ("data", "kind", "wrapped"),
    [
        (IMAGE, "arm64-image", ()),
        (pack(IMAGE, "gzip"), "arm64-image", ("gzip",)),
        (make_zboot(pack(IMAGE, "gzip")), "zboot", ("zboot", "gzip")),
        (make_uki(IMAGE), "uki", ("uki",)),
        (make_uki(make_zboot(pack(IMAGE, "gzip"))), "uki", ("uki", "zboot", "gzip")),
        (make_uimage(IMAGE, arch=22), "uImage", ("uImage",)),
    ],
)
def test_the_kernel_inside(
    tmp_path: Path, data: bytes, kind: str, wrapped: tuple[str, ...]
) -> None:
    image = identify(write(tmp_path, "k", data))
    assert (image.type, image.wrapped) == (kind, wrapped)
    assert contents_bytes(image.payload, 1 << 20) == IMAGE
    assert image.linux == LinuxArm64Boot(0, 0x200000, 4096, big_endian=False, anywhere=True)
    assert (image.version or "").startswith("6.1.0-50-arm64") or kind in ("uki", "uImage")


@pytest.mark.parametrize(
    ("flags", "page_size", "big_endian", "anywhere"),
    [
        (0xA, 4 << 10, False, True),
        (0, None, False, False),
        (4, 16 << 10, False, False),
        (6, 64 << 10, False, False),
        (0xB, 4 << 10, True, True),
    ],
)
def test_the_flags(
    tmp_path: Path, flags: int, page_size: int | None, big_endian: bool, anywhere: bool
) -> None:
    boot = boot_of(tmp_path, make_arm64_image(flags=flags))
    assert (boot.page_size, boot.big_endian, boot.anywhere) == (page_size, big_endian, anywhere)


def test_the_memory_that_it_needs(tmp_path: Path) -> None:
    boot = boot_of(tmp_path, make_arm64_image(text_offset=0x80000, image_size=0x300000))
    assert (boot.text_offset, boot.image_size, boot.init_size) == (0x80000, 0x300000, 0x380000)


def test_a_kernel_that_does_not_tell_its_size(tmp_path: Path) -> None:
    with pytest.raises(UnservedImage, match=r"before 3\.17"):
        identify(write(tmp_path, "Image", make_arm64_image(image_size=0)))


def test_a_size_that_contradicts_the_file(tmp_path: Path) -> None:
    with pytest.raises(NotAnImage, match="image_size is 0x100"):
        identify(write(tmp_path, "Image", make_arm64_image(image_size=0x100)))


def test_a_cut_off_header_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(NotAnImage):
        identify(write(tmp_path, "Image", IMAGE[:60]))


@pytest.mark.parametrize("kind", ImageKind)
def test_x86_cannot_run_it(tmp_path: Path, kind: ImageKind) -> None:
    image = identify(write(tmp_path, "k", make_zboot()))
    with pytest.raises(NotSupported) as caught:
        plan_load(image, make_machine(), LoadRequest(kind))
    assert caught.value.message == f"{image.path}: it is a kernel for arm64, which x86 cannot run"
    assert (caught.value.code, caught.value.exit_status) == ("foreign-image", 5)


def test_a_kernel_for_x86_is_no_kernel_for_arm64(tmp_path: Path) -> None:
    image = identify(write(tmp_path, "k", make_bzimage()))
    with pytest.raises(NoLinux64, match="but a Linux kernel for arm64 is needed"):
        image.linux_for(LinuxArm64Boot)
