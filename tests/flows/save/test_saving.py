"""A capture from start to end on dumps that are built here, with programs that fail, hang and fill
the disk as real ones do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.cli.run.save import report_files
from pykexec.documents.codec import encode
from pykexec.documents.saved import SavedDump
from pykexec.dump.reader import open_dump
from pykexec.flows.save.folders import new_name
from pykexec.flows.save.saved import LOST, Seen, listed, lost, new_since, newest_of
from pykexec.flows.save.saving import Saving
from pykexec.flows.save.settings import SaveSettings
from tests.builders import write
from tests.documents import validate
from tests.dump.kernel import Kernel

FILES = ["dmesg.txt", "dump", "report.json", "report.txt", "status.json"]
COPIES = 'for last; do :; done; echo "Copying data : [ 50.0 %] /" >&2; cp "{source}" "$last"'
"""A makedumpfile that does no more than it has to."""


def script(folder: Path, name: str, text: str) -> Path:
    """A program of the shell."""
    path = write(folder, name, f"#!/bin/sh\n{text}\n".encode())
    path.chmod(0o755)
    return path


class Guest:
    """A dump, a folder to save it in, and the messages on the console."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.crash = folder, folder / "crash"
        self.fallback = folder / "fallback"
        self.source = write(folder, "vmcore", Kernel().elf())
        self.console = folder / "console"
        self.settings = SaveSettings(folder=str(self.crash), free=0, step_time=60, dump_time=60)

    def save(self, program: str | None = COPIES, **settings: object) -> SavedDump:
        path = None
        if program is not None:
            text = program.replace("{source}", str(self.source))
            path = str(script(self.folder, "makedumpfile", text))
        saving = Saving(
            replace(self.settings, **settings),  # type: ignore[arg-type]
            str(self.source),
            path,
            report_files,
            self.say,
            str(self.fallback),
        )
        done = saving.run()
        validate(json.loads(encode(done)))
        return done

    def say(self, line: str) -> None:
        """Record a message; most come from child processes."""
        with self.console.open("a") as file:
            file.write(f"{line}\n")

    def files(self, done: SavedDump) -> list[str]:
        assert done.folder
        return sorted(os.listdir(done.folder))


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


def failed(done: SavedDump) -> dict[str, str]:
    return {step.name: step.problem for step in done.steps if step.problem}


@pytest.mark.parametrize("program", [COPIES, None])
def test_all_is_saved(guest: Guest, program: str | None) -> None:
    done = guest.save(program)
    assert failed(done) == {}
    assert done.complete
    assert done.folder
    assert done.folder.startswith(f"{guest.crash}/pykexec-")
    assert not done.folder.endswith(".incomplete")
    assert guest.files(done) == FILES
    assert open_dump(f"{done.folder}/dump").info.release == "6.1.0-built"
    assert done.dump
    assert done.dump.writer == ("makedumpfile" if program else "copy")
    assert done.dump.whole
    assert (done.release, done.reason) == ("6.1.0-built", "built")
    report = json.loads(Path(done.folder, "report.json").read_text())
    validate(report)
    status = json.loads(Path(done.folder, "status.json").read_text())
    validate(status)
    assert status["complete"] is True
    assert {Path(done.folder, name).stat().st_mode & 0o77 for name in FILES} == {0}


def test_log_and_report_come_before_the_dump(guest: Guest) -> None:
    saw = guest.folder / "saw"
    guest.save(f"ls {guest.crash}/*.incomplete > {saw}; {COPIES}")
    assert saw.read_text().split() == ["dmesg.txt", "report.json", "report.txt"]


def test_the_log_is_that_of_the_dump(guest: Guest) -> None:
    done = guest.save()
    command = [sys.executable, "-m", "pykexec", "vmcore", "dmesg", str(guest.source)]
    expected = subprocess.run(command, capture_output=True, check=True).stdout
    assert Path(done.folder or "", "dmesg.txt").read_bytes() == expected != b""


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("kill -9 $$", "was killed by SIGKILL"),
        ("echo no room for bitmaps >&2; exit 1", "failed with exit status 1: no room for bitmaps"),
        ("sleep 1000", "not finished after 2 s"),
    ],
)
def test_where_makedumpfile_fails_all_memory_is_copied(
    guest: Guest, program: str, reason: str
) -> None:
    begun = time.monotonic()
    done = guest.save(program, dump_time=2)
    assert time.monotonic() - begun < 40
    assert reason in failed(done)["dump by makedumpfile"]
    assert done.complete
    assert done.dump
    assert (done.dump.writer, done.dump.level) == ("copy", None)
    assert Path(done.folder or "", "dump").read_bytes() == guest.source.read_bytes()


def test_makedumpfile_alone(guest: Guest) -> None:
    """Log and report stay, in a folder whose name shows that it is not complete."""
    done = guest.save('for last; do :; done; echo half > "$last"; exit 1', method="makedumpfile")
    assert not done.complete
    assert done.folder
    assert done.folder.endswith(".incomplete")
    assert guest.files(done) == [name for name in FILES if name != "dump"]


