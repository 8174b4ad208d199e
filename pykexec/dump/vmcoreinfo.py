"""VMCOREINFO: what a kernel exports for dump tools (Documentation/admin-guide/kdump/
vmcoreinfo.rst), as values that are checked on access."""

from __future__ import annotations

from pykexec.dump.faults import DamagedDump, UnknownKernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pykexec.dump.elf_memory import ElfMemory
    from pykexec.dump.kdump_memory import KdumpMemory

NEEDLE = b"VMCOREINFO\0\0OSRELEASE="
"""The note's name and the first key, as they are in memory; the note's size is 8 bytes before."""
TEXT_MAX = 1 << 16
SIZE_MAX = 1 << 20
"""Limit for the size of a structure, or an offset in one."""
COPIES_MAX = 64
"""How many copies of the note in memory to look at: each earlier kernel may have left one."""

PAGE_SIZES = ("4096", "8192", "16384", "32768", "65536")
SMALLEST = 4096


def page_size_of(values: Mapping[str, str] | None) -> int:
    """PAGESIZE, in bytes, among the keys of a dump; without a valid one, the smallest page of any
    kernel, in which memory can be counted all the same."""
    found = (values or {}).get("PAGESIZE")
    return int(found) if found in PAGE_SIZES else SMALLEST


class VmcoreInfo:
    """The keys, each once; `text` as the kernel wrote it."""

    def __init__(self, text: bytes) -> None:
        self.text = text[:TEXT_MAX].rstrip(b"\0").decode("latin-1")
        pairs = (line.partition("=") for line in self.text.splitlines())
        self.values = {key: value for key, sep, value in pairs if sep}

    @property
    def release(self) -> str:
        """`uname -r`; "" if it is missing."""
        return self.values.get("OSRELEASE", "")

    def has(self, key: str) -> bool:
        return key in self.values

    def symbol(self, name: str) -> int:
        """The virtual address of a symbol. Raises UnknownKernel, DamagedDump."""
        return self.value(f"SYMBOL({name})", 16, 1 << 64)

    def size_of(self, name: str) -> int:
        """Bytes of a structure, at least one."""
        size = self.value(f"SIZE({name})", 10, SIZE_MAX)
        if not size:
            raise DamagedDump(f"VMCOREINFO: SIZE({name}) is 0")
        return size

    def offset(self, name: str) -> int:
        """Bytes from the start of a structure to its member."""
        return self.value(f"OFFSET({name})", 10, SIZE_MAX)

    def number(self, name: str, default: int | None = None) -> int:
        """A signed number, decimal or hexadecimal with 0x."""
        if default is not None and f"NUMBER({name})" not in self.values:
            return default
        return self.value(f"NUMBER({name})", 0, 1 << 64)

    def value(self, key: str, base: int, limit: int) -> int:
        text = self.values.get(key)
        if text is None:
            raise UnknownKernel(f"VMCOREINFO has no {key}")
        try:
            number = int(text[:24], base)
        except ValueError:
            number = limit
        if not -limit < number < limit or (number < 0 and not key.startswith("NUMBER")):
            raise DamagedDump(f"VMCOREINFO: {key}={ascii(text[:24])[1:-1]}")
        return number


def scanned(memory: ElfMemory | KdumpMemory) -> Iterator[VmcoreInfo]:
    """Yield the copies of the kernel's note that are found in memory, for dumps whose writer did
    not know about it."""
    for count, at in enumerate(memory.find(NEEDLE)):
        if count == COPIES_MAX:
            return
        size = int.from_bytes(memory.read(at - 8, 4), "little") if at >= 12 else 0
        if len(NEEDLE) < size <= TEXT_MAX:
            yield VmcoreInfo(memory.read(at + 12, size))
