"""Whether an initrd can serve a kernel: if not, a crash load is refused, and others warn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.cli.terms import PYKEXEC
from pykexec.images.contents import Contents, joined_initrd
from pykexec.images.identify import identify
from pykexec.images.kernel_image import KernelImage
from pykexec.placement.implied import with_implied
from pykexec.placement.initrd import (
    NO_INIT,
    NO_INITRD,
    NO_INITRD_NO_ROOT,
    InitrdOfAnotherKernel,
    UnusableInitrd,
    check_initrd,
    release_of,
)
from pykexec.placement.plan import NOT_CHECKED
from pykexec.placement.request import ImageKind, LoadRequest
from tests.builders import (
    make_bzimage,
    make_cpio,
    make_elf,
    make_multiboot,
    make_uimage,
    make_uki,
    make_vmlinux,
    pack,
    write,
)

OURS = "6.1.0-test"
CRASHES = [ImageKind.CRASH, ImageKind.CRASH_BY_NORMAL]


def initrd_of(folder: Path, *releases: str, init: bool = True) -> Contents:
    names = [(f"lib/modules/{release}/modules.dep", b"") for release in releases]
    archive = make_cpio(*names, *([("init", b"")] if init else []))
    return given(folder, pack(archive, "gzip"))


def given(folder: Path, data: bytes) -> Contents:
    found = joined_initrd([write(folder, "initrd", data)])
    assert found
    return found


@pytest.fixture
def image(tmp_path: Path) -> KernelImage:
    return identify(write(tmp_path, "kernel", make_bzimage()))


@pytest.mark.parametrize("kind", CRASHES)
def test_modules_of_another_kernel_are_refused_for_a_crash(
    tmp_path: Path, image: KernelImage, kind: ImageKind
) -> None:
    initrd = initrd_of(tmp_path, "5.10.1", "5.10.2")
    with pytest.raises(InitrdOfAnotherKernel) as raised:
        check_initrd(image, LoadRequest(kind, initrd))
    assert raised.value.message == (
        f"{tmp_path}/initrd: the initrd belongs to another kernel: its modules are for "
        f"5.10.1, 5.10.2, but the kernel is {OURS}"
    )
    assert raised.value.hint_in(PYKEXEC) == (
        f"use the initrd of {OURS}; use --no-initrd-check to load it anyway"
    )


def test_elsewhere_they_are_a_warning(tmp_path: Path, image: KernelImage) -> None:
    initrd = initrd_of(tmp_path, "5.10.1")
    for request in (
        LoadRequest(ImageKind.NORMAL, initrd),
        LoadRequest(ImageKind.CRASH, initrd, initrd_check=False),
    ):
        verdict = check_initrd(image, request)
        (warning,) = verdict.warnings
        assert "its modules are for 5.10.1, but the kernel is 6.1.0-test" in warning
        assert (verdict.release, verdict.modules) == (OURS, ("5.10.1",))


@pytest.mark.parametrize("releases", [(OURS,), ("5.10.1", OURS), ()])
@pytest.mark.parametrize("kind", list(ImageKind))
def test_its_own_modules_among_others_or_none_at_all_are_right(
    tmp_path: Path, image: KernelImage, releases: tuple[str, ...], kind: ImageKind
) -> None:
    verdict = check_initrd(image, LoadRequest(kind, initrd_of(tmp_path, *releases)))
    assert verdict.warnings == ()


@pytest.mark.parametrize(
    ("kernel", "release"),
    [
        (make_bzimage(), OURS),
        (make_bzimage(banner=b""), None),
        (make_vmlinux(), OURS),
        (make_uki(), OURS),
        (make_uimage(), OURS),
        (make_uimage(make_bzimage(banner=b"")), None),
        (pack(make_bzimage(), "gzip"), OURS),
    ],
)
def test_the_release_is_the_first_word_of_the_banner(
    tmp_path: Path, kernel: bytes, release: str | None
) -> None:
    """The name in a uImage's header is arbitrary."""
    image = identify(write(tmp_path, "kernel", kernel))
    assert release_of(image) == release
    request = LoadRequest(ImageKind.CRASH, initrd_of(tmp_path, "5.10.1"))
    if release is None:
        assert check_initrd(image, request).warnings == ()
        return
    with pytest.raises(InitrdOfAnotherKernel):
        check_initrd(image, request)


@pytest.mark.parametrize("kind", CRASHES)
def test_a_file_that_is_no_initrd_is_refused_for_a_crash(
    tmp_path: Path, image: KernelImage, kind: ImageKind
) -> None:
    wrong = given(tmp_path, make_bzimage())
    with pytest.raises(UnusableInitrd, match=r"not an initrd but a Linux kernel \(bzImage\)"):
        check_initrd(image, LoadRequest(kind, wrong))
    (warning,) = check_initrd(image, LoadRequest(kind, wrong, initrd_check=False)).warnings
    assert "not an initrd" in warning
    (warning,) = check_initrd(image, LoadRequest(ImageKind.NORMAL, wrong)).warnings
    assert "not an initrd" in warning


def test_what_cannot_be_told_is_no_reason_to_refuse(tmp_path: Path, image: KernelImage) -> None:
    (warning,) = check_initrd(
        image, LoadRequest(ImageKind.CRASH, given(tmp_path, b"\x01\x80" * 999))
    ).warnings
    assert "not recognized as an initrd" in warning


def test_the_initrd_inside_a_uki_is_checked_too(tmp_path: Path) -> None:
    inside = pack(make_cpio(("lib/modules/5.10.1/a", b"")), "gzip")
    ucode = [(b".ucode", make_cpio(("kernel/x86/microcode/AuthenticAMD.bin", b"")))]
    image = identify(write(tmp_path, "uki", make_uki(initrd=inside, extra=ucode)))
    with pytest.raises(
        InitrdOfAnotherKernel, match=r"^[^,]*/uki: the initrd belongs to another kernel"
    ):
        check_initrd(image, with_implied(image, LoadRequest(ImageKind.CRASH)))


@pytest.mark.parametrize("kind", CRASHES)
@pytest.mark.parametrize(
    ("request_", "warning"),
    [
        (LoadRequest(), NO_INITRD_NO_ROOT),
        (LoadRequest(append=("quiet root=/dev/vda1",)), NO_INITRD),
        (LoadRequest(reuse_cmdline=True), NO_INITRD),
    ],
)
def test_a_crash_load_without_an_initrd_is_warned(
    image: KernelImage, kind: ImageKind, request_: LoadRequest, warning: str
) -> None:
    assert check_initrd(image, replace(request_, kind=kind)).warnings == (warning,)
    assert check_initrd(image, replace(request_, kind=ImageKind.NORMAL)).warnings == ()


def test_an_initrd_without_init_is_warned(tmp_path: Path, image: KernelImage) -> None:
    initrd = initrd_of(tmp_path, init=False)
    assert check_initrd(image, LoadRequest(ImageKind.CRASH, initrd)).warnings == (NO_INIT,)
    other = LoadRequest(ImageKind.CRASH, initrd, append=("rdinit=/bin/sh",))
    assert check_initrd(image, other).warnings == ()


@pytest.mark.parametrize("data", [make_elf(), make_multiboot()])
def test_what_another_system_takes_for_an_initrd_is_unknown(tmp_path: Path, data: bytes) -> None:
    image = identify(write(tmp_path, "kernel", data))
    request = LoadRequest(ImageKind.NORMAL, given(tmp_path, b"a text file\n"))
    assert check_initrd(image, request) == NOT_CHECKED
