"""Runs command lines in a separate folder: relative names, and no state from outside."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pykexec.cli.program import program
from pykexec.host import configuration
from tests.builders import make_bzimage, make_cpio
from tests.documents import validate

Run = Callable[..., Result]
RunJson = Callable[..., Any]
HEARD = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
runpy.run_module("pykexec", run_name="__main__", alter_sys=True)
"""
SEPARATE: dict[str, Any] = (
    {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
)
"""Before click 8.2, standard error was a part of standard output by default."""
INTERRUPTIBLE = (sys.executable, "-c", HEARD)
"""Like `python -m pykexec`, but interruptible: SIGINT is ignored in a test run in the background,
and SIGHUP under nohup, and children inherit that."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a kernel `bzImage` and an initrd."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("PYKEXEC_BACKEND", "NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(configuration, "DEFAULTS", str(tmp_path / "pykexec.conf"))
    (tmp_path / "bzImage").write_bytes(make_bzimage())
    (tmp_path / "initrd").write_bytes(make_cpio(("init", bytes(4752))) + bytes(14))
    return tmp_path


@pytest.fixture
def run() -> Run:
    """Run a command line; returns click's Result with the true exit status."""

    def invoke(*words: str, status: int = 0, **more: Any) -> Result:
        result = CliRunner(**SEPARATE).invoke(program, list(words), prog_name="pykexec", **more)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return result

    return invoke


@pytest.fixture
def run_json(run: Run) -> RunJson:
    """The single document of a command with --json, validated against its schema; checks that
    stdout has nothing else, and stderr nothing if it failed."""

    def invoke(*words: str, status: int = 0) -> Any:
        result = run(*words, "--json", status=status)
        document = json.loads(result.stdout)
        assert result.stdout == json.dumps(document, indent=2) + "\n"
        validate(document)
        return document

    return invoke


@pytest.fixture
def machine(run: Run) -> str:
    """A small simulated machine in the current folder."""
    run("machine", "create", "m", "--memory", "128M")
    return "m"
