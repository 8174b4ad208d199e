"""A crash by normal that replaces an armed one: either the old or the new one is always armed, and
however the program is stopped, nothing is lost except what is reported."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from errno import EADDRNOTAVAIL, EBUSY
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pykexec.backends.backend import Slot
from pykexec.backends.kernel.stage import AlreadyStaged, NoRoomForStage
from pykexec.backends.kernel.staged import StageChanged
from pykexec.cli.report.load import LoadReport, facts
from pykexec.cli.report.target import Target
from pykexec.cli.terms import PYKEXEC
from pykexec.documents.codec import plain
from pykexec.documents.plan import Replaced
from pykexec.errors import KexecError
from pykexec.flows.load import LoadedPlan, load
from pykexec.images.contents import Built
from pykexec.placement.granted import Granted
from pykexec.placement.request import ImageKind, LoadRequest, Mode
from pykexec.purgatory import Region
from pykexec.syscalls import SyscallError
from tests.backends.kernel.rig import HugeMemory, Killed, ModelBackend, ModelCalls, Rig
from tests.builders import MIB, make_bzimage, write
from tests.documents import validate

CRASH_SIZE = 64 * MIB
PAGES = {Mode.IN_PLACE: CRASH_SIZE // (2 * MIB) + 2, Mode.STUB_SWAP: CRASH_SIZE // (2 * MIB) + 2}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    write(tmp_path, "vmlinuz", make_bzimage())
    return Rig(tmp_path)


def arm(rig: Rig, *wishes: Any, **more: Any) -> Granted:
    return loaded(rig, *wishes, **more).granted


def loaded(
    rig: Rig,
    name: str,
    mode: Mode | None = Mode.IN_PLACE,
    replaces: bool = True,
    backend: ModelBackend | None = None,
) -> LoadedPlan:
    """A load with a distinct word on its command line."""
    wanted = LoadRequest(
        kind=ImageKind.CRASH_BY_NORMAL,
        initrd=Built(name.encode() * 5000),
        append=(f"image={name}",),
        crash_size=CRASH_SIZE,
        mode=mode,
        replaces=replaces,
    )
    return load(rig.folder / "vmlinuz", backend or rig.backend(), wanted)


def check(rig: Rig) -> None:
    """The checks of `status`, except those of the kernel's own memory."""
    backend = rig.backend()
    assert not backend.bays.torn
    assert backend.staged.check() is not None


def is_armed(rig: Rig, name: str) -> bool:
    """Whether the stub names regions of the stage that have the bytes of this image."""
    return rig.calls.armed is not None and any(
        name.encode() * 5000 in page for pages in rig.pages for page in pages.contents.values()
    )


@pytest.mark.parametrize("mode", list(PAGES))
def test_the_old_one_is_armed_until_the_new_one_is_loaded(rig: Rig, mode: Mode) -> None:
    arm(rig, "one", mode)
    assert rig.memory.pool == PAGES[mode]
    done = arm(rig, "two", mode)
    assert done.replaced is not None
    assert done.replaced.stayed_armed
    assert (len(rig.calls.loads), rig.calls.unloads) == (2, [])
    assert rig.memory.pool == PAGES[mode]
    assert is_armed(rig, "two")
    assert not is_armed(rig, "one")
    check(rig)


def test_again_and_again_from_one_bay_to_the_other(rig: Rig) -> None:
    for turn in range(5):
        arm(rig, f"turn{turn}")
        check(rig)
        assert is_armed(rig, f"turn{turn}")
    assert rig.calls.unloads == []
    backend = rig.backend()
    with backend.session():
        backend.unload(Slot.CRASH)
    assert rig.as_found


def test_where_nothing_is_armed_it_is_a_load(rig: Rig) -> None:
    assert arm(rig, "one").replaced is None
    check(rig)


def test_without_the_option_what_is_armed_stays(rig: Rig) -> None:
    arm(rig, "one")
    with pytest.raises(AlreadyStaged) as caught:
        arm(rig, "two", replaces=False)
    assert (
        caught.value.hint_in(PYKEXEC)
        == "use --replace, or run pykexec unload --crash --backend kernel"
    )
    assert is_armed(rig, "one")
    check(rig)


