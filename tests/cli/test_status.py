"""Status of the real kernel: what was staged is looked at while nobody changes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.backends.kernel.backend import KernelBackend
from pykexec.cli.reports import Target
from pykexec.cli.status import look
from pykexec.host.lock import Busy, exclusive
from pykexec.machine import KexecState, Machine
from tests.backends.kernel.calls import Calls
from tests.backends.kernel.test_record import RECORD

HERE = Target("kernel", "this machine")


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KernelBackend:
    """With a crash image loaded, by what its kernel says."""
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
        with pytest.raises(Busy):
            look(HERE, backend)


def test_what_an_interrupted_load_left_is(backend: KernelBackend) -> None:
    with exclusive(backend.folder):
        backend.records.write(replace(RECORD, sums=()))
    report = look(HERE, backend)
    assert report.staged
    assert report.staged.problem == ("a load was interrupted: what it was to start is not complete")
