"""A backend on a model of a machine: its calls do not reach a kernel, and both of its bays take
huge pages from one pool, which counts as the kernel's does (mm/hugetlb.c)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.backends.backend import Slot
from pykexec.backends.kernel.backend import KernelBackend
from pykexec.backends.kernel.lent_blocks import LentBlocks
from pykexec.machine import HugePageUser, KexecState, Machine, NoteArea, Unknown
from pykexec.memory.ranges import PhysRange
from pykexec.placement.bind import BoundPlan
from pykexec.purgatory import Region
from tests.backends.kernel.block_machine import ModelBlocks
from tests.backends.kernel.calls import Calls
from tests.builders import MIB, make_machine

RESERVED = PhysRange.sized(0x3F000000, 128 << 10)


class Killed(BaseException):
    """kill -9: no code of the program runs after it, because every further step is killed too."""


@dataclass
class HugeMemory:
    """Frames that can become huge pages, and those in the pool, idle or in use."""

    buddy: list[int]
    idle: list[int] = field(default_factory=list)
    used: set[int] = field(default_factory=set)
    steps: int = 0
    surplus: int = 0
    overcommit: int = 0
    thief_is_quick: int = 0
    """How often the thief runs between two steps of the program."""
    thief_wants: int = 1
    """Pages that it takes at a time."""
    stolen: list[int] = field(default_factory=list)
    kill_at: int = 0
    """The step at which the program is killed; 0 for never."""

    @classmethod
    def of(cls, count: int, first: int = 64 * MIB) -> HugeMemory:
        return cls([first + number * HUGE_PAGE_SIZE for number in range(count)])

    def step(self) -> None:
        self.steps += 1
        if self.kill_at and self.steps >= self.kill_at:
            raise Killed
        self.others()

    @property
    def total(self) -> int:
        return len(self.idle) + len(self.used)

    @property
    def pool(self) -> int:
        """persistent_huge_pages."""
        return self.total - self.surplus

    def set_pool(self, count: int) -> int:
        """set_max_huge_pages."""
        while self.surplus and self.pool < count:
            self.surplus -= 1
        while self.pool < count and self.buddy:
            self.idle.append(self.buddy.pop(0))
            self.others()
        while self.pool > count and self.idle:
            self.buddy.append(self.idle.pop())
        self.surplus += max(0, self.pool - count)
        self.buddy.sort()
        return self.pool

    def take(self, count: int) -> list[int] | None:
        """hugetlb_acct_memory: all requested pages, for any process, or none."""
        new = max(0, count - len(self.idle))
        if new > len(self.buddy) or (new and self.surplus + new > self.overcommit):
            return None
        self.surplus += new
        found = [*self.idle, *self.buddy[:new]][:count]
        del self.idle[:count], self.buddy[:new]
        self.used.update(found)
        return found

    def free(self, frame: int) -> None:
        """free_huge_folio: to the system as long as there is a surplus."""
        self.used.remove(frame)
        if self.surplus:
            self.surplus -= 1
            self.buddy.append(frame)
            self.buddy.sort()
        else:
            self.idle.append(frame)

    def others(self) -> None:
        """Another process, which tries to get huge pages all the time."""
        for _ in range(self.thief_is_quick):
            self.stolen += self.take(self.thief_wants) or []


@dataclass
class Pages:
    """One file of huge pages; implements stage.HugePageSystem."""

    memory: HugeMemory
    file: dict[int, int] = field(default_factory=dict)
    contents: dict[int, bytearray] = field(default_factory=dict)
    """The contents of each frame, without trailing zeros."""
    mounted: bool = False

    def pool(self) -> int:
        return self.memory.pool

    def set_pool(self, count: int) -> int:
        self.memory.step()
        return self.memory.set_pool(count)

    def surplus(self) -> int:
        return self.memory.surplus

    def overcommit(self) -> int:
        return self.memory.overcommit

    def set_overcommit(self, count: int) -> None:
        self.memory.step()
        self.memory.overcommit = count
        self.memory.step()

    def users(self) -> tuple[HugePageUser, ...]:
        size = len(self.memory.stolen) * HUGE_PAGE_SIZE
        return (HugePageUser(77, "thief", size),) if size else ()

    def compact(self) -> None:
        pass

    def gib_pages(self) -> int | None:
        return None

    def set_gib_pages(self, count: int) -> None:
        raise AssertionError(count)

    def split_gib_page(self) -> None:
        raise AssertionError

    def mount(self) -> None:
        self.memory.step()
        self.mounted = True

    def unmount(self) -> None:
        self.memory.step()
        self.mounted = False

    def reserve(self, first: int, count: int) -> bool:
        self.memory.step()
        found = self.memory.take(count)
        self.file |= dict(zip(range(first, first + count), found or (), strict=False))
        self.memory.step()
        return found is not None

    def allocate(self, first: int, count: int) -> None:
        for index in range(first, first + count):
            self.memory.step()
            self.contents[self.file[index]] = bytearray()

    def give_back(self, index: int) -> None:
        self.memory.step()
        frame = self.file.pop(index)
        self.contents.pop(frame, None)
        self.memory.free(frame)

    def remove_file(self) -> None:
        for index in list(self.file):
            self.give_back(index)

    def frames(self, first: int, count: int) -> list[int]:
        return [self.file[index] for index in range(first, first + count)]

    def write(self, index: int, offset: int, data: bytes | memoryview) -> None:
        self.memory.step()
        page = self.contents[self.file[index]]
        page.extend(bytes(max(0, offset - len(page))))
        page[offset : offset + len(data)] = data

    def read(self, index: int, offset: int, size: int) -> bytes:
        return bytes(self.contents[self.file[index]][offset : offset + size]).ljust(size, b"\0")


class ModelCalls(Calls):
    """Killed before or after a load, like any other step; the last load is the armed one."""

    memory: HugeMemory
    blocks: ModelBlocks | None = None
    loaded = False

    def kexec_load(
        self, entry: int, segments: Sequence[tuple[int, int, int, int]], flags: int
    ) -> None:
        self.memory.step()
        super().kexec_load(entry, segments, flags)
        self.loaded = bool(segments)
        self.memory.step()

    @property
    def armed(self) -> bytes | None:
        """The stub in the crash slot."""
        return self.loads[-1].segments[0][2] if self.loaded else None


class ModelBackend(KernelBackend):
    """One program; make another one on the same machine with the same calls and pages."""

    def __init__(self, calls: ModelCalls, folder: Path, pages: tuple[Pages, Pages]) -> None:
        super().__init__(calls, folder, self.read)
        self.model = calls
        for bay, model in zip(self.bays.all, pages, strict=True):
            bay.pages = model
        if calls.blocks:
            self.blocks = LentBlocks(folder, calls.blocks)

    def read(self) -> Machine:
        memory, blocks = self.model.memory, self.model.blocks
        return replace(
            make_machine(crash_kernel=[RESERVED]),
            memory_blocks=blocks.found if blocks else Unknown("this model has none"),
            balloons=blocks.drivers if blocks else (),
            swap_in_memory=(),
            memavailable=len(memory.buddy) * HUGE_PAGE_SIZE + 128 * MIB,
            kexec=KexecState(loaded=False, crash_loaded=self.model.loaded),
        )

    def before_it_is_used(self) -> None:
        """A hook between the digest of a file and its use."""

    def refuse_replacing(self, slot: Slot) -> None:
        super().refuse_replacing(slot)
        self.before_it_is_used()

    def fill_stage(self, bound: BoundPlan) -> tuple[Region, ...]:
        self.before_it_is_used()
        return super().fill_stage(bound)

    def read_vmcoreinfo(self, machine: Machine) -> bytes:
        assert isinstance(machine.vmcoreinfo, NoteArea)
        return bytes(machine.vmcoreinfo.size)


@dataclass
class Rig:
    """A machine, and programs that run on it one after the other."""

    folder: Path
    memory: HugeMemory = field(default_factory=lambda: HugeMemory.of(200))
    calls: ModelCalls = field(default_factory=ModelCalls)

    def __post_init__(self) -> None:
        self.calls.memory = self.memory
        self.pages = Pages(self.memory), Pages(self.memory)

    def backend(self) -> ModelBackend:
        return ModelBackend(self.calls, self.folder / "run", self.pages)

    @property
    def as_found(self) -> bool:
        """Whether nothing is taken, mounted or recorded."""
        left = [*(self.folder / "run").rglob("*.json")]
        taken = [pages for pages in self.pages if pages.file or pages.mounted]
        return not (left or taken or self.memory.total or self.memory.overcommit)
