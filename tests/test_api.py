"""The examples of docs/python.md run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pykexec.api
from tests.builders import make_bzimage, make_cpio, write
from tests.dump.kernel import Kernel

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the examples name; the captured machine is a folder."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "vmlinuz", make_bzimage())
    write(tmp_path, "initrd.img", make_cpio(("init", b"#!/bin/sh\n")))
    write(tmp_path, "vmcore", Kernel().elf())
    (tmp_path / "web1.json" / "proc").mkdir(parents=True)
    (tmp_path / "web1.json" / "proc" / "iomem").write_text("00100000-3fffffff : System RAM\n")


def test_there_are_two_examples() -> None:
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(EXAMPLES[number], PAGE.name, "exec"), {})
    shown = capsys.readouterr().out
    assert ("kernel" in shown, "panicked on CPU" in shown)[number]


def test_every_name_is_there_and_on_the_page() -> None:
    text = PAGE.read_text()
    for name in pykexec.api.__all__:
        assert hasattr(pykexec.api, name)
    named = set(re.findall(r"`(\w+)[`(]", text))
    assert set(pykexec.api.__all__) - named <= {"Dump", "Machine", "Report"}
