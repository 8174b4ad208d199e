"""`region build`: the module's own Makefile, with fake headers that "compile" as the test
defines."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pykexec.host.module import NAME
from tests.builders import make_module
from tests.cli.conftest import Run, RunJson

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="no make")
COPY = f"modules:\n\ttest -s $(M)/{NAME}.c && cp built $(M)/{NAME}.ko\n"


@pytest.fixture
def headers(folder: Path) -> Path:
    path = folder / "headers"
    path.mkdir()
    (path / "Makefile").write_text(COPY)
    (path / "built").write_bytes(make_module("9.9.9-test"))
    return path


def test_the_file_is_put_in_place_as_a_whole(
    headers: Path, folder: Path, run_json: RunJson
) -> None:
    built = run_json("region", "build", "--headers", str(headers), "--output", "out/m.ko")
    assert (built["path"], built["release"], built["signed"]) == ("out/m.ko", "9.9.9-test", False)
    assert [path.name for path in (folder / "out").iterdir()] == ["m.ko"]


def test_what_the_compiler_says_is_in_the_refusal(headers: Path, folder: Path, run: Run) -> None:
    (headers / "Makefile").write_text("modules:\n\t@echo no such instruction; false\n")
    words = ("region", "build", "--headers", str(headers), "--output", "m.ko")
    done = run(*words, status=1)
    assert "make failed: " in done.stderr
    assert "no such instruction" in done.stderr
    assert not (folder / "m.ko").exists()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("--headers", "nowhere", "--output", "m.ko"), 5, "no kernel headers"),
        (("--headers", "headers"), 2, "--headers requires --output"),
        (("--headers", "headers", "--output", "m.ko", "--source", "nowhere"), 5, "no such file"),
        (("--headers", "headers", "--output", "bzImage/m.ko"), 4, "file exists"),
    ],
)
def test_what_is_missing(
    headers: Path, run: Run, words: tuple[str, ...], status: int, message: str
) -> None:
    assert message in run("region", "build", *words, status=status).stderr
