"""Imports inside functions: each one keeps a module from a command whose start-up time counts.

Such an import is justified if one of MEASURED imports the module it is in, but not the one that it
names. The few with another reason are in OTHER. Everything else belongs at the top of its module.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import make_bzimage, make_cpio, write
from tests.dump.builders import Memory, add_ring, elf

ROOT = Path(__file__).parents[1]
PYKEXEC = "pykexec.cli"
KEXEC8 = "pykexec.cli.kexec8"
DMESG = "pykexec.vmcore_dmesg"
MEASURED = {
    "--version": PYKEXEC,
    "--help": PYKEXEC,
    "load --help": PYKEXEC,
    "load bzImage --dry-run": PYKEXEC,
    "load bzImage --dry-run --initrd initrd": PYKEXEC,
    "load bzImage --backend simulated": PYKEXEC,
    "status --backend simulated": PYKEXEC,
    "vmcore dmesg dump": PYKEXEC,
    "-v": KEXEC8,
    "dump": DMESG,
}
"""Commands, and the module of the program."""
OTHER = {
    "an optional package": [("pykexec.dump.page_codecs", "zstandard")],
    "only a terminal needs rich": [
        ("pykexec.cli.run.rehearse", "pykexec.cli.out.bar"),
        ("pykexec.cli.watched", "pykexec.cli.out.bar"),
    ],
    "an interrupt is reported while this is imported": [
        ("pykexec.cli.kexec8", "pykexec.cli.kexec8.program")
    ],
    "a capture kernel saves the log first, with little memory": [
        ("pykexec.cli.run.save", "pykexec.cli.out.plain"),
        ("pykexec.cli.run.save", "pykexec.cli.report.crash_cause"),
        ("pykexec.cli.run.save", "pykexec.documents.codec"),
        ("pykexec.flows.save.saving", "pykexec.dump.reader"),
        ("pykexec.flows.save.saving", "pykexec.dump.report"),
    ],
}
"""(module, what it imports), by reason."""


def test_each_delayed_import_saves_a_command_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "bzImage", make_bzimage())
    write(tmp_path, "initrd", make_cpio(("init", bytes(99))))
    memory = Memory()
    add_ring(memory)
    write(tmp_path, "dump", elf(memory))
    loaded = [imported_by(module, words.split()) for words, module in MEASURED.items()]
    found = set(delayed())
    other = {pair for pairs in OTHER.values() for pair in pairs}
    assert other <= found
    useless = [
        f"{module}: {name}"
        for module, name in sorted(found - other)
        if not any(module in there and name not in there for there in loaded)
    ]
    assert not useless, "imports that belong at the top:\n" + "\n".join(useless)


def imported_by(module: str, words: list[str]) -> set[str]:
    """The modules that the program has imported at its end."""
    code = (
        f"import sys, atexit, {module} as program\n"
        "atexit.register(lambda: print('\\n', *sys.modules, file=sys.stderr))\n"
        f"sys.argv = ['program', *{words!r}]\n"
        "program.main()"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": os.getcwd()}
    done = subprocess.run(
        [sys.executable, "-S", "-c", SITE + code], capture_output=True, text=True, env=env
    )
    assert done.returncode in (0, 3), done.stderr
    return set(done.stderr.splitlines()[-1].split())


SITE = f"import sys; sys.path += {[p for p in sys.path if 'site-packages' in p]!r}\n"
"""Packages without what their .pth files import."""


def delayed() -> Iterator[tuple[str, str]]:
    """(module, module that a function of it imports)."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sources()}
    known = {name.removesuffix(".__init__") for name in names}
    for name, path in names.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                for item in ast.walk(node):
                    for target in targets(item, known):
                        yield name.removesuffix(".__init__"), target


def sources() -> list[Path]:
    return sorted((ROOT / "pykexec").rglob("*.py"))


def targets(item: ast.AST, known: set[str]) -> list[str]:
    """What a statement imports."""
    if isinstance(item, ast.Import):
        return [alias.name for alias in item.names]
    if isinstance(item, ast.ImportFrom):
        full = [f"{item.module}.{alias.name}" for alias in item.names]
        return [name if name in known else str(item.module) for name in full]
    return []
