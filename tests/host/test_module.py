"""The module's file: found for the running kernel, read whether compressed or not, and not confused
with other files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykexec.host.module import (
    MODULE_MAX,
    NotAModule,
    installed,
    kernel_unpacks,
    modules,
    read_module,
)
from pykexec.host.root import Folder
from pykexec.images.contents import OpenFile
from pykexec.machine import RegionModule, Unknown
from tests.builders import make_module, pack, write
from tests.host.conftest import MakeTree

RELEASE = "6.1.0-40-amd64"
PLACE = f"/lib/modules/{RELEASE}"


def test_what_decides_whether_it_can_be_inserted(tree: MakeTree) -> None:
    root = tree(
        {
            "/proc/sys/kernel/modules_disabled": "0\n",
            "/sys/module/module/parameters/sig_enforce": "Y\n",
            "/sys/module/pykexec_region/refcnt": "0\n",
        }
    )
    found = modules(root, RELEASE)
    assert (found.disabled, found.signatures_required, found.region_inserted) == (False, True, True)
    assert found.region is None


def test_which_modules_the_kernel_unpacks_itself(tree: MakeTree) -> None:
    assert not kernel_unpacks(tree({}), "xz")
    root = tree({"/sys/module/compression": "xz\n"})
    assert kernel_unpacks(root, "xz")
    assert not kernel_unpacks(root, "gzip")


def place(tmp_path: Path, name: str, data: bytes) -> Folder:
    path = tmp_path / PLACE.lstrip("/") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return Folder(tmp_path)


@pytest.mark.parametrize("codec", [None, "gzip", "xz", "zstd"])
def test_it_is_found_and_read(tmp_path: Path, codec: str | None) -> None:
    data = make_module(signed=True)
    suffix = {None: "", "gzip": ".gz", "xz": ".xz", "zstd": ".zst"}[codec]
    name = f"updates/dkms/pykexec_region.ko{suffix}"
    root = place(tmp_path, name, pack(data, codec) if codec else data)
    assert installed(root, RELEASE) == RegionModule(f"{PLACE}/{name}", RELEASE, signed=True)


def test_dkms_goes_before_what_was_built_by_hand(tmp_path: Path) -> None:
    place(tmp_path, "updates/pykexec_region.ko", make_module("other"))
    root = place(tmp_path, "updates/dkms/pykexec_region.ko", make_module())
    found = installed(root, RELEASE)
    assert isinstance(found, RegionModule)
    assert (found.release, found.signed) == (RELEASE, False)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7fELF",
        make_module(name="kvm"),
        make_module()[4:],
        b"\x7fELF" + bytes(64),
        b"\x1f\x8b\x08damaged",
        pack(bytes(MODULE_MAX + 1), "gzip"),
    ],
)
def test_what_is_not_the_module(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(NotAModule):
        read_module(OpenFile(write(tmp_path, "pykexec_region.ko", data)))
    root = place(tmp_path, "updates/pykexec_region.ko", data)
    assert isinstance(installed(root, RELEASE), Unknown)


@pytest.mark.parametrize("release", ["../../etc", "", "a b", "x" * 65])
def test_a_release_that_is_no_file_name(tmp_path: Path, release: str) -> None:
    assert isinstance(installed(Folder(tmp_path), release), Unknown)
