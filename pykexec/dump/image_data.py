"""What the kernel's image holds without naming it: a kernel without CONFIG_KALLSYMS_ALL (Debian's
for arm64) has the names of its functions alone. Its types are found by their header, and exported
data by the table for modules (include/linux/export-internal.h: struct kernel_symbol)."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from pykexec.dump.faults import UnknownKernel

if TYPE_CHECKING:
    from pykexec.dump.kernel_memory import KernelMemory
    from pykexec.dump.symbols import Symbols

SIZE_MAX = 40 << 20
"""Read-only data and data of a distribution's kernel have 8 to 30 MiB."""
CHUNK = 64 << 10
BTF_HEADER = b"\x9f\xeb\x01\x00\x18\x00\x00\x00\x00\x00\x00\x00"
"""struct btf_header: magic, version, flags, hdr_len, and type_off, which is 0."""
BTF_SIZE_MAX = 32 << 20
NAMES = (
    "init_task", "nr_cpu_ids", "__per_cpu_offset", "_totalram_pages", "vm_zone_stat",
    "vm_node_stat",
)  # fmt: skip
"""Exported data that a report needs."""
OFFSET = 4
"""Bytes of value_offset and of name_offset after it, each relative to its own address."""


class ImageData:
    """The image between the end of the text and the start of the init text. Raises UnknownKernel if
    the kernel does not name these."""

    def __init__(self, kernel: KernelMemory, symbols: Symbols) -> None:
        self.start, end = symbols.address("_etext") & -OFFSET, symbols.address("_sinittext")
        if not 0 < end - self.start <= SIZE_MAX:
            raise UnknownKernel(f"the kernel's image has {end - self.start} bytes of data")
        self.data = bytearray(end - self.start)
        for at in range(0, len(self.data), CHUNK):
            part = kernel.read_or_zeros(self.start + at, min(CHUNK, len(self.data) - at))
            self.data[at : at + len(part)] = part

    def types(self) -> tuple[int, int]:
        """[start, end) of the section .BTF. Raises UnknownKernel."""
        at = self.data.find(BTF_HEADER)
        while at >= 0:
            head = array("I", self.data[at + 12 : at + 24])
            if len(head) == 3 and head[0] == head[1] and head[1] + head[2] <= BTF_SIZE_MAX:
                return self.start + at, self.start + at + 24 + head[1] + head[2]
            at = self.data.find(BTF_HEADER, at + 1)
        raise UnknownKernel("the kernel has no types (BTF)")

    def exported(self) -> dict[str, int]:
        """Addresses of the NAMES that the kernel exports."""
        wanted = {at: name for name in NAMES for at in self.texts(name)}
        words = memoryview(self.data)[: len(self.data) // OFFSET * OFFSET].cast("i")
        found = {}
        for number, word in enumerate(words):
            if word + number * OFFSET in wanted and number:
                name, before = wanted[word + number * OFFSET], number - 1
                found[name] = self.start + before * OFFSET + words[before]
        return found

    def texts(self, name: str) -> list[int]:
        """Offsets at which a name stands as a string of its own."""
        found, needle = [], b"\0" + name.encode() + b"\0"
        at = self.data.find(needle)
        while at >= 0:
            found.append(at + 1)
            at = self.data.find(needle, at + 1)
        return found
