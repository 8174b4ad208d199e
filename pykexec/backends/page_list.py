"""The kernel's page list, read back: kimage->head and its pages of entry words.

The bytes are the same in a real kernel and in the simulated one, so both are read here.
kernel/kexec_core.c:for_each_kimage_entry.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from pykexec.abi.kexec import KEXEC_SEGMENT_MAX, PAGE_SIZE, Ind
from pykexec.crash.backup_map import BackupMap
from pykexec.errors import KexecError
from pykexec.frozen import dataclass

WORDS_PER_PAGE = PAGE_SIZE // 8
"""kimage_entry_t in a list page; the last one is the link to the next page, or DONE."""
PAGE_WORDS = struct.Struct(f"<{WORDS_PER_PAGE}Q")

DESTINATION = int(Ind.IND_DESTINATION)
INDIRECTION = int(Ind.IND_INDIRECTION)
DONE = int(Ind.IND_DONE)
SOURCE = int(Ind.IND_SOURCE)
ADDRESS_MASK = ~(PAGE_SIZE - 1)

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

    @property
    def backup_map(self) -> BackupMap:
        return BackupMap.from_pages(self.pairs)


def read_page_list(read: ReadPhysical, head: int, max_pages: int) -> PageList:
    """Walk from `head` to DONE.

    `max_pages` (of data) limits the length. Raises BadPageList, and whatever `read` raises.
    """
    pairs: list[tuple[int, int]] = []
    list_pages: list[int] = []
    dest: int | None = None
    for word in words(read, head, max_pages, list_pages):
        address = word & ADDRESS_MASK
        if word & DESTINATION:
            dest = address
        elif word & SOURCE:
            if dest is None:
                raise BadPageList(f"page list: source {address:#x} comes before any destination")
            if len(pairs) == max_pages:
                raise BadPageList(f"page list: more than {max_pages} sources")
            pairs.append((dest, address))
            dest += PAGE_SIZE
        else:
            raise BadPageList(f"page list: {word:#x} is not an entry")
    return PageList(tuple(pairs), tuple(list_pages))


def words(read: ReadPhysical, head: int, max_pages: int, list_pages: list[int]) -> Iterator[int]:
    """The DESTINATION and SOURCE words; each list page is appended to `list_pages` when it is
    reached."""
    word = head
    limit = (max_pages + KEXEC_SEGMENT_MAX) // (WORDS_PER_PAGE - 1) + 1
    while word & INDIRECTION:
        if len(list_pages) == limit:
            raise BadPageList(f"page list: more than {limit} list pages, it has no end")
        page = word & ADDRESS_MASK
        list_pages.append(page)
        for word in PAGE_WORDS.unpack(read(page, PAGE_SIZE)):
            if word & (DONE | INDIRECTION) or not word:
                break
            yield word
    if not word & DONE:
        raise BadPageList(f"page list: ends in {word:#x} instead of IND_DONE")
