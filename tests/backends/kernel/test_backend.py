"""What the real backend refuses before it calls the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from errno import EBUSY
from pathlib import Path

import pytest

from pykexec.abi.kexec import KexecFileFlag, KexecFlag
from pykexec.backends.backend import Slot
from pykexec.backends.kernel.backend import KernelBackend, Start
from pykexec.backends.kernel.kimage import LoadedSegment
from pykexec.backends.kernel.stage import AlreadyStaged
from pykexec.backends.kernel.staged import StageChanged
from pykexec.cli.terms import PYKEXEC
from pykexec.errors import KexecError
from pykexec.flows.file_load import file_load
from pykexec.flows.load import load
from pykexec.host.lock import Busy, exclusive
from pykexec.images.contents import OpenFile
from pykexec.images.identify import identify
from pykexec.machine import Machine
from pykexec.memory.ranges import PhysRange
from pykexec.placement.plan_load import plan_load
from pykexec.placement.request import ImageKind, LoadRequest, Mode
from pykexec.placement.segment import NO_FLAGS, SegmentTable
from tests.backends.kernel.calls import Calls
from tests.backends.kernel.test_record import RECORD
from tests.builders import make_bzimage, make_machine, segment, write


@pytest.fixture
def backend(tmp_path: Path) -> KernelBackend:
    """A backend with a crash by normal in the crash slot, according to its record."""
    folder = tmp_path / "run"
    folder.mkdir()
    made = KernelBackend(Calls(), folder)
    made.records.write(RECORD)
    return made


def table(flags: KexecFlag = NO_FLAGS) -> SegmentTable:
    return SegmentTable((segment("x", 0x1000000, 0x1000),), 0x1000000, flags)


def test_a_crash_load_does_not_replace_what_is_armed(backend: KernelBackend) -> None:
    with pytest.raises(AlreadyStaged) as caught:
        backend.load(table(KexecFlag.KEXEC_ON_CRASH))
    assert caught.value.message == (
        "this would replace the crash by normal (mode in-place) in the crash slot"
    )
    assert caught.value.hint_in(PYKEXEC) == "run pykexec unload --crash --backend kernel"
    assert backend.records.read() == RECORD


def test_nor_does_the_file_syscall(backend: KernelBackend, tmp_path: Path) -> None:
    file = OpenFile(write(tmp_path, "vmlinuz", make_bzimage()))
    with pytest.raises(AlreadyStaged):
        backend.file_load(file, None, b"", KexecFileFlag.KEXEC_FILE_ON_CRASH)


def test_a_normal_load_minds_its_own_slot(backend: KernelBackend) -> None:
    backend.records.write(replace(RECORD, slot=Slot.NORMAL))
    with pytest.raises(AlreadyStaged, match="in the normal slot") as caught:
        backend.load(table())
    assert caught.value.hint_in(PYKEXEC) == "run pykexec unload --backend kernel"


def test_a_failed_load_of_another_kind_leaves_the_stage_alone(
    backend: KernelBackend, tmp_path: Path
) -> None:
    kernel = write(tmp_path, "vmlinuz", make_bzimage())
    with pytest.raises(KexecError):
        load(kernel, backend, LoadRequest(mem_max=0x1000000))
    assert backend.records.read() == RECORD


def test_an_interrupted_load_is_not_started(backend: KernelBackend) -> None:
    backend.records.write(replace(RECORD, sums=()))
    with pytest.raises(StageChanged, match="a load was interrupted"):
        backend.staged.check()
    with pytest.raises(StageChanged):
        backend.startable()


def test_a_panic_that_does_not_come_starts_nothing_else(tmp_path: Path) -> None:
    """The stub only runs after a panic: a reboot would start whatever the normal slot has."""
    calls = Calls()
    KernelBackend(calls, tmp_path).start(Start.PANIC)
    assert calls.others == ["sync", "panic"]


class CallsThatAreInterrupted(Calls):
    """A signal arrives while the kernel loads, and is handled when the load is done."""

    def kexec_load(
        self, entry: int, segments: Sequence[tuple[int, int, int, int]], flags: int
    ) -> None:
        super().kexec_load(entry, segments, flags)
        if segments:
            raise SystemExit(143)


def test_an_image_goes_before_the_memory_it_relies_on(tmp_path: Path) -> None:
    """Otherwise a panic would find the stub armed, and its stage released."""
    calls = CallsThatAreInterrupted()
    backend = KernelBackend(calls, tmp_path)
    with pytest.raises(SystemExit):
        backend.load(table(KexecFlag.KEXEC_ON_CRASH))
    backend.abandon()
    assert (len(calls.loads), calls.unloads) == (1, [KexecFlag.KEXEC_ON_CRASH])


def test_a_load_that_the_kernel_refuses_leaves_the_image_of_others(tmp_path: Path) -> None:
    calls = Calls(errors={"kexec_load": EBUSY})
    backend = KernelBackend(calls, tmp_path)
    with pytest.raises(KexecError):
        backend.load(table(KexecFlag.KEXEC_ON_CRASH))
    calls.errors.clear()
    backend.abandon()
    assert calls.nothing


class CallsThatAnotherMakesToo(Calls):
    """Another pykexec tries to change the image while the kernel reads the files."""

    folder: Path

    def kexec_file_load(self, kernel_fd: int, initrd_fd: int, cmdline: bytes, flags: int) -> None:
        with pytest.raises(Busy), exclusive(self.folder):
            pass
        super().kexec_file_load(kernel_fd, initrd_fd, cmdline, flags)


def test_a_load_by_file_is_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pykexec.host.lock.WAIT", 0.1)
    calls = CallsThatAnotherMakesToo()
    calls.folder = tmp_path / "run"
    backend = KernelBackend(calls, calls.folder, lambda: Machine("a machine"))
    file_load(write(tmp_path, "vmlinuz", make_bzimage()), backend, LoadRequest(append=("quiet",)))
    assert [line for line, _, _ in calls.files] == ["quiet"]


def test_what_the_crash_slot_was_given_is_noted(backend: KernelBackend, tmp_path: Path) -> None:
    """So that `status` can look for it in the kernel."""
    region = PhysRange.sized(0x38000000, 64 << 10)
    request = LoadRequest(kind=ImageKind.CRASH_BY_NORMAL, mode=Mode.IN_PLACE)
    plan = plan_load(
        identify(write(tmp_path, "vmlinuz", make_bzimage())),
        make_machine(crash_kernel=[region]),
        request,
    )
    backend.load(table(KexecFlag.KEXEC_ON_CRASH), plan)
    given = (LoadedSegment(0, 0x1000000, 0x1000),)
    assert backend.records.read() == replace(RECORD, entry=0x1000000, segments=given)
