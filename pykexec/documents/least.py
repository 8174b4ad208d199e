"""pykexec.least/1, which `rehearse --least` writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pykexec.documents.base import Count
from pykexec.documents.load import Kernel
from pykexec.documents.vmcore import RealStage


@dataclass(frozen=True, slots=True)
class TriedWindow:
    """one boot of the capture kernel"""

    size: Count
    good: bool
    """whether it read the complete dump"""
    why: str | None
    """why not"""


@dataclass(frozen=True, slots=True)
class LeastDocument:
    """the smallest window that works, found by trial; sizes in bytes"""

    schema: ClassVar[str] = "pykexec.least/1"
    kernel: Kernel
    machine: RealStage
    tries: tuple[TriedWindow, ...]
    """in order"""
    least: Count
    """the smallest size that was enough"""
    too_small: Count
    """the largest size that was not enough, or is impossible"""
    margin: Count
    crash_size: Count
    """recommended: least plus a margin, in whole huge pages"""
    option: str
    """the same as an option of load"""
    estimate: Count
    """what load uses without --crash-size"""
    rehearsal_files: Count
    """compressed bytes in the initrd that belong to the rehearsal itself"""
