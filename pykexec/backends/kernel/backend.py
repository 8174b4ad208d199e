"""The real kernel: kexec_load(2), its page list read back, and headers in memory of our own."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pykexec import libc
from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.abi.kexec import KEXEC_ARCH_X86_64, KexecFlag
from pykexec.backends.backend import HeadersWish, Loaded, LoadState, Slot
from pykexec.backends.kernel import stage
from pykexec.backends.kernel.buffers import syscall_segments
from pykexec.backends.kernel.journal import Journal
from pykexec.backends.kernel.kimage import LoadedSegment, read_kimage
from pykexec.backends.kernel.modes import ModeChoice, choose_mode
from pykexec.backends.kernel.record import LoadRecord, RecordFile
from pykexec.backends.kernel.relocation import relocation
from pykexec.backends.kernel.runs import Wanted
from pykexec.crash.backup_map import BackupMap
from pykexec.errors import CheckFailed, KexecError, NotSupported
from pykexec.host.facts import read_machine
from pykexec.host.hugepages import HugePages
from pykexec.host.kallsyms import symbol_addresses
from pykexec.host.kcore import Kcore
from pykexec.host.lock import RUN_FOLDER, exclusive
from pykexec.host.root import THIS_MACHINE
from pykexec.machine import Machine, NoteArea, Unknown
from pykexec.memory.ranges import PhysRange, align_up
from pykexec.placement.plan import ImageKind, LoadRequest, Mode, PlacementPlan
from pykexec.placement.segment import SegmentTable

STAGE_LIMIT = 4096
"""Huge pages that a search may hold for a moment: 8 GiB."""


class ImageChanged(CheckFailed):
    """What is loaded now is not what pykexec loaded."""

    code = "image-changed"


class KernelBackend:
    """Acts on the kernel that runs; every verb holds the lock of /run/pykexec."""

    name = "kernel"

    def __init__(self, folder: Path = RUN_FOLDER) -> None:
        self.folder = folder
        self.pages = HugePages(folder)
        self.journal = Journal(folder)
        self.records = RecordFile(folder)

    def machine(self) -> Machine:
        return read_machine()

    @contextmanager
    def session(self) -> Iterator[None]:
        """One pykexec at a time."""
        with exclusive(self.folder):
            yield

    def choose(self, machine: Machine, request: LoadRequest) -> ModeChoice | None:
        """The mode of a crash by normal; None for other kinds of load."""
        if request.kind is not ImageKind.CRASH_BY_NORMAL:
            return None
        return choose_mode(machine, request.mode)

    def prepare(self, machine: Machine, request: LoadRequest, headers: HeadersWish) -> LoadRequest:
        """With its mode, and with huge pages for the headers: `abandon` gives them back."""
        choice = self.choose(machine, request)
        if choice is None:
            return request
        self.refuse_second_stage()
        pages = align_up(headers.size, HUGE_PAGE_SIZE) // HUGE_PAGE_SIZE
        wanted = Wanted(run=pages, avoid=headers.avoid)
        taken = stage.take(self.pages, self.journal, wanted, STAGE_LIMIT)
        flags = relocation(machine).swap_flags or KexecFlag(0)
        return replace(request, mode=choice.mode, headers_at=taken.run, flags=flags)

    def refuse_second_stage(self) -> None:
        """What is armed stays armed: it is unloaded on purpose, not replaced on the way."""
        if self.records.read():
            raise stage.AlreadyStaged(
                "a crash by normal is loaded already", hint="pykexec unload --backend kernel"
            )

    def abandon(self) -> None:
        """Give back what `prepare` took, after a load that failed."""
        stage.release(self.pages, self.journal)
        self.records.remove()

    def load(self, table: SegmentTable, plan: PlacementPlan | None = None) -> Loaded:
        """kexec_load(2); for kernel-swap also the page list, read back and checked."""
        slot = Slot.CRASH if table.flags & KexecFlag.KEXEC_ON_CRASH else Slot.NORMAL
        if plan and plan.mode:
            self.records.write(record_of(plan, slot))
        with syscall_segments(table) as segments:
            libc.kexec_load(table.entry, segments, int(table.flags) | KEXEC_ARCH_X86_64)
        if not plan or plan.mode is not Mode.KERNEL_SWAP:
            return Loaded(slot)
        try:
            with Kcore() as kcore:
                backup = self.backup_map(kcore, table)
                note = read_note(kcore, self.machine().vmcoreinfo)
        except BaseException:
            self.unload(slot)
            raise
        return Loaded(slot, backup, note)

    def backup_map(self, kcore: Kcore, table: SegmentTable) -> BackupMap:
        """From the page list of the image just loaded."""
        pointer = symbol_addresses(("kexec_image",))["kexec_image"]
        segments = [LoadedSegment(item.bufsz, item.mem, item.memsz) for item in table.segments]
        return read_kimage(kcore, pointer, segments, table.entry).page_list.backup_map

    def bind_headers(self, addr: int, headers: bytes) -> None:
        """Into the huge pages, which must still be where they were."""
        staged = self.staged()
        if moved := staged.moved():
            raise ImageChanged(
                f"{len(moved)} huge pages of the stage have moved", hint="unload, and load again"
            )
        staged.write(addr, headers)
        record = self.records.read()
        if record:
            digest = hashlib.sha256(headers).hexdigest()
            self.records.write(replace(record, headers_sha256=digest))

    def staged(self) -> stage.Stage:
        found = stage.reopen(self.pages, self.journal)
        if found is None:
            raise stage.NotStaged("nothing is staged")
        return found

    def unload(self, slot: Slot) -> None:
        """Free the image, then the stage that served it."""
        flags = KexecFlag.KEXEC_ON_CRASH if slot is Slot.CRASH else KexecFlag(0)
        libc.kexec_load(0, [], int(flags) | KEXEC_ARCH_X86_64)
        record = self.records.read()
        if record is None or record.slot is slot:
            self.abandon()

    def status(self) -> dict[Slot, LoadState]:
        state = self.machine().kexec
        return {Slot.NORMAL: load_state(state.loaded), Slot.CRASH: load_state(state.crash_loaded)}

    def check_staged(self) -> LoadRecord | None:
        """What pykexec loaded, with its memory looked at again; None when it loaded nothing.

        Raises ImageChanged where the stage moved or its bytes are others."""
        record = self.records.read()
        if record is None:
            return None
        staged = self.staged()
        if moved := staged.moved():
            raise ImageChanged(
                f"{len(moved)} huge pages of the stage have moved", hint="unload, and load again"
            )
        raw = staged.read(record.headers.start, record.headers.size)
        if hashlib.sha256(raw).hexdigest() != record.headers_sha256:
            raise ImageChanged(
                "the ELF core headers are not those that were written",
                hint="unload, and load again",
            )
        return record

    def exec(self) -> None:
        """reboot(LINUX_REBOOT_CMD_KEXEC), after every check; does not return."""
        if self.status()[Slot.NORMAL] is not LoadState.LOADED:
            raise KexecError(
                f"nothing to start: the normal image is {self.status()[Slot.NORMAL]}",
                hint="pykexec load first; unknown is not loaded",
            )
        self.check_staged()
        os.sync()
        libc.reboot_kexec()


def load_state(loaded: bool | Unknown) -> LoadState:
    if isinstance(loaded, Unknown):
        return LoadState.UNKNOWN
    return LoadState.LOADED if loaded else LoadState.NOT_LOADED


def record_of(plan: PlacementPlan, slot: Slot) -> LoadRecord:
    if plan.mode is None or plan.window is None or plan.headers is None:
        raise NotSupported("a load without a mode has no record")
    return LoadRecord(
        slot=slot,
        mode=plan.mode,
        kernel=plan.image.path,
        since=int(time.time()),
        window=plan.window,
        headers=plan.headers,
    )


def read_note(kcore: Kcore, area: NoteArea | Unknown) -> bytes:
    """VMCOREINFO as it is now."""
    if isinstance(area, Unknown):
        raise NotSupported(f"where VMCOREINFO lies is {area}")
    span = PhysRange.sized(area.addr, area.size)
    return kcore.physical(span.start, span.size)