@pytest.mark.parametrize("cut", [4096, 100_000])
def test_what_is_not_whole_is_not_called_whole(guest: Guest, cut: int) -> None:
    size = guest.source.stat().st_size - cut
    done = guest.save(f'for last; do :; done; head -c {size} {{source}} > "$last"')
    assert not done.complete
    assert done.dump
    assert not done.dump.whole
    assert done.dump.problem
    assert (done.folder or "").endswith(".incomplete")


def test_a_target_that_cannot_be_made(guest: Guest) -> None:
    """A file where the folder should be."""
    guest.crash.write_text("")
    done = guest.save()
    assert done.complete
    assert (done.folder or "").startswith(f"{guest.fallback}/pykexec-")
    assert done.problems == (f"the configured target failed; {guest.fallback} is used instead",)


def test_a_device_that_is_not_there(guest: Guest) -> None:
    done = guest.save(device="LABEL=pykexec-no-such-device", folder="/x")
    assert "LABEL=pykexec-no-such-device: cannot be mounted" in failed(done)["target"]
    assert done.complete
    assert (done.folder or "").startswith(str(guest.fallback))


def test_without_any_place_the_console_gets_the_log(guest: Guest) -> None:
    guest.crash.write_text("")
    guest.fallback.write_text("")
    done = guest.save()
    assert (done.folder, done.complete) == (None, False)
    assert "Kernel panic - not syncing" in guest.console.read_text()


def test_old_dumps_go_and_foreign_ones_stay(guest: Guest) -> None:
    (guest.crash / "202601010000").mkdir(parents=True)
    names = []
    for _ in range(4):
        names.append(guest.save(keep=2).name)
    assert sorted(os.listdir(guest.crash)) == sorted(["202601010000", *names[-2:]])


def test_a_clock_that_was_set_back(guest: Guest) -> None:
    """The names of the earlier dumps are of a later time: the new dump stays."""
    for day in (1, 2, 3):
        (guest.crash / f"pykexec-2099010{day}T000000Z").mkdir(parents=True)
    done = guest.save(keep=2)
    assert done.complete
    assert sorted(os.listdir(guest.crash)) == [done.name, "pykexec-20990103T000000Z"]


def test_a_folder_that_everybody_may_write_to(guest: Guest) -> None:
    """What others put there does not count, is not removed, and stops nothing."""
    if os.geteuid() != 0:
        pytest.skip("files of another user take root")
    guest.crash.mkdir()
    planted = guest.crash / "pykexec-20990101T000000Z"
    planted.mkdir()
    os.chown(planted, 1000, 1000)
    (guest.crash / "pykexec-19700101T000000Z").symlink_to(guest.folder)
    os.mkfifo(planted / "status.json")
    names = [guest.save(keep=1, free=1 << 20).name for _ in "ab"]
    assert sorted(os.listdir(guest.crash)) == sorted(
        [names[1], "pykexec-19700101T000000Z", planted.name]
    )
    problems = {dump.name: dump.problem for dump in listed(str(guest.crash))}
    assert problems[planted.name] == "status.json: not a regular file"


