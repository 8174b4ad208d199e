"""The committed blob is built from the source, and both sides agree where the records are."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from pykexec.purgatory import (
    STUB_MEMSZ,
    STUB_SIZE,
    StubFlag,
    StubParams,
    job,
    real_mode_code,
)
from pykexec.purgatory.x86_64 import stub

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("as", "ld", "objcopy", "nm")),
    reason="GNU binutils are not installed: the stub cannot be built",
)


def build(root: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "scripts" / "build-stub"), *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy the script and the source elsewhere."""
    shutil.copytree(ROOT / "pykexec" / "purgatory", tmp_path / "pykexec" / "purgatory")
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "build-stub", tmp_path / "scripts")
    return tmp_path


@pytest.fixture(scope="module")
def symbols(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    elf = tmp_path_factory.mktemp("stub") / "kept.elf"
    built = build(ROOT, "--check", "--elf", str(elf))
    assert built.returncode == 0, built
    listing = subprocess.run(["nm", str(elf)], capture_output=True, text=True, check=True).stdout
    return {name: int(value, 16) for value, _, name in map(str.split, listing.splitlines())}


def test_the_committed_blob_is_what_the_source_builds() -> None:
    built = build(ROOT, "--check")
    assert (built.returncode, built.stderr) == (0, "")
    assert built.stdout == (
        f"build-stub: stub.bin is what stub.S builds ({STUB_SIZE} bytes)\n"
        f"build-stub: real_mode.bin is what real_mode.S builds ({len(real_mode_code())} bytes)\n"
    )


@pytest.mark.parametrize("name", ["stub", "real_mode"])
def test_a_blob_does_not_depend_on_where_it_is_built(copy: Path, name: str) -> None:
    blob = copy / "pykexec" / "purgatory" / "x86_64" / f"{name}.bin"
    blob.unlink()
    assert build(copy).returncode == 0
    assert (
        blob.read_bytes()
        == (ROOT / "pykexec" / "purgatory" / "x86_64" / f"{name}.bin").read_bytes()
    )


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("stub", "pykexec: starting", "pykexec: Starting"), ("real_mode", "0x3ff", "0x3fe")],
)
def test_check_says_so_when_the_source_has_moved_on(
    copy: Path, name: str, old: str, new: str
) -> None:
    source = copy / "pykexec" / "purgatory" / "x86_64" / f"{name}.S"
    source.write_text(source.read_text().replace(old, new))
    checked = build(copy, "--check")
    assert checked.returncode == 1
    assert f"{name}.bin is not what {name}.S builds" in checked.stdout


@pytest.mark.parametrize("name", ["stub", "real_mode"])
def test_check_says_so_when_the_blob_is_missing(copy: Path, name: str) -> None:
    (copy / "pykexec" / "purgatory" / "x86_64" / f"{name}.bin").unlink()
    assert build(copy, "--check").returncode == 1


def test_it_fits_a_page_and_its_scratch_another(symbols: dict[str, int]) -> None:
    assert STUB_SIZE == symbols["stub_size"] <= 4096
    assert STUB_MEMSZ == symbols["stub_memsz"] == 8192
    assert symbols["idt"] >= 4096, "what changes is on a page of its own"
    assert symbols["stack_top"] - symbols["pit_dead"] >= 1024, "room for the stack"


def offsets(layout: str) -> list[int]:
    """The offset of each field of a struct format."""
    items = re.findall(r"\d*[a-zA-Z]", layout)
    return [struct.calcsize("<" + "".join(items[:n])) for n in range(len(items) + 1)]


def test_the_parameters_are_where_the_assembler_put_them(symbols: dict[str, int]) -> None:
    names = ["p_magic", *(f"p_{item.name}" for item in fields(StubParams)), "params_end"]
    ours = [stub.PARAMS_OFFSET + at for at in offsets(stub.PARAMS.format)]
    assert dict(zip(names, ours, strict=True)) == {name: symbols[name] for name in names}
    assert symbols["params"] == stub.PARAMS_OFFSET


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        (job.REGION.format, ["REGION_ADDR", "REGION_SIZE", "REGION_SHA256", "REGION_BYTES"]),
        (
            job.EXCHANGE.format,
            ["EXCHANGE_DEST", "EXCHANGE_SOURCE", "EXCHANGE_SIZE", "EXCHANGE_BYTES"],
        ),
    ],
)
def test_the_records_have_the_assemblers_offsets(
    symbols: dict[str, int], layout: str, names: list[str]
) -> None:
    assert offsets(layout) == [symbols[name] for name in names]


def test_the_flags_are_the_assemblers(symbols: dict[str, int]) -> None:
    assert symbols["FLAG_NO_CHECKS"] == StubFlag.NO_CHECKS
    assert symbols["FLAG_ENTRY_32"] == StubFlag.ENTRY_32
