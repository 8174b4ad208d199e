"""Command line words that cost a capture kernel memory: those of the running kernel that it does
not inherit, and the cost of the user's own.

The list is that of kdump-utils (KDUMP_COMMANDLINE_REMOVE in gen-kdump-sysconfig.sh, and
kdump-lib.sh:prepare_cmdline) without "quiet", which costs no memory, and with the other parameters
of Documentation/admin-guide/kernel-parameters.txt that allocate at boot or cap memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from pykexec.frozen import dataclass
from pykexec.memory.ranges import KIB, MIB
from pykexec.placement.cmdline import Dropped, key_of, memparse, split_words

TAKES_MEMORY = "would use memory of the capture kernel"
CAPS_MEMORY = "would limit the memory of the capture kernel"

TAKING = (
    *("crashkernel", "reserve_mem", "log_buf_len", "swiotlb"),
    *("hugepages", "hugepagesz", "default_hugepagesz", "hugetlb_cma", "hugetlb_cma_only"),
    *("cma", "cma_pernuma", "numa_cma"),
    *("slub_debug", "slab_debug", "page_owner", "page_table_check", "debug_pagealloc"),
    *("debug_guardpage_minorder", "kmemleak"),
    *("trace_buf_size", "trace_instance", "alloc_snapshot"),
    *("dhash_entries", "ihash_entries", "mhash_entries", "mphash_entries"),
    *("thash_entries", "uhash_entries"),
)
CAPPING = ("mem", "memmap", "kernelcore", "movablecore")
NEVER_INHERITED = {
    **dict.fromkeys(TAKING, TAKES_MEMORY),
    **dict.fromkeys(CAPPING, CAPS_MEMORY),
    "panic_on_warn": "would turn a warning into a panic of the capture kernel",
    "ignition.firstboot": "would configure the machine again",
}
"""Keys that a capture kernel does not inherit, and the effect that each would have."""
EXPECTED = frozenset({"crashkernel"})
"""On the command line of every machine that is prepared for a crash: dropped without a warning."""

SAVE_TARGET = "systemd.unit=pykexec-save.target"
"""The unit of this package that saves a dump; it lies on the root file system."""

OFF = frozenset(("0", "off", "n", "no", "none", "-", "noforce"))
"""Values with which a word of `TAKING` does not take memory."""
COUNT = re.compile(r"[0-9]{1,20}")

LOG_BUF_MAX = 1 << 31
RECORD_TEXT, RECORD_SIZE = 32, 24 + 88
"""printk.c: one struct prb_desc and one struct printk_info for 32 bytes (PRB_AVGBITS) of text."""
SLAB = 2 * KIB
"""IO_TLB_SIZE."""
HUGE_PAGE = 2 * MIB
"""The default huge page of x86."""


@dataclass(frozen=True, slots=True)
class WordCost:
    """Bytes that a word takes; None if that cannot be determined from its text."""

    text: str
    size: int | None
    why: str = ""


def _first_size(value: str) -> int | None:
    """The size at the start of a value."""
    found = memparse(value)
    return found[0] if found else None


def _log_buffer_size(value: str) -> int | None:
    """kernel/printk/printk.c:log_buf_len_update and setup_log_buf."""
    size = _first_size(value)
    if not size:
        return size
    rounded = min(1 << (size - 1).bit_length(), LOG_BUF_MAX)
    return rounded + rounded // RECORD_TEXT * RECORD_SIZE


def _swiotlb_size(value: str) -> int | None:
    """kernel/dma/swiotlb.c:setup_io_tlb_npages; "force" alone changes no size."""
    slabs = 0 if value.startswith(("force", "noforce")) else _first_size(value)
    return None if slabs is None else slabs * SLAB


def _crashkernel_size(value: str) -> int | None:
    """None for a list of ranges, which depends on the size of memory."""
    return None if ":" in value else _first_size(value)


def _hugetlb_cma_size(value: str) -> int | None:
    """mm/hugetlb_cma.c:cmdline_parse_hugetlb_cma: a size, or NODE:SIZE,..."""
    sizes = [_first_size(item.rpartition(":")[2]) for item in value.split(",")]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


RESERVED = "reserved at boot"
COUNTED: dict[str, tuple[Callable[[str], int | None], str]] = {
    "log_buf_len": (_log_buffer_size, "a power of two, plus the records"),
    "swiotlb": (_swiotlb_size, "slabs of 2 KiB"),
    "cma": (_first_size, RESERVED),
    "reserve_mem": (_first_size, RESERVED),
    "crashkernel": (_crashkernel_size, RESERVED),
    "hugetlb_cma": (_hugetlb_cma_size, RESERVED),
}
HUGE_PAGE_KEYS = ("hugepages", "hugepagesz", "default_hugepagesz")


def word_costs(append: Iterable[str]) -> tuple[WordCost, ...]:
    """The memory of the capture kernel that the user's own words take. If a key occurs several
    times, the last word counts."""
    words = [word for text in append for word in split_words(text)]
    last = {key_of(word): word for word in words}
    costs = [
        _word_cost(key, word)
        for key, word in last.items()
        if key in TAKING and key not in HUGE_PAGE_KEYS
    ]
    return tuple(cost for cost in (*costs, *huge_pages(words)) if cost.size != 0)


def _word_cost(key: str, word: str) -> WordCost:
    value = word.partition("=")[2].strip('"')
    if value.lower() in OFF:
        return WordCost(word, 0)
    count, why = COUNTED.get(key, (None, ""))
    return WordCost(word, count(value) if count else None, why)


def huge_pages(words: Iterable[str]) -> Iterator[WordCost]:
    """hugepages= counts pages of the preceding hugepagesz=, otherwise of the default size; for
    several nodes it is NODE:COUNT,... (mm/hugetlb.c:hugepages_setup)."""
    counts: dict[int | None, int | None] = {}
    size: int | None = None
    default, texts = HUGE_PAGE, []
    for word in words:
        key, value = key_of(word), word.partition("=")[2]
        if key not in HUGE_PAGE_KEYS:
            continue
        texts.append(word)
        if key == "hugepages":
            counts[size] = _page_count(value)
            continue
        size = _first_size(value)
        if key == "default_hugepagesz" and size:
            default = size
    known = [(default if page is None else page) * count for page, count in _pairs(counts)]
    if counts:
        total = sum(known) if len(known) == len(counts) else None
        yield WordCost(" ".join(texts), total, "pages allocated at boot")


def _page_count(value: str) -> int | None:
    parts = [item.rpartition(":")[2] for item in value.split(",")]
    return sum(map(int, parts)) if all(COUNT.fullmatch(part) for part in parts) else None


def _pairs(counts: dict[int | None, int | None]) -> Iterator[tuple[int | None, int]]:
    return ((page, count) for page, count in counts.items() if count is not None)


def append_warnings(append: Iterable[str]) -> Iterator[str]:
    """Warnings about the user's words whose memory is not in the estimate, or that cap it."""
    texts = tuple(append)
    for cost in word_costs(texts):
        if cost.size is None:
            yield (
                f"{cost.text} uses memory of the capture kernel that the estimate does not include"
            )
    for word in (word for text in texts for word in split_words(text)):
        if key_of(word) in CAPPING:
            yield (
                f"{word} limits the memory of the capture kernel, which already has its own "
                "memory map"
            )


def dropped_warnings(dropped: Iterable[Dropped]) -> Iterator[str]:
    """What a capture kernel does not inherit, one line for each reason."""
    texts: dict[str, list[str]] = {}
    for item in dropped:
        key = key_of(item.text)
        if key not in EXPECTED and NEVER_INHERITED.get(key) == item.why:
            texts.setdefault(item.why, []).append(item.text)
    for why, words in texts.items():
        yield (
            f"dropped from the running kernel's command line: {' '.join(words)}, which "
            f"{why}; append it to pass it anyway"
        )