def test_two_that_save_at_the_same_time(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one takes the name in between."""
    first = guest.save()
    answers = iter((first.name,))
    monkeypatch.setattr(
        "pykexec.flows.save.saving.new_name",
        lambda crashed, there: next(answers, None) or new_name(crashed, there),
    )
    (guest.crash / first.name).rename(guest.crash / f"{first.name}.incomplete")
    done = guest.save()
    assert done.name != first.name
    assert (done.complete, done.problems) == (True, ())


def test_too_little_room(guest: Guest) -> None:
    """Log and report are saved, and nothing else is removed but what may be."""
    first, second = guest.save(), guest.save()
    done = guest.save(free=1 << 60)
    assert not done.complete
    assert guest.files(done) == [name for name in FILES if name != "dump"]
    assert "MiB are free, but 1099511627776 MiB are required" in str(failed(done))
    left = [dump.name for dump in listed(str(guest.crash))]
    assert left == [second.name, done.name], "the newest that is complete stays"
    assert first.name not in left


def test_a_disk_that_fills_while_the_dump_is_written(guest: Guest) -> None:
    """What the file system has no room for is no dump, and the part of it is removed."""
    if os.geteuid() != 0 or subprocess.run(["mount", "--version"], check=False).returncode:
        pytest.skip("mounting a small file system takes root")
    guest.crash.mkdir()
    guest.source.write_bytes(guest.source.read_bytes() + os.urandom(2 << 20))
    mounted = ["mount", "-t", "tmpfs", "-o", "size=1M", "none", str(guest.crash)]
    if subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("this machine mounts no tmpfs")
    try:
        done = guest.save()
        files = guest.files(done)
    finally:
        subprocess.run(["umount", guest.crash], check=True)
    assert not done.complete
    assert "dump" not in files
    assert {"dmesg.txt", "report.txt", "status.json"} <= set(files)


def test_a_command_gets_every_file(guest: Guest) -> None:
    there = guest.folder / "remote"
    there.mkdir()
    command = ("sh", "-c", f'cat > "{there}/$1"', "sh", "%d-%f")
    done = guest.save('cat "{source}"', command=command)
    assert done.complete
    assert sorted(os.listdir(there)) == [f"{done.name}-{name}" for name in FILES]
    assert (there / f"{done.name}-dump").read_bytes() == guest.source.read_bytes()
    assert guest.files(done) == ["status.json"]
    assert done.dump
    assert done.dump.whole is None


def test_a_command_that_fails(guest: Guest) -> None:
    done = guest.save(command=("sh", "-c", "cat > /dev/null; exit 255"))
    assert "sh failed with exit status 255" in failed(done)["log"]
    assert done.complete
    assert guest.files(done) == FILES


def test_a_command_that_hangs(guest: Guest) -> None:
    begun = time.monotonic()
    done = guest.save(command=("sleep", "1000"), step_time=2)
    assert time.monotonic() - begun < 50
    assert done.complete
    assert guest.files(done) == FILES


AGE = 'printf "age:"; while [ "$1" != -r ]; do shift; done; printf "%s:" "$2"; tr a-z A-Z'


def test_encrypted_files(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the program that is installed; nothing is left in the clear but the status."""
    programs = guest.folder / "programs"
    programs.mkdir()
    script(programs, "age", AGE)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    done = guest.save('cat "{source}"', recipient="age1xyz")
    assert done.complete
    assert guest.files(done) == [*(f"{name}.age" for name in FILES[:-1]), "status.json"]
    assert Path(done.folder or "", "dmesg.txt.age").read_bytes().startswith(b"age:age1xyz:[")


def test_without_age_nothing_is_saved_in_the_clear(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = guest.folder / "programs"
    programs.mkdir()
    for name in ("cat", "cp", "sh"):
        (programs / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(programs))
    done = guest.save(recipient="age1xyz")
    assert not done.complete
    assert failed(done)["log"] == "age: no such file or directory"
    contents = [Path(done.folder or "", name).read_bytes() for name in guest.files(done)]
    assert [data for data in contents if b"Kernel panic" in data or b"\x7fELF" in data] == []


def test_a_damaged_dump_is_saved_all_the_same(guest: Guest) -> None:
    data = guest.source.read_bytes()
    guest.source.write_bytes(data[: len(data) // 2])
    done = guest.save(None)
    assert done.dump
    assert Path(done.folder or "", "dump").stat().st_size == len(data) // 2


def test_what_is_listed(guest: Guest) -> None:
    done = guest.save()
    broken = guest.crash / "pykexec-20990101T000000Z.incomplete"
    broken.mkdir()
    first, second = listed(str(guest.crash))
    assert (first.name, first.complete, first.problem) == (done.name, True, None)
    assert first.status
    assert first.status.reason == "built"
    assert (second.complete, second.status) == (False, None)
    (broken / "status.json").write_text("[" * 100_000)
    assert listed(str(guest.crash))[1].problem


BOOT = "11111111-2222"


@pytest.mark.parametrize(
    ("armed", "reported", "later", "output"),
    [
        (None, True, 10, None),
        (BOOT, True, 10, None),
        ("another", True, 10, LOST),
        ("another", True, -10, None),
        ("another", False, 10, LOST),
        ("another", False, -10, None),
    ],
)
def test_a_lost_dump(
    guest: Guest, armed: str | None, reported: bool, later: int, output: str | None
) -> None:
    """Armed in another boot, no shutdown, and nothing that was saved since, by any program."""
    done = guest.save()
    newest = newest_of(str(guest.crash))
    assert newest > 0
    (guest.crash / "kdump_lock").write_text("")
    os.utime(guest.crash / "kdump_lock", (newest + 100, newest + 100))
    assert newest_of(str(guest.crash)) == newest, "a file is no dump"
    state = Seen(armed, BOOT, frozenset([done.name] if reported else []), newest + later)
    new = new_since(listed(str(guest.crash)), state)
    assert len(new) == (not reported)
    assert lost(state, newest) == output


def test_an_empty_dump_of_another_program_is_no_dump(tmp_path: Path) -> None:
    """As kdump-tools leave it where their makedumpfile cannot read the memory of the kernel."""
    folder = tmp_path / "202611291615"
    folder.mkdir()
    dump = folder / "dump.202611291615"
    dump.touch()
    assert newest_of(str(tmp_path)) == 0
    dump.write_bytes(b"KDUMP")
    assert newest_of(str(tmp_path)) == folder.stat().st_mtime
