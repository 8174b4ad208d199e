"""Only `KernelCalls` can make a kernel act, and only code for expendable machines uses those of the
machine that it runs on."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pykexec

PACKAGE = Path(pykexec.__file__).parent
TESTS = Path(__file__).parents[2]
CALLS = "backends/kernel/calls.py"
ENTRIES = {CALLS, "cli/kexec8/program.py", "cli/run/real.py", "qemu/first.py"}
"""The last one is the first process of a QEMU guest."""
SAVING = {"backends/saving/ending.py", "backends/saving/limited.py"}
"""In a capture kernel: how it ends, and children with a time limit."""
MAY_BE_LOST = ("vm/", "contract/rig.py")
"""Tests for a guest; the contract suite uses a real kernel only on request."""
REPLACED = "cli/test_status.py"
"""A test that puts a backend with calls of its own in the place of this machine's."""
WAYS_OUT = re.compile(
    r"libc\.(kexec_load|kexec_file_load|reboot_kexec|f?init_module|delete_module)\b|sysrq-trigger"
    r"|\bos\.(sync|system|popen|exec|spawn|posix_spawn|fork|kill)"
    r"|raw_syscall"
)
REAL = re.compile(r"pykexec\.cli\.run(\.|\s+import\s.*\b)real\b")
"""The module that makes the backend of this machine."""
PROGRAMS = re.compile(r"import (subprocess|socket|multiprocessing|pty|asyncio)\b")


def files(folder: Path) -> Iterator[tuple[str, str]]:
    """The name and text of each Python file below `folder`."""
    for path in sorted(folder.rglob("*.py")):
        yield str(path.relative_to(folder)), path.read_text()


def names(text: str) -> set[str]:
    """The names in a file's code; strings and comments do not count."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add(node.name)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
    return found


def test_every_way_out_is_one_of_the_calls() -> None:
    found = {name for name, text in files(PACKAGE) if WAYS_OUT.search(text)}
    assert found == {CALLS, "libc.py", *SAVING}


def test_programs_are_run_only_where_that_is_the_purpose() -> None:
    found = {name for name, text in files(PACKAGE) if PROGRAMS.search(text)}
    assert {name for name in found if not name.startswith(("qemu/", "backends/saving/"))} == {
        "backends/setup/acting.py",  # update-grub, systemctl and the like
        "flows/fleet.py",  # processes of its own
        "host/module_build.py",
    }


def test_only_entry_points_act_on_this_machine() -> None:
    found = {name for name, text in files(PACKAGE) if "ThisKernel" in names(text)}
    assert found | {CALLS} == ENTRIES


def test_no_test_does() -> None:
    """Only the oracle, which intercepts its system calls, and a test that ends it before it reads
    its arguments run the drop-in as a program."""
    doors = {"ThisKernel", "this_kernel"}
    found = {name for name, text in files(TESTS) if doors & names(text) or REAL.search(text)}
    assert {name for name in found if not name.startswith(MAY_BE_LOST)} == {REPLACED}
    program = "from pykexec.cli.kexec8 import " + "main"
    programs = {name for name, text in files(TESTS) if program in text}
    assert programs == {
        "cli/test_interrupted.py",
        "oracle/crash_machine.py",
        "vm/test_arm64_load.py",
        "vm/test_callers.py",
    }
