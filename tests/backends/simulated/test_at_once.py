"""Several processes that use one machine folder, and processes that are killed from outside."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from pykexec.backends.backend import Slot
from pykexec.backends.simulated import SimulatedBackend
from pykexec.errors import KexecError
from pykexec.host import lock
from pykexec.memory.ranges import PhysRange
from tests.backends.simulated.images import NORMAL, PAGE, capture_image, load_bound
from tests.backends.simulated.machines import (
    MIB,
    addresses,
    fill_pages,
    first_difference,
    once,
    raw_pages,
)

LOW = (PhysRange(0x1000, 0x3000),)
TINY = PhysRange.sized(4 * MIB, 40 * PAGE)
BUSY = 3
"""Exit status of a child that was refused access."""


def in_child(action: Callable[[], object]) -> int:
    """Fork a child, and return its PID. It exits with 0, or BUSY if another process held the
    machine for too long."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        action()
        status = 0
    except KexecError as error:
        status = BUSY if error.code == "busy" else 1
    finally:
        os._exit(status)


def loads(path: Path, kernel_pages: int) -> None:
    image = capture_image(TINY, LOW, headers=6 * PAGE, kernel_pages=kernel_pages)
    load_bound(SimulatedBackend.open(path), image)


def loads_so_far(backend: SimulatedBackend) -> int:
    with backend.turns.reading() as (state, _):
        return state.loads


def test_no_load_of_another_process_is_lost(tmp_path: Path) -> None:
    """Each one waits for its turn, or is refused; all loads that were done are counted."""
    path = tmp_path / "m"
    backend = SimulatedBackend.create(path, 12 * MIB, seed=1)
    contents = fill_pages(path, addresses(backend.show().in_use))
    pids = [in_child(lambda: loads(path, pages)) for pages in (1, 2, 3, 4) * 3]  # noqa: B023
    ended = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert set(ended) <= {0, BUSY}, "an error that is no refusal"
    assert loads_so_far(backend) == ended.count(0) > 0
    assert not first_difference(contents, once(raw_pages(path, list(contents))))
    backend.crash()
    assert backend.show().images.size == 0


def test_two_images_of_two_processes_share_no_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "WAIT", 60.0)  # for a slow process
    path = tmp_path / "m"
    backend = SimulatedBackend.create(path, 12 * MIB, seed=1, allocator="lowest")
    normal = capture_image(TINY, LOW, flags=NORMAL, cmdline="quiet", sealed=False)
    pids = [
        in_child(lambda: SimulatedBackend.open(path).load(normal.table)),
        in_child(lambda: loads(path, 2)),
    ]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    with backend.turns.reading() as (state, ram):
        one, other = (image.frames(ram) for image in state.images.values())
    assert one
    assert not one & other


def test_killed_at_any_time(tmp_path: Path) -> None:
    """SIGKILL at a time, not at a chosen write; afterwards the folder is consistent. Both kinds of
    folder occur if a child has time for all four steps."""
    path = tmp_path / "m"
    backend = SimulatedBackend.create(path, 12 * MIB, seed=1)
    free = backend.show().free

    def works() -> None:
        while True:
            loads(path, 2)
            SimulatedBackend.open(path).crash()
            loads(path, 3)
            SimulatedBackend.open(path).unload(Slot.CRASH)

    began = time.monotonic()
    loads(path, 2)
    SimulatedBackend.open(path).crash()
    steps = 2 * (time.monotonic() - began)
    rng, seen, rounds = Random(1), set[bool](), 0
    while rounds < 25 or len(seen) < 2:
        rounds += 1
        assert rounds < 500, "killed with and without an image"
        pid = in_child(works)
        time.sleep(rng.random() * 2 * steps)
        os.kill(pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        shown = SimulatedBackend.open(path).show()
        assert shown.images | shown.free == free
        assert not shown.images & shown.free
        seen.add(bool(shown.images))
