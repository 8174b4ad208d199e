"""Where a kernel has its kallsyms tables. VMCOREINFO names them since Linux 6.0. In an earlier
kernel they are found by what is in them (scripts/kallsyms.c: write_src), each aligned to 8 bytes:

    offsets, relative base (since 4.6; before that, addresses), number of symbols, names,
    markers (where each 256th name starts), the order of the names (since 6.2, and in stable
    kernels before it), tokens, index of the tokens
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.dump.faults import UnknownKernel
from pykexec.memory.ranges import align_up

if TYPE_CHECKING:
    from pykexec.dump.kernel_memory import KernelMemory
    from pykexec.dump.vmcoreinfo import VmcoreInfo

COUNT_MIN, COUNT_MAX = 16, 1 << 19
"""A distribution's kernel has 90,000 to 190,000 symbols."""
NAMES_MAX = 8 << 20
"""Bytes of the packed names."""
TOKENS = 256
TOKEN_MAX = 512
DIGITS = b"".join(b"%d\0" % digit for digit in range(10))
"""Digits are in names, so each of them is a token of its own, at the place of its character."""
BEFORE_DIGITS = ord("0")
SEARCHED_MAX, CHUNK = 48 << 20, 64 << 10
"""The tables are in the read-only data, after the kernel's text."""
DIGITS_COST, TABLE_COST, COUNT_COST = 10, 40, 2
"""What looking at possible digits, a table of tokens, or a number of symbols costs, in reads."""
ALIGN = 8
EACH = 256
"""Names from one marker to the next."""
LAYOUTS = ((4, 0), (4, 3), (8, 0))
"""Bytes of a marker (8 before 4.20), and for each symbol in the order of the names."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Virtual addresses. `relative_base` is None if offsets are relative to their own place (7.x);
    `addresses`, of 8 bytes each, may be there instead of the offsets."""

    count: int
    names: int
    names_size: int
    """At least the bytes of the packed names."""
    token_table: int
    token_index: int
    offsets: int
    relative_base: int | None
    addresses: int | None = None


def find_tables(kernel: KernelMemory, info: VmcoreInfo) -> Tables:
    """Raises UnknownKernel, DamagedDump, NotInDump."""
    if not info.has("SYMBOL(kallsyms_names)"):
        return Search(kernel, info.symbol("_stext")).tables()
    names, tokens = info.symbol("kallsyms_names"), info.symbol("kallsyms_token_table")
    base = "kallsyms_relative_base"
    return Tables(
        kernel.u32(info.symbol("kallsyms_num_syms")),
        names,
        min(tokens - names, NAMES_MAX) if tokens > names else NAMES_MAX,
        tokens,
        info.symbol("kallsyms_token_index"),
        info.symbol("kallsyms_offsets"),
        info.symbol(base) if info.has(f"SYMBOL({base})") else None,
    )


class Search:
    """Searches the kernel's image from the start of its text on."""

    def __init__(self, kernel: KernelMemory, start: int) -> None:
        self.kernel, self.start = kernel, start & -8
        self.data = bytearray()

    def tables(self) -> Tables:
        """Raises UnknownKernel."""
        for digits in self.digits():
            for tokens in self.token_tables(digits):
                self.kernel.tick(TABLE_COST)
                index = self.token_index(tokens)
                number = self.number(tokens) if index else 0
                if number:
                    return self.around(number, tokens, index)
        raise UnknownKernel("VMCOREINFO does not name kallsyms, and it is not found in memory")

    def digits(self) -> Iterator[int]:
        """Offsets at which the tokens of the digits may be; reads on as needed."""
        at = 0
        while len(self.data) < SEARCHED_MAX:
            self.read_on()
            while (found := self.data.find(DIGITS, at)) >= 0:
                self.kernel.tick(DIGITS_COST)
                if len(self.data) < found + CHUNK:  # the rest of the table, and its index
                    self.read_on()
                yield found
                at = found + 1
            at = max(at, len(self.data) - len(DIGITS))

    def read_on(self) -> None:
        self.data += self.kernel.read_or_zeros(self.start + len(self.data), CHUNK)

    def token_tables(self, digits: int) -> range:
        """Where the table with these digits may start: its first token follows whatever is before
        it, the order of the names for one, and only the alignment is known."""
        at = digits - 1
        for _ in range(BEFORE_DIGITS - 1):
            at = self.data.rfind(b"\0", max(at - TOKEN_MAX, 0), max(at, 0))
            if at < 0:
                return range(0)
        before = self.data.rfind(b"\0", max(at - TOKEN_MAX, 0), at)
        return range(align_up(before + 1, ALIGN), at + 1, ALIGN)

    def token_index(self, tokens: int) -> int:
        """The offset of the index after this table; 0 if there is none that fits."""
        starts, at = array("H"), tokens
        for _ in range(TOKENS):
            starts.append(at - tokens)
            at = self.data.find(b"\0", at, at + TOKEN_MAX) + 1
            if not at or at - tokens >= 1 << 16:
                return 0
        index = align_up(at, ALIGN)
        return index if self.data[index : index + 2 * TOKENS] == starts.tobytes() else 0

    def number(self, tokens: int) -> int:
        """The offset of the number of symbols before this table; 0 if there is none."""
        first = max(tokens - NAMES_MAX, 0) & -8
        words = memoryview(self.data)[first:tokens].cast("Q")
        try:
            for at in range(len(words) - 1, -1, -1):
                count = words[at]
                if COUNT_MIN <= count <= COUNT_MAX and self.fits(first + 8 * at, count, tokens):
                    return first + 8 * at
        finally:
            words.release()
        return 0

    def fits(self, number: int, count: int, tokens: int) -> bool:
        """Whether the names after this number end where the markers begin."""
        self.kernel.tick(COUNT_COST)
        names = number + 8
        for width, order in LAYOUTS:
            sizes = (order * count, -(-count // EACH) * width)
            markers = tokens - sum(align_up(size, ALIGN) for size in sizes)
            if markers - names < 2 * count or any(self.data[markers : markers + width]):
                continue
            end = self.after(names, min(count, EACH))
            second = self.data[markers + width : markers + 2 * width]
            if end and count > EACH and int.from_bytes(second, "little") == end - names:
                return True
            if end and count <= EACH and 0 <= markers - end < 8:
                return True
        return False

    def after(self, at: int, count: int) -> int:
        """The end of so many names; 0 if one of them is empty or too long."""
        for _ in range(count):
            size = self.data[at] if at < len(self.data) else 0
            if size & 0x80 or not size:
                return 0
            at += 1 + size
        return at

    def around(self, number: int, tokens: int, index: int) -> Tables:
        """The tables before and after the number of symbols."""
        count = int.from_bytes(self.data[number : number + 8], "little")
        at = self.start + number
        return Tables(
            count,
            at + 8,
            tokens - number - 8,
            self.start + tokens,
            self.start + index,
            at - 8 - align_up(4 * count, ALIGN),
            at - 8,
            at - 8 * count,
        )
