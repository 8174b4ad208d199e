"""pykexec.region/1 and pykexec.region-build/1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pykexec.documents.base import BackendName, Choice, Count, Span

CHANGE = Choice(("made", "released"))


@dataclass(frozen=True, slots=True)
class ModuleFile:
    """a kernel module; null for facts that its file does not contain"""

    path: str
    release: str | None
    """the kernel that it was built for"""
    signed: bool | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """an error, without its facts"""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Region:
    """the crash region"""

    schema: ClassVar[str] = "pykexec.region/1"
    backend: BackendName
    change: Annotated[str, CHANGE] | None
    """what happened to the region; null if it was only shown"""
    origin: Literal["boot", "run time"] | None
    """null if there is no region"""
    region: Span | None
    """null if there is none, or its address is hidden"""
    size: Count
    need: Count
    module: ModuleFile | None
    """the kernel module for the running kernel; null if none is installed"""
    refusal: Refusal | None
    """why no region can be made; null if one can, or exists"""


@dataclass(frozen=True, slots=True)
class BuiltModule(ModuleFile):
    """the kernel module that was built"""

    schema: ClassVar[str] = "pykexec.region-build/1"
