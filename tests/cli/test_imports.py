"""What a command imports: its start-up time is mostly that."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pykexec.cli.program import VERBS
from tests.builders import write
from tests.dump.builders import Memory, add_ring, elf, flattened, kdump

HEAVY = ("rich", "construct", "elftools", "jsonschema", "mashumaro", "ctypes", "hashlib", "json")
NOTHING_LOADED = 3
"""The exit status of pykexec status."""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the package importable from any current folder."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def imported_by(*words: str) -> set[str]:
    """The modules that are loaded after a command, which may find nothing loaded."""
    code = f"""
import sys
from pykexec.cli.program import program
try:
    program.main({words!r})
except SystemExit as end:
    assert end.code in (None, 0, {NOTHING_LOADED}), end.code
print(*sys.modules, file=sys.stderr)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(result.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)], ids=" ".join
)
def test_help_imports_click_alone(words: list[str]) -> None:
    code = f"""
import sys
from pykexec.cli.program import program
try:
    program.main({words!r})
except SystemExit as end:
    assert end.code == 0, end.code
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
print(sorted(name for name in sys.modules if name.startswith("pykexec.")), file=sys.stderr)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy, ours = result.stderr.splitlines()
    assert heavy == "[]"
    assert "pykexec.flows.load'" not in ours
    assert "pykexec.machine'" not in ours


def test_help_imports_four_modules_of_ours() -> None:
    code = """
import sys
from pykexec.cli import main
sys.argv = ["pykexec", "--help"]
try:
    main()
except SystemExit:
    print(sorted(name for name in sys.modules if name.startswith("pykexec.")), file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr == (
        "['pykexec.cli', 'pykexec.cli.collector', 'pykexec.cli.program', 'pykexec.cli.streams', "
        "'pykexec.errors']\n"
    )


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_only_a_document_imports_documents_and_mashumaro(folder: Path, words: list[str]) -> None:
    code = f"""
import sys
from pykexec.cli.program import program
try:
    program.main(["load", "bzImage", "--dry-run", *{words!r}])
except SystemExit as end:
    assert not end.code, end.code
names = ("mashumaro", "mashumaro.jsonschema", "pykexec.documents.plan")
print(*(name in sys.modules for name in names), file=sys.stderr)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder
    )
    assert result.stderr.splitlines()[-1] == f"{bool(words)} False {bool(words)}"


def test_completion_imports_click_alone() -> None:
    code = "from pykexec.cli import main\nmain()"
    env = os.environ | {
        "_PYKEXEC_COMPLETE": "bash_complete", "COMP_WORDS": "pykexec lo", "COMP_CWORD": "1"
    }  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], env=env, capture_output=True, text=True
    )
    assert result.stdout == "plain,load\n"
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert not imported & {"rich", "construct", "elftools", "pykexec.flows.load"}


def logged() -> Memory:
    memory = Memory()
    add_ring(memory)
    return memory


WITHOUT_CONSTRUCT = [
    "load bzImage --dry-run",
    "load bzImage --dry-run --json",
    "load bzImage --dry-run --initrd initrd",
    "status",
    "inspect bzImage",
    "vmcore dmesg elf",
    "vmcore info elf",
    "vmcore verify elf",
]


@pytest.mark.parametrize("command", WITHOUT_CONSTRUCT)
def test_no_load_and_no_elf_dump_imports_construct(command: str, folder: Path) -> None:
    write(folder, "elf", elf(logged()))
    assert "construct" not in imported_by(*command.split())


@pytest.mark.parametrize("command", ["dmesg", "info", "verify"])
@pytest.mark.parametrize("wrap", [bytes, flattened])
def test_the_headers_of_dump_files_import_construct(
    command: str, wrap: Callable[[bytes], bytes], folder: Path
) -> None:
    write(folder, "dump", wrap(kdump(logged())))
    assert "construct" in imported_by("vmcore", command, "dump")
