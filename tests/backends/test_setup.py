"""Steps of pykexec setup: killed at any point, completed by another run, undone by --undo."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec.backends.setup.acting import Acting, ChangedMeanwhile, CommandFailed, run
from pykexec.backends.setup.journal import PATH, SetupJournal
from pykexec.backends.setup.step import Change, Command, Step
from pykexec.errors import KexecError
from pykexec.flows.setup.steps import SetupSteps, decide
from pykexec.host.configuration import PATH as CONFIGURATION
from pykexec.host.configuration import parse
from pykexec.host.facts import read_machine
from pykexec.host.file_state import NOTHING, FileState, link_to
from pykexec.host.root import Folder
from pykexec.host.setup_facts import read_facts
from tests.setup_trees import (
    ARCH,
    DEBIAN,
    FEDORA,
    KDUMP_TOOLS,
    PACKAGE,
    RELEASE,
    ROOT,
    SYSTEMD_BOOT,
    TREES,
    apply,
    build,
    snapshot,
)

MOMENTS = ("replace", "unlink", "symlink", "mkdir", "rmdir")


class Killed(BaseException):
    """The process ends here."""


class Clock:
    """Ends the process at a certain moment: before or after a system call or a command."""

    def __init__(self, last: int | None) -> None:
        self.left = last

    def tick(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed


@contextmanager
def killed_at(moment: int | None) -> Iterator[Clock]:
    """Run until the process is killed: nothing that would run later in it does."""
    clock = Clock(moment)
    with pytest.MonkeyPatch.context() as patch:
        for name in MOMENTS:
            patch.setattr(os, name, ticking(getattr(os, name), clock))
        patch.setattr(os, "fsync", ticking(lambda fd: None, clock))
        yield clock


def ticking(call: Callable[..., object], clock: Clock) -> Callable[..., object]:
    def called(*words: object, **more: object) -> object:
        clock.tick()
        return call(*words, **more)

    return called


def plan(root: Folder, sysctls: bool = False) -> SetupSteps:
    machine = read_machine(root)
    return decide(machine, read_facts(root, machine), SetupJournal(root).read(), sysctls)


def acting(root: Folder, clock: Clock | None = None) -> Acting:
    """An Acting whose commands change files."""

    def command(words: Command) -> None:
        if clock:
            clock.tick()
        apply(root, words)
        if clock:
            clock.tick()

    return Acting(root, command)


def set_up(root: Folder, moment: int | None = None) -> None:
    steps = plan(root).steps
    with killed_at(moment) as clock, suppress(Killed):
        acting(root, clock).perform(steps)


def undo(root: Folder, moment: int | None = None) -> None:
    with killed_at(moment) as clock, suppress(Killed):
        assert acting(root, clock).undo() == ()


def files_of(root: Folder) -> dict[str, object]:
    """Without the journal, and without empty folders: a process that is killed while it makes or
    removes the journal leaves its folder."""
    return {
        path: found
        for path, found in snapshot(root).items()
        if found != "folder" and path != PATH and not path.endswith("pykexec-new")
    }


@pytest.mark.parametrize("name", TREES)
def test_setup_is_complete_and_undo_leaves_nothing(tmp_path: Path, name: str) -> None:
    root = build(tmp_path, TREES[name])
    before = snapshot(root)
    set_up(root)
    assert plan(root).steps == ()
    assert snapshot(root) != before
    undo(root)
    if name == "fedora-grubby":  # the position of the argument is grubby's
        before = {path: words_of(path, found) for path, found in before.items()}
        after = {path: words_of(path, found) for path, found in snapshot(root).items()}
        assert after == before
    else:
        assert snapshot(root) == before


def words_of(path: str, found: object) -> object:
    """An entry of the boot loader as the set of its words."""
    if "/loader/entries/" in path and isinstance(found, tuple):
        return sorted(found[1].split())
    return found


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


def test_a_file_that_changed_meanwhile_is_left(tmp_path: Path) -> None:
    root = build(tmp_path, DEBIAN)
    before = snapshot(root)
    set_up(root)
    configuration = tmp_path / CONFIGURATION.lstrip("/")
    mine = configuration.read_text() + "SAVE_KEEP=9\n"
    configuration.write_text(mine)
    (left,) = acting(root).undo()
    assert (left.step.name, left.changed) == ("configuration", (CONFIGURATION,))
    assert configuration.read_text() == mine
    assert not (tmp_path / "etc/default/grub.d").exists()
    configuration.unlink()  # as the message says
    assert acting(root).undo() == ()
    assert snapshot(root) == before


def test_a_file_that_changed_since_it_was_shown_is_not_overwritten(tmp_path: Path) -> None:
    root = build(tmp_path, DEBIAN)
    steps = plan(root).steps
    configuration = tmp_path / CONFIGURATION.lstrip("/")
    configuration.write_text("mine\n")
    with pytest.raises(ChangedMeanwhile, match="changed since it was shown"):
        acting(root).perform(steps)
    assert configuration.read_text() == "mine\n"


def failing(root: Folder, program: str) -> Acting:
    def command(words: Command) -> None:
        if words[0] == program:
            raise CommandFailed(f"{program}: exit status 1")
        apply(root, words)

    return Acting(root, command)


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


def test_a_second_change_is_taken_back_to_the_first_state(tmp_path: Path) -> None:
    root = Folder(tmp_path)
    (tmp_path / "f").write_text("old")
    old = FileState(b"old", mode=(tmp_path / "f").stat().st_mode & 0o777)
    one, two = link_to("/one"), link_to("/two")
    doing = acting(root)
    doing.perform((Step("boot", "", (Change("/f", old, one),), undo_after=(("first",),)),))
    doing.perform((Step("boot", "", (Change("/f", one, two),), undo_after=(("second",),)),))
    called: list[Command] = []
    assert Acting(root, called.append).undo() == ()
    assert (tmp_path / "f").read_text() == "old"
    assert called == [("second",), ("first",)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": "pykexec.setup-journal/1", "folders": [], "kept": [], "steps": [1]}',
        '{"schema": "pykexec.setup-journal/1", "folders": [], "kept": [], "steps": [{"name": "a",'
        '"why": "", "done": true, "changes": [{"path": "../x", "before": {}, "after": {},'
        '"folders": []}], "before": [], "after": [], "undo_before": [], "undo_after": []}]}',
        '{"schema": "pykexec.setup-journal/1", "folders": [], "kept": [], "steps": [{"name": "a",'
        '"why": "", "done": true, "changes": [], "before": [[]], "after": [], "undo_before": [],'
        '"undo_after": []}]}',
    ],
)
def test_a_foreign_journal_is_refused(tmp_path: Path, text: str) -> None:
    root = build(tmp_path, {PATH: text})
    with pytest.raises(KexecError, match="not a journal"):
        acting(root).undo()
    assert (tmp_path / PATH.lstrip("/")).read_text() == text


def test_binary_contents_survive_the_journal(tmp_path: Path) -> None:
    root = Folder(tmp_path)
    (tmp_path / "f").write_bytes(b"\xff\x00old")
    state = FileState(b"\xff\x00old", mode=(tmp_path / "f").stat().st_mode & 0o777)
    acting(root).perform((Step("boot", "", (Change("/f", state, NOTHING),)),))
    assert not (tmp_path / "f").exists()
    assert acting(root).undo() == ()
    assert (tmp_path / "f").read_bytes() == b"\xff\x00old"


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


@pytest.mark.parametrize(
    ("before", "options"),
    [
        (None, "--keep kernel --reuse-cmdline"),
        ("APPEND=root=/dev/a\n", "--keep kernel"),
        ("OPTIONS=--reuse-cmdline\n", "--reuse-cmdline"),
        ("OPTIONS='--mode  in-place'\nAPPEND=root=/dev/a\n", "--mode  in-place"),
        ("OPTIONS=\n", "--reuse-cmdline"),
        ("OPTIONS=\nAPPEND=root=/dev/a\n", ""),
    ],
)
def test_options_that_somebody_has_chosen_stay(
    tmp_path: Path, before: str | None, options: str
) -> None:
    root = build(tmp_path, {**DEBIAN, CONFIGURATION: before})
    acting(root).perform(plan(root).steps)
    values, _ = parse((tmp_path / CONFIGURATION.lstrip("/")).read_text())
    assert values.get("OPTIONS") == options


def test_a_word_that_has_no_effect_is_noted(tmp_path: Path) -> None:
    """As when the machine is started by another boot loader, or the kernel reserves nothing."""
    root = build(tmp_path, DEBIAN)
    assert not [note for note in plan(root).notes if "crashkernel=64K" in note]
    set_up(root)
    (note,) = [note for note in plan(root).notes if "crashkernel=64K" in note]
    assert "another boot loader" in note
    (tmp_path / "proc/cmdline").write_text("root=/dev/vda1 crashkernel=64K\n")
    (note,) = [note for note in plan(root).notes if "crashkernel=64K" in note]
    assert "reserved nothing" in note


def test_extended_attributes_are_kept(tmp_path: Path) -> None:
    """SELinux has its labels there, of which the tests have none: user.* are the same calls."""
    root = build(tmp_path, ARCH | {"/etc/default/pykexec": "APPEND=quiet\n"})
    files = [tmp_path / "etc/default/grub", tmp_path / "etc/default/pykexec"]
    try:
        for file in files:
            os.setxattr(file, "user.label", b"bootloader_etc_t\0")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error.strerror}")
    set_up(root)
    assert "crashkernel=64K" in files[0].read_text()
    assert os.getxattr(files[0], "user.label") == b"bootloader_etc_t\0"
    assert not files[1].exists()
    undo(root)
    for file in files:
        assert os.getxattr(file, "user.label") == b"bootloader_etc_t\0"


def test_what_the_kernel_computes_from_a_file_is_not_copied(tmp_path: Path) -> None:
    root = build(tmp_path, ARCH)
    file = tmp_path / "etc/default/grub"
    try:
        os.setxattr(file, "security.ima", b"\1" + bytes(20))
    except OSError as error:
        pytest.skip(f"security.ima cannot be set here: {error.strerror}")
    set_up(root)
    assert "crashkernel=64K" in file.read_text()
    assert "security.ima" not in os.listxattr(file)


def test_a_command_of_the_system() -> None:
    run(("true",))
    with pytest.raises(CommandFailed, match="exit status 3: first / last"):
        run(("sh", "-c", "echo first; echo; echo last >&2; exit 3"))
    with pytest.raises(CommandFailed, match="no such file"):
        run(("/nowhere/program",))


def test_an_edit_between_two_runs_is_not_lost(tmp_path: Path) -> None:
    """The second run changes the edited file, and an undo would restore what was before both."""
    root = build(tmp_path, DEBIAN)
    before = snapshot(root)
    set_up(root)
    configuration = tmp_path / CONFIGURATION.lstrip("/")
    mine = re.sub("(?m)^APPEND=.*$", "APPEND=quiet\nSAVE_KEEP=9", configuration.read_text())
    configuration.write_text(mine)
    set_up(root)
    whole = configuration.read_text()
    assert "SAVE_KEEP=9" in whole != mine
    for _ in range(2):
        (left,) = acting(root).undo()
        assert left.changed == (CONFIGURATION,)
        assert configuration.read_text() == whole
    set_up(root)
    assert [left.changed for left in acting(root).undo()] == [(CONFIGURATION,)]
    configuration.unlink()
    assert acting(root).undo() == ()
    assert snapshot(root) == before


@pytest.mark.parametrize("word", ["", " crashkernel=1M&'/\\2"])
def test_a_kernel_that_was_removed_since_stays_removed(tmp_path: Path, word: str) -> None:
    """And one that was installed since gets what was there before the word from
    /etc/kernel/cmdline, whatever characters that has."""
    old = SYSTEMD_BOOT["/efi/loader/entries/linux.conf"]
    assert isinstance(old, str)
    old = re.sub("(?m)^(options .*)$", lambda found: found[1] + word, old)
    root = build(tmp_path, {**SYSTEMD_BOOT, "/efi/loader/entries/linux.conf": old})
    entries = tmp_path / "efi/loader/entries"
    set_up(root)
    (entries / "linux.conf").rename(entries / "later.conf")
    assert "crashkernel=64K" in (entries / "later.conf").read_text()
    assert acting(root).undo() == ()
    assert sorted(os.listdir(entries)) == ["later.conf", "windows.conf"]
    assert (entries / "later.conf").read_text() == old


def test_an_unfinished_initrd_of_a_kernel_that_was_removed_is_forgotten(tmp_path: Path) -> None:
    root = build(tmp_path, DEBIAN)
    for name in ("boot/vmlinuz-6.1.0-39-amd64", "lib/modules/6.1.0-39-amd64/modules.dep"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(CommandFailed):
        failing(root, "sh").perform(plan(root).steps)
    (tmp_path / "boot/vmlinuz-6.1.0-39-amd64").unlink()
    apply(root, ("sh", "make-initrd", RELEASE))
    called: list[Command] = []
    Acting(root, called.append).perform(plan(root).steps)
    assert called
    assert not [command for command in called if command[0] == "sh"]
    assert plan(root).steps == ()


def test_what_is_no_longer_installed_does_not_stop_an_undo(tmp_path: Path) -> None:
    """A boot loader, or a unit that would be started again (systemctl's exit status 5)."""
    root = build(tmp_path, KDUMP_TOOLS)
    before = snapshot(root)
    set_up(root)
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "systemctl").write_text("#!/bin/sh\n[ $1 != start ] || exit 5\n")
    (folder / "systemctl").chmod(0o755)

    def command(words: Command) -> None:
        if words[0] in ("systemctl", "update-grub"):
            run((str(folder / words[0]), *words[1:]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pykexec.backends.setup.acting.START", (str(folder / "systemctl"), "start"))
        assert Acting(root, command).undo() == ()
    shutil.rmtree(folder)
    menu = "/boot/grub/grub.cfg"
    assert {**snapshot(root), menu: 0} == {**before, menu: 0}


def pip_tree(folder: Path) -> Folder:
    """A Debian system with what pip installs."""
    files = {path: text for path, text in DEBIAN.items() if path not in PACKAGE}
    del files["/etc/kernel/postinst.d/zz-pykexec"]
    files |= {"/etc/kernel/postinst.d/x": "", "/etc/kernel/postrm.d/x": ""}
    share = "/usr/local/share/pykexec"
    shipped = {path: path.read_bytes() for path in (ROOT / "systemd").iterdir()}
    files |= {f"{share}/systemd/{path.name}": text for path, text in shipped.items()}
    return build(folder, files | {f"{share}/capture/make-initrd": "#!/bin/sh\n"})


def test_an_upgrade_updates_what_setup_has_installed(tmp_path: Path) -> None:
    """And nothing that somebody has changed, which is noted."""
    root = pip_tree(tmp_path)
    before = snapshot(root)
    set_up(root)
    share, units = tmp_path / "usr/local/share/pykexec/systemd", tmp_path / "etc/systemd/system"
    for name in ("pykexec-check.service", "pykexec-check.timer", "zz-pykexec"):
        (share / name).write_text((share / name).read_text() + "# later\n")
    (share / "pykexec-new.service").write_text("[Unit]\n")
    mine = (units / "pykexec-check.timer").read_text() + "# mine\n"
    (units / "pykexec-check.timer").write_text(mine)
    (step,) = plan(root).steps
    hooks = {"/etc/kernel/postinst.d/zz-pykexec", "/etc/kernel/postrm.d/zz-pykexec"}
    assert {change.path for change in step.changes} == {
        "/etc/systemd/system/pykexec-check.service",
        "/etc/systemd/system/pykexec-new.service",
        *hooks,
    }
    (note,) = [note for note in plan(root).notes if "not updated" in note]
    assert note.startswith("/etc/systemd/system/pykexec-check.timer: changed after pykexec setup")
    set_up(root)
    assert plan(root).steps == ()
    assert (units / "pykexec-check.service").read_text().endswith("# later\n")
    assert (units / "pykexec-check.timer").read_text() == mine
    shutil.rmtree(share)
    assert [note for note in plan(root).notes if "precede those of the package" in note]
    (left,) = acting(root).undo()
    assert left.changed == ("/etc/systemd/system/pykexec-check.timer",)
    (units / "pykexec-check.timer").unlink()
    assert acting(root).undo() == ()
    kept = {path: found for path, found in before.items() if "local/share" not in path}
    assert {path: v for path, v in snapshot(root).items() if "local/share" not in path} == kept


KILLED = """
import sys
from pathlib import Path
from pykexec.backends.setup.acting import Acting
from pykexec.host.root import Folder
from tests.backends.test_setup import plan
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
from tests.backends.test_setup import acting, files_of, plan
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


def test_grubby_gets_the_old_word_back(tmp_path: Path) -> None:
    root = build(tmp_path, FEDORA)
    called: list[Command] = []
    boot = plan(root).steps[0]
    Acting(root, called.append).perform((boot,))
    Acting(root, called.append).undo()
    both = ("grubby", "--update-kernel=ALL", "--remove-args=crashkernel")
    assert called == [(*both, "--args=crashkernel=64K"), (*both, "--args=crashkernel=1G-4G:192M")]
