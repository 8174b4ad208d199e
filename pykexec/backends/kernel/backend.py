"""The real kernel: kexec_load(2), its page list read back, and the stage."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from enum import StrEnum
from errno import EACCES, ENOSYS, EPERM
from pathlib import Path
from typing import TYPE_CHECKING

from pykexec import libc
from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.abi.kexec import KexecFileFlag, KexecFlag
from pykexec.backends.backend import Loaded, LoadState, NothingLoaded, Slot
from pykexec.backends.kernel import stage
from pykexec.backends.kernel.bays import Bay, Bays
from pykexec.backends.kernel.buffers import initrd_fd, syscall_segments
from pykexec.backends.kernel.image_check import IMAGE_POINTERS, check_image
from pykexec.backends.kernel.kimage import LoadedSegment, read_kimage
from pykexec.backends.kernel.lent_blocks import LentBlocks
from pykexec.backends.kernel.modes import ModeChoice, choose_modes, mode_warnings
from pykexec.backends.kernel.record import LoadRecord, RecordFile, unloading
from pykexec.backends.kernel.staged import AGAIN, StageChanged, StagedImage, record_of
from pykexec.crash.described import described
from pykexec.errors import DoesNotFit, KexecError, NotSupported
from pykexec.host.facts import read_machine
from pykexec.host.interrupts import put_off
from pykexec.host.kallsyms import symbol_addresses
from pykexec.host.kcore import Kcore
from pykexec.host.lock import RUN_FOLDER, exclusive
from pykexec.machine import Machine, Unknown
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.granted import RNG_SEED_SIZE, Granted, Replaced
from pykexec.placement.lending import NoMovableMemory
from pykexec.placement.plan import ByNormalPlan, Plan
from pykexec.placement.request import PANIC_MODES, ImageKind, LoadRequest, Mode
from pykexec.remedies import Use, Wish, any_of
from pykexec.syscalls import SyscallError

if TYPE_CHECKING:
    from pykexec.backends.kernel.calls import KernelCalls
    from pykexec.crash.backup_map import BackupMap
    from pykexec.images.contents import Contents, OpenFile
    from pykexec.images.kernel_image import KernelImage
    from pykexec.memory.blocks import MemoryBlock
    from pykexec.placement.bind import BoundPlan
    from pykexec.placement.segment import SegmentTable
    from pykexec.purgatory import Region

TORN = "a load that replaced the armed image was killed: either of the two images may be armed"


class Start(StrEnum):
    """How an image is started."""

    KEXEC = "the normal image is started by reboot(LINUX_REBOOT_CMD_KEXEC)"
    PANIC = "this kernel is made to panic (sysrq c), and the capture kernel starts"


class KernelBackend:
    """Acts through `calls` on the machine that `facts` reads; every verb holds the lock of
    /run/pykexec."""

    name = "kernel"

    def __init__(
        self,
        calls: KernelCalls,
        folder: Path = RUN_FOLDER,
        facts: Callable[[], Machine] = read_machine,
    ) -> None:
        self.calls = calls
        self.facts = facts
        self.folder = folder
        self.bays = Bays(folder)
        self.blocks = LentBlocks(folder)
        self.taking: Bay | None = None
        """The bay of a load in progress."""
        self.replaced: Replaced | None = None
        """What happened to the image that was armed before it."""
        self.handed_over: Slot | None = None

    @property
    def bay(self) -> Bay:
        """The bay of a load in progress, otherwise the bay in use."""
        return self.taking or self.bays.used

    @property
    def records(self) -> RecordFile:
        return self.bay.records

    @property
    def staged(self) -> StagedImage:
        return self.bay.staged

    def machine(self) -> Machine:
        return self.facts()

    @contextmanager
    def session(self) -> Iterator[None]:
        """One pykexec at a time."""
        with exclusive(self.folder):
            yield

    @contextmanager
    def granted(
        self, image: KernelImage, machine: Machine, request: LoadRequest
    ) -> Iterator[Granted]:
        """Raises AlreadyStaged, NoMode, NoRoomForStage."""
        seed = os.urandom(RNG_SEED_SIZE)
        if request.kind is not ImageKind.CRASH_BY_NORMAL:
            yield Granted(rng_seed=seed)
            return
        found = self.take_best(image, machine, request)
        try:
            yield replace(found, rng_seed=seed)
        except BaseException:
            self.abandon()
            raise

    def take_best(self, image: KernelImage, machine: Machine, request: LoadRequest) -> Granted:
        """The best mode whose memory can be allocated, with that memory; `abandon` releases it."""
        choice = choose_modes(machine, request.mode, request.keep)
        self.give_back_unused()
        self.make_way(request, choice.modes)
        try:
            return self.take_first(choice, image, machine, request)
        except BaseException:
            self.taking = None
            self.blocks.give_back(keep=self.in_use())
            raise

    def take_first(
        self, choice: ModeChoice, image: KernelImage, machine: Machine, request: LoadRequest
    ) -> Granted:
        """The first of the modes whose memory can be allocated."""
        lacking = list(choice.lacking)
        for mode in choice.modes:
            try:
                found = self.take(image, machine, request, mode)
            except (stage.NoRoomForStage, NoMovableMemory) as error:
                if mode is choice.modes[-1]:
                    raise self.with_what_was_lost(error) from error
                lacking.append((mode, error.message))
                self.blocks.give_back(keep=self.in_use())
            else:
                return replace(
                    found,
                    why=choice.why(mode),
                    lacking=tuple(lacking),
                    warnings=mode_warnings(
                        mode, machine, found.stage is not None and found.stage.movable
                    ),
                    replaced=self.replaced,
                )
        raise AssertionError("choose_modes gives at least one mode")

    def make_way(self, request: LoadRequest, modes: Sequence[Mode]) -> None:
        """Choose the bay for a new stage. An armed image stays armed if a single kexec_load(2) can
        replace it; otherwise it is unloaded here. Raises AlreadyStaged."""
        self.taking = self.replaced = None
        armed = self.records.read()
        if armed is None:
            self.taking = self.bays.used
            return
        if not request.replaces:
            raise stage.AlreadyStaged(
                f"a crash by normal is loaded already (mode {armed.mode})",
                hint=any_of(Use(Wish.REPLACE), unloading(armed.slot)),
            )
        lack = self.why_not_beside(armed, modes)
        if lack is None:
            self.replaced = Replaced()
            self.taking = self.bays.spare.made()
        else:
            self.unload(armed.slot)
            self.replaced = Replaced(lack)
            self.taking = self.bays.used

    def why_not_beside(self, armed: LoadRecord, modes: Sequence[Mode]) -> str | None:
        """Why the new image cannot be prepared while the old one is armed; None if it can."""
        if self.bays.torn:
            return TORN
        if armed.mode not in PANIC_MODES or not PANIC_MODES.issuperset(modes):
            return "no panic starts an image of mode kernel-swap"
        if self.status()[armed.slot] is LoadState.NOT_LOADED:
            return "another program had freed it"
        return None

    def take(
        self, image: KernelImage, machine: Machine, request: LoadRequest, mode: Mode
    ) -> Granted:
        """Allocate the memory of a mode: in addition to that of the armed image, or instead of it
        if there is not enough for both. Raises NoRoomForStage, NoMovableMemory."""
        from pykexec.backends.kernel.stage_plan import granted_pages

        bay = self.bay
        try:
            return granted_pages(
                image, machine, request, mode, bay.pages, bay.journal, self.blocks, self.in_use()
            )
        except stage.NoRoomForStage as error:
            if self.replaced is None or not self.replaced.stayed_armed:
                raise
            armed = self.bays.used
            held = armed.staged.page_count()
            if error.needed_more_than(held):
                raise
            freed = held * HUGE_PAGE_SIZE
            self.unload(Slot.CRASH)
            self.replaced = Replaced(error.message)
            self.taking = bay = armed
        if not isinstance(machine.memavailable, Unknown):
            machine = replace(machine, memavailable=machine.memavailable + freed)
        return granted_pages(
            image, machine, request, mode, bay.pages, bay.journal, self.blocks, self.in_use()
        )

    def in_use(self) -> RangeSet:
        """What stages rely on: their huge pages, and a window in movable memory. Taking a memory
        block offline moves huge pages in it."""
        spans: list[PhysRange] = []
        for bay in self.bays.all:
            taken, record = bay.journal.read(), bay.records.read()
            spans += [PhysRange.sized(at, HUGE_PAGE_SIZE) for at, _ in taken.kept] if taken else []
            spans += [record.window] if record and record.movable else []
        return RangeSet.of(spans)

    def give_back_unused(self) -> None:
        """Release what no image relies on: left by a killed program, or busy until now."""
        self.bays.give_back_unused()
        self.blocks.give_back(keep=self.in_use())

    def with_what_was_lost(self, error: DoesNotFit) -> DoesNotFit:
        """The same error, with a note if the armed image was unloaded in vain."""
        if self.replaced is None or self.replaced.stayed_armed:
            return error
        message = f"{error.message}, and what was armed is unloaded"
        return type(error)(message, hint=error.remedy, details=error.details, **error.facts)

    def abandon(self) -> None:
        """Release what `take_best` took, after a load that failed. An interrupt is handled after
        kexec_load(2) has returned: then an image may rely on it, which is unloaded first. The old
        image stays armed, unless the kernel has freed it for the failed one. A load that has
        replaced the armed image is complete, and stays."""
        if self.taking is None and self.handed_over is None:
            return
        replaced = self.handed_over
        if replaced:
            self.free(replaced)
        bay, self.taking = self.bay, None
        bay.give_back()
        left = self.records.read()
        if left and (left.slot is replaced or self.status()[left.slot] is LoadState.NOT_LOADED):
            self.bays.used.give_back()
        self.blocks.give_back(keep=self.in_use())

    def load(self, table: SegmentTable, plan: Plan | None = None) -> Loaded:
        """kexec_load(2); for kernel-swap also reads the page list back and checks it. An interrupt
        must not remove the new image after the kernel has freed the old one for it, so during a
        replacement it is handled at the end."""
        if self.replaced is None:
            return self.load_now(table, plan)
        with put_off():
            loaded = self.load_now(table, plan)
            self.handed_over = None
        return loaded

    def load_now(self, table: SegmentTable, plan: Plan | None) -> Loaded:
        slot = Slot.CRASH if table.flags & KexecFlag.KEXEC_ON_CRASH else Slot.NORMAL
        by_normal = plan if isinstance(plan, ByNormalPlan) else None
        if by_normal is None:
            self.refuse_replacing(slot)
        else:
            if not self.records.read():
                self.records.write(record_of(by_normal, slot))
            self.refuse_changed_window()
        with syscall_segments(table) as segments:
            flags = int(table.flags) | libc.running_arch().kexec_arch
            self.announce(table.entry, segments, flags)
            self.handed_over = slot
            try:
                self.calls.kexec_load(table.entry, segments, flags)
            except SyscallError:
                self.handed_over = None
                raise
        if by_normal is None:
            return Loaded(slot)
        given = tuple(LoadedSegment(item.bufsz, item.mem, item.memsz) for item in table.segments)
        self.staged.remember(entry=table.entry, segments=given)
        self.retire()
        if by_normal.mode is not Mode.KERNEL_SWAP:
            return Loaded(slot)
        try:
            backup_map = self.backup_map(given, table.entry)
            return Loaded(slot, backup_map, self.read_vmcoreinfo(self.machine()))
        except BaseException:
            self.unload(slot)
            raise

    def retire(self) -> None:
        """Release the stage of an image that has been replaced. The load is done: what cannot be
        released now is released by the next program."""
        old = [bay for bay in self.bays.all if bay is not self.bay]
        with suppress(KexecError, OSError):
            self.bays.give_back(old)
            self.blocks.give_back(keep=self.in_use())
        self.taking = None

    def refuse_changed_window(self) -> None:
        """Check directly before loading an image that relies on movable memory. Raises
        StageChanged."""
        if why := self.window_problem(self.records.read()):
            raise StageChanged(why, hint=AGAIN)

    def window_problem(self, record: LoadRecord | None) -> str | None:
        """Why the window of a load is no longer in movable memory."""
        if record is None or not record.movable:
            return None
        return self.blocks.problem(record.window)

    def file_load(
        self, kernel: OpenFile, initrd: Contents | None, cmdline: bytes, flags: KexecFileFlag
    ) -> None:
        """kexec_file_load(2): the kernel reads the files itself, and places everything."""
        on_crash = flags & KexecFileFlag.KEXEC_FILE_ON_CRASH
        self.refuse_replacing(Slot.CRASH if on_crash else Slot.NORMAL)
        with initrd_fd(initrd) as fd:
            self.calls.kexec_file_load(kernel.fd, fd, cmdline, int(flags))

    def announce(
        self, entry: int, segments: Sequence[tuple[int, int, int, int]], flags: int
    ) -> None:
        """Called with the arguments of kexec_load(2) directly before the call, to show them."""

    def refuse_replacing(self, slot: Slot) -> None:
        """A load into this slot would free the image that a stage belongs to."""
        record = self.records.read()
        if record and record.slot is slot:
            raise stage.AlreadyStaged(
                f"this would replace the crash by normal (mode {record.mode}) in the {slot} slot",
                hint=unloading(slot),
            )

    def backup_map(self, given: Sequence[LoadedSegment], entry: int) -> BackupMap:
        """From the page list of the image that was just loaded."""
        name = IMAGE_POINTERS[Slot.NORMAL]
        pointer = symbol_addresses((name,))[name]
        with Kcore() as kcore:
            return read_kimage(kcore, pointer, given, entry, mmap.PAGESIZE).backup_map

    def check(self) -> LoadRecord | None:
        """What pykexec loaded, after verifying its memory and the kernel's image; None if it loaded
        nothing. Raises StageChanged, NotStaged."""
        if self.bays.torn:
            raise StageChanged(TORN, hint=AGAIN)
        record = self.staged.check()
        if why := self.window_problem(record):
            raise StageChanged(why, hint=AGAIN)
        if record and record.segments:
            check_image(record)
        return record

    def outdated(self, record: LoadRecord) -> str | None:
        """Why a dump by this image would lack something; None where it would not, or where that is
        unknown."""
        now = described(self.machine())
        if record.described is None or isinstance(now, Unknown) or now == record.described:
            return None
        return "memory or processors were added or removed since it was loaded"

    def read_vmcoreinfo(self, machine: Machine) -> bytes:
        """The present note, from /proc/kcore."""
        area = machine.vmcoreinfo
        if isinstance(area, Unknown):
            raise NotSupported(f"the address of VMCOREINFO is {area}", hint="run as root")
        with Kcore() as kcore:
            return kcore.physical(area.addr, area.size)

    def bind_headers(self, addr: int, headers: bytes) -> None:
        """Write to the huge pages, which must not have moved."""
        self.staged.bind_headers(addr, headers)

    def fill_stage(self, bound: BoundPlan) -> tuple[Region, ...]:
        """Write image and headers to the places where the stub expects them."""
        return self.staged.fill(bound)

    def unload(self, slot: Slot) -> None:
        """Free the image, then the stage that served it."""
        self.free(slot)
        self.taking = None
        records = ((bay, bay.records.read()) for bay in self.bays.all)
        self.bays.give_back([bay for bay, record in records if not record or record.slot is slot])
        self.blocks.give_back(keep=self.in_use())

    @property
    def left_blocks(self) -> tuple[MemoryBlock, ...]:
        """Memory blocks that no image needs, and that could not be released yet."""
        return self.blocks.left(self.in_use())

    @property
    def left_pages(self) -> int:
        """Huge pages that no image needs: left by a killed program, until the next one releases
        them."""
        taken = (bay.journal.read() for bay in self.bays.all if not bay.records.read())
        return sum(item.raised for item in taken if item)

    def free(self, slot: Slot) -> None:
        """Free only the image."""
        _free_image(self.calls, slot)
        self.handed_over = None

    def status(self) -> dict[Slot, LoadState]:
        """The present state."""
        return {slot: _load_state(loaded) for slot, loaded in self._loaded().items()}

    def unknown(self) -> dict[Slot, str]:
        """The reason for each slot whose state is unknown."""
        states = self._loaded().items()
        return {slot: loaded.why for slot, loaded in states if isinstance(loaded, Unknown)}

    def _loaded(self) -> dict[Slot, bool | Unknown]:
        state = self.facts().kexec
        return {Slot.NORMAL: state.loaded, Slot.CRASH: state.crash_loaded}

    def startable(self) -> Start:
        """What `start` would do, after every check. Raises KexecError if nothing is loaded, or that
        is unknown."""
        record = self.check()
        state = self.status()
        if record and record.mode in PANIC_MODES:
            if state[Slot.CRASH] is LoadState.LOADED:
                return Start.PANIC
            raise NothingLoaded(
                f"nothing to start: the crash image is {state[Slot.CRASH]}",
                hint=unloading(Slot.CRASH, ", and load again"),
            )
        if state[Slot.NORMAL] is not LoadState.LOADED:
            raise NothingLoaded(
                f"nothing to start: the normal image is {state[Slot.NORMAL]}",
                hint="load an image first, with pykexec load",
            )
        return Start.KEXEC

    def start(self, how: Start, sync: bool = True) -> None:
        """Does not return. The image of a panic mode is started by a panic: after a normal kexec
        the stub would run on page tables that may be in the window."""
        if sync:
            self.calls.sync()
        if how is Start.PANIC:
            self.calls.panic()
        else:
            self.calls.reboot_kexec()


def _free_image(calls: KernelCalls, slot: Slot) -> None:
    """With kexec_load, or with kexec_file_load if lockdown disables that."""
    crash = slot is Slot.CRASH
    try:
        flags = KexecFlag.KEXEC_ON_CRASH if crash else KexecFlag(0)
        calls.kexec_load(0, [], int(flags) | libc.running_arch().kexec_arch)
    except SyscallError as error:
        if error.errno not in (EPERM, EACCES, ENOSYS):
            raise
        flag = KexecFileFlag.KEXEC_FILE_ON_CRASH if crash else KexecFileFlag(0)
        try:
            calls.kexec_file_load(-1, -1, b"", int(KexecFileFlag.KEXEC_FILE_UNLOAD | flag))
        except SyscallError:
            raise error from None


def _load_state(loaded: bool | Unknown) -> LoadState:
    if isinstance(loaded, Unknown):
        return LoadState.UNKNOWN
    return LoadState.LOADED if loaded else LoadState.NOT_LOADED
