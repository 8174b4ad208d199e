"""The protocol that every backend speaks; one contract suite tests them all."""

from __future__ import annotations

from contextlib import AbstractContextManager
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pykexec.errors import CheckFailed
from pykexec.frozen import dataclass

if TYPE_CHECKING:
    from pykexec.crash.backup_map import BackupMap
    from pykexec.images.kernel_image import KernelImage
    from pykexec.machine import Machine
    from pykexec.placement.bind import BoundPlan
    from pykexec.placement.granted import Granted
    from pykexec.placement.plan import Plan
    from pykexec.placement.request import LoadRequest
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

    def granted(
        self, image: KernelImage, machine: Machine, request: LoadRequest
    ) -> AbstractContextManager[Granted]:
        """What this backend supplies for a load: for a crash by normal the mode, and memory of
        its own where the mode needs some. If the block raises, all of it is given back, and so
        is an image that relies on it."""
        ...

    def load(self, table: SegmentTable, plan: Plan | None = None) -> Loaded:
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

    @property
    def busy_blocks(self) -> tuple[str, ...]:
        """Memory blocks that an unload could not give back."""
        ...

    def read_vmcoreinfo(self, machine: Machine) -> bytes:
        """The VMCOREINFO note as it is now."""
        ...

    def fill_stage(self, bound: BoundPlan) -> tuple[Region, ...]:
        """Put image and headers where they wait; gives the digests that the stub is to find.
        Raises FileChanged, and then no image may be loaded."""
        ...
