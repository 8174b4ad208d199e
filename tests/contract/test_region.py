"""A crash region that is made and released while the kernel runs: with the kernel module on a real
machine, and in the simulated kernel."""

from __future__ import annotations

from errno import EADDRNOTAVAIL

import pytest

from pykexec.backends.backend import Slot
from pykexec.backends.region import CrashRegion, Origin
from pykexec.errors import KexecError
from pykexec.syscalls import SyscallError
from tests.contract.rig import Rig
from tests.contract.test_crash_size import size
from tests.contract.test_kexec_load import ON_CRASH, PAGE, good

SIZE = 64 * PAGE


@pytest.fixture
def made(rig: Rig) -> CrashRegion:
    """The only region, made at run time."""
    rig.start_without_region()
    return rig.make_region(SIZE)


def refused(call: object, *arguments: object) -> str:
    with pytest.raises(KexecError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.code


def test_it_is_there_and_as_large_as_was_asked(rig: Rig, made: CrashRegion) -> None:
    assert made.origin is Origin.RUN_TIME
    assert made.span
    assert made.span.size == size(rig) == SIZE
    assert made.span.end <= 4 << 30


def test_memory_is_less_by_it_and_back_after_the_release(rig: Rig, made: CrashRegion) -> None:
    during = rig.backend.machine().totalram
    rig.release_region()
    assert size(rig) == 0
    after = rig.backend.machine().totalram
    assert isinstance(during, int)
    assert isinstance(after, int)
    assert after - during == SIZE


def test_without_it_no_crash_image_is_loaded(rig: Rig, made: CrashRegion) -> None:
    rig.release_region()
    with pytest.raises(SyscallError) as caught:
        rig.backend.load(good(rig, ON_CRASH))
    assert caught.value.errno == EADDRNOTAVAIL


def test_an_image_in_it_keeps_it(rig: Rig, made: CrashRegion) -> None:
    rig.backend.load(good(rig, ON_CRASH))
    assert refused(rig.release_region) == "region-in-use"
    assert size(rig) == SIZE
    rig.backend.unload(Slot.CRASH)
    rig.release_region()
    assert size(rig) == 0


def test_there_is_one(rig: Rig, made: CrashRegion) -> None:
    assert refused(rig.make_region, SIZE) == "region-exists"
    rig.release_region()
    assert refused(rig.release_region) == "no-region"
    assert rig.make_region(PAGE).size == PAGE


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (0, "bad-region-size"),
        (3 << 10, "bad-region-size"),
        (PAGE + 1, "bad-region-size"),
        (5 << 30, "region-too-large"),
    ],
)
def test_sizes_that_cannot_be(rig: Rig, made: CrashRegion, wanted: int, code: str) -> None:
    """Whether or not a region exists."""
    assert refused(rig.make_region, wanted) == code
    rig.release_region()
    assert refused(rig.make_region, wanted) == code
    assert size(rig) == 0


def test_a_part_of_it_is_released_with_the_rest(rig: Rig, made: CrashRegion) -> None:
    rig.set_crash_size(SIZE // 2)
    assert size(rig) == SIZE // 2
    rig.release_region()
    assert size(rig) == 0
