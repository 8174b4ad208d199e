"""kexec_crash_size: the reservation can be made smaller, by whole pages, while it is empty."""

from __future__ import annotations

from errno import EBUSY, EINVAL, ENOENT

import pytest

from pykexec.syscalls import SyscallError
from tests.contract.rig import KernelRig, Rig, SimulatedRig
from tests.contract.test_kexec_load import BY_NORMAL, ON_CRASH, PAGE, good


def size(rig: Rig) -> int:
    """Bytes of the present reservation; 0 for none."""
    found = rig.backend.machine().crash_kernel
    return found.size if found else 0


def assert_refused(rig: Rig, wanted: int, errno: int) -> None:
    before = size(rig)
    with pytest.raises((SyscallError, OSError)) as caught:
        rig.set_crash_size(wanted)
    assert isinstance(caught.value, (SyscallError, OSError))
    assert caught.value.errno == errno
    assert size(rig) == before


def test_it_does_not_grow(rig: Rig) -> None:
    assert_refused(rig, size(rig) + 1, EINVAL)


def test_its_own_size_is_no_change(rig: Rig) -> None:
    before = size(rig)
    rig.set_crash_size(before)
    assert size(rig) == before


def test_not_under_a_loaded_image(rig: Rig) -> None:
    rig.backend.load(good(rig, ON_CRASH))
    assert_refused(rig, size(rig) - PAGE, ENOENT)


def test_not_under_an_image_of_the_flag(rig: Rig) -> None:
    if not rig.knows_by_normal:
        pytest.skip("this kernel does not know KEXEC_CRASH_BY_NORMAL")
    rig.backend.load(good(rig, BY_NORMAL))
    assert_refused(rig, size(rig) - PAGE, ENOENT)


def test_not_while_somebody_has_the_lock(rig: Rig) -> None:
    rig.set(busy=True)
    assert_refused(rig, size(rig) - PAGE, EBUSY)


def test_a_normal_image_is_not_in_the_way(rig: Rig) -> None:
    """Rounded up to a whole page."""
    rig.backend.load(good(rig))
    before = size(rig)
    rig.set_crash_size(before - PAGE - 100)
    assert size(rig) == before - PAGE
    assert_refused(rig, before, EINVAL)


def test_the_tail_is_free_memory_then(rig: Rig) -> None:
    if isinstance(rig, KernelRig):
        pytest.skip("the other tests want the reservation of a real kernel")
    assert isinstance(rig, SimulatedRig)
    before, total = rig.backend.show(), rig.backend.machine().totalram
    assert before.reservation
    assert isinstance(total, int)
    rig.set_crash_size(8 * PAGE)
    after = rig.backend.show()
    assert after.reservation
    assert after.reservation.start == before.reservation.start
    assert size(rig) == 8 * PAGE
    gone = before.reservation.size - 8 * PAGE
    assert after.free.size == before.free.size + gone
    assert rig.backend.machine().totalram == total + gone
    rig.set_crash_size(0)
    assert rig.backend.show().reservation is None
    with pytest.raises(SyscallError):
        rig.backend.load(good(rig, ON_CRASH))
