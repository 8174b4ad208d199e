"""The protocol that every backend implements; one contract suite tests them all."""

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
    from pykexec.memory.blocks import MemoryBlock
    from pykexec.placement.bind import BoundPlan
    from pykexec.placement.granted import Granted
    from pykexec.placement.plan import Plan
    from pykexec.placement.request import LoadRequest
    from pykexec.placement.segment import SegmentTable
    from pykexec.purgatory import Region


class NothingLoaded(CheckFailed):
    """There is no image to start, or this is not known."""

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
    """The result of a load."""

    slot: Slot
    backup_map: BackupMap | None = None
    """Where the old contents of destination pages will be; None if the image runs where it is."""
    vmcoreinfo_note: bytes = b""
    """The VMCOREINFO note as read at the load."""


class Backend(Protocol):
    """Only a backend acts."""

    name: str
    """"simulated" or "kernel"; the output always names it."""

    def machine(self) -> Machine:
        """The facts of the machine on which a load would be done."""
        ...

    def session(self) -> AbstractContextManager[None]:
        """All changes of the machine happen inside a session: one pykexec at a time."""
        ...

    def granted(
        self, image: KernelImage, machine: Machine, request: LoadRequest
    ) -> AbstractContextManager[Granted]:
        """What this backend supplies for a load: for a crash by normal the mode, and memory if the
        mode needs some. If the block raises, all of it is released, and so is an image that relies
        on it."""
        ...

    def load(self, table: SegmentTable, plan: Plan | None = None) -> Loaded:
        """kexec_load(2). Raises KexecError according to the kernel's errno. `plan` is the plan of
        the table, for a backend that keeps a record of it."""
        ...

    def bind_headers(self, addr: int, headers: bytes) -> None:
        """Put the finished ELF core headers into the loaded image, at `addr`."""
        ...

    def unload(self, slot: Slot) -> None:
        """Free an image; does nothing if none is loaded."""
        ...

    def status(self) -> dict[Slot, LoadState]: ...


@runtime_checkable
class StagingBackend(Backend, Protocol):
    """A backend with memory in which an image can be staged for a panic."""

    @property
    def left_blocks(self) -> tuple[MemoryBlock, ...]:
        """Memory blocks that an unload could not release."""
        ...

    def read_vmcoreinfo(self, machine: Machine) -> bytes:
        """The present VMCOREINFO note."""
        ...

    def fill_stage(self, bound: BoundPlan) -> tuple[Region, ...]:
        """Put image and headers into the stage; returns the digests for the stub. Raises
        FileChanged, and then no image may be loaded."""
        ...
