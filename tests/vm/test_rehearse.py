"""`pykexec rehearse --engine qemu`, as run by a kernel developer: a kernel in, a verdict out."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.builders import make_cpio
from tests.documents import validate

from .debian import guest_place
from .lab import board_of
from .supplies import Kernel, python_system, qemu

pytestmark = pytest.mark.vm
MIB = 1 << 20


def rehearse(kernel: Kernel, *words: str) -> tuple[int, Any]:
    """Exit status and document; holds a place for a guest."""
    board = board_of(kernel)
    qemu(board.program, board.package)
    command = [sys.executable, "-m", "pykexec", "rehearse", str(kernel.image), "--engine", "qemu"]
    with guest_place():
        done = subprocess.run([*command, *words, "--json"], capture_output=True, text=True)
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    validate(document)
    return done.returncode, document


def rehearsed(kernel: Kernel, *words: str) -> Any:
    """The document of a successful rehearsal."""
    status, document = rehearse(kernel, *words)
    assert status == 0, document
    return document


@pytest.mark.parametrize(
    ("words", "used", "modes"),
    [
        # It is random whether 40% in use leave enough adjacent huge pages.
        ((), 40, {"in-place", "stub-swap"}),
        (("--mode", "in-place", "--used", "15"), 15, {"in-place"}),
    ],
)
def test_a_whole_dump(kernel: Kernel, words: tuple[str, ...], used: int, modes: set[str]) -> None:
    document = rehearsed(kernel, *words)
    assert document["mode"] in modes
    assert document["machine"] == {"memory": 1 << 30, "used": used, "cpus": 2, "reserved": 65536}
    assert document["filled_pages"] == (1 << 30) * used // 100 // 4096
    assert document["pattern_pages"]["right"] == document["filled_pages"]
    checks = {item["rule"]: item for item in document["checks"]}
    assert {item["ok"] for item in checks.values()} == {True}
    assert checks["cpu-notes"]["detail"] == "registers of 2 CPUs of 2"
    assert checks["vmcoreinfo"]["detail"].endswith(f"release {kernel.release}")


def test_a_kernel_for_arm64(arm_kernel: Kernel) -> None:
    """On this computer, with Debian's Python for arm64."""
    system = python_system(sysconfig.get_python_version(), "arm64")
    document = rehearsed(arm_kernel, "--guest-root", str(system), "--used", "10")
    assert document["machine"]["reserved"] == (131072 if arm_kernel.series == "16k" else 65536)
    assert document["kernel"]["type"] == "arm64-image"
    assert document["pattern_pages"]["right"] == document["filled_pages"]
    checks = {item["rule"]: item for item in document["checks"]}
    assert {item["ok"] for item in checks.values()} == {True}
    assert checks["cpu-notes"]["detail"] == "registers of 2 CPUs of 2"
    assert checks["vmcoreinfo"]["detail"].endswith(f"release {arm_kernel.release}")


def test_stub_swap_with_an_initrd_whose_init_would_end_it(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "initrd").write_bytes(make_cpio(("init", b"#!/no/such/program\n")))
    words = ["--mode", "stub-swap", "--initrd", str(tmp_path / "initrd"), "--crash-size", "176M"]
    document = rehearsed(kernel, *words, "--used", "10")
    assert document["mode"] == "stub-swap"
    window = document["window"]
    assert int(window["end"], 16) - int(window["start"], 16) == 176 * MIB
    assert document["backup_pages"] > 176 * MIB // 4096
    assert document["pattern_pages"]["right"] == document["filled_pages"]


def test_mode_lent_without_what_was_in_the_window(
    kernel: Kernel, request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("--all-kernels"):
        pytest.skip("mode lent is in test_lent and test_lent_load: --all-kernels")
    document = rehearsed(kernel, "--mode", "lent", "--memory", "1536M")
    assert document["mode"] == "lent"
    in_use = (1536 << 20) * 40 // 100 // 4096
    assert in_use - (200 << 20) // 4096 < document["filled_pages"] <= in_use
    assert document["pattern_pages"]["right"] == document["filled_pages"]
    checks = {item["rule"]: item for item in document["checks"]}
    assert {item["ok"] for item in checks.values()} == {True}
    assert "MiB lent" in checks["lent"]["detail"]


def test_a_load_that_the_kernel_has_no_room_for(kernel: Kernel) -> None:
    status, document = rehearse(kernel, "--crash-size", "1G", "--used", "1")
    assert status == 6
    assert document["error"]["hint"].startswith("use a smaller --crash-size")


def test_a_capture_kernel_that_has_too_little_memory(kernel: Kernel) -> None:
    status, document = rehearse(kernel, "--crash-size", "80M", "--used", "1")
    assert status == 3
    assert document["error"]["code"] == "no-dump"
    assert "Kernel panic" in document["error"]["hint"]
    assert (
        document["error"]["hint"].removeprefix("last line on its console: ")
        in (document["error"]["console"])
    )
