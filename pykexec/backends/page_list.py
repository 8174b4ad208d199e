"""The kernel's page list, read back: kimage->head and its pages of entry words.

The bytes are the same in a real kernel and in the simulated one, so both are read here.
kernel/kexec_core.c:for_each_kimage_entry.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from pykexec.abi.kexec import KEXEC_SEGMENT_MAX, Ind
from pykexec.crash.backup_map import BackupMap
from pykexec.errors import KexecError
from pykexec.frozen import dataclass

WORD_SIZE = 8
"""kimage_entry_t; the last one in a list page is the link to the next page, or DONE."""

DESTINATION = int(Ind.IND_DESTINATION)
INDIRECTION = int(Ind.IND_INDIRECTION)
DONE = int(Ind.IND_DONE)
SOURCE = int(Ind.IND_SOURCE)
FLAGS = 0xFFF
"""An address of a page leaves these bits to flags (include/linux/kexec.h)."""

ReadPhysical = Callable[[int, int], bytes]
"""Takes an address and a size, returns that physical memory."""


class BadPageList(KexecError):
    """Words that no kernel writes: an overwritten list, or something else."""

    code = "bad-page-list"
    usual_hint = "the kernel may hide pages from /proc/kcore (balloon, virtio-mem)"


@dataclass(frozen=True, slots=True)
class PageList:
    """A complete list."""

    pairs: tuple[tuple[int, int], ...]
    """(destination, source) address of each page, in the order of the list."""
    list_pages: tuple[int, ...]
    """Addresses of the pages that hold the words."""
    page_size: int

    @property
    def backup_map(self) -> BackupMap:
        return BackupMap.from_pages(self.pairs, self.page_size)


def read_page_list(read: ReadPhysical, head: int, max_pages: int, page_size: int) -> PageList:
    """Walk from `head` to DONE.

    `max_pages` (of data, each of `page_size` bytes) limits the length. Raises BadPageList,
    and whatever `read` raises.
    """
    pairs: list[tuple[int, int]] = []
    list_pages: list[int] = []
    dest: int | None = None
    for word in words(read, head, max_pages, list_pages, page_size):
        address = word & ~FLAGS
        if word & DESTINATION:
            dest = address
        elif word & SOURCE:
            if dest is None:
                raise BadPageList(f"page list: source {address:#x} comes before any destination")
            if len(pairs) == max_pages:
                raise BadPageList(f"page list: more than {max_pages} sources")
            pairs.append((dest, address))
            dest += page_size
        else:
            raise BadPageList(f"page list: {word:#x} is not an entry")
    return PageList(tuple(pairs), tuple(list_pages), page_size)


def words(
    read: ReadPhysical, head: int, max_pages: int, list_pages: list[int], page_size: int
) -> Iterator[int]:
    """The DESTINATION and SOURCE words; each list page is appended to `list_pages` when it is
    reached."""
    word, count = head, page_size // WORD_SIZE
    limit = (max_pages + KEXEC_SEGMENT_MAX) // (count - 1) + 1
    page_words = struct.Struct(f"<{count}Q")
    while word & INDIRECTION:
        if len(list_pages) == limit:
            raise BadPageList(f"page list: more than {limit} list pages, it has no end")
        page = word & ~FLAGS
        list_pages.append(page)
        for word in page_words.unpack(read(page, page_size)):
            if word & (DONE | INDIRECTION) or not word:
                break
            yield word
    if not word & DONE:
        raise BadPageList(f"page list: ends in {word:#x} instead of IND_DONE")
