"""The real kernel: kexec_load(2), its page list read back, and memory of our own beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from errno import EACCES, ENOSYS, EPERM
from pathlib import Path

from pykexec import libc
from pykexec.abi.kexec import KexecFileFlag, KexecFlag
from pykexec.backends.backend import Loaded, LoadState, NothingLoaded, Prepared, Slot
from pykexec.backends.kernel import stage
from pykexec.backends.kernel.buffers import initrd_fd, syscall_segments
from pykexec.backends.kernel.calls import KernelCalls
from pykexec.backends.kernel.image_check import IMAGE_POINTERS, check_image
from pykexec.backends.kernel.journal import Journal
from pykexec.backends.kernel.kimage import LoadedSegment, read_kimage
from pykexec.backends.kernel.modes import choose_modes, mode_warnings
from pykexec.backends.kernel.record import LoadRecord, RecordFile, unload_command
from pykexec.backends.kernel.staged import StagedImage, record_of
from pykexec.crash.backup_map import BackupMap
from pykexec.errors import NotSupported
from pykexec.host.facts import read_machine
from pykexec.host.hugepages import HugePages
from pykexec.host.kallsyms import symbol_addresses
from pykexec.host.kcore import Kcore
from pykexec.host.lock import RUN_FOLDER, exclusive
from pykexec.images.contents import Contents, OpenFile
from pykexec.images.kernel_image import KernelImage
from pykexec.machine import Machine, Unknown
from pykexec.placement.bind import BoundPlan
from pykexec.placement.plan import PANIC_MODES, LoadRequest, Mode, PlacementPlan
from pykexec.placement.segment import SegmentTable
from pykexec.syscalls import SyscallError


class Start(StrEnum):
    """How an image is started."""

    KEXEC = "the normal image is started by reboot(LINUX_REBOOT_CMD_KEXEC)"
    PANIC = "this kernel is made to panic (sysrq c), and the capture kernel starts"


class KernelBackend:
    """Acts by `calls` on the machine that `facts` reads; every verb holds the lock of
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
        self.pages = HugePages(folder)
        self.journal = Journal(folder)
        self.records = RecordFile(folder)
        self.staged = StagedImage(self.pages, self.journal, self.records)
        self.handed_over: Slot | None = None

    def machine(self) -> Machine:
        return self.facts()

    @contextmanager
    def session(self) -> Iterator[None]:
        """One pykexec at a time."""
        with exclusive(self.folder):
            yield

    def prepare(self, image: KernelImage, machine: Machine, request: LoadRequest) -> Prepared:
        """The best mode whose memory can be had; `abandon` gives that back."""
        from pykexec.backends.kernel.stage_plan import prepared_request

        choice = choose_modes(machine, request.mode)
        if record := self.records.read():
            raise stage.AlreadyStaged(
                f"a crash by normal is loaded already (mode {record.mode})",
                hint=unload_command(record.slot),
            )
        stage.release(self.pages, self.journal)  # without a record no image relies on it
        lacking = list(choice.lacking)
        for mode in choice.modes:
            try:
                ready = prepared_request(
                    image, machine, replace(request, mode=mode), self.pages, self.journal
                )
            except stage.NoRoomForStage as error:
                if mode is choice.modes[-1]:
                    raise
                lacking.append((mode, error.message))
            else:
                warnings = mode_warnings(mode, machine)
                return Prepared(ready, choice.why(mode), tuple(lacking), warnings)
        raise AssertionError("choose_modes gives at least one mode")

    def abandon(self) -> None:
        """Give back what `prepare` took, after a load that failed. An interrupt is heard when
        kexec_load(2) has returned: then there is an image that relies on it, and goes first."""
        if self.handed_over:
            self.free(self.handed_over)
        stage.release(self.pages, self.journal)
        self.records.remove()

    def load(self, table: SegmentTable, plan: PlacementPlan | None = None) -> Loaded:
        """kexec_load(2); for kernel-swap also the page list, read back and checked."""
        slot = Slot.CRASH if table.flags & KexecFlag.KEXEC_ON_CRASH else Slot.NORMAL
        if not plan or not plan.mode:
            self.refuse_replacing(slot)
        if plan and plan.mode and not self.records.read():
            self.records.write(record_of(plan, slot))
        with syscall_segments(table) as segments:
            flags = int(table.flags) | libc.numbers().kexec_arch
            self.announce(table.entry, segments, flags)
            self.handed_over = slot
            try:
                self.calls.kexec_load(table.entry, segments, flags)
            except SyscallError:
                self.handed_over = None
                raise
        if not plan or not plan.mode:
            return Loaded(slot)
        given = tuple(LoadedSegment(item.bufsz, item.mem, item.memsz) for item in table.segments)
        self.staged.remember(entry=table.entry, segments=given)
        if plan.mode is not Mode.KERNEL_SWAP:
            return Loaded(slot)
        try:
            backup_map = self.backup_map(given, table.entry)
            return Loaded(slot, backup_map, self.read_vmcoreinfo(self.machine()))
        except BaseException:
            self.unload(slot)
            raise

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
        """Told what kexec_load(2) will be given, right before it is; for whoever shows it."""

    def refuse_replacing(self, slot: Slot) -> None:
        """A load into this slot would free the image that a stage of ours belongs to."""
        record = self.records.read()
        if record and record.slot is slot:
            raise stage.AlreadyStaged(
                f"this would replace the crash by normal (mode {record.mode}) in the {slot} slot",
                hint=unload_command(slot),
            )

    def backup_map(self, given: Sequence[LoadedSegment], entry: int) -> BackupMap:
        """From the page list of the image just loaded."""
        name = IMAGE_POINTERS[Slot.NORMAL]
        pointer = symbol_addresses((name,))[name]
        with Kcore() as kcore:
            return read_kimage(kcore, pointer, given, entry).backup_map

    def check(self) -> LoadRecord | None:
        """What pykexec loaded, with its memory and the kernel's image looked at again; None when
        it loaded nothing. Raises StageChanged, NotStaged."""
        record = self.staged.check()
        if record and record.segments:
            check_image(record)
        return record

    def read_vmcoreinfo(self, machine: Machine) -> bytes:
        """The note as it is now, from /proc/kcore."""
        area = machine.vmcoreinfo
        if isinstance(area, Unknown):
            raise NotSupported(f"where VMCOREINFO lies is {area}", hint="run as root")
        with Kcore() as kcore:
            return kcore.physical(area.addr, area.size)

    def bind_headers(self, addr: int, headers: bytes) -> None:
        """Into the huge pages, which must still be where they were."""
        self.staged.bind_headers(addr, headers)

    def fill_stage(self, bound: BoundPlan) -> None:
        """Image and headers at the places in which the stub will look for them."""
        self.staged.fill(bound)

    def unload(self, slot: Slot) -> None:
        """Free the image, then the stage that served it."""
        self.free(slot)
        record = self.records.read()
        if record is None or record.slot is slot:
            self.abandon()

    def free(self, slot: Slot) -> None:
        """The image alone."""
        free_image(self.calls, slot)
        self.handed_over = None

    def status(self) -> dict[Slot, LoadState]:
        """As it is now."""
        state = self.facts().kexec
        return {Slot.NORMAL: load_state(state.loaded), Slot.CRASH: load_state(state.crash_loaded)}

    def startable(self) -> Start:
        """What `start` would do, after every check. Raises KexecError when nothing is
        loaded; unknown is not loaded."""
        record = self.check()
        state = self.status()
        if record and record.mode in PANIC_MODES:
            if state[Slot.CRASH] is LoadState.LOADED:
                return Start.PANIC
            raise NothingLoaded(
                f"nothing to start: the crash image is {state[Slot.CRASH]}",
                hint=f"{unload_command(Slot.CRASH)}, and load again",
            )
        if state[Slot.NORMAL] is not LoadState.LOADED:
            raise NothingLoaded(
                f"nothing to start: the normal image is {state[Slot.NORMAL]}",
                hint="pykexec load first",
            )
        return Start.KEXEC

    def start(self, how: Start, sync: bool = True) -> None:
        """Does not return. The image of a panic mode is started by a panic: through a
        normal kexec the stub would run on page tables that may lie in the window."""
        if sync:
            self.calls.sync()
        if how is Start.PANIC:
            self.calls.panic()
        else:
            self.calls.reboot_kexec()


def free_image(calls: KernelCalls, slot: Slot) -> None:
    """By kexec_load, and where that is locked away by kexec_file_load."""
    crash = slot is Slot.CRASH
    try:
        flags = KexecFlag.KEXEC_ON_CRASH if crash else KexecFlag(0)
        calls.kexec_load(0, [], int(flags) | libc.numbers().kexec_arch)
    except SyscallError as error:
        if error.errno not in (EPERM, EACCES, ENOSYS):
            raise
        flag = KexecFileFlag.KEXEC_FILE_ON_CRASH if crash else KexecFileFlag(0)
        try:
            calls.kexec_file_load(-1, -1, b"", int(KexecFileFlag.KEXEC_FILE_UNLOAD | flag))
        except SyscallError:
            raise error from None


def load_state(loaded: bool | Unknown) -> LoadState:
    if isinstance(loaded, Unknown):
        return LoadState.UNKNOWN
    return LoadState.LOADED if loaded else LoadState.NOT_LOADED
