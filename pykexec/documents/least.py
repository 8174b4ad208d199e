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
    """whether it has read the whole dump"""
    why: str | None
    """why not"""


@dataclass(frozen=True, slots=True)
class LeastDocument:
    """the smallest window that works, found by trying; sizes in bytes"""

    schema: ClassVar[str] = "pykexec.least/1"
    kernel: Kernel
    machine: RealStage
    tries: tuple[TriedWindow, ...]
    """in their order"""
    least: Count
    """the smallest that was enough"""
    too_small: Count
    """the largest that was not, or that cannot be"""
    margin: Count
    crash_size: Count
    """to be used: least and margin, in whole huge pages"""
    option: str
    """the same for load"""
    estimate: Count
    """what load takes without --crash-size"""
    rehearsal_files: Count
    """bytes of the initrd, packed, that were the rehearsal's own"""
