"""The estimate, with sizes like those for which `rehearse --engine qemu --least` was run
(docs/how-it-works.md has its results)."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from pykexec.images.contents import Contents, OpenFile
from pykexec.images.identify import identify
from pykexec.images.kernel_image import KernelImage
from pykexec.placement.capture_words import SAVE_TARGET
from pykexec.placement.estimate import crash_size
from tests.builders import MIB, make_bzimage, make_cpio, write

KERNEL = 50 * MIB
ROOT = "quiet root=/dev/vda1"


@pytest.fixture
def image(tmp_path: Path) -> KernelImage:
    return identify(write(tmp_path, "bzImage", make_bzimage(init_size=KERNEL)))


def contents(folder: Path, name: str, data: bytes) -> Contents:
    file = OpenFile(write(folder, name, data))
    return file.span(0, file.size)


@pytest.fixture
def plain(tmp_path: Path) -> Contents:
    """60 MiB, not compressed, of which the last pages of files make 63 MiB."""
    return contents(tmp_path, "plain", make_cpio(("init", bytes(60 * MIB))))


@pytest.fixture
def packed(tmp_path: Path) -> Contents:
    """30 MiB in 3 MiB; its last pages make 31.5 MiB."""
    data = random.Random(1).randbytes(3 * MIB) + bytes(27 * MIB)
    return contents(tmp_path, "packed", gzip.compress(make_cpio(("init", data)), 1))


def test_without_an_initrd(image: KernelImage) -> None:
    assert crash_size(image, None).size == 100 * MIB, "50 + 48, rounded up"


def test_the_packed_initrd_is_freed_before_the_dump_is_written(
    image: KernelImage, packed: Contents
) -> None:
    found = crash_size(image, packed)
    assert found.size == 132 * MIB, "50 + 31.5 + 48, rounded up"
    assert [term.name for term in found.terms] == ["kernel", "initrd, unpacked", "working memory"]


def test_an_uncompressed_initrd_is_there_twice_and_its_file_system_has_half(
    image: KernelImage, plain: Contents
) -> None:
    found = crash_size(image, plain)
    assert found.size == 248 * MIB, "50 + 60 + 2 * 63 + 8, rounded up"
    assert found.terms[-1].name == "tmpfs"


def test_a_ramfs_has_no_limit(image: KernelImage, plain: Contents) -> None:
    assert crash_size(image, plain, [ROOT]).size == 192 * MIB, "50 + 60 + 63 + 16, rounded up"


def test_saving_by_pykexec_takes_python_once_the_initrd_is_unpacked(
    image: KernelImage, plain: Contents
) -> None:
    words = [f"{SAVE_TARGET} {ROOT}"]
    assert crash_size(image, None, words).size == 196 * MIB, "50 + 48 + 96, rounded up"
    assert crash_size(image, plain, words).size == 260 * MIB, "50 + 63 + 48 + 96, rounded up"


def test_what_words_allocate_at_boot_is_added_at_either_time(
    image: KernelImage, plain: Contents, packed: Contents
) -> None:
    for initrd in (plain, packed):
        more = crash_size(image, initrd, ["hugepages=10"]).size
        assert more - crash_size(image, initrd).size == 20 * MIB
