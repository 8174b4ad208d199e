"""pykexec itself in a guest: its package, what it imports, and what its tests have in common."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from tests.documents import check_text

from .guest.check_pattern import Verdict
from .machine import Result

PYKEXEC = "python3 -m pykexec"
CAPTURE_APPEND = "console=ttyS0 panic=1 quiet"


def site() -> list[Path]:
    """The packages and modules that a guest needs; off a terminal pykexec does without rich."""
    names = ("pykexec", "click", "construct", "elftools", "mashumaro", "typing_extensions")
    files = [Path(str(importlib.import_module(name).__file__)) for name in names]
    return [path.parent if path.name == "__init__.py" else path for path in files]


def text(result: Result, name: str) -> str:
    """What a guest left in a file, its stage first: "first/release"."""
    found = (result.files / name).read_text(errors="replace")
    check_text(found)
    return found.strip()


def document(result: Result, name: str) -> Any:
    """The same, as JSON."""
    return json.loads(text(result, name))


def verdict(result: Result) -> Verdict:
    """What check_pattern found in /proc/vmcore."""
    return Verdict(**document(result, "second/verdict.json"))


def assert_whole(found: Verdict, pages: int) -> None:
    """Every page of the pattern at its own address, once and only once."""
    assert found.expected == pages
    assert found.intact == pages
    assert (found.repeated, found.missing, found.broken) == (0, 0, 0)


SETTLED = """
    python3 -m guest.pattern settle /out/frames
    python3 -m guest.pattern moved /out/frames
"""
"""The pattern written again where its pages have moved, and none moves from then on."""

CAPTURE = """
    copyin /first
    host mark "capture kernel up"
    cat /proc/cmdline > /out/cmdline
    ls -l /proc/vmcore
    python3 -m guest.check_pattern /first/frames /proc/vmcore > /out/verdict.json
    host mark "pattern checked"
    makedumpfile -l -d 31 /proc/vmcore /out/dump > /out/makedumpfile 2>&1 || true
    makedumpfile --dump-dmesg /proc/vmcore /out/dmesg > /dev/null 2>&1 || true
    vmcore-dmesg /proc/vmcore > /out/vmcore-dmesg 2>&1 || true
    python3 -m pykexec vmcore info /proc/vmcore --json > /out/info.json || true
    copyout /out
"""
"""What every capture kernel does with its /proc/vmcore."""
