"""The protocol that every backend speaks; one contract suite tests them all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from pykexec.crash.backup_map import BackupMap
from pykexec.machine import Machine
from pykexec.placement.segment import SegmentTable


class Slot(Enum):
    """The two images a kernel can hold."""

    NORMAL = "normal"
    CRASH = "crash"

    def __str__(self) -> str:
        return self.value


class LoadState(Enum):
    """Unknown is not loaded."""

    LOADED = "loaded"
    NOT_LOADED = "not loaded"
    UNKNOWN = "unknown"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load left behind."""

    slot: Slot
    backup_map: BackupMap | None = None
    """Where destination pages will have gone; None when the image runs where it is."""
    vmcoreinfo_note: bytes = b""
    """The VMCOREINFO note as it was read at the load."""


class Backend(Protocol):
    """Only a backend acts."""

    name: str
    """"simulated" or "kernel"; the output always names it."""

    def machine(self) -> Machine:
        """The facts of the machine that would be loaded."""
        ...

    def load(self, table: SegmentTable) -> Loaded:
        """kexec_load(2). Raises KexecError as the kernel's errno says."""
        ...

    def bind_headers(self, addr: int, headers: bytes) -> None:
        """Put the finished ELF core headers into the loaded image, at `addr`."""
        ...

    def unload(self, slot: Slot) -> None:
        """Free an image; nothing happens when none is loaded."""
        ...

    def status(self) -> dict[Slot, LoadState]: ...
