"""Common parts of pykexec.plan/1 and pykexec.file-load/1, and the latter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pykexec.documents.base import BackendName, Sha256, SlotName


@dataclass(frozen=True, slots=True)
class Kernel:
    """the kernel, independent of its address"""

    type: str
    version: str | None
    """the banner in the file"""
    sha256: Sha256 | None
    """of the complete file"""


@dataclass(frozen=True, slots=True)
class Word:
    """a word of the command line, or one of the running kernel's that was dropped"""

    text: str
    origin: Literal["--append", "running kernel", "capture kernel"]
    dropped: str | None
    """why; null for a word of the command line"""


@dataclass(frozen=True, slots=True)
class Syscall:
    """the system call of a load on the real kernel"""

    name: Literal["kexec_load", "kexec_file_load"]
    why: str


@dataclass(frozen=True, slots=True)
class FileLoad:
    """a load by kexec_file_load(2), which places everything itself"""

    schema: ClassVar[str] = "pykexec.file-load/1"
    backend: BackendName
    image: SlotName
    state: Literal["requested", "loaded"]
    """requested after a dry run"""
    flags: tuple[str, ...]
    kernel: Kernel
    cmdline: str
    cmdline_words: tuple[Word, ...]
    syscall: Syscall
