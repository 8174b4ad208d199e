"""pykexec itself in a guest: its package, its imports, and common parts of its tests."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from tests.documents import check_text

from .guest.check_pattern import Verdict
from .machine import Result
from .supplies import Kernel

PYKEXEC = "python3 -m pykexec"
CAPTURE_APPEND = "console=ttyS0 panic=1 quiet"
ARM64_CAPTURE_APPEND = "console=ttyAMA0 panic=1 quiet"
VA_52 = {"6.12": 0x1000, "7.x": 0x1000, "16k": 0x4000}
"""Page sizes of kernels for arm64 with addresses of 52 bits. makedumpfile up to 1.7.9 reads dumps
of these only with pages of 64 KiB, whatever wrote them (arch/arm64.c:calculate_plat_config). Its
commit b7587f1 adds the others, but on a processor with LPA2 it takes physical addresses from the
bits that they have in entries for pages of 64 KiB (__pte_to_phys)."""


def arm64_window(kernel: Kernel) -> str:
    """Memory that is enough to capture a dump with Python: with pages of 16 KiB, each of its small
    files takes a whole page."""
    return "448M" if kernel.series == "16k" else "320M"


def arm64_region(kernel: Kernel) -> str:
    """A crash region that is large enough for this kernel's pages."""
    return "128K" if kernel.series == "16k" else "64K"


def site() -> list[Path]:
    """The packages and modules that a guest needs; without a terminal pykexec does not need
    rich."""
    names = ("pykexec", "click", "construct", "elftools", "mashumaro", "typing_extensions")
    files = [Path(str(importlib.import_module(name).__file__)) for name in names]
    return [path.parent if path.name == "__init__.py" else path for path in files]


def text(result: Result, name: str) -> str:
    """The contents of a guest's file, with its stage first: "first/release"."""
    found = (result.files / name).read_text(errors="replace")
    check_text(found)
    return found.strip()


def movable_blocks(zones: str) -> list[str]:
    """The memory blocks of the zone Movable, by the lines of grep for their valid_zones."""
    lines = (line.partition(":") for line in zones.splitlines())
    return [block for block, _, zone in lines if zone == "Movable"]


def document(result: Result, name: str) -> Any:
    """The same, as JSON."""
    return json.loads(text(result, name))


def verdict(result: Result) -> Verdict:
    """The result of check_pattern for /proc/vmcore."""
    return Verdict(**document(result, "second/verdict.json"))


def assert_made_by_makedumpfile(result: Result, kernel: Kernel) -> bool:
    """Whether makedumpfile filtered the dump, which it must, unless it cannot read any dump of this
    kernel."""
    output = text(result, "second/makedumpfile")
    if kernel.series in VA_52:
        assert f"PAGE SIZE {VA_52[kernel.series]:#x} and VA Bits 52 not supported" in output
        return False
    assert "The dumpfile is saved" in output
    return True


def assert_whole(found: Verdict, pages: int) -> None:
    """Every page of the pattern is at its own address exactly once."""
    assert found.expected == pages
    assert found.intact == pages
    assert (found.repeated, found.missing, found.broken) == (0, 0, 0)


SETTLED = """
    python3 -m guest.pattern settle /out/frames
    python3 -m guest.pattern moved /out/frames
"""
"""Writes the pattern again to pages that have moved, and stops further moves."""

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
"""The script of every capture kernel for its /proc/vmcore."""
