"""pykexec setup killed at any point, or out of space: completed by another run, or undone."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec.backends.setup.acting import CommandFailed
from pykexec.backends.setup.journal import PATH, SetupJournal
from pykexec.errors import KexecError
from pykexec.host.root import Folder
from tests.setup_runs import acting, failing, files_of, plan, set_up, undo
from tests.setup_trees import (
    DEBIAN,
    KDUMP_TOOLS,
    ROOT,
    TREES,
    build,
    snapshot,
)


@pytest.mark.parametrize("name", ["debian-grub", "debian-kdump-tools", "systemd-boot"])
@settings(max_examples=15)
@given(
    st.lists(
        st.tuples(st.sampled_from(["setup", "undo"]), st.none() | st.integers(0, 120)), max_size=4
    )
)
def test_whatever_is_killed_undo_leaves_nothing(
    name: str, runs: list[tuple[str, int | None]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = build(Path(folder), TREES[name])
        before = files_of(root)
        for what, moment in runs:
            {"setup": set_up, "undo": undo}[what](root, moment)
        undo(root)
        assert files_of(root) == before
        assert not list(root.path.rglob("*pykexec-new"))
        assert not (root.path / PATH.lstrip("/")).exists()


@pytest.mark.parametrize("name", ["debian-grub", "debian-kdump-tools", "systemd-boot"])
@settings(max_examples=15)
@given(
    st.lists(
        st.tuples(st.sampled_from(["setup", "undo"]), st.none() | st.integers(0, 120)), max_size=4
    )
)
def test_whatever_is_killed_setup_completes(name: str, runs: list[tuple[str, int | None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole, root = Path(folder) / "whole", build(Path(folder) / "root", TREES[name])
        set_up(build(whole, TREES[name]))
        for what, moment in runs:
            {"setup": set_up, "undo": undo}[what](root, moment)
        set_up(root)
        assert plan(root).steps == ()
        assert files_of(root) == files_of(Folder(whole))
        entries = SetupJournal(root).read_or_new().entries
        assert all(entry.done for entry in entries)


def test_each_moment_of_a_first_run(tmp_path: Path) -> None:
    """Every third moment, and not only those that hypothesis draws."""
    for moment in range(0, 400, 3):
        root = build(tmp_path / str(moment), KDUMP_TOOLS)
        before = files_of(root)
        set_up(root, moment)
        done = files_of(root)
        undo(root)
        assert files_of(root) == before, moment
        if "/var/lib/pykexec/armed" in done:  # the last thing that a run does is to arm
            return
    raise AssertionError("a run has fewer moments than this")


def test_a_command_that_fails_can_be_repeated(tmp_path: Path) -> None:
    root = build(tmp_path, DEBIAN)
    before = snapshot(root)
    with pytest.raises(CommandFailed):
        failing(root, "update-grub").perform(plan(root).steps)
    assert [step.name for step in plan(root).steps][:1] == ["boot"]
    set_up(root)
    assert plan(root).steps == ()
    (left,) = failing(root, "update-grub").undo()
    assert (left.step.name, left.changed, left.failure) == (
        "boot",
        (),
        "update-grub: exit status 1",
    )
    assert acting(root).undo() == ()
    assert snapshot(root) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_is_full_or_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Nothing is half made, and both setup and undo go on later."""
    root = build(tmp_path, DEBIAN)
    before = snapshot(root)

    def refuse(fd: int, *words: object) -> None:
        if "grub.d" in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(number, os.strerror(number), "the file")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fchmod", refuse)
        with pytest.raises(KexecError, match=os.strerror(number).lower()) as caught:
            set_up(root)
    assert "pykexec setup again" in (caught.value.hint or "")
    assert not list(tmp_path.rglob("*pykexec-new"))
    undo(root)
    assert snapshot(root) == before
    set_up(root)
    assert plan(root).steps == ()


KILLED = """
import sys
from pathlib import Path
from pykexec.backends.setup.acting import Acting
from pykexec.host.root import Folder
from tests.setup_runs import plan
from tests.setup_trees import apply
root = Folder(Path(sys.argv[2]))
acting = Acting(root, lambda words: apply(root, words), lambda line: print(line, flush=True))
if sys.argv[1] == "setup":
    acting.perform(plan(root).steps)
else:
    acting.undo()
"""


def killed_at_line(root: Folder, what: str, start: str) -> None:
    """A process of its own, which SIGKILL ends when it announces a step."""
    command = [sys.executable, "-c", KILLED, what, str(root.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith(start):
                process.kill()
                break
        process.stdout.close()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_real_kill_at_each_step(tmp_path: Path) -> None:
    """Each run is killed as it begins a step, and the next one goes on; the undo likewise."""
    whole = build(tmp_path / "whole", KDUMP_TOOLS)
    root = build(tmp_path / "root", KDUMP_TOOLS)
    before = files_of(root)
    names = [step.name for step in plan(root).steps]
    assert len(names) >= 6
    set_up(whole)
    for name in names:
        killed_at_line(root, "setup", f"{name}: ")
    set_up(root)
    assert files_of(root) == files_of(whole)
    for name in reversed(names):
        killed_at_line(root, "undo", f"undo {name}: ")
    undo(root)
    assert files_of(root) == before


FULL = """
import os, shutil, sys
from contextlib import suppress
from pathlib import Path
from pykexec.errors import KexecError
from tests.setup_runs import acting, files_of, plan
from tests.setup_trees import KDUMP_TOOLS, build

def fill(free):
    with open("filler", "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate("filler", max(0, os.path.getsize("filler") - 4096 * free))

os.chdir(sys.argv[1])
refused = 0
for free in range(200):
    root = build(Path("root").absolute(), KDUMP_TOOLS)
    before = files_of(root)
    fill(free)
    try:
        acting(root).perform(plan(root).steps)
    except KexecError as error:
        assert "no space left on device" in error.message, error.message
        assert error.message.startswith(str(root.path)), error.message
        refused += 1
        whole = False
    else:
        whole = True
    with suppress(KexecError):  # there is no more room than before
        acting(root).undo()
    os.unlink("filler")
    assert acting(root).undo() == ()
    assert files_of(root) == before, free
    assert not list(root.path.rglob("*pykexec-new"))
    shutil.rmtree("root")
    if whole:
        break
print(refused)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system takes root")
@pytest.mark.slow
def test_a_file_system_that_is_really_full(tmp_path: Path) -> None:
    """With no page free, with one, with two, until setup is complete."""
    mount = 'mount -t tmpfs -o size=2m none "$0" && exec "$1" -c "$2" "$0"'
    command = ("unshare", "--mount", "sh", "-c", mount, str(tmp_path), sys.executable, FULL)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if "mount" in done.stderr and not done.stdout:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5