def test_without_memory_for_both_the_old_one_goes_first(rig: Rig) -> None:
    rig.memory.buddy[:] = HugeMemory.of(50).buddy
    arm(rig, "one")
    done = arm(rig, "two")
    assert done.replaced is not None
    assert done.replaced.gap == (
        "no 32 adjacent huge pages: the longest run has 16, of 16 pages examined"
    )
    assert (len(rig.calls.loads), len(rig.calls.unloads)) == (2, 1)
    assert is_armed(rig, "two")
    assert rig.memory.pool == PAGES[Mode.IN_PLACE]
    check(rig)


@pytest.mark.parametrize("mode", [Mode.IN_PLACE, None])
def test_what_can_never_fit_leaves_what_is_armed(rig: Rig, mode: Mode | None) -> None:
    """It fits neither beside it nor in its place."""
    arm(rig, "one")
    wanted = LoadRequest(
        kind=ImageKind.CRASH_BY_NORMAL, crash_size=600 * MIB, mode=mode, replaces=True
    )
    with pytest.raises(NoRoomForStage, match=r"huge pages are needed, but only \d+ may be taken$"):
        load(rig.folder / "vmlinuz", rig.backend(), wanted)
    assert is_armed(rig, "one")
    assert rig.calls.unloads == []
    check(rig)


def test_a_better_mode_counts_more_than_the_gap(rig: Rig) -> None:
    """Scattered pages beside it would allow only stub-swap, which would then stay for months."""
    rig.memory.buddy[40:] = [0x20000000 + number * 4 * MIB for number in range(60)]
    arm(rig, "one", None)
    done = arm(rig, "two", None)
    assert done.mode is Mode.IN_PLACE
    assert done.replaced is not None
    assert not done.replaced.stayed_armed


def test_a_load_that_lost_what_was_armed_says_so(rig: Rig) -> None:
    rig.memory.buddy[:] = HugeMemory.of(40).buddy
    arm(rig, "one")
    del rig.memory.buddy[:]
    backend = rig.backend()
    taken = rig.pages[0].give_back

    def lost(index: int) -> None:
        """Another process that needs memory is faster."""
        taken(index)
        rig.memory.buddy.clear()

    rig.pages[0].give_back = lost  # type: ignore[method-assign]
    with pytest.raises(NoRoomForStage, match="and what was armed is unloaded"):
        arm(rig, "two", backend=backend)
    assert rig.calls.armed is None
    assert not any(pages.file or pages.mounted for pages in rig.pages)


@pytest.mark.parametrize("frames", [200, 50])
def test_what_became_of_the_old_one_is_reported(rig: Rig, frames: int) -> None:
    rig.memory.buddy[:] = HugeMemory.of(frames).buddy
    arm(rig, "one")
    backend = rig.backend()
    done = loaded(rig, "two", backend=backend)
    report = LoadReport(Target("kernel", "test"), done.planned, backend.read(), done, done.granted)
    document = report.document()
    validate(plain(document))
    shown = dict(facts(report, 0))
    gap = [text for text in report.warnings if text.startswith("nothing was armed while")]
    if frames == 200:
        assert document.replaced == Replaced(stayed_armed=True, why=None)
        assert (shown["replaced"], gap) == ("armed until this one was loaded", [])
    else:
        why = "no 32 adjacent huge pages: the longest run has 16, of 16 pages examined"
        assert document.replaced == Replaced(stayed_armed=False, why=why)
        assert shown["replaced"] == f"unloaded first: {why}"
        assert gap == [f"nothing was armed while this was prepared: {why}"]


def test_an_image_that_another_program_freed_holds_no_memory_beside_the_new_one(rig: Rig) -> None:
    arm(rig, "one")
    rig.calls.loaded = False
    done = arm(rig, "two")
    assert done.replaced is not None
    assert done.replaced.gap == "another program had freed it"
    assert rig.memory.pool == PAGES[Mode.IN_PLACE]
    check(rig)


class Refusing(ModelCalls):
    """A kernel that refuses an image, before or after it frees the present one."""

    errno = 0
    frees_first = False

    def kexec_load(
        self, entry: int, segments: Sequence[tuple[int, int, int, int]], flags: int
    ) -> None:
        if segments and self.errno:
            self.loaded = self.loaded and not self.frees_first
            raise SyscallError("kexec_load(...)", self.errno)
        super().kexec_load(entry, segments, flags)


