"""The committed blob is built from the source, and both sides agree where the records are."""

from __future__ import annotations

import platform
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
from pykexec.purgatory.arm64 import stub as arm64
from pykexec.purgatory.x86_64 import stub

ARM64_AS = "as" if platform.machine() == "aarch64" else "aarch64-linux-gnu-as"
needs_arm64 = pytest.mark.skipif(
    shutil.which(ARM64_AS) is None,
    reason="no binutils-aarch64-linux-gnu: the stub for arm64 cannot be built",
)
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


def symbols_of(arch: str, nm: str, folder: Path) -> dict[str, int]:
    elf = folder / "kept.elf"
    built = build(ROOT, "--check", "--arch", arch, "--elf", str(elf))
    assert built.returncode == 0, built
    listing = subprocess.run([nm, str(elf)], capture_output=True, text=True, check=True).stdout
    return {name: int(value, 16) for value, _, name in map(str.split, listing.splitlines())}


@pytest.fixture(scope="module")
def symbols(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    return symbols_of("x86_64", "nm", tmp_path_factory.mktemp("stub"))


@pytest.fixture(scope="module")
def arm64_symbols(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    nm = ARM64_AS.removesuffix("as") + "nm"
    return symbols_of("arm64", nm, tmp_path_factory.mktemp("arm64"))


def test_the_committed_blobs_are_what_the_sources_build() -> None:
    built = build(ROOT, "--check", "--arch", "x86_64")
    assert (built.returncode, built.stderr) == (0, "")
    real_mode = len(real_mode_code())
    assert built.stdout == (
        f"build-stub: x86_64/stub.bin is what x86_64/stub.S builds ({STUB_SIZE} bytes)\n"
        "build-stub: x86_64/real_mode.bin is what x86_64/real_mode.S builds "
        f"({real_mode} bytes)\n"
    )


@needs_arm64
def test_the_committed_blob_for_arm64_is_what_the_source_builds() -> None:
    built = build(ROOT, "--check", "--arch", "arm64")
    assert (built.returncode, built.stderr) == (0, "")
    assert built.stdout == (
        f"build-stub: arm64/stub.bin is what arm64/stub.S builds ({arm64.STUB_SIZE} bytes)\n"
    )


BLOBS = ["x86_64/stub", "x86_64/real_mode", pytest.param("arm64/stub", marks=needs_arm64)]


def blob(root: Path, name: str) -> Path:
    return root / "pykexec" / "purgatory" / f"{name}.bin"


@pytest.mark.parametrize("name", BLOBS)
def test_a_blob_does_not_depend_on_where_it_is_built(copy: Path, name: str) -> None:
    blob(copy, name).unlink()
    assert build(copy, "--arch", name.partition("/")[0]).returncode == 0
    assert blob(copy, name).read_bytes() == blob(ROOT, name).read_bytes()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("x86_64/stub", "starting", "Starting"),
        ("x86_64/real_mode", "0x3ff", "0x3fe"),
        pytest.param("arm64/stub", "pykexec: starting", "pykexec: Starting", marks=needs_arm64),
    ],
)
def test_check_says_so_when_the_source_has_moved_on(
    copy: Path, name: str, old: str, new: str
) -> None:
    source = blob(copy, name).with_suffix(".S")
    source.write_text(source.read_text().replace(old, new))
    checked = build(copy, "--check", "--arch", name.partition("/")[0])
    assert checked.returncode == 1
    assert f"{name}.bin is not what {name}.S builds" in checked.stdout


@pytest.mark.parametrize("name", BLOBS)
def test_check_says_so_when_the_blob_is_missing(copy: Path, name: str) -> None:
    blob(copy, name).unlink()
    assert build(copy, "--check", "--arch", name.partition("/")[0]).returncode == 1


def test_a_missing_assembler_is_named_with_its_package() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "build-stub"), "--check", "--arch", "arm64"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": ""})
    assert ran.returncode == 2
    assert "not found (binutils-aarch64-linux-gnu)" in ran.stderr


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


@needs_arm64
def test_the_stub_for_arm64_fits_its_pages(arm64_symbols: dict[str, int]) -> None:
    assert arm64.STUB_SIZE == arm64_symbols["stub_size"] <= 8192
    assert arm64.STUB_MEMSZ == arm64_symbols["stub_memsz"] == 12288
    assert arm64_symbols["scratch"] >= 8192, "what changes is on a page of its own"
    assert arm64_symbols["vectors"] % 2048 == 0
    assert arm64_symbols["stack_top"] - arm64_symbols["schedule"] >= 256 + 1024


@needs_arm64
def test_both_sides_agree_on_the_parameters_for_arm64(arm64_symbols: dict[str, int]) -> None:
    names = ["p_magic", *(f"p_{item.name}" for item in fields(arm64.StubParams)), "params_end"]
    ours = [arm64.PARAMS_OFFSET + at for at in offsets(arm64.PARAMS.format)]
    assert dict(zip(names, ours, strict=True)) == {name: arm64_symbols[name] for name in names}
    for flag in arm64.StubFlag:
        assert arm64_symbols[f"FLAG_{flag.name}"] == flag
    assert arm64_symbols["UART_PL011"] == arm64.UartKind.PL011
    assert arm64_symbols["UART_8250"] == arm64.UartKind.UART_8250
    assert offsets(job.REGION.format) == [
        arm64_symbols[f"REGION_{name}"] for name in ("ADDR", "SIZE", "SHA256", "BYTES")
    ]
    assert offsets(job.EXCHANGE.format) == [
        arm64_symbols[f"EXCHANGE_{name}"] for name in ("DEST", "SOURCE", "SIZE", "BYTES")
    ]
