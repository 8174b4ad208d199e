"""A machine's folder: created, opened, locked, damaged, and killed at every write."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec.backends.backend import Slot
from pykexec.backends.simulated import SimulatedBackend
from pykexec.backends.simulated.store.machine_folder import MachineFolder
from pykexec.errors import KexecError
from pykexec.images.contents import data_extents
from pykexec.memory.ranges import PhysRange
from tests.backends.simulated.images import ON_CRASH, PAGE, capture_image, load_bound
from tests.backends.simulated.machines import (
    MIB,
    addresses,
    core_pages,
    fill_pages,
    first_difference,
    raw_pages,
)

WINDOW = PhysRange.sized(4 * MIB, MIB)
FILES = ["lock", "machine.json", "ram"]


def make(folder: Path, **arguments: Any) -> SimulatedBackend:
    """A machine; with a reservation it has more memory, because that is aligned to 16 MiB."""
    memory = 20 * MIB if arguments.get("crashkernel") else 12 * MIB
    return SimulatedBackend.create(folder, memory, seed=1, **arguments)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_machine_is_two_files(tmp_path: Path) -> None:
    backend = make(tmp_path / "new" / "machine")
    assert names(backend.folder.path) == FILES
    ram = backend.folder.path / "ram"
    assert ram.stat().st_size == 12 * MIB - 0x20000, "the end of the highest RAM"
    assert ram.stat().st_blocks * 512 < 256 << 10, "sparse"
    written = {addr for addr, page in raw_pages(backend.folder.path, [
        *range(0, ram.stat().st_size, PAGE)]).items() if any(page)}  # fmt: skip
    assert written <= set(addresses(backend.show().kernel)), "used memory is zeros"


def test_the_same_seed_makes_the_same_machine(tmp_path: Path) -> None:
    one, other = make(tmp_path / "one"), make(tmp_path / "other")
    for name in ("machine.json", "ram"):
        same = (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
        assert same
    image = capture_image(WINDOW)
    assert load_bound(one, image).backup_map == load_bound(other, image).backup_map
    differs = SimulatedBackend.create(tmp_path / "third", 12 * MIB, seed=2)
    assert differs.show().in_use != one.show().in_use


def test_create_refuses_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "ram").write_bytes(b"somebody's")
    with pytest.raises(KexecError) as caught:
        make(tmp_path)
    assert caught.value.code == "not-empty"
    assert caught.value.message == f"{tmp_path}: not an empty folder: it contains 'ram'"
    assert caught.value.exit_status == 2
    assert names(tmp_path) == ["ram"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"memory": 12345}, "a simulated machine cannot have 0x3039 bytes"),
        ({"memory": 1 << 60}, "a simulated machine cannot have"),
        ({"used": 101}, "101 percent"),
        ({"seed": 1 << 63}, "more than 62 bits"),
        ({"allocator": "best"}, "'best' is not one of 'random'"),
        ({"relocate": "move"}, "'move' is not one of 'swap' or 'copy'"),
        ({"crashkernel": 1 << 40}, "crashkernel=0x10000000000: no free range"),
        ({"crashkernel": 0}, "reserves nothing"),
    ],
)
def test_create_refuses_in_words(arguments: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(KexecError) as caught:
        SimulatedBackend.create(tmp_path / "m", **arguments)
    assert words in caught.value.message
    assert not (tmp_path / "m").exists()


def test_open_of_what_is_no_machine(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(KexecError) as caught:
            SimulatedBackend.open(path)
        assert caught.value.code == "not-a-machine"
        assert caught.value.hint == f"use pykexec machine create {path}"


def test_a_second_pykexec_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pykexec.host.lock.WAIT", 0.1)
    backend = make(tmp_path / "m")
    with open(tmp_path / "m" / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(KexecError) as caught:
            backend.unload(Slot.CRASH)
        assert caught.value.code == "busy"
        assert "another pykexec is running" in caught.value.message
        fcntl.flock(lock, fcntl.LOCK_SH)
        backend.show()
        with pytest.raises(KexecError):
            backend.unload(Slot.CRASH)
    backend.unload(Slot.CRASH)


@pytest.mark.parametrize("call", ["pwrite", "posix_fallocate"])
def test_a_full_disk_is_one_line(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = make(tmp_path / "m")
    before = (tmp_path / "m" / "machine.json").read_bytes()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(KexecError) as caught:
        backend.load(capture_image(WINDOW).table)
    assert caught.value.message == f"{tmp_path}/m: No space left on device"
    assert names(tmp_path / "m") == FILES
    assert before == (tmp_path / "m" / "machine.json").read_bytes()


def test_what_is_decided_has_its_blocks_already(tmp_path: Path) -> None:
    """If the disk were found full after the commit, the folder could not be opened."""
    backend = make(tmp_path / "m")
    ram = tmp_path / "m" / "ram"
    before, blocks = ram.read_bytes(), ram.stat().st_blocks
    with backend.folder.session(write=True) as session:
        session.ram.write(MIB, b"x" * (2 * MIB))
        session.ram.poison(5 * MIB, MIB)
        session.make_room()
    assert ram.stat().st_blocks * 512 >= blocks * 512 + 3 * MIB
    same = ram.read_bytes() == before
    assert same


def test_a_journal_that_was_applied_is_gone_first(tmp_path: Path) -> None:
    """Killed between removing it and writing the last machine.json."""
    backend = make(tmp_path / "m")
    state = tmp_path / "m" / "machine.json"
    document = json.loads(state.read_text())
    before = picture(tmp_path / "m")
    state.write_text(json.dumps(document | {"pending": {"memory": True, "vmcore": True}}))
    backend.status()
    assert picture(tmp_path / "m") == before
    assert json.loads(state.read_text()) == document


def test_a_ram_file_that_is_too_short(tmp_path: Path) -> None:
    backend = make(tmp_path / "m")
    os.truncate(tmp_path / "m" / "ram", 4096)
    with pytest.raises(KexecError) as caught:
        backend.status()
    assert "ram has 0x1000 bytes, expected 0xbe0000" in caught.value.message


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_instead_of_a_file(name: str, tmp_path: Path) -> None:
    """Nobody opens its other end."""
    make(tmp_path / "m")
    (tmp_path / "m" / name).unlink()
    os.mkfifo(tmp_path / "m" / name)
    child = os.fork()
    if not child:
        signal.alarm(60)
        with suppress(KexecError):
            SimulatedBackend.open(tmp_path / "m").show()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_page_list_that_somebody_overwrote(tmp_path: Path) -> None:
    """Free frames belong to the kernel: noise there gives a typed error, not a traceback."""
    backend = make(tmp_path / "m")
    load_bound(backend, capture_image(WINDOW))
    head = json.loads((tmp_path / "m" / "machine.json").read_text())["images"]["crash"]["head"]
    with open(tmp_path / "m" / "ram", "r+b") as ram:
        for raw in (b"\xff" * PAGE, bytes(PAGE), (0x1000 | 8).to_bytes(8, "little") * 512):
            ram.seek(head & ~0xFFF)
            ram.write(raw)
            ram.flush()
            for call in (backend.show, backend.crash, lambda: backend.unload(Slot.CRASH)):
                with pytest.raises(KexecError) as caught:
                    call()
                assert caught.value.code in ("bad-page-list", "not-memory")


# ---- arbitrary machine.json


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(max_size=5)
    | st.just("\x00"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def good_machine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    folder = tmp_path_factory.mktemp("hostile") / "m"
    backend = make(folder, crashkernel=256 << 10)
    load_bound(backend, capture_image(WINDOW))
    return folder, (folder / "machine.json").read_bytes()


def opens_or_says_why(folder: Path, raw: bytes) -> None:
    (folder / "machine.json").write_bytes(raw)
    try:
        backend = SimulatedBackend.open(folder)
        backend.show()
        backend.machine()
    except KexecError as error:
        assert error.message.count("\n") == 0
        assert len(error.message) < 400


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a JSON document."""
    found = [at]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += paths(inner, (*at, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            found += paths(inner, (*at, number))
    return found


@settings(max_examples=150)
@given(data=st.data())
def test_any_value_anywhere(data: st.DataObject, good_machine: tuple[Path, bytes]) -> None:
    folder, raw = good_machine
    document = json.loads(raw)
    *way, last = data.draw(st.sampled_from(paths(document)[1:]))
    holder = document
    for key in way:
        holder = holder[key]
    if data.draw(st.booleans()):
        holder[last] = data.draw(VALUES)
    elif isinstance(holder, dict):
        del holder[last]
    elif isinstance(holder[last], int):
        holder[last] += data.draw(st.sampled_from([-1, 1, 1 << 20, 1 << 51, 1 << 63]))
    opens_or_says_why(folder, json.dumps(document).encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"schema":' * 50_000,
        b"1" * 5000,
        b'{"schema":"pykexec.simulated/2"}',
        b'{"schema":"pykexec.simulated/1"}',
    ],
)
def test_what_is_no_machine_json(raw: bytes, good_machine: tuple[Path, bytes]) -> None:
    folder, _ = good_machine
    (folder / "machine.json").write_bytes(raw)
    with pytest.raises(KexecError) as caught:
        SimulatedBackend.open(folder)
    assert caught.value.code == "bad-machine"
    assert caught.value.message.startswith(f"{folder}: machine.json: ")


@settings(max_examples=60)
@given(at=st.integers(0, 5000), noise=st.binary(max_size=3))
def test_any_bytes_in_between(at: int, noise: bytes, good_machine: tuple[Path, bytes]) -> None:
    folder, raw = good_machine
    opens_or_says_why(folder, raw[:at] + noise + raw[at + len(noise) :])
    opens_or_says_why(folder, raw[:at])


# ---- killed


class Killed(BaseException):
    """Simulates SIGKILL: nothing that runs afterwards may touch the folder."""


WRITES = (
    "pwrite",
    "copy_file_range",
    "posix_fallocate",
    "replace",
    "unlink",
    "ftruncate",
    "mkdir",
    "open",
)
"""Every function that changes a file of the folder."""


def killed_at(number: int, action: Callable[[], object]) -> bool:
    """Do it in a child that dies before its write number `number`; False if it finished."""
    child = os.fork()
    if not child:
        try:
            count = 0
            for name in WRITES:
                real = getattr(os, name)

                def counting(*arguments: Any, real: Any = real, **keywords: Any) -> Any:
                    nonlocal count
                    if count == number:
                        os._exit(9)
                    count += 1
                    return real(*arguments, **keywords)

                setattr(os, name, counting)
            action()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9), "the command failed by itself"
    return status == 9


