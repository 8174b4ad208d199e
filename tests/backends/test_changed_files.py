"""Files that change while they are loaded: a kernel gets exactly the bytes that were digested, or
the load fails and everything is released."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.backends.backend import Loaded, LoadState, Slot
from pykexec.backends.simulated import SimulatedBackend
from pykexec.flows.load import load
from pykexec.images.contents import Contents, OpenFile, UnreadableFile, joined_initrd
from pykexec.images.digest_ahead import WORTHWHILE, DigestAhead, digest_ahead
from pykexec.placement.plan import Plan
from pykexec.placement.request import ImageKind, LoadRequest, Mode
from pykexec.placement.segment import SegmentTable
from tests.backends.kernel.rig import ModelBackend, Rig
from tests.builders import MIB, make_bzimage, make_cpio, write

OLD, NEW = (make_cpio(("init", word * 5000)) for word in (b"old", b"new"))


def overwritten(path: Path) -> None:
    path.write_bytes(NEW)


def overwritten_in_secret(path: Path) -> None:
    """Its timestamps are unchanged: only the digest shows it."""
    before = path.stat()
    path.write_bytes(NEW.ljust(before.st_size, b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def through_a_mapping(path: Path) -> None:
    """A writer that updated the timestamp before the file was opened."""
    before = path.stat()
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[600:603] = b"new"
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def extended(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def truncated(path: Path) -> None:
    os.truncate(path, 100)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def touched_in_the_part_that_was_read(path: Path) -> None:
    """Like a writer that is slower than both passes: both read the same."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 4_000_000))


Change = Callable[[Path], None]
CHANGES: list[Change] = [
    overwritten, overwritten_in_secret, through_a_mapping, extended, truncated, emptied,
    touched_in_the_part_that_was_read,
]  # fmt: skip


@pytest.fixture
def initrd(tmp_path: Path) -> Path:
    write(tmp_path, "vmlinuz", make_bzimage())
    return write(tmp_path, "initrd", OLD)


class Changed:
    """A hook that makes its change once."""

    def __init__(self, change: Callable[[Path], None], path: Path) -> None:
        self.change: Callable[[Path], None] | None = change
        self.path = path

    def __call__(self) -> None:
        if self.change:
            self.change(self.path)
        self.change = None


def request(initrd: Contents | None, **wishes: object) -> LoadRequest:
    return replace(LoadRequest(initrd=initrd, initrd_check=False), **wishes)  # type: ignore[arg-type]


def real(rig: Rig, changed: Callable[[], None]) -> ModelBackend:
    backend = rig.backend()
    backend.before_it_is_used = changed  # type: ignore[method-assign]
    return backend


MODES = [Mode.IN_PLACE, Mode.STUB_SWAP]
BY_NORMAL = {"kind": ImageKind.CRASH_BY_NORMAL, "crash_size": 64 * MIB}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("ahead", [False, True])
def test_a_normal_load(
    tmp_path: Path, initrd: Path, change: Callable[[Path], None], ahead: bool
) -> None:
    rig = Rig(tmp_path)
    opened = joined_initrd([initrd])
    assert opened
    wanted: Contents = DigestAhead(opened) if ahead else opened
    assert wanted.sha256
    with pytest.raises(UnreadableFile) as caught:
        load(tmp_path / "vmlinuz", real(rig, Changed(change, initrd)), request(wanted))
    assert caught.value.message.startswith(str(initrd))
    assert caught.value.code in ("file-changed", "unreadable-file")
    assert "make sure that nothing writes to it" in (caught.value.hint or "")
    assert rig.calls.loads == []


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("mode", MODES)
def test_a_stage(tmp_path: Path, initrd: Path, change: Callable[[Path], None], mode: Mode) -> None:
    rig = Rig(tmp_path)
    wanted = DigestAhead(joined_initrd([initrd]))  # type: ignore[arg-type]
    assert wanted.sha256
    backend = real(rig, Changed(change, initrd))
    with pytest.raises(UnreadableFile, match=str(initrd)):
        load(tmp_path / "vmlinuz", backend, request(wanted, mode=mode, **BY_NORMAL))
    assert rig.calls.loads == []
    assert rig.as_found


def test_what_is_armed_stays_so(tmp_path: Path, initrd: Path) -> None:
    rig = Rig(tmp_path)
    first = request(joined_initrd([initrd]), mode=Mode.IN_PLACE, **BY_NORMAL)
    load(tmp_path / "vmlinuz", rig.backend(), first)
    backend = real(rig, Changed(overwritten, initrd))
    second = replace(first, initrd=joined_initrd([initrd]), replaces=True)
    with pytest.raises(UnreadableFile):
        load(tmp_path / "vmlinuz", backend, second)
    assert len(rig.calls.loads) == 1
    assert rig.backend().staged.check() is not None


