"""Estimates how much memory a capture kernel needs: a sum whose terms are shown.

It needs most at one of two times: while it unpacks the initrd, or afterwards, when the packed file
is freed and the dump is written. An estimate only causes warnings, never errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pykexec.frozen import dataclass
from pykexec.images.initrd_size import unpacked_size
from pykexec.memory.ranges import MIB, align_up
from pykexec.placement.capture_words import SAVE_TARGET, word_costs

if TYPE_CHECKING:
    from pykexec.images.contents import Contents
    from pykexec.images.kernel_image import KernelImage

WORKING_MEMORY = 48 * MIB
"""Slab, per-CPU areas, page cache and one dump process. `rehearse --least` found 34 MiB with a
reader in Python."""
UNPACKING_MEMORY = 16 * MIB
"""Slab and per-CPU areas before the first process."""
TMPFS_SLACK = 8 * MIB
"""What the kernel itself needs beside a tmpfs that needs half of the memory: page structures, and
per-CPU areas. Without it the estimate would be the smallest window that was seen to work."""
SAVE_MEMORY = 96 * MIB
"""Of `pykexec save`: its report has 84 MiB of a dump of 7.2, beside the process that waits for it.
Without it the report of 7.2 was not finished after two minutes, because each page of Python was
read from the disk again and again."""
WHOLE_PAGES = 1.05
"""Memory per byte of unpacked files: the last page of each file is not full."""
ROUND_TO = 4 * MIB
"""The needs of two boots of the same kernel differ by about as much."""


@dataclass(frozen=True, slots=True)
class Term:
    """One part of the estimate, in bytes."""

    name: str
    size: int
    why: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """The total in bytes, rounded up to a multiple of `step`, and its terms."""

    terms: tuple[Term, ...]
    step: int = ROUND_TO

    @property
    def size(self) -> int:
        return align_up(_total(self.terms), self.step)


def crash_size(
    image: KernelImage,
    initrd: Contents | None,
    append: Sequence[str] = (),
    pools: Sequence[Term] = (),
) -> Estimate:
    """The memory of a capture kernel that boots to user space and writes a dump, including that of
    words in `append` which allocate at boot, and `pools` for devices."""
    unpacked = round(WHOLE_PAGES * unpacked_size(initrd)) if initrd else 0
    packed = initrd.size if initrd else 0
    words = (Term(cost.text, cost.size, cost.why) for cost in word_costs(append) if cost.size)
    at_times = (_unpacking(packed, unpacked, append), _working(append))
    return Estimate(
        (
            Term("kernel", image.linux.init_size, "init_size of the image"),
            Term("initrd, unpacked", unpacked, "by its headers, or as large as is usual"),
            *max(at_times, key=_total),
            *words,
            *pools,
        )
    )


def _unpacking(packed: int, unpacked: int, append: Sequence[str]) -> tuple[Term, ...]:
    """What is needed beside the unpacked files while they are written: as much again, and what the
    kernel needs, if they are in a tmpfs, which may take half of the memory
    (mm/shmem.c:shmem_default_max_blocks). With root= they are in a ramfs, which has no limit
    (init/do_mounts.c:init_rootfs)."""
    file = Term("initrd, packed", packed, "the file, until it is unpacked")
    has_root = any(word.startswith("root=") for text in append for word in text.split())
    in_tmpfs = unpacked + TMPFS_SLACK
    if has_root or in_tmpfs < UNPACKING_MEMORY:
        return file, Term("working memory", UNPACKING_MEMORY, "slab, per-CPU areas")
    return file, Term("tmpfs", in_tmpfs, "a tmpfs takes no more than half of the memory")


def _working(append: Sequence[str]) -> tuple[Term, ...]:
    """What is needed beside the unpacked files while the dump is written."""
    usual = Term("working memory", WORKING_MEMORY, "slab, per-CPU areas, page cache, the dump")
    if not any(SAVE_TARGET in text.split() for text in append):
        return (usual,)
    return usual, Term("pykexec save", SAVE_MEMORY, "Python, and what a report reads")


def _total(terms: tuple[Term, ...]) -> int:
    """The sum, in bytes."""
    return sum(term.size for term in terms)
