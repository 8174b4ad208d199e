"""The smallest window in which a capture kernel reads the complete dump, found by trial."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.errors import CheckFailed, DoesNotFit, KexecError
from pykexec.flows.rehearse.qemu import (
    NoDump,
    QemuMachine,
    board_of,
    capture_initrd,
    python_for,
    rehearse_in_qemu,
)
from pykexec.images.identify import identify
from pykexec.memory.ranges import align_down, align_up
from pykexec.placement.estimate import crash_size

if TYPE_CHECKING:
    from pykexec.flows.rehearse.simulated import Progress
    from pykexec.images.kernel_image import KernelImage
    from pykexec.placement.request import LoadRequest

BOOTS = 8
STEP = 2 * HUGE_PAGE_SIZE
"""Bytes; the needs of two boots of the same kernel differ by about as much."""
MIB = 1 << 20


class NoWindow(CheckFailed):
    """The capture kernel did not read the dump in any of the windows that were tried."""

    code = "no-window"


@dataclass(frozen=True, slots=True)
class Try:
    """One boot: `why` the window was not enough, or "" if it was."""

    size: int
    why: str = ""

    @property
    def good(self) -> bool:
        return not self.why


@dataclass(frozen=True, slots=True)
class Least:
    """`least` was enough; `too_small` was not, or is impossible; sizes in bytes."""

    image: KernelImage
    stage: QemuMachine
    tries: tuple[Try, ...]
    least: int
    too_small: int
    margin: int
    estimate: int
    """What pykexec uses without --crash-size, for the same files."""
    own: int
    """Compressed bytes that the rehearsal itself added to the initrd."""

    @property
    def advised(self) -> int:
        return align_up(self.least + self.margin, HUGE_PAGE_SIZE)

    @property
    def option(self) -> str:
        return f"--crash-size {self.advised // MIB}M"


def least_window(
    kernel: str | os.PathLike[str],
    request: LoadRequest,
    image_type: str | None,
    stage: QemuMachine,
    margin: int,
    tell: Progress,
) -> Least:
    """Find it with at most BOOTS rehearsals. Raises NoWindow, and the error of a load that is
    refused before any window was enough."""
    image = identify(kernel, image_type, request.profile)
    board = board_of(image)
    python = python_for(board, stage.system)
    initrd = capture_initrd(board, python, request.initrd)
    guess = crash_size(image, initrd, request.append).size
    tries: list[Try] = []

    def attempt(size: int) -> bool:
        tell.step(f"boot {len(tries) + 1} of at most {BOOTS}: a window of {size // MIB} MiB")
        asked = replace(request, crash_size=size)
        enough = min((item.size for item in tries if item.good), default=0)
        try:
            done = rehearse_in_qemu(kernel, asked, image_type, stage, tell)
            why = "" if done.good else "the dump is not complete"
        except NoDump as error:
            why = error.message
        except KexecError as error:
            if error.exit_status != DoesNotFit.exit_status or (size > enough and not tries):
                raise
            if size > enough:
                raise _nothing_is_enough(tries) from error
            why = error.message
        tries.append(Try(size, why))
        tell.step(f"{size // MIB} MiB: {why or 'enough'}")
        return not why

    floor = align_down(image.linux.init_size + initrd.size, STEP)
    least, too_small = search(attempt, align_up(guess, STEP), floor, stage.memory)
    if least is None:
        raise _nothing_is_enough(tries)
    own = initrd.size - (request.initrd.size if request.initrd else 0)
    return Least(image, stage, tuple(tries), least, too_small, margin, guess, own)


def search(
    enough: Callable[[int], bool], first: int, floor: int, limit: int
) -> tuple[int | None, int]:
    """The smallest size that was `enough`, and the largest that was not; `floor` is impossible.
    Sizes are multiples of STEP, and at most BOOTS of them are tried: `first`, doubled until one
    below `limit` is enough, then by bisection. None if none was enough."""
    good, bad, size = None, floor, max(first, floor + STEP)
    for _ in range(BOOTS):
        if enough(size):
            good = size
        else:
            bad = size
        if good is None:
            if 2 * size >= limit:
                break
            size = 2 * size
        elif good - bad <= STEP:
            break
        else:
            size = align_down((good + bad) // 2, STEP)
    return good, bad


def _nothing_is_enough(tries: list[Try]) -> KexecError:
    last = tries[-1]
    return NoWindow(
        f"no window up to {last.size // MIB} MiB was enough: {last.why}",
        hint="use a larger --memory, or try one window with --crash-size to see its console",
        tries=tuple(item.size for item in tries),
    )
