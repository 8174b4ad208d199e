"""A kernel for another architecture than the machine's is refused by every command that would plan
for it, in both directions, with what would help."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders import make_arm64_image
from tests.cli.conftest import Run, RunJson

ARM64 = str(Path(__file__).parents[1] / "host/arm64/virt.json")
KINDS = ((), ("--crash",), ("--crash-by-normal", "--no-initrd-check"))
PLACES = {
    "arm64": ("bzImage", ("--root", ARM64), "use a kernel for arm64"),
    "x86": ("Image", ("--machine", "m"), "use a kernel for x86"),
}


@pytest.fixture(autouse=True)
def _machine(folder: Path, run: Run) -> None:
    (folder / "Image").write_bytes(make_arm64_image())
    run("machine", "create", "m", "--memory", "128M", "--crashkernel", "32M")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS, ids=["normal", "crash", "crash by normal"])
def test_load(run_json: RunJson, place: str, kind: tuple[str, ...]) -> None:
    kernel, where, hint = PLACES[place]
    error = run_json("load", kernel, "--dry-run", *where, *kind, status=5)["error"]
    assert (error["code"], error["hint"]) == ("foreign-image", hint)
    assert f"which {place} cannot run" in error["message"]


def test_a_load_that_is_no_dry_run(run_json: RunJson, folder: Path) -> None:
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (folder / "m").iterdir())
    error = run_json("load", "Image", "--machine", "m", status=5)["error"]
    assert error["code"] == "foreign-image"
    after = sorted((path.name, path.stat().st_mtime_ns) for path in (folder / "m").iterdir())
    assert after == before


def test_fleet(run: Run) -> None:
    result = run("fleet", "plan", ARM64, "--kernel", "bzImage", status=3)
    assert "1 refused (foreign-image)" in result.stdout
    assert "hint: use a kernel for arm64" in result.stdout
    result = run("fleet", "plan", ARM64, "--kernel", "Image")
    assert "1 of 1 machines can be armed" in result.stdout


def test_rehearse(run_json: RunJson) -> None:
    """The simulated machine is a PC; --engine qemu takes the machine of the kernel."""
    error = run_json("rehearse", "Image", "--memory", "128M", status=5)["error"]
    assert (error["code"], error["hint"]) == ("foreign-image", "use a kernel for x86")
