"""Compressed kernels: every codec, damaged streams, limits, and missing packages."""

from __future__ import annotations

import gzip
import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec.errors import KexecError, NotSupported
from pykexec.images import codecs
from pykexec.images.codecs import (
    CODECS,
    FEED,
    MAX_STREAMS,
    TOO_MANY,
    MissingCodec,
    codec_of,
    in_feeds,
)
from pykexec.images.compression import (
    MAX_KEPT,
    BadCompression,
    file_codec,
    spooled,
    unpack,
    unpacked,
)
from pykexec.images.contents import Built, OpenFile, UnreadableFile, contents_bytes
from pykexec.images.identify import IMAGE_TYPES, identify, parse
from pykexec.images.kernel_image import NotAnImage
from tests.builders import MIB, make_bzimage, pack, write

NAMES = [codec.name for codec in CODECS if codec.name != "lzo"]


def codec(name: str) -> codecs.Codec:
    return next(item for item in CODECS if item.name == name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 70_000, 9 * MIB + 5])
def test_what_is_packed_comes_back(tmp_path: Path, name: str, size: int) -> None:
    data = (os.urandom(4000) + bytes(9000)) * (size // 13000 + 1)
    data = data[:size]
    file = OpenFile(write(tmp_path, "k", pack(data, name)))
    found = file_codec(file)
    assert found is not None
    assert found.name == name
    inside = unpack(file, found)
    assert inside.read(0, inside.size) == data
    assert os.listdir(tmp_path) == ["k"]


@pytest.mark.parametrize("name", NAMES)
def test_a_wrapped_kernel_is_the_kernel(tmp_path: Path, name: str) -> None:
    kernel = make_bzimage()
    path = write(tmp_path, "k", pack(kernel, name))
    image = identify(path)
    assert (image.type, image.wrapped) == ("bzImage64", (name,))
    assert contents_bytes(image.payload, MIB) == kernel[1024:]
    assert image.file is not None
    assert image.file.size == path.stat().st_size


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_that_is_cut_off_is_said(tmp_path: Path, name: str) -> None:
    packed = pack(os.urandom(100_000), name)
    path = write(tmp_path, "k", packed[: len(packed) // 2])
    with pytest.raises(BadCompression) as caught:
        identify(path)
    assert caught.value.message.startswith(f"{path}: cannot unpack {name}: ")


@pytest.mark.parametrize("name", NAMES)
def test_a_bomb_ends_at_the_limit(tmp_path: Path, name: str) -> None:
    file = OpenFile(write(tmp_path, "k", pack(bytes(20 * MIB), name)))
    with pytest.raises(BadCompression) as caught:
        unpack(file, codec(name), MIB)
    assert caught.value.message == f"{file.path}: {name} unpacks to more than 0x100000 bytes"


@pytest.mark.parametrize("name", NAMES)
def test_streams_without_end_are_refused(name: str) -> None:
    """4 MiB of empty streams took a minute."""
    data = Built(pack(b"", name) * (MAX_STREAMS + 2))
    with pytest.raises(BadCompression, match=TOO_MANY):
        list(unpacked("k", data, codec(name)))


def test_small_blocks_without_end_are_refused() -> None:
    packed = pack(b"a", "lz4 (legacy)")
    data = Built(packed[:4] + packed[4:] * (MAX_STREAMS + 1))
    with pytest.raises(BadCompression, match=TOO_MANY):
        list(unpacked("k", data, codec("lz4 (legacy)")))


def test_a_decoder_is_fed_little_by_little() -> None:
    """The data after a stream is copied, once for each stream."""
    fed = list(in_feeds(iter([bytes(FEED), b"a" * (FEED + 1), b""])))
    assert [len(piece) for piece in fed] == [FEED, FEED, 1]


def test_all_layers_share_one_limit(tmp_path: Path) -> None:
    """A gzip file of 1 MiB had 3 GiB in its layers."""
    outer = gzip.compress(gzip.compress(make_bzimage(bytes(MIB)), 0), 0)
    file = OpenFile(write(tmp_path, "k", outer))
    assert parse(file, IMAGE_TYPES, room=2 * len(outer)).wrapped == ("gzip", "gzip")
    with pytest.raises(BadCompression, match="gzip unpacks to more than") as caught:
        parse(file, IMAGE_TYPES, room=len(outer) + MIB // 2)
    assert caught.value.hint == "unpack it, and use the unpacked file"
    assert MAX_KEPT < 300 * MIB


@pytest.mark.parametrize("name", NAMES)
def test_pieces_are_small_whatever_the_ratio(name: str) -> None:
    packed = pack(bytes(40 * MIB), name)
    sizes = [len(piece) for piece in unpacked("k", Built(packed), codec(name))]
    assert sum(sizes) == 40 * MIB
    assert max(sizes) <= 8 * MIB


@pytest.mark.parametrize("name", ["gzip", "xz", "bzip2", "lzma", "zstd", "lz4"])
def test_what_follows_a_stream_is_left_alone(name: str) -> None:
    packed = pack(b"kernel", name) + bytes(100)
    assert b"".join(unpacked("k", Built(packed), codec(name))) == b"kernel"


@pytest.mark.parametrize("name", ["gzip", "xz", "bzip2", "zstd", "lz4", "lz4 (legacy)"])
def test_streams_in_a_row_are_one(name: str) -> None:
    packed = pack(b"ker", name) + pack(b"nel", name)
    assert b"".join(unpacked("k", Built(packed), codec(name))) == b"kernel"


def test_the_size_word_behind_a_legacy_frame_is_no_block() -> None:
    packed = pack(b"kernel", "lz4 (legacy)") + (6).to_bytes(4, "little")
    assert b"".join(unpacked("k", Built(packed), codec("lz4 (legacy)"))) == b"kernel"


@pytest.mark.parametrize(
    ("name", "package"), [("zstd", "zstandard"), ("lz4", "lz4"), ("lz4 (legacy)", "lz4")]
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    path = write(tmp_path, "k", pack(b"kernel", name))

    def none_installed(module: str) -> None:
        raise ImportError(module)

    monkeypatch.setattr("pykexec.images.codecs.import_module", none_installed)
    with pytest.raises(MissingCodec) as caught:
        identify(path)
    what = "zstd" if package == "zstandard" else "lz4"
    assert caught.value.message == (
        f"{path}: it is compressed with {what}, and no Python package that unpacks it is installed"
    )
    assert caught.value.hint == f"pip install {package} (Debian: python3-{package})"
    assert caught.value.exit_status == 5


def test_zstandard_serves_where_the_standard_module_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packed = pack(b"kernel", "zstd") + pack(bytes(9 * MIB), "zstd")
    real = importlib.import_module

    def only_zstandard(module: str) -> object:
        if module in codecs.ZSTD_MODULES:
            raise ImportError(module)
        return real(module)

    monkeypatch.setattr("pykexec.images.codecs.import_module", only_zstandard)
    assert b"".join(unpacked("k", Built(packed), codec("zstd"))) == b"kernel" + bytes(9 * MIB)
    assert b"".join(unpacked("k", Built(packed + b"more"), codec("zstd"))).endswith(bytes(9 * MIB))
    with pytest.raises(BadCompression, match="it ends early"):
        list(unpacked("k", Built(packed[:-9]), codec("zstd")))
    with pytest.raises(BadCompression, match="unpacks to more than 0x100000 bytes"):
        list(unpacked("k", Built(pack(bytes(64 * MIB), "zstd")), codec("zstd"), MIB))


def test_lzo_is_recognised_and_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "k", b"\x89LZO\0\r\n\x1a\n" + bytes(50))
    with pytest.raises(NotSupported) as caught:
        identify(path)
    assert caught.value.message == f"{path}: it is compressed with lzo, which pykexec cannot unpack"
    assert caught.value.hint == "lzop -d"


def test_a_file_packed_again_and_again_is_refused(tmp_path: Path) -> None:
    data = make_bzimage()
    for _ in range(4):
        data = pack(data, "gzip")
    with pytest.raises(NotAnImage, match="nested more than 3 levels deep"):
        identify(write(tmp_path, "k", data))


def test_a_full_memory_is_said() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"a"
        raise OSError(28, "No space left on device")

    with pytest.raises(
        UnreadableFile, match="k: cannot be unpacked for lack of space: No space left on device"
    ):
        spooled("k", pieces())


def test_no_codec_takes_a_kernel_or_an_initrd() -> None:
    for head in (b"MZ\xea\x07\0\xc0\x07\x8c", b"\x7fELF\2\1\1", b"070701", b"", b"\x5d\0\0"):
        assert codec_of(head) is None


@settings(max_examples=300)
@given(
    st.sampled_from(NAMES),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_any_damage_is_a_typed_error(name: str, changes: list[tuple[int, int]]) -> None:
    raw = bytearray(pack(bytes(range(256)) * 8, name))
    for at, value in changes:
        raw[at % len(raw)] = value
    try:
        size = sum(len(piece) for piece in unpacked("k", Built(bytes(raw)), codec(name), MIB))
    except KexecError:
        return
    assert size <= MIB
