"""What pykexec setup --undo restores, after others have changed the system meanwhile."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from pykexec.backends.setup.acting import Acting, CommandFailed, run
from pykexec.backends.setup.step import Change, Command, Step
from pykexec.host.configuration import PATH as CONFIGURATION
from pykexec.host.file_state import FileState, link_to
from pykexec.host.root import Folder
from tests.setup_runs import acting, failing, plan, set_up
from tests.setup_trees import (
    DEBIAN,
    FEDORA,
    KDUMP_TOOLS,
    PACKAGE,
    RELEASE,
    ROOT,
    SYSTEMD_BOOT,
    apply,
    build,
    snapshot,
)


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


def test_grubby_gets_the_old_word_back(tmp_path: Path) -> None:
    root = build(tmp_path, FEDORA)
    called: list[Command] = []
    boot = plan(root).steps[0]
    Acting(root, called.append).perform((boot,))
    Acting(root, called.append).undo()
    both = ("grubby", "--update-kernel=ALL", "--remove-args=crashkernel")
    assert called == [(*both, "--args=crashkernel=64K"), (*both, "--args=crashkernel=1G-4G:192M")]