class HookedSimulation(SimulatedBackend):
    changed: Callable[[], None]

    def load(self, table: SegmentTable, plan: Plan | None = None) -> Loaded:
        self.changed()
        return super().load(table, plan)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", [ImageKind.NORMAL, ImageKind.CRASH, ImageKind.CRASH_BY_NORMAL])
def test_a_simulated_load(
    tmp_path: Path, initrd: Path, change: Callable[[Path], None], kind: ImageKind
) -> None:
    SimulatedBackend.create(tmp_path / "m", 256 * MIB, crashkernel=64 * MIB)
    backend = HookedSimulation.open(tmp_path / "m")
    assert isinstance(backend, HookedSimulation)
    backend.changed = Changed(change, initrd)
    size = 32 * MIB if kind is ImageKind.CRASH_BY_NORMAL else None
    wanted = request(joined_initrd([initrd]), kind=kind, crash_size=size)
    with pytest.raises(UnreadableFile, match=str(initrd)):
        load(tmp_path / "vmlinuz", backend, wanted)
    assert set(backend.status().values()) == {LoadState.NOT_LOADED}


@pytest.mark.parametrize("which", ["vmlinuz", "second"])
def test_every_file_of_a_load(tmp_path: Path, initrd: Path, which: str) -> None:
    """The kernel, and one of several joined initrds."""
    second = write(tmp_path, "second", OLD)
    rig = Rig(tmp_path)
    backend = real(rig, Changed(overwritten_in_secret, tmp_path / which))
    with pytest.raises(UnreadableFile, match=which):
        load(tmp_path / "vmlinuz", backend, request(joined_initrd([initrd, second])))
    assert rig.calls.loads == []


def renamed_over(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(NEW)
    os.replace(other, path)


def test_a_file_that_is_replaced_by_another_is_loaded_as_it_was(
    tmp_path: Path, initrd: Path
) -> None:
    """As package managers do."""
    rig = Rig(tmp_path)
    wanted = request(joined_initrd([initrd]), mode=Mode.IN_PLACE, **BY_NORMAL)
    load(tmp_path / "vmlinuz", real(rig, Changed(renamed_over, initrd)), wanted)
    assert any(OLD in page for page in rig.pages[0].contents.values())
    assert initrd.read_bytes() == NEW


def test_a_change_that_comes_with_the_system_call_is_too_late(tmp_path: Path, initrd: Path) -> None:
    """The kernel copies from memory that is not a mapping of the file."""
    rig = Rig(tmp_path)
    announced = Changed(overwritten, initrd)

    class Backend(ModelBackend):
        def announce(self, *given: object) -> None:
            announced()

    backend = Backend(rig.calls, tmp_path / "run", rig.pages)
    load(tmp_path / "vmlinuz", backend, request(joined_initrd([initrd])))
    assert OLD in [data for _, _, data in rig.calls.loads[0].segments]


def test_each_file_is_read_twice_at_most(tmp_path: Path) -> None:
    """Once for the early digest, and once for its use: the stub's table is made from the bytes
    used."""
    write(tmp_path, "vmlinuz", make_bzimage())
    file = OpenFile(write(tmp_path, "initrd", bytes(WORTHWHILE + 5)))
    inner = file.span(0, file.size)

    class Counted:
        name, size, passes = "initrd", inner.size, 0

        def chunks(self) -> Iterator[bytes | memoryview]:
            type(self).passes += 1
            return inner.chunks()

        @property
        def sha256(self) -> bytes:
            raise AssertionError("nobody has to ask for it")

        def first_sha256(self, now: bytes) -> bytes:
            return now

    rig = Rig(tmp_path)
    wanted = request(digest_ahead(Counted()), mode=Mode.STUB_SWAP, **BY_NORMAL)
    done = load(tmp_path / "vmlinuz", rig.backend(), wanted)
    assert Counted.passes == 2
    item = done.planned.plan.named("initrd")
    assert item
    assert item.contents
    assert item.contents.sha256 == hashlib.sha256(bytes(WORTHWHILE + 5)).digest()


def test_status_keeps_quiet_about_a_load_that_was_refused(tmp_path: Path, initrd: Path) -> None:
    rig = Rig(tmp_path)
    backend = real(rig, Changed(overwritten, initrd))
    wanted = request(joined_initrd([initrd]), mode=Mode.IN_PLACE, **BY_NORMAL)
    with pytest.raises(UnreadableFile):
        load(tmp_path / "vmlinuz", backend, wanted)
    assert rig.backend().staged.check() is None
    assert rig.backend().status()[Slot.CRASH] is LoadState.NOT_LOADED
