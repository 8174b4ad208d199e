"""pykexec itself in a guest: its package, what it imports, and what its tests have in common."""

from __future__ import annotations

import importlib
import json
import warnings
from pathlib import Path
from typing import Any

from .guest.check_pattern import Verdict
from .lab import VM
from .machine import NO_STATUS, Result

PYKEXEC = "python3 -m pykexec"
CAPTURE_APPEND = "console=ttyS0 panic=1 quiet"


def site() -> list[Path]:
    """The packages that a guest needs; off a terminal pykexec does without rich."""
    names = ("pykexec", "click", "construct", "elftools")
    return [Path(str(importlib.import_module(name).__file__)).parent for name in names]


def text(result: Result, name: str) -> str:
    """What a guest left in a file, its stage first: "first/release"."""
    return (result.files / name).read_text(errors="replace").strip()


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


def panicked(vm: VM, first: str, second: str, **guest: Any) -> Result:
    """A run in which the first kernel panics, ended by the second script with status 0.

    Of some sixty capture kernels started by stub-swap under TCG, two reset the machine early
    in their boot, behind the stub's last line; why is not known. Such a run is made once
    more, and the warning is in pytest's closing summary: it is not to pass unseen.
    """
    result = vm.run(first, second, **guest)
    if result.status == NO_STATUS and STARTED in result.console:
        said = result.console.rpartition(STARTED)[2].strip()[-500:]
        warnings.warn(f"the capture kernel reset the machine; run again: {said}", stacklevel=2)
        result = vm.run(first, second, **guest)
    return result.expect(0)


STARTED = "pykexec: starting"

SETTLED = """
    python3 -m guest.pattern settle /out/frames
    python3 -m guest.pattern moved /out/frames
"""
"""The pattern written again where its pages have moved, and none has moved since."""

CAPTURE = """
    copyin /first
    host mark "capture kernel up"
    cat /proc/cmdline > /out/cmdline
    ls -l /proc/vmcore
    python3 -m guest.check_pattern /first/frames /proc/vmcore > /out/verdict.json
    host mark "pattern checked"
    makedumpfile -l -d 31 /proc/vmcore /out/dump > /out/makedumpfile 2>&1 || true
    makedumpfile --dump-dmesg /proc/vmcore /out/dmesg > /dev/null 2>&1 || true
    python3 -m pykexec vmcore info /proc/vmcore --json > /out/info.json || true
    copyout /out
"""
"""What every capture kernel does with its /proc/vmcore."""
