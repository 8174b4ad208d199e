"""The PT_LOADs of an ELF file as memory: by physical address, checked, and flattened."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

from pykexec.images.contents import Contents, OpenFile, Zeros, joined
from pykexec.images.kernel_image import LoadPart, Refused

if TYPE_CHECKING:
    from pykexec.images.elf_file import ElfFile

MAX_MEMORY = 1 << 30
"""From the lowest to the highest byte; no valid image spans more."""
ADDRESS_BITS = {32: 32, 64: 46}
"""Address bits that an image of either class can use."""


def load_parts(file: OpenFile, elf: ElfFile) -> tuple[LoadPart, ...] | Refused:
    """In address order. Refused if a part is truncated, overlaps another, or is too big."""
    loads = elf.loads
    if not loads:
        return Refused("it has no PT_LOAD with memory", close=True)
    for number, item in enumerate(loads):
        name = f"PT_LOAD {number} at {item.paddr:#x}"
        if item.filesz > item.memsz:
            return Refused(f"{name}: p_filesz {item.filesz:#x} above p_memsz", close=True)
        if item.offset + item.filesz > file.size:
            return Refused(
                f"truncated: {name} ends at {item.offset + item.filesz:#x} in a file of "
                f"{file.size:#x} bytes",
                close=True,
            )
        if item.paddr + item.memsz > 1 << ADDRESS_BITS[elf.bits]:
            return Refused(f"{name} ends above 2^{ADDRESS_BITS[elf.bits]}", close=True)
    for number, (before, after) in enumerate(pairwise(loads)):
        if before.paddr + before.memsz > after.paddr:
            return Refused(
                f"PT_LOAD {number} ends at {before.paddr + before.memsz:#x}, the next one starts "
                f"at {after.paddr:#x}",
                close=True,
            )
    span = loads[-1].paddr + loads[-1].memsz - loads[0].paddr
    if span > MAX_MEMORY:
        return Refused(
            f"its PT_LOADs span {span:#x} bytes, more than the limit of 1 GiB", close=True
        )
    return tuple(
        LoadPart(
            item.paddr,
            item.memsz,
            file.span(item.offset, item.filesz) if item.filesz else None,
        )
        for item in loads
    )


def flat(parts: Iterable[LoadPart], start: int) -> Contents | None:
    """All bytes from address `start` up to the last byte that is in the file, with zeros between
    the parts, which are in address order; None if there are none."""
    pieces: list[Contents] = []
    at = start
    for part in parts:
        if part.contents is None:
            continue
        if part.addr > at:
            pieces.append(Zeros(part.addr - at))
        pieces.append(part.contents)
        at = part.addr + part.contents.size
    return joined(pieces) if pieces else None
