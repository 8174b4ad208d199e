"""The page size: from the kernel itself, or from its build options."""

from __future__ import annotations

import mmap
import platform
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.arch import ARM64
from pykexec.host.facts import read_machine
from pykexec.host.page_size import page_size
from pykexec.host.root import THIS_MACHINE, Folder
from pykexec.machine import NOT_READ, Unknown

AT_PHDR, AT_PAGESZ, AT_NULL = 3, 6, 0


def auxv(size: int, pair: str = "<QQ") -> bytes:
    entries = ((AT_PHDR, 0x400040), (AT_PAGESZ, size), (AT_NULL, 0))
    return b"".join(struct.pack(pair, *entry) for entry in entries)


def root_with(folder: Path, data: bytes | None) -> Folder:
    if data is not None:
        (folder / "proc/self").mkdir(parents=True)
        (folder / "proc/self/auxv").write_bytes(data)
    return Folder(folder)


@pytest.mark.parametrize("pair", ["<QQ", "<II"])
@pytest.mark.parametrize("size", ARM64.page_sizes)
def test_the_auxiliary_vector_has_it(tmp_path: Path, size: int, pair: str) -> None:
    assert page_size(root_with(tmp_path, auxv(size, pair)), "aarch64", NOT_READ) == size


@pytest.mark.parametrize(
    ("option", "size"), [("4K", 4 << 10), ("16K", 16 << 10), ("64K", 64 << 10)]
)
@pytest.mark.parametrize("data", [None, b"", auxv(12345)])
def test_the_build_options_have_it_too(
    tmp_path: Path, data: bytes | None, option: str, size: int
) -> None:
    config = {f"CONFIG_ARM64_{option}_PAGES": "y"}
    assert page_size(root_with(tmp_path, data), "aarch64", config) == size


def test_it_may_be_unknown(tmp_path: Path) -> None:
    root = Folder(tmp_path)
    assert isinstance(page_size(root, "aarch64", NOT_READ), Unknown)
    assert isinstance(page_size(root, "aarch64", {}), Unknown)
    assert isinstance(page_size(root, NOT_READ, {}), Unknown)
    assert isinstance(page_size(root, "riscv64", {}), Unknown)
    assert page_size(root, "x86_64", NOT_READ) == 4096


@given(st.binary(max_size=200))
def test_any_bytes_are_read(data: bytes) -> None:
    class Root:
        def read(self, path: str, limit: int) -> bytes:
            return data

    found = page_size(Root(), "aarch64", NOT_READ)  # type: ignore[arg-type]
    assert isinstance(found, Unknown) or found in ARM64.page_sizes


def test_this_machine_has_that_of_this_process() -> None:
    assert page_size(THIS_MACHINE, platform.machine(), NOT_READ) == mmap.PAGESIZE


def test_a_machine_has_the_arch_with_its_page_size(tmp_path: Path) -> None:
    root = root_with(tmp_path, auxv(16384))
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/arch").write_text("aarch64\n")
    arch = read_machine(root).arch
    assert arch is not None
    assert (arch.name, arch.page_size) == ("aarch64", 16384)
    (tmp_path / "proc/self/auxv").unlink()
    assert read_machine(root).arch is None
