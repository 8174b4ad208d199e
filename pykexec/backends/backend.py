"""The protocol that every backend speaks; one contract suite tests them all."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from pykexec.crash.backup_map import BackupMap
from pykexec.errors import CheckFailed
from pykexec.images.kernel_image import KernelImage
from pykexec.machine import Machine
from pykexec.placement.bind import BoundPlan
from pykexec.placement.plan import LoadRequest, Mode, PlacementPlan
from pykexec.placement.segment import SegmentTable
from pykexec.purgatory import Region


class NothingLoaded(CheckFailed):
    """There is no image to start, or it is not known whether there is."""

    code = "nothing-loaded"


class Slot(StrEnum):
    """The two images a kernel can hold."""

    NORMAL = "normal"
    CRASH = "crash"


class LoadState(StrEnum):
    """Unknown is not loaded."""

    LOADED = "loaded"
    NOT_LOADED = "not loaded"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load left behind."""

    slot: Slot
    backup_map: BackupMap | None = None
    """Where destination pages will have gone; None when the image runs where it is."""
    vmcoreinfo_note: bytes = b""
    """The VMCOREINFO note as it was read at the load."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """An armed image gave way to the one that is loaded; `gap` is why it was unloaded before the
    new one was ready, "" where it stayed armed until the kernel was given that."""

    gap: str = ""

    @property
    def stayed_armed(self) -> bool:
        return not self.gap


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request with what only this backend could add, and why it is so."""

    request: LoadRequest
    why: str = ""
    """The reason for the mode."""
    lacking: tuple[tuple[Mode, str], ...] = ()
    """What other modes lacked."""
    warnings: tuple[str, ...] = ()
    """What the mode does not promise."""
    replaced: Replaced | None = None
    """None where nothing was armed."""


class Backend(Protocol):
    """Only a backend acts."""

    name: str
    """"simulated" or "kernel"; the output always names it."""

    def machine(self) -> Machine:
        """The facts of the machine that would be loaded."""
        ...

    def session(self) -> AbstractContextManager[None]:
        """What changes the machine happens inside: one pykexec at a time."""
        ...

    def prepare(self, image: KernelImage, machine: Machine, request: LoadRequest) -> Prepared:
        """For a crash by normal: the mode, and memory of the backend's own where the mode
        needs some. Takes it: `abandon` gives it back."""
        ...

    def abandon(self) -> None:
        """Give back what `prepare` took, when nothing was loaded."""
        ...

    def load(self, table: SegmentTable, plan: PlacementPlan | None = None) -> Loaded:
        """kexec_load(2). Raises KexecError as the kernel's errno says. `plan` is what the
        table was made from, for a backend that keeps a record of it."""
        ...

    def bind_headers(self, addr: int, headers: bytes) -> None:
        """Put the finished ELF core headers into the loaded image, at `addr`."""
        ...

    def unload(self, slot: Slot) -> None:
        """Free an image; nothing happens when none is loaded."""
        ...

    def status(self) -> dict[Slot, LoadState]: ...


@runtime_checkable
class StagingBackend(Backend, Protocol):
    """One that has memory in which an image can wait for a panic."""

    def read_vmcoreinfo(self, machine: Machine) -> bytes:
        """The VMCOREINFO note as it is now."""
        ...

    def fill_stage(self, bound: BoundPlan) -> tuple[Region, ...]:
        """Put image and headers where they wait; gives the digests that the stub is to find.
        Raises FileChanged, and then no image may be loaded."""
        ...
