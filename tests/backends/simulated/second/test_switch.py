"""What prevents the start of a loaded image, and what a start does not change."""

from __future__ import annotations

from collections.abc import Callable
from errno import EBUSY, EPERM
from pathlib import Path

import pytest

from pykexec.backends.backend import LoadState, NothingLoaded, Slot
from pykexec.backends.simulated import SimulatedBackend
from pykexec.backends.simulated.kernel.gates import Gates, Lockdown
from pykexec.backends.simulated.second.relocate import SwitchFailed
from pykexec.backends.simulated.second.second_kernel import check_ram
from pykexec.backends.simulated.second.zero_page import ZeroPage
from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import PhysRange
from pykexec.syscalls import SyscallError
from tests.backends.simulated.images import NORMAL, PAGE, capture_image, load_bound
from tests.backends.simulated.machines import (
    MIB,
    addresses,
    fill_pages,
    first_difference,
    once,
    raw_pages,
)

WINDOW = PhysRange.sized(32 * MIB, 48 * PAGE)


@pytest.fixture
def backend(tmp_path: Path) -> SimulatedBackend:
    """64 MiB, an image in each slot."""
    backend = SimulatedBackend.create(tmp_path / "m", 64 * MIB, seed=2)
    load_bound(backend, capture_image(WINDOW, headers=8 * PAGE))
    normal = capture_image(WINDOW, flags=NORMAL, headers=PAGE, cmdline="quiet", sealed=False)
    backend.load(normal.table)
    return backend


def assert_both_loaded(backend: SimulatedBackend) -> None:
    assert set(backend.status().values()) == {LoadState.LOADED}
    assert not backend.folder.vmcore.exists()


@pytest.mark.parametrize(
    ("gates", "errno"),
    [(Gates(cap_sys_boot=False, busy=True), EPERM), (Gates(busy=True), EBUSY)],
)
def test_reboot_is_refused(gates: Gates, errno: int, backend: SimulatedBackend) -> None:
    """Checks privilege first, then the lock, then whether there is an image."""
    backend.unload(Slot.NORMAL)
    backend.set_gates(gates)
    with pytest.raises(SyscallError) as caught:
        backend.exec()
    assert (caught.value.syscall, caught.value.errno) == ("reboot", errno)
    assert backend.status()[Slot.CRASH] is LoadState.LOADED


def test_a_panic_during_a_load_makes_no_dump(backend: SimulatedBackend) -> None:
    """__crash_kexec only tries to take the lock."""
    backend.set_gates(Gates(busy=True))
    with pytest.raises(SwitchFailed, match="another kexec call holds the lock"):
        backend.crash()
    assert_both_loaded(backend)
    backend.set_gates(Gates())
    assert backend.crash().vmcore


@pytest.mark.parametrize(
    ("gone", "way"),
    [(Slot.CRASH, SimulatedBackend.crash), (Slot.NORMAL, SimulatedBackend.exec)],
)
def test_neither_way_starts_the_image_of_the_other(
    gone: Slot, way: Callable[[SimulatedBackend], object], backend: SimulatedBackend
) -> None:
    backend.unload(gone)
    with pytest.raises(NothingLoaded):
        way(backend)
    assert list(backend.status().values()).count(LoadState.LOADED) == 1


@pytest.mark.parametrize("relocate", ["swap", "copy"])
def test_what_a_source_page_holds_afterwards(relocate: str, tmp_path: Path) -> None:
    """The old destination if pages are exchanged; otherwise still the bytes of the image."""
    backend = SimulatedBackend.create(tmp_path / "m", 64 * MIB, seed=2, relocate=relocate)
    image = capture_image(WINDOW, flags=NORMAL, headers=PAGE, cmdline="quiet", sealed=False)
    backend.load(image.table)
    with backend.turns.reading() as (state, ram):
        loaded = state.images[Slot.NORMAL]
        pairs = loaded.page_list(ram).pairs
    assert loaded.swap_page
    used = set(addresses(backend.show().in_use))
    moved = {dest: source for dest, source in pairs if dest in used}
    assert len(moved) > 20
    old = fill_pages(backend.folder.path, list(moved))
    new = raw_pages(backend.folder.path, list(moved.values()))
    fill_pages(backend.folder.path, [loaded.swap_page])
    backend.exec()
    there = raw_pages(backend.folder.path, list(moved))
    left = raw_pages(backend.folder.path, list(moved.values()))
    arrived = [there[dest] == new[source] for dest, source in moved.items()]
    kept = [left[source] == old[dest] for dest, source in moved.items()]
    assert all(arrived)
    assert all(kept) if relocate == "swap" else left == new
    last, _ = pairs[-1]
    through = raw_pages(backend.folder.path, [last, loaded.swap_page])
    assert relocate == "copy" or through[loaded.swap_page] == through[last]


def test_a_memory_map_of_one_entry_is_ignored(backend: SimulatedBackend) -> None:
    """append_e820_table, of a 6.1 kernel."""
    low = MemoryMap.of([MemoryRange(PhysRange(0x1000, 0x9F000), RangeType.RAM)])
    with backend.turns.reading() as (_, ram):
        assert check_ram(ram, ZeroPage(low, entries=2, cmdline=""))
        with pytest.raises(SwitchFailed, match="fewer than 2 entries"):
            check_ram(ram, ZeroPage(low, entries=1, cmdline=""))


def test_what_forbids_a_load_does_not_forbid_a_start(backend: SimulatedBackend) -> None:
    """Neither the sysctl nor lockdown is asked when the machine goes down."""
    backend.set_gates(Gates(kexec_load_disabled=True, lockdown=Lockdown.CONFIDENTIALITY))
    assert backend.exec().vmcore is None
    assert set(backend.status().values()) == {LoadState.NOT_LOADED}


def test_a_kernel_that_captures_nothing_spares_memory(backend: SimulatedBackend) -> None:
    """All of RAM may be its own, and nothing reads what it leaves there."""
    used = addresses(backend.show().in_use - backend.show().kernel)
    moved = {*addresses_of(WINDOW), *addresses_of(PhysRange(0x1000, 0x9F000))}
    contents = fill_pages(backend.folder.path, [addr for addr in used if addr not in moved])
    backend.exec()
    left = raw_pages(backend.folder.path, list(contents))
    assert not first_difference(contents, once(left))


def addresses_of(span: PhysRange) -> range:
    return range(span.start, span.end, PAGE)


def test_the_last_elfcorehdr_counts() -> None:
    """setup_elfcorehdr is called for each."""
    page = ZeroPage(MemoryMap.of(()), entries=0, cmdline="elfcorehdr=1K quiet elfcorehdr=4K@0x2000")
    assert page.elfcorehdr() == 0x2000
