"""Steps of pykexec setup: what they change, keep and refuse."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pykexec.backends.setup.acting import ChangedMeanwhile, CommandFailed, run
from pykexec.backends.setup.journal import PATH
from pykexec.backends.setup.step import Change, Step
from pykexec.errors import KexecError
from pykexec.flows.setup.configuration import KEEP
from pykexec.host.configuration import PATH as CONFIGURATION
from pykexec.host.configuration import parse
from pykexec.host.file_state import NOTHING, FileState
from pykexec.host.root import Folder
from tests.setup_runs import acting, plan, set_up, undo
from tests.setup_trees import (
    ARCH,
    ARM64,
    ARM64_RELEASE,
    DEBIAN,
    ROOT,
    TREES,
    build,
    snapshot,
)


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


@pytest.mark.parametrize("name", ["debian-grub", "arm64-debian-grub"])
def test_the_sysctls_for_panics_are_those_that_the_kernel_has(tmp_path: Path, name: str) -> None:
    """An arm64 kernel has no unknown NMIs."""
    root = build(tmp_path, TREES[name])
    values = {path: path.read_text() for path in tmp_path.glob("proc/sys/kernel/*panic*")}
    set_up(root, sysctls=True)
    assert {path.name: path.read_text() for path in values} == {
        path.name: "10\n" if path.name == "panic" else "1\n" for path in values
    }
    assert plan(root, sysctls=True).steps == ()
    undo(root)
    assert {path: path.read_text() for path in values} == values


@pytest.mark.parametrize("bits", [48, 52])
def test_a_kernel_that_makedumpfile_cannot_read_is_named(tmp_path: Path, bits: int) -> None:
    """Debian's kernels of arm64 from 6.12 on, for its makedumpfile of Debian 12 and 13."""
    options = f"CONFIG_KEXEC=y\nCONFIG_ARM64_VA_BITS={bits}\n"
    root = build(tmp_path, ARM64 | {f"/boot/config-{ARM64_RELEASE}": options})
    assert any("makedumpfile" in note for note in plan(root).notes) == (bits == 52)


def test_a_file_that_changed_since_it_was_shown_is_not_overwritten(tmp_path: Path) -> None:
    root = build(tmp_path, DEBIAN)
    steps = plan(root).steps
    configuration = tmp_path / CONFIGURATION.lstrip("/")
    configuration.write_text("mine\n")
    with pytest.raises(ChangedMeanwhile, match="changed since it was shown"):
        acting(root).perform(steps)
    assert configuration.read_text() == "mine\n"


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


def test_the_shipped_configuration_keeps_as_setup_does() -> None:
    shipped = ROOT / "systemd/pykexec.conf"
    values, _ = parse(shipped.read_text())
    assert values["OPTIONS"].split() == ["--reuse-cmdline", *KEEP.split()]


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
