"""A dump, opened: its format, physical memory, VMCOREINFO, notes, and the kernel's memory."""

from __future__ import annotations

from pykexec.dump.architecture import architecture, kernel_memory
from pykexec.dump.elf_memory import ElfMemory, parse_notes
from pykexec.dump.faults import NotADump, UnknownKernel
from pykexec.dump.file import DumpFile
from pykexec.dump.vmcoreinfo import VmcoreInfo, scanned
from pykexec.errors import KexecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pykexec.dump.file import Bytes
    from pykexec.dump.kdump_memory import KdumpMemory
    from pykexec.dump.kernel_memory import KernelMemory

OLDER = {b"DISKDUMP": "a diskdump file", b"\xd9\x1f\xa1\xed": "an LKCD dump"}


class Dump:
    """The contents of a file. `memory` is by physical address; `kernel` by the crashed kernel's
    virtual addresses, once its page tables are known."""

    def __init__(self, memory: ElfMemory | KdumpMemory, flattened: bool, size: int) -> None:
        self.memory, self.flattened, self.file_size = memory, flattened, size
        self.info_source = "note"
        self.known_info: VmcoreInfo | UnknownKernel | None = None
        self.known_kernel: KernelMemory | None = None

    @property
    def format(self) -> str:
        """The name of the format for people."""
        return f"{self.memory.format}, flattened" if self.flattened else self.memory.format

    @property
    def architecture(self) -> str:
        """The architecture as uname -m prints it."""
        try:
            return architecture(self.memory, self.info)
        except UnknownKernel:
            return architecture(self.memory, None)

    @property
    def notes(self) -> Iterator[tuple[bytes, int, bytes]]:
        """(name, type, descriptor) of each ELF note."""
        return parse_notes(self.memory.notes)

    @property
    def info(self) -> VmcoreInfo:
        """VMCOREINFO from its note, or else the first valid copy in memory. Raises UnknownKernel;
        memory is searched once."""
        if self.known_info is None:
            try:
                self.known_info = self.noted_info() or self.scanned_info()
            except UnknownKernel as error:
                self.known_info = error
        if isinstance(self.known_info, UnknownKernel):
            raise self.known_info
        return self.known_info

    def noted_info(self) -> VmcoreInfo | None:
        if self.memory.vmcoreinfo:
            return VmcoreInfo(self.memory.vmcoreinfo)
        for name, _, desc in self.notes:
            if name == b"VMCOREINFO":
                return VmcoreInfo(desc)
        return None

    def scanned_info(self) -> VmcoreInfo:
        """An earlier kernel may have left a copy too: the first one counts by which the kernel's
        own name can be read."""
        first = None
        for info in scanned(self.memory):
            self.info_source = "memory"
            first = first or info
            if info.has("SYMBOL(swapper_pg_dir)") and _names_itself(self.memory, info):
                return info
        if first is None:
            raise UnknownKernel(
                "there is no VMCOREINFO, neither as a note nor in memory",
                hint="a guest's memory has it only if the guest ran Linux with CONFIG_VMCORE_INFO",
            )
        return first

    @property
    def kernel(self) -> KernelMemory:
        """The virtual memory of the crashed kernel. Raises UnknownKernel, DamagedDump."""
        if self.known_kernel is None:
            self.known_kernel = kernel_memory(self.memory, self.info)
        return self.known_kernel


def _names_itself(memory: ElfMemory | KdumpMemory, info: VmcoreInfo) -> bool:
    """Whether init_uts_ns, located by this VMCOREINFO, has the release that it names."""
    try:
        found = uts_name(kernel_memory(memory, info), info, 2)
    except KexecError:
        return False
    return found == info.release.encode("latin-1")


UTS_FIELD = 65
NAME_KEY = "uts_namespace.name"
NAME_OFFSET = 4
"""Before VMCOREINFO had it (5.11, commit ca4a9241cc5e): the first member was `struct kref kref`."""


def uts_name(kernel: KernelMemory, info: VmcoreInfo, field: int) -> bytes:
    """One of sysname, nodename, release, version, machine and domainname of init_uts_ns."""
    name = info.offset(NAME_KEY) if info.has(f"OFFSET({NAME_KEY})") else NAME_OFFSET
    return kernel.text(info.symbol("init_uts_ns") + name + field * UTS_FIELD, UTS_FIELD)


def open_dump(path: str) -> Dump:
    """Open a dump of any format. Raises NotADump, DamagedDump, UnreadableDump."""
    outer = DumpFile(path)
    file: Bytes = outer
    head = outer.read(0, 16)
    flattened = head.startswith(b"makedumpfile\0")
    if flattened:
        from pykexec.dump.flattened import Flattened

        file = Flattened(outer)
        head = file.read(0, 16)
    if head.startswith(b"KDUMP   "):
        from pykexec.dump.kdump_memory import KdumpMemory

        return Dump(KdumpMemory(file), flattened, outer.size)
    for magic, what in OLDER.items():
        if head.startswith(magic):
            raise NotADump(f"{path}: {what}, which is not supported", hint="crash(8) reads it")
    return Dump(ElfMemory(file), flattened, outer.size)
