"""The record of what pykexec loaded is read completely or refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pykexec.backends.backend import Slot
from pykexec.backends.kernel.kimage import LoadedSegment
from pykexec.backends.kernel.record import BadRecord, LoadRecord, RecordFile
from pykexec.errors import NotPermitted
from pykexec.memory.ranges import PhysRange
from pykexec.placement.request import Mode

RECORD = LoadRecord(
    Slot.CRASH,
    Mode.IN_PLACE,
    "/boot/vmlinuz",
    1795510234,
    PhysRange(0x20000000, 0x28000000),
    PhysRange(0x10200000, 0x10400000),
    ((0x20000000, 12, "ab" * 32),),
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    records = RecordFile(tmp_path)
    assert records.read() is None
    segments = (LoadedSegment(5, 0x1000, 8),)
    for record in (
        RECORD,
        replace(RECORD, entry=0x1000, segments=segments),
        replace(RECORD, release="6.1.0", modules=("5.10", "6.1.0")),
        replace(RECORD, settle=10),
        replace(RECORD, warnings=("there is no initrd",)),
        replace(RECORD, described="ab" * 32),
    ):
        records.write(record)
        assert records.read() == record
    assert records.path.stat().st_mode & 0o777 == 0o600
    records.remove()
    records.remove()
    assert records.read() is None


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "pykexec.loaded/9"},
        {"slot": "third"},
        {"window": [5, 5]},
        {"window": None},
        {"sums": [[1, 2]]},
        {"since": "never"},
        {"segments": [[1, 2]]},
        {"entry": "0x1000"},
        {"since": float("inf")},
        {"since": True},
        {"window": [0.5, 8]},
        {"window": [1, 2, 3]},
        {"segments": {}},
        {"segments": [[1, 2, 3, 4]]},
        {"kernel": 5},
        {"modules": "6.1"},
    ],
)
def test_anything_else_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    records = RecordFile(tmp_path)
    records.write(RECORD)
    document = json.loads(records.path.read_text())
    records.path.write_text(json.dumps(document | change))
    with pytest.raises(BadRecord, match="not a record of pykexec"):
        records.read()


def test_a_record_of_before_modules_were_noted_is_read(tmp_path: Path) -> None:
    """An upgrade must not disarm the machine."""
    records = RecordFile(tmp_path)
    records.write(RECORD)
    document = json.loads(records.path.read_text())
    del document["release"], document["modules"]
    records.path.write_text(json.dumps(document))
    assert records.read() == RECORD


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_garbage_is_refused(tmp_path: Path, raw: bytes) -> None:
    records = RecordFile(tmp_path)
    records.path.write_bytes(raw)
    with pytest.raises(BadRecord):
        records.read()


def test_it_is_for_root_alone(tmp_path: Path) -> None:
    """Like /run/pykexec: exit status 4, not the error for a damaged record."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0)
    user = os.geteuid()
    if not user:
        os.seteuid(65534)
    try:
        with pytest.raises(NotPermitted, match="permission denied") as caught:
            RecordFile(folder).read()
    finally:
        os.seteuid(user)
    assert caught.value.hint == "run as root"
