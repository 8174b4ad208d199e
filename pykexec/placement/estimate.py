"""How much memory a capture kernel is likely to need: a sum whose terms are shown.

An estimate warns; it never refuses.
"""

from __future__ import annotations

from collections.abc import Iterable

from pykexec.frozen import dataclass
from pykexec.images.contents import Contents
from pykexec.images.kernel_image import KernelImage
from pykexec.memory.ranges import MIB, align_up
from pykexec.placement.capture_words import word_costs

INITRD_FACTOR = 3
"""Packed, unpacked, and the working memory of what runs from it; kdump-utils counts the same."""
WORKING_MEMORY = 64 * MIB
"""Slab, per-CPU areas, page cache and one dump process; seen: 40 to 60 MiB on cloud kernels."""
ROUND_TO = 16 * MIB


@dataclass(frozen=True, slots=True)
class Term:
    """What something takes, in bytes."""

    name: str
    size: int
    why: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes in all, rounded up to 16 MiB, and what they are for."""

    terms: tuple[Term, ...]

    @property
    def size(self) -> int:
        return align_up(sum(term.size for term in self.terms), ROUND_TO)


def crash_size(image: KernelImage, initrd: Contents | None, append: Iterable[str] = ()) -> Estimate:
    """The memory of a capture kernel that boots to user space and writes a dump, and that of the
    words in `append` which allocate at boot."""
    packed = initrd.size if initrd else 0
    words = [Term(cost.text, cost.size, cost.why) for cost in word_costs(append) if cost.size]
    return Estimate(
        (
            Term("kernel", image.linux.init_size, "init_size of the image"),
            Term(
                "initrd",
                INITRD_FACTOR * packed,
                "three times the file size: packed, unpacked, used",
            ),
            Term("working memory", WORKING_MEMORY, "slab, per-CPU areas, page cache, the dump"),
            *words,
        )
    )