@pytest.mark.parametrize("frees_first", [False, True])
def test_a_refused_load(tmp_path: Path, frees_first: bool) -> None:
    calls = Refusing()
    rig = Rig(tmp_path, calls=calls)
    write(tmp_path, "vmlinuz", make_bzimage())
    arm(rig, "one")
    calls.errno, calls.frees_first = EADDRNOTAVAIL if frees_first else EBUSY, frees_first
    with pytest.raises(SyscallError):
        arm(rig, "two")
    if frees_first:
        assert rig.as_found
    else:
        assert is_armed(rig, "one")
        assert rig.memory.pool == PAGES[Mode.IN_PLACE]
        check(rig)


class Signalled(ModelCalls):
    """A signal comes while the kernel loads the second image."""

    def kexec_load(
        self, entry: int, segments: Sequence[tuple[int, int, int, int]], flags: int
    ) -> None:
        super().kexec_load(entry, segments, flags)
        if len(self.loads) == 2 and segments:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("frames", [200, 50])
def test_an_interrupt_keeps_the_image_that_has_replaced_another(
    tmp_path: Path, frames: int
) -> None:
    """Also where the old one had to go first. Whoever called learns of the signal."""

    def end(number: int, frame: object) -> NoReturn:
        sys.exit(128 + number)

    rig = Rig(tmp_path, HugeMemory.of(frames), Signalled())
    write(tmp_path, "vmlinuz", make_bzimage())
    arm(rig, "one")
    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(SystemExit) as caught:
            arm(rig, "two")
        assert signal.getsignal(signal.SIGTERM) is end
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 143
    assert is_armed(rig, "two")
    assert rig.memory.pool == PAGES[Mode.IN_PLACE]
    check(rig)


def test_a_load_that_fails_before_the_call_leaves_what_is_armed(rig: Rig) -> None:
    arm(rig, "one")
    backend = rig.backend()

    def moved(bound: object) -> tuple[Region, ...]:
        raise StageChanged("1 huge pages of the stage have moved")

    backend.fill_stage = moved  # type: ignore[method-assign]
    with pytest.raises(StageChanged):
        arm(rig, "two", backend=backend)
    assert is_armed(rig, "one")
    assert rig.memory.pool == PAGES[Mode.IN_PLACE]
    check(rig)


def steps_of_a_replacement(folder: Path) -> tuple[int, int]:
    """The first and the last step of a replacement."""
    rig = Rig(folder)
    arm(rig, "one")
    first = rig.memory.steps + 1
    arm(rig, "two")
    return first, rig.memory.steps


def test_killed_at_every_step(tmp_path: Path) -> None:
    """The old or the new one is armed, or the state is reported as unknown; the next program
    re-arms or releases everything."""
    write(tmp_path, "vmlinuz", make_bzimage())
    (tmp_path / "counted").mkdir()
    write(tmp_path / "counted", "vmlinuz", make_bzimage())
    first, last = steps_of_a_replacement(tmp_path / "counted")
    torn = 0
    for kill_at in range(first, last + 1):
        folder = tmp_path / str(kill_at)
        folder.mkdir()
        write(folder, "vmlinuz", make_bzimage())
        rig = Rig(folder)
        arm(rig, "one")
        rig.memory.kill_at = kill_at
        with pytest.raises(Killed):
            arm(rig, "two")
        rig.memory.kill_at = 0
        assert is_armed(rig, "one") or is_armed(rig, "two")
        backend = rig.backend()
        if backend.bays.torn:
            torn += 1
            with pytest.raises(
                StageChanged, match="was killed: either of the two images may be armed"
            ):
                backend.check()
        else:
            assert backend.staged.check() is not None
        if kill_at % 2:
            done = arm(rig, "three")
            assert done.replaced is not None
            assert is_armed(rig, "three")
            assert rig.memory.pool == PAGES[Mode.IN_PLACE]
            check(rig)
        backend = rig.backend()
        with backend.session():
            backend.unload(Slot.CRASH)
        assert rig.as_found, kill_at
    assert 0 < torn < 6


def test_the_second_bay_is_seen_by_whoever_loads_otherwise(rig: Rig) -> None:
    arm(rig, "one")
    arm(rig, "two")
    backend = rig.backend()
    with pytest.raises(KexecError, match="this would replace the crash by normal"):
        backend.refuse_replacing(Slot.CRASH)
