"""An armed image whose dump would lack what was added to the machine since the load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.backends.kernel.backend import KernelBackend
from pykexec.backends.kernel.record import LoadRecord
from pykexec.flows.load import load
from pykexec.images.contents import Built
from pykexec.machine import CpuNotes, Machine, Unknown
from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import PhysRange
from pykexec.placement.request import ImageKind, LoadRequest, Mode
from tests.backends.kernel.rig import Rig
from tests.builders import MIB, make_bzimage, write


@pytest.fixture
def armed(tmp_path: Path) -> tuple[KernelBackend, LoadRecord]:
    """A machine on which something is armed, and the record of that."""
    rig = Rig(tmp_path)
    kernel = write(tmp_path, "vmlinuz", make_bzimage())
    initrd = Built(bytes(5000))
    wanted = LoadRequest(
        ImageKind.CRASH_BY_NORMAL, initrd=initrd, crash_size=64 * MIB, mode=Mode.IN_PLACE
    )
    backend = rig.backend()
    load(kernel, backend, wanted)
    record = backend.records.read()
    assert record
    return backend, record


def with_memory(machine: Machine) -> Machine:
    known = machine.known_map
    more = MemoryRange(PhysRange(8 << 30, 9 << 30), RangeType.RAM)
    return replace(machine, memory_map=MemoryMap.of([*known.ranges, more]))


def with_driver_memory(machine: Machine) -> Machine:
    """The machine with memory that virtio-mem has added."""
    known = machine.known_map
    more = known.driver_ram | with_memory(machine).known_map.ram.within(PhysRange(8 << 30, 9 << 30))
    return replace(machine, memory_map=replace(known, driver_ram=more))


def with_processor(machine: Machine) -> Machine:
    assert not isinstance(machine.cpus, Unknown)
    return replace(machine, cpus=(*machine.cpus, CpuNotes(77, 0x5000, 0x170)))


def other_facts(machine: Machine) -> Machine:
    """The machine with other facts that no header of a dump contains."""
    return replace(machine, memavailable=5 * MIB, crash_kernel=machine.crash_kernel, cmdline="x")


def unknown_memory(machine: Machine) -> Machine:
    return replace(machine, memory_map=Unknown("hidden"))


@pytest.mark.parametrize(
    ("change", "outdated"),
    [
        (with_memory, True),
        (with_driver_memory, True),
        (with_processor, True),
        (other_facts, False),
        (unknown_memory, False),
    ],
)
def test_what_came_later_is_noticed(
    armed: tuple[KernelBackend, LoadRecord], change: object, outdated: bool
) -> None:
    backend, record = armed
    assert backend.outdated(record) is None
    before = backend.facts
    backend.facts = lambda: change(before())  # type: ignore[operator]
    assert (backend.outdated(record) is not None) == outdated


def test_a_record_of_an_older_pykexec_is_not_outdated(
    armed: tuple[KernelBackend, LoadRecord],
) -> None:
    """An upgrade must not cause a re-arm by itself."""
    backend, record = armed
    assert record.described
    assert backend.outdated(replace(record, described=None)) is None
