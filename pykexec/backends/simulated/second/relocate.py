"""relocate_kernel: processes the page list, by exchange or by copy.

arch/x86/kernel/relocate_kernel_64.S:swap_pages. Runs in which both sides advance are moved in one
step, with the same result as page by page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.backends.simulated.kernel.layout import RelocateKernel
from pykexec.backends.simulated.kernel.ram import NotMemory, Ram
from pykexec.crash.backup_map import BackupRun
from pykexec.errors import CheckFailed

if TYPE_CHECKING:
    from pykexec.backends.simulated.kernel.kimage import KImage


class SwitchFailed(CheckFailed):
    """The machine hangs or resets between the two kernels; there is no dump."""

    code = "switch-failed"


def relocate_kernel(image: KImage, ram: Ram, relocate: RelocateKernel) -> None:
    """Bring every page to its destination. Raises SwitchFailed, BadPageList."""
    if image.swap_page is None:
        return
    pairs = image.page_list(ram).pairs
    try:
        for run in _runs(pairs):
            if relocate is RelocateKernel.COPY:
                ram.copy(run.dest, run.source, run.size)
            else:
                ram.swap(run.dest, run.source, run.size)
    except NotMemory as error:
        raise SwitchFailed(
            f"relocate_kernel: {error.message}: the machine hangs",
            hint="a segment is outside of RAM; the kernel does not check that",
        ) from error
    if relocate is RelocateKernel.SWAP:
        _leave_in_swap_page(image.swap_page, pairs, ram)


def _leave_in_swap_page(swap_page: int, pairs: tuple[tuple[int, int], ...], ram: Ram) -> None:
    """The swap page keeps the last page of the image that passed through it."""
    for dest, _ in pairs[-1:]:
        ram.copy(swap_page, dest, PAGE_SIZE)


def _runs(pairs: Iterable[tuple[int, int]]) -> Iterator[BackupRun]:
    """The list in order; entries are merged where both sides advance without overlap."""
    dest = source = size = 0
    for page_dest, page_source in pairs:
        follows = page_dest == dest + size and page_source == source + size
        if size and follows and abs(dest - source) > size:
            size += PAGE_SIZE
            continue
        if size and dest != source:
            yield BackupRun(dest, source, size)
        dest, source, size = page_dest, page_source, PAGE_SIZE
    if size and dest != source:
        yield BackupRun(dest, source, size)
