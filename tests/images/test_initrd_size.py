"""How large an initrd will be unpacked: what the streams say, and never more than is plausible."""

from __future__ import annotations

import gzip
import lzma
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from pykexec.images.contents import Built, OpenFile, joined_initrd
from pykexec.images.initrd_size import RATIO_MAX, USUAL_RATIO, unpacked_size
from tests.builders import make_cpio, write

NOISE = bytes(range(256)) * 40
PLAIN = make_cpio(("init", NOISE * 60), ("lib/x", bytes(3 << 20)))
EARLY = make_cpio(("kernel/x86/microcode/GenuineIntel.bin", NOISE))


def size_of(path: Path) -> int:
    file = OpenFile(path)
    return unpacked_size(file.span(0, file.size))


def zstd(data: bytes, *options: str) -> bytes:
    if shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    return subprocess.run(["zstd", "-q", *options], input=data, capture_output=True).stdout


def test_a_plain_archive_is_as_large_as_it_is(tmp_path: Path) -> None:
    assert size_of(write(tmp_path, "initrd", PLAIN)) == len(PLAIN)


def test_gzip_behind_an_early_archive(tmp_path: Path) -> None:
    files = make_cpio(("init", random.Random(2).randbytes(1 << 20)), ("x", bytes(2 << 20)))
    path = write(tmp_path, "initrd", EARLY + gzip.compress(files))
    assert size_of(path) == len(EARLY) + len(files)


@pytest.mark.parametrize("options", [("--stream-size={}",), ()])
def test_zstd_with_and_without_a_content_size(tmp_path: Path, options: tuple[str, ...]) -> None:
    data = PLAIN + random.Random(1).randbytes(1 << 20)
    words = [option.format(len(data)) for option in options]
    found = size_of(write(tmp_path, "initrd", zstd(data, *words)))
    assert found == len(data) if options else len(data) <= found <= len(data) + (128 << 10)


def test_what_says_nothing_is_as_large_as_is_usual(tmp_path: Path) -> None:
    path = write(tmp_path, "initrd", lzma.compress(PLAIN))
    assert size_of(path) == round(path.stat().st_size * USUAL_RATIO["xz"])


def test_the_files_of_several_initrds(tmp_path: Path) -> None:
    one, two = write(tmp_path, "one", PLAIN), write(tmp_path, "two", EARLY)
    joined = joined_initrd((one, two))
    assert joined
    padding = -len(PLAIN) % 4
    assert abs(unpacked_size(joined) - len(PLAIN) - len(EARLY)) <= 3 * padding


def test_what_is_no_file_is_as_large_as_is_usual() -> None:
    assert unpacked_size(Built(bytes(1000))) == 2500


@pytest.mark.parametrize(
    "hostile",
    [
        gzip.compress(PLAIN)[:-4] + b"\xff\xff\xff\xff",
        gzip.compress(PLAIN)[:-4] + bytes(4),
        b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8,
        b"\x28\xb5\x2f\xfd" + b"\xff" * 50,
        b"\x02\x21\x4c\x18" + b"\1\0\0\0x" * 50,
        b"\x02\x21\x4c\x18" + b"\xff" * 50,
        b"070701" + b"f" * 200,
        b"",
    ],
)
def test_a_stream_that_lies_is_not_believed(tmp_path: Path, hostile: bytes) -> None:
    path = write(tmp_path, "initrd", hostile)
    assert 0 <= size_of(path) <= RATIO_MAX * len(hostile)
