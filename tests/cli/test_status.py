"""Status of the real kernel: the stage is checked while nothing changes it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pykexec.backends.backend import LoadState, Slot
from pykexec.backends.kernel.backend import KernelBackend
from pykexec.backends.kernel.journal import Taken
from pykexec.backends.kernel.lent_blocks import LentBlocks
from pykexec.backends.simulated import SimulatedBackend
from pykexec.cli.out.plain import text
from pykexec.cli.report.monitoring import plugin_line
from pykexec.cli.report.target import UNTOUCHED, Target
from pykexec.cli.report.unload import UnloadReport
from pykexec.cli.run.status import CHANGING, beside_simulation, counted, look
from pykexec.cli.run.unload import is_loaded
from pykexec.documents.codec import plain
from pykexec.host.lock import exclusive, locked
from pykexec.host.root import Folder
from pykexec.machine import KexecState, Machine, Unknown
from pykexec.memory.ranges import RangeSet
from pykexec.placement.request import Mode
from pykexec.placement.x86.layout import ABOVE_16_MIB
from tests.backends.kernel.block_machine import ModelBlocks
from tests.backends.kernel.calls import Calls
from tests.backends.kernel.test_record import RECORD
from tests.blocks import machine_of
from tests.builders import GIB, MIB
from tests.cli.conftest import Run
from tests.documents import validate

HERE = Target("kernel", "this machine")


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KernelBackend:
    """A backend whose kernel reports a loaded crash image."""
    monkeypatch.setattr("pykexec.host.lock.WAIT", 0.1)
    state = KexecState(loaded=False, crash_loaded=True)
    return KernelBackend(Calls(), tmp_path / "run", lambda: Machine("a machine", kexec=state))


def test_nothing_of_ours_needs_no_lock(backend: KernelBackend) -> None:
    report = look(HERE, backend)
    assert report.anything
    assert report.staged is None
    assert not backend.folder.exists()


def test_what_a_load_has_not_finished_is_no_damage(backend: KernelBackend) -> None:
    with exclusive(backend.folder):
        backend.records.write(replace(RECORD, sums=()))
        report = look(HERE, backend)
    assert (report.anything, report.staged, report.changing) == (True, None, True)
    assert any(f"unknown: {CHANGING}" in line for line in text(report.page(0)))


def test_two_may_verify_at_a_time(backend: KernelBackend) -> None:
    with exclusive(backend.folder):
        backend.records.write(RECORD)
    with locked(backend.folder, alone=False):
        report = look(HERE, backend)
    assert report.staged
    assert not report.changing


def test_what_is_being_changed_is_neither_armed_nor_written(
    backend: KernelBackend, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The check unit re-arms at exit status 3, and a file of metrics says when it was verified."""
    monkeypatch.setattr("pykexec.cli.run.real.backend", lambda: backend)
    words = ("status", "--backend", "kernel")
    with exclusive(backend.folder):
        backend.records.write(RECORD)
        for loaded in (True, False):
            state = KexecState(loaded=False, crash_loaded=loaded)
            backend.facts = partial(Machine, "a machine", kexec=state)
            page = run(*words, "--textfile", str(tmp_path / "file"), status=1).stdout
            assert f"unknown: {CHANGING}" in page
            nagios = run(*words, "--nagios", status=0 if loaded else 3).stdout
            assert nagios.startswith("PYKEXEC OK" if loaded else "PYKEXEC UNKNOWN")
    assert not (tmp_path / "file").exists()


def test_what_an_interrupted_load_left_is(backend: KernelBackend) -> None:
    with exclusive(backend.folder):
        backend.records.write(replace(RECORD, sums=()))
    report = look(HERE, backend)
    assert report.staged
    assert report.staged.problem == ("a load was interrupted, and its stage is not complete")


def test_a_file_that_is_gone_is_damage(backend: KernelBackend) -> None:
    """Somebody unmounted it: exit status 3, at which the service re-arms."""
    with exclusive(backend.folder):
        backend.records.write(RECORD)
        backend.bay.journal.write(Taken(raised=1, kept=((0x40000000, 0),)))
    report = look(HERE, backend)
    assert report.staged
    assert report.staged.problem == "the file of the stage is gone, and its huge pages with it"


