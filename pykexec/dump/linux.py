"""The kernel in a dump, with its symbols and types: values by the names in the kernel's source."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from pykexec.dump.architecture import data_address
from pykexec.dump.faults import DamagedDump, NotInDump, UnknownKernel
from pykexec.dump.image_data import ImageData
from pykexec.dump.symbols import Symbols, read_symbols
from pykexec.dump.types import Member, Types, read_types
from pykexec.errors import KexecError

if TYPE_CHECKING:
    from pykexec.dump.kernel_memory import KernelMemory
    from pykexec.dump.reader import Dump

CPUS_MAX = 8192
BITS = (1 << 64) - 1
COMM_SIZE = 16


T = TypeVar("T")


def given(found: T | KexecError) -> T:
    if isinstance(found, KexecError):
        raise found
    return found


class Linux:
    """Symbols and types are read once, when they are first needed."""

    def __init__(self, dump: Dump) -> None:
        self.dump = dump
        self.members: dict[str, Member] = {}
        self.derived: dict[str, int] = {}
        """Addresses of symbols that kallsyms does not have."""
        self.found_symbols: Symbols | KexecError | None = None
        self.found_types: Types | KexecError | None = None

    @property
    def memory(self) -> KernelMemory:
        return self.dump.kernel

    @property
    def symbols(self) -> Symbols:
        """Raises what reading them raised, each time."""
        if self.found_symbols is None:
            try:
                self.found_symbols = read_symbols(self.memory, self.dump.info)
            except KexecError as error:
                self.found_symbols = error
        return given(self.found_symbols)

    @property
    def types(self) -> Types:
        """Raises what reading them raised, each time."""
        if self.found_types is None:
            try:
                self.found_types = read_types(self.memory, *self.types_span())
            except KexecError as error:
                self.found_types = error
        return given(self.found_types)

    def types_span(self) -> tuple[int, int]:
        """[start, end) of the section .BTF, which CONFIG_DEBUG_INFO_BTF adds to the image. Raises
        KexecError."""
        start, end = self.symbols.find("__start_BTF"), self.symbols.find("__stop_BTF")
        if start is not None and end is not None:
            return start, end
        return self.image_data.types()

    @cached_property
    def image_data(self) -> ImageData:
        return ImageData(self.memory, self.symbols)

    @cached_property
    def exported(self) -> dict[str, int]:
        return self.image_data.exported()

    def address(self, name: str) -> int:
        """The address of a symbol. A kernel that names its functions alone has it in the table of
        what it exports, or in the instructions of a function. Raises UnknownKernel."""
        found = self.symbols.find(name)
        if found is None and name in self.derived:
            found = self.derived[name]
        if found is not None:
            return found
        if self.symbols.find("init_task") is not None:
            raise UnknownKernel(f"the kernel has no symbol {name}")
        found = self.exported.get(name)
        if found is None:
            found = data_address(self, name)
        self.derived[name] = found
        return found

    def member(self, path: str) -> Member:
        """Look up a path such as "task_struct.comm" in BTF, once."""
        found = self.members.get(path)
        if found is None:
            found = self.members[path] = self.types.member(path)
        return found

    def offset(self, path: str) -> int:
        return self.member(path).offset

    def size(self, path: str) -> int:
        """Size of a member or a structure, in bytes."""
        if "." in path:
            return self.types.size_of(self.member(path).type)
        return self.types.size_of(self.types.struct(path))

    def number(self, addr: int, path: str, *, signed: bool = False) -> int:
        """A number of up to 8 bytes in the structure at `addr`."""
        raw = self.memory.read(addr + self.offset(path), min(self.size(path), 8))
        return int.from_bytes(raw, "little", signed=signed)

    def pointer(self, addr: int, path: str) -> int:
        return self.memory.u64(addr + self.offset(path))

    def text(self, addr: int, path: str) -> str:
        r"""A character array; bytes that are not UTF-8 become \xNN."""
        raw = self.memory.text(addr + self.offset(path), self.size(path))
        return raw.decode("utf-8", "backslashreplace")

    def list_of(self, head: int, path: str, most: int) -> Iterator[int]:
        """The structures in a list, linked by the list_head `path`. Raises DamagedDump for a list
        that loops without returning to its head, or has more than `most` entries."""
        offset = self.offset(path)
        seen = {head}
        at = self.memory.u64(head)
        while at != head:
            if at in seen or len(seen) > most:
                raise DamagedDump(f"the list of {path} at {head:#x} is a circle, or has no end")
            seen.add(at)
            yield at - offset & BITS
            at = self.memory.u64(at)

    @cached_property
    def per_cpu_offsets(self) -> list[int]:
        """The per-CPU offset of each possible CPU, by its number."""
        count = self.memory.u32(self.address("nr_cpu_ids"))
        if not 0 < count <= CPUS_MAX:
            raise DamagedDump(f"the kernel has {count} CPUs")
        raw = self.memory.read(self.address("__per_cpu_offset"), 8 * count)
        return [int.from_bytes(raw[at : at + 8], "little") for at in range(0, len(raw), 8)]

    def per_cpu(self, cpu: int, addr: int) -> int:
        """Address of a CPU's copy of a per-CPU variable."""
        return self.per_cpu_offsets[cpu] + addr & BITS

    def sum_per_cpu(self, pointer: int, size: int) -> int:
        """Sum of a signed per-CPU counter; CPUs without per-CPU memory count 0."""
        total = 0
        for cpu in range(len(self.per_cpu_offsets)):
            try:
                raw = self.memory.read(self.per_cpu(cpu, pointer), size)
            except NotInDump:
                continue
            total += int.from_bytes(raw, "little", signed=True)
        return total