def picture(folder: Path) -> tuple[object, ...]:
    """Everything that a user can see of a machine."""
    backend = SimulatedBackend.open(folder)
    ram = (folder / "ram").read_bytes()
    vmcore = (folder / "vmcore").read_bytes() if (folder / "vmcore").exists() else None
    return backend.show(), tuple(backend.status().items()), hash(ram), hash(vmcore)


TINY = PhysRange.sized(4 * MIB, 40 * PAGE)
LOW = (PhysRange(0x1000, 0x3000),)


def copy_machine(source: Path, target: Path) -> SimulatedBackend:
    """Replace `target` with a copy."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for path in source.iterdir():
        with open(path, "rb") as old, open(target / path.name, "wb") as new:
            new.truncate(path.stat().st_size)
            for start, end in data_extents(old.fileno(), 0, path.stat().st_size):
                os.pwrite(new.fileno(), os.pread(old.fileno(), end - start, start), start)
    return SimulatedBackend.open(target)


def loads(backend: SimulatedBackend) -> None:
    load_bound(backend, capture_image(TINY, LOW, headers=6 * PAGE, kernel_pages=3))


def loads_reserved(backend: SimulatedBackend, kernel_pages: int = 3) -> None:
    reservation = backend.show().reservation
    assert reservation
    window = PhysRange(reservation.start + 16 * PAGE, reservation.start + 40 * PAGE)
    image = capture_image(window, low=(), flags=ON_CRASH, headers=PAGE, kernel_pages=kernel_pages)
    backend.load(image.table)


def loads_reserved_other(backend: SimulatedBackend) -> None:
    loads_reserved(backend, kernel_pages=5)


ACTIONS: dict[str, tuple[tuple[Callable[[SimulatedBackend], object], ...], bool]] = {
    "load": ((loads,), False),
    "load over another": ((loads, loads), False),
    "load into the reservation": ((loads_reserved,), True),
    "load into the reservation again": ((loads_reserved, loads_reserved_other), True),
    "unload": ((loads, lambda backend: backend.unload(Slot.CRASH)), False),
    "crash": ((loads, SimulatedBackend.crash), False),
    "load after a crash": ((loads, SimulatedBackend.crash, loads), False),
    "crash over an older dump": (
        (loads, SimulatedBackend.crash, loads, SimulatedBackend.crash),
        False,
    ),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_killed_at_any_write(name: str, tmp_path: Path) -> None:
    """The folder opens in the old or in the new state, whichever write was the last."""
    (*before, action), reserved = ACTIONS[name]
    base = make(tmp_path / "base", allocator="lowest", crashkernel=MIB if reserved else None)
    fill_pages(tmp_path / "base", addresses(base.show().in_use.within(TINY)))
    for step in before:
        step(base)
    start = picture(tmp_path / "base")
    done = copy_machine(tmp_path / "base", tmp_path / "done")
    action(done)
    end = picture(tmp_path / "done")
    assert start != end
    seen = set()
    for number in range(400):
        folder = tmp_path / "killed"
        backend = copy_machine(tmp_path / "base", folder)
        if not killed_at(number, lambda: action(backend)):  # noqa: B023
            break
        found = picture(folder)
        assert found in (start, end), f"write {number}"
        seen.add(found == end)
        loads_reserved(backend) if reserved else loads(backend)
        assert set(names(folder)) <= {*FILES, "vmcore"}, "leftovers are cleaned up"
    else:
        pytest.fail("the command never ended")
    assert seen == {False, True}, "both outcomes were seen"


def test_create_killed_at_any_write(tmp_path: Path) -> None:
    for number in range(100):
        folder = tmp_path / "m"
        shutil.rmtree(folder, ignore_errors=True)
        if not killed_at(number, lambda: make(folder)):  # noqa: B023
            break
        try:
            picture(folder)
        except KexecError as error:
            assert error.code == "not-a-machine"
            make(folder)
        loads(SimulatedBackend.open(folder))
    else:
        pytest.fail("the command never ended")


def test_killed_between_load_and_bind_is_no_load(tmp_path: Path) -> None:
    backend = make(tmp_path / "m")
    before = picture(tmp_path / "m")

    def load_and_die() -> None:
        with backend.session():
            backend.load(capture_image(WINDOW).table)
            raise Killed

    with pytest.raises(Killed):
        load_and_die()
    assert picture(tmp_path / "m") == before
    assert names(tmp_path / "m") == FILES


def test_bind_that_fails_can_be_unloaded_in_the_same_turn(tmp_path: Path) -> None:
    backend = make(tmp_path / "m")
    free = backend.show().free
    image = capture_image(WINDOW)

    def load_and_fail() -> None:
        with backend.session():
            loaded = backend.load(image.table)
            try:
                backend.bind_headers(WINDOW.end, b"x")
            except KexecError:
                backend.unload(loaded.slot)
                raise

    with pytest.raises(KexecError, match="no segment of the loaded image"):
        load_and_fail()
    assert backend.show().free == free


def test_a_dump_is_whole_after_a_kill(tmp_path: Path) -> None:
    """Killed while writing the dump, then repeated."""
    backend = make(tmp_path / "m")
    expected = fill_pages(tmp_path / "m", addresses(backend.show().in_use))
    loads(backend)
    assert killed_at(30, backend.crash)
    switched = backend.crash()
    assert switched.vmcore
    assert not first_difference(expected, core_pages(switched.vmcore))


def test_from_another_machine(tmp_path: Path) -> None:
    """The known facts of a captured machine are used: map, image, notes, reservation."""
    source = SimulatedBackend.create(tmp_path / "a", 64 * MIB, seed=4, crashkernel=MIB).machine()
    backend = SimulatedBackend.create(tmp_path / "b", seed=9, from_machine=source)
    taken = backend.machine()
    for name in (
        "memory_map", "kernel_image", "crash_kernel", "release", "cmdline", "totalram",
        "cpus", "vmcoreinfo", "page_offset_base",
    ):  # fmt: skip
        assert getattr(taken, name) == getattr(source, name), name


def test_open_says_what_it_opened(tmp_path: Path) -> None:
    make(tmp_path / "m")
    assert MachineFolder.open(str(tmp_path / "m")).path == tmp_path / "m"