UNKNOWN = Unknown("no /sys")
STATES = {
    "nothing": (KexecState(loaded=False, crash_loaded=False), None, None),
    "unknown": (KexecState(loaded=UNKNOWN, crash_loaded=UNKNOWN), None, None),
    "both": (KexecState(loaded=True, crash_loaded=True), None, None),
    "interrupted": (
        KexecState(loaded=False, crash_loaded=True),
        replace(RECORD, sums=()),
        "a load was interrupted, and its stage is not complete",
    ),
    "no pages": (
        KexecState(loaded=False, crash_loaded=True), RECORD, "nothing is staged",
    ),
    "gone with its image": (
        KexecState(loaded=True, crash_loaded=False), RECORD, "nothing is staged",
    ),
    "kernel-swap": (
        KexecState(loaded=True, crash_loaded=False),
        replace(RECORD, mode=Mode.KERNEL_SWAP, slot=Slot.NORMAL),
        "nothing is staged",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("release", "modules", "match", "told"),
    [
        ("6.1.0", ("6.1.0",), True, "has the modules of 6.1.0, the kernel's release"),
        ("6.1.0", ("5.9", "6.1.0"), True, "has the modules of 6.1.0, the kernel's release"),
        ("6.1.0", ("5.9",), False,
         "of another kernel: its modules are for 5.9, but the kernel is 6.1.0"),
        ("6.1.0", (), None,
         "unknown whether it belongs to the kernel: no modules were found in it"),
        (None, ("5.9",), None,
         "unknown whether it belongs to the kernel: no modules were found in it"),
    ],
)  # fmt: skip
def test_whose_modules_the_initrd_has(
    backend: KernelBackend,
    release: str | None,
    modules: tuple[str, ...],
    match: bool | None,
    told: str,
) -> None:
    with exclusive(backend.folder):
        backend.records.write(replace(RECORD, release=release, modules=modules))
    report = look(HERE, backend)
    assert plain(report.document())["staged"]["modules_match"] is match
    assert report.staged
    assert ("initrd", told) in report.staged.facts()


def test_an_unknown_state_has_its_reason(tmp_path: Path) -> None:
    state, _, _ = STATES["unknown"]
    found = KernelBackend(Calls(), tmp_path / "run", lambda: Machine("a machine", kexec=state))
    report = look(HERE, found)
    assert list(text(report.page(0)))[:2] == [
        "normal     unknown: no /sys",
        "crash      unknown: no /sys",
    ]
    assert plugin_line(report).startswith(
        "PYKEXEC UNKNOWN - cannot read whether a crash image is loaded: no /sys"
    )


def test_what_a_killed_load_left_is_shown(backend: KernelBackend) -> None:
    """Blocks that it made movable, one that it had taken offline, and huge pages."""
    machine = machine_of(2 * GIB)
    model = ModelBlocks.of(machine)
    with exclusive(backend.folder):
        backend.blocks = LentBlocks(backend.folder, model)
        backend.blocks.window(machine, 176 * MIB, ABOVE_16_MIB, RangeSet())
        model.set_state(14, "offline", 1)
        backend.bay.journal.write(Taken(raised=3))
    report = look(HERE, backend)
    document = plain(report.document())
    validate(document)
    assert (document["left_blocks"], document["left_pages"]) == (["memory13", "memory14"], 3)
    (line,) = (line for line in text(report.page(0)) if line.startswith("left over"))
    assert "3 huge pages, memory13 (movable), memory14 (offline); pykexec unload" in line
    warnings = UnloadReport(HERE, Slot.CRASH, LoadState.NOT_LOADED, report.left_blocks).warnings
    assert [("memory13" in text, "memory14" in text) for text in warnings] == [
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize("name", STATES)
def test_every_state_is_a_document(tmp_path: Path, name: str) -> None:
    state, record, problem = STATES[name]
    found = KernelBackend(Calls(), tmp_path / "run", lambda: Machine("a machine", kexec=state))
    if record:
        with exclusive(found.folder):
            found.records.write(record)
    document = plain(look(HERE, found).document())
    validate(document)
    assert (document["staged"] or {}).get("problem") == problem


def test_without_a_backend_both_are_shown_each_by_its_name(
    backend: KernelBackend, tmp_path: Path
) -> None:
    folder = tmp_path / "machine"
    assert beside_simulation(backend, folder).simulated is None
    SimulatedBackend.create(folder)
    report = beside_simulation(backend, folder)
    assert report.target.backend == "kernel"
    assert report.anything, "the exit status is the real kernel's"
    document = plain(report.document())
    validate(document)
    assert document["crash"] == "loaded"
    assert document["simulated"] == {
        "machine": str(folder),
        "normal": "not loaded",
        "crash": "not loaded",
    }
    lines = list(text(report.page(0)))
    named = [number for number, line in enumerate(lines) if line.startswith("backend ")]
    assert lines[named[0]].endswith(" kernel, this machine")
    assert lines[named[1]].endswith(f" simulated, machine {folder}")
    assert named[0] < lines.index(UNTOUCHED) < named[1]


def test_the_exit_status_is_that_of_a_simulation_until_pykexec_is_set_up(
    backend: KernelBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "machine"
    SimulatedBackend.create(folder)
    nothing = KernelBackend(Calls(), tmp_path / "run", lambda: Machine("a machine"))
    report = beside_simulation(nothing, folder)
    configured = tmp_path / "pykexec.conf"
    monkeypatch.setattr("pykexec.host.configuration.PATH", str(configured))
    assert counted(report) is report.simulated
    configured.touch()
    assert counted(report) is report
    assert counted(beside_simulation(backend, folder)).target.backend == "kernel"


@pytest.mark.parametrize(("slot", "expected"), [(Slot.CRASH, True), (Slot.NORMAL, False)])
def test_what_this_machine_has_loaded_is_read_from_its_kernel(
    tmp_path: Path, slot: Slot, expected: bool
) -> None:
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/kexec_loaded").write_text("0\n")
    (tmp_path / "sys/kernel/kexec_crash_loaded").write_text("1\n")
    assert is_loaded(slot, Folder(tmp_path)) is expected
