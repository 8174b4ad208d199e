"""The estimate beside what `rehearse --engine qemu --least` has found for the same files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykexec.images.contents import Contents, OpenFile
from pykexec.images.identify import identify
from pykexec.placement.capture_words import SAVE_TARGET
from pykexec.placement.estimate import WORKING_MEMORY, crash_size
from tests.builders import MIB, make_bzimage, make_cpio, write


@pytest.fixture
def sizes(tmp_path: Path) -> dict[str, int]:
    """Of an initrd of 60 MiB, plain and packed."""
    plain = make_cpio(("init", bytes(range(256)) * (60 * 4096)))
    image = identify(write(tmp_path, "bzImage", make_bzimage(init_size=50 * MIB)))

    def contents(name: str, data: bytes) -> Contents:
        file = OpenFile(write(tmp_path, name, data))
        return file.span(0, file.size)

    return {
        "none": crash_size(image, None).size,
        "plain": crash_size(image, contents("plain", plain)).size,
        "save": crash_size(image, None, [f"quiet {SAVE_TARGET} root=/dev/vda1"]).size,
        "root": crash_size(image, contents("plain", plain), ["quiet root=/dev/vda1"]).size,
    }


def test_an_uncompressed_initrd_is_there_twice_and_its_file_system_has_half(
    sizes: dict[str, int],
) -> None:
    assert sizes["none"] == 112 * MIB, 50 * MIB + WORKING_MEMORY
    assert sizes["plain"] == 240 * MIB, "50 + 3 * 60, rounded up"


def test_saving_by_pykexec_takes_python(sizes: dict[str, int]) -> None:
    assert sizes["save"] == 208 * MIB, "50 + 48 + 96, rounded up"


def test_a_ramfs_has_no_limit(sizes: dict[str, int]) -> None:
    assert sizes["root"] == 224 * MIB, "50 + 2 * 60 + 48, rounded up"
