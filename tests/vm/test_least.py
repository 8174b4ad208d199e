"""The smallest window in which a capture kernel reads the dump, for initrds of four kinds, beside
the estimate of `load`."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from tests.builders import make_cpio

from .initramfs import base_part
from .supplies import Kernel
from .system import debian_system
from .test_rehearse import MIB, rehearse, rehearsed

pytestmark = pytest.mark.vm
INITRDS = ("none", "busybox", "debian", "padded")
NEAR = 16 * MIB
"""How far the estimate may be from what the search recommends, which has a margin of as much."""
PADDING = 64 * MIB
STAGE = ("--memory", "512M", "--used", "3")
"""All of the memory is read, which takes time."""
LARGE_STAGE = ("--memory", "2G", "--used", "3")
"""With room for the padded initrd."""


def initrd_of(kernel: Kernel, kind: str) -> bytes:
    """The rehearsal adds its own files, a Python, to each."""
    if kind == "debian":
        return debian_system(kernel).initrd.read_bytes()
    small = base_part(kernel, [])
    if kind == "busybox":
        return gzip.compress(small)
    return small + make_cpio(("padding", os.urandom(PADDING)))


@pytest.mark.parametrize("kind", INITRDS)
def test_the_estimate_is_near_what_is_needed(
    kernel: Kernel, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("--all-kernels"):
        pytest.skip("up to eight boots: --all-kernels")
    words = list(LARGE_STAGE if kind == "padded" else STAGE)
    if kind != "none":
        (tmp_path / "initrd").write_bytes(initrd_of(kernel, kind))
        words += ["--initrd", str(tmp_path / "initrd")]
    status, found = rehearse(kernel, "--least", *words)
    assert status == 0, found
    sizes = {name: found[name] // MIB for name in ("too_small", "least", "crash_size", "estimate")}
    print(f"\n{kernel.release}, {kind}: {sizes}, in {len(found['tries'])} boots")
    assert len(found["tries"]) <= 8
    assert found["too_small"] < found["least"] == found["crash_size"] - 16 * MIB
    assert abs(found["estimate"] - found["crash_size"]) <= NEAR
    if kind == "none":
        again = found["option"].replace(" ", "=")
        assert rehearsed(kernel, again, *STAGE)["good"]
