"""Every image type has a fixture, accepts it, and survives any change to it."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec.errors import KexecError, UsageError
from pykexec.images.contents import CHUNK, UnreadableFile
from pykexec.images.identify import IMAGE_TYPES, identify
from pykexec.images.kernel_image import NotAnImage
from pykexec.images.refusal import REASONS
from pykexec.images.what_is_it import A_KERNEL
from tests.builders import make_bzimage, pack, write
from tests.images.fixtures import FIXTURES


def test_every_type_has_a_fixture() -> None:
    assert [kind.name for kind in IMAGE_TYPES] == list(FIXTURES)


@pytest.mark.parametrize("name", FIXTURES)
def test_a_type_takes_its_fixture_and_no_other_does(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "k", FIXTURES[name])
    assert identify(path).type == name
    assert identify(path, name).type == name


def test_the_order_and_the_names_are_these() -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", kind.name) for kind in IMAGE_TYPES)


def test_unknown_type_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown image type 'foo'") as caught:
        identify(write(tmp_path, "k", make_bzimage()), "foo")
    assert caught.value.hint == "known types: " + ", ".join(FIXTURES)


def test_a_refusal_has_a_reason_for_each_type(tmp_path: Path) -> None:
    path = write(tmp_path, "k", b"\xff" * 0x1000)
    with pytest.raises(NotAnImage) as caught:
        identify(path)
    assert caught.value.message == f"{path}: not a kernel image of any known type"
    assert caught.value.hint == f"{A_KERNEL}; {REASONS}"
    reasons = dict(line.split(": ", 1) for line in caught.value.details)
    assert set(reasons) == set(FIXTURES)


@pytest.mark.parametrize("codec", [None, "gzip"])
def test_an_initrd_is_said_to_be_one(tmp_path: Path, codec: str | None) -> None:
    data = b"070701" + bytes(5000)
    path = write(tmp_path, "initrd.img", pack(data, codec) if codec else data)
    with pytest.raises(NotAnImage) as caught:
        identify(path)
    assert "not a kernel image: it is an initrd (a cpio archive)" in caught.value.message
    assert caught.value.hint == "load it as the initrd of a kernel"


def test_an_empty_file_is_said_to_be_one(tmp_path: Path) -> None:
    """Like files in /proc."""
    with pytest.raises(UnreadableFile, match="a kernel image cannot be an empty file"):
        identify(write(tmp_path, "k", b""))


@pytest.mark.parametrize("name", FIXTURES)
def test_a_file_without_end_is_not_read(tmp_path: Path, name: str) -> None:
    """A sparse file of 100 GiB, whose digest would take minutes."""
    path = write(tmp_path, "k", FIXTURES[name])
    os.truncate(path, 100 << 30)
    with pytest.raises(NotAnImage, match="0x1900000000 bytes; a kernel has at most 0x40000000"):
        identify(path)


@pytest.mark.parametrize("name", FIXTURES)
@settings(max_examples=150)
@given(data=st.data())
def test_any_change_gives_an_image_or_a_typed_error(
    tmp_path: Path, name: str, data: st.DataObject
) -> None:
    raw = bytearray(FIXTURES[name])
    near = st.integers(0, min(len(raw), 0x400) - 1)
    where = st.one_of(near, st.integers(0, len(raw) - 1))
    value = st.sampled_from([b"\0", b"\x01", b"\x7f", b"\xff", b"\xff\xff\xff\xff", b"\0\0\0\x80"])
    for at, new in data.draw(st.lists(st.tuples(where, value), max_size=6)):
        raw[at : at + len(new)] = new
    keep = data.draw(st.one_of(st.just(len(raw)), st.integers(0, len(raw))))
    path = write(tmp_path, "k", bytes(raw[:keep]))
    started = time.process_time()
    try:
        image = identify(path)
        for chunk in image.payload.chunks():
            assert len(chunk) <= CHUNK
    except KexecError as error:
        assert error.message.startswith(str(path))
    assert time.process_time() - started < 5
