"""The second kernel: the memory that it finds and overwrites, and the dump that it can read.

A capture kernel overwrites every page of RAM in its e820 *before* the dump is read: memory that was
not in a segment is lost, as on a real machine. Another kernel leaves memory unchanged: nothing
reads it, and on a large machine it would fill the disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.abi.elf import EHDR, PHDR
from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.backends.simulated.kernel.layout import LOW_MEMORY_END
from pykexec.backends.simulated.kernel.ram import NotMemory, Ram
from pykexec.backends.simulated.second.relocate import SwitchFailed
from pykexec.backends.simulated.second.zero_page import ZeroPage, read_zero_page
from pykexec.dump.vmcore import Vmcore, VmcoreNotInitialized, open_vmcore
from pykexec.errors import CheckFailed, UsageError
from pykexec.memory.ranges import PhysRange, RangeSet

if TYPE_CHECKING:
    from pykexec.backends.simulated.second.stub_run import HandOver
    from pykexec.memory.map import MemoryMap

FEWEST_E820_ENTRIES = 2
"""append_e820_table in a 6.1 kernel ignores a shorter table."""


class VmcoreUnreadable(CheckFailed):
    """The dump describes pages that the capture kernel does not allow reading."""

    code = "vmcore-unreadable"


class CaptureRam(NotMemory):
    """EFAULT: a page that the capture kernel itself uses is not old memory."""

    code = "capture-ram"


@dataclass(frozen=True)
class OldMemory:
    """Memory of the first kernel, as read by copy_oldmem_page."""

    ram: Ram
    own: RangeSet
    """RAM of the capture kernel."""

    def check(self, span: PhysRange) -> None:
        if self.own.overlaps(span):
            met = self.own.within(span).ranges[0]
            raise CaptureRam(
                f"EFAULT: {span} is read as old memory, but {met} is RAM of the capture kernel"
            )

    def read(self, addr: int, size: int) -> bytes:
        """Raises NotMemory."""
        self.ram.check(addr, size)
        if size:
            self.check(PhysRange.sized(addr, size))
        return self.ram.read(addr, size)

    def copy_to(self, fd: int, offset: int, span: PhysRange) -> None:
        """Raises NotMemory, OSError."""
        self.check(span)
        self.ram.copy_to(fd, offset, span)


@dataclass(frozen=True)
class SecondKernel:
    """A running second kernel."""

    memory_map: MemoryMap
    """Its e820."""
    cmdline: str
    checked: tuple[PhysRange, ...]
    """Regions that the stub verified."""
    vmcore: Vmcore | None
    """/proc/vmcore; None without elfcorehdr=."""


def start_kernel(ram: Ram, handed: HandOver, *, must_capture: bool) -> SecondKernel:
    """Start the kernel that the stub jumps to. Raises SwitchFailed if it does not boot,
    VmcoreNotInitialized if it has no /proc/vmcore, VmcoreUnreadable if that has gaps."""
    try:
        page = read_zero_page(ram, handed.boot_params)
        has_code = ram.read(handed.entry, PAGE_SIZE - handed.entry % PAGE_SIZE).strip(b"\0")
    except (NotMemory, UsageError) as error:
        raise SwitchFailed(f"the second kernel: {error.message}") from error
    if not has_code:
        raise SwitchFailed(f"the second kernel: nothing but zeros at its entry {handed.entry:#x}")
    own = check_ram(ram, page)
    elfcorehdr = page.elfcorehdr()
    if elfcorehdr is None and must_capture:
        raise VmcoreNotInitialized(
            "the capture kernel has no elfcorehdr= on its command line, and so no /proc/vmcore"
        )
    vmcore = None
    if elfcorehdr is not None:
        for span in own:
            ram.poison(span.start, span.size)
        vmcore = _old_kernel(ram, own, elfcorehdr)
    return SecondKernel(page.memory_map, page.cmdline, handed.checked, vmcore)


def check_ram(ram: Ram, page: ZeroPage) -> RangeSet:
    """Whole pages of RAM in the e820. Raises SwitchFailed if it would stop an x86_64 kernel
    early."""
    if page.entries < FEWEST_E820_ENTRIES:
        raise SwitchFailed(
            f"the second kernel ignores an e820 with fewer than {FEWEST_E820_ENTRIES} entries"
        )
    own = page.memory_map.whole_page_ram(PAGE_SIZE)
    if not own.within(PhysRange(0, LOW_MEMORY_END)):
        raise SwitchFailed(
            "the second kernel panics: Real mode trampoline was not allocated",
            hint="its e820 needs RAM below 1 MiB",
        )
    for span in own:
        if not ram.installed.covers(span):
            raise SwitchFailed(f"the second kernel's e820 has RAM at {span}, where there is none")
    return own


def _old_kernel(ram: Ram, own: RangeSet, elfcorehdr: int) -> Vmcore:
    """As vmcore_init: the headers are mapped with ioremap, which refuses RAM."""
    try:
        memory = OldMemory(ram, own)
        memory.read(elfcorehdr, EHDR.size + PHDR.size)
        vmcore = open_vmcore(memory, elfcorehdr, PAGE_SIZE)
    except NotMemory as error:
        raise VmcoreNotInitialized(
            f"vmcore not initialized: {error.message}", elfcorehdr=elfcorehdr
        ) from error
    try:
        for _, span in vmcore.pages:
            ram.check(span.start, span.size)
            memory.check(span)
    except NotMemory as error:
        raise VmcoreUnreadable(
            f"/proc/vmcore cannot be read to its end: {error.message}",
            hint="memory that the capture kernel uses must be in a segment, to be moved away",
        ) from error
    return vmcore
