"""Estimates how much memory a capture kernel needs: a sum whose terms are shown.

An estimate only causes warnings, never errors.
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
SAVE_MEMORY = 96 * MIB
"""Of `pykexec save`: its report has 84 MiB of a dump of 7.2, beside the process that waits for it.
Without it the report of 7.2 was not finished after two minutes, because each page of Python was
read from the disk again and again."""
WHOLE_PAGES = 1.05
"""Memory per byte of unpacked files: the last page of each file is not full."""
ROUND_TO = 16 * MIB


@dataclass(frozen=True, slots=True)
class Term:
    """One part of the estimate, in bytes."""

    name: str
    size: int
    why: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """The total in bytes, rounded up to 16 MiB, and its terms."""

    terms: tuple[Term, ...]

    @property
    def size(self) -> int:
        return align_up(sum(term.size for term in self.terms), ROUND_TO)


def crash_size(image: KernelImage, initrd: Contents | None, append: Sequence[str] = ()) -> Estimate:
    """The memory of a capture kernel that boots to user space and writes a dump, including that of
    words in `append` which allocate at boot."""
    packed = initrd.size if initrd else 0
    unpacked = round(WHOLE_PAGES * unpacked_size(initrd)) if initrd else 0
    words = [Term(cost.text, cost.size, cost.why) for cost in word_costs(append) if cost.size]
    if any(SAVE_TARGET in text.split() for text in append):
        words.append(Term("pykexec save", SAVE_MEMORY, "Python, and what a report reads"))
    return Estimate(
        (
            Term("kernel", image.linux.init_size, "init_size of the image"),
            Term("initrd, packed", packed, "the file"),
            Term("initrd, unpacked", unpacked, "by its headers, or as large as is usual"),
            _working_memory(unpacked, append),
            *words,
        )
    )


def _working_memory(unpacked: int, append: Sequence[str]) -> Term:
    """As much again as the initrd has unpacked, if its files are in a tmpfs: that may take half of
    the memory (mm/shmem.c:shmem_default_max_blocks). With root= they are in a ramfs, which has no
    limit (init/do_mounts.c:init_rootfs)."""
    has_root = any(word.startswith("root=") for text in append for word in text.split())
    if unpacked > WORKING_MEMORY and not has_root:
        return Term("working memory", unpacked, "a tmpfs takes no more than half of the memory")
    why = "slab, per-CPU areas, page cache, the dump"
    return Term("working memory", WORKING_MEMORY, why)
