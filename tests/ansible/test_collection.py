"""The collection, judged by ansible-lint, and run on this machine where it only reads."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.builders import make_bzimage, make_cpio, write
from tests.fleet import write_fleet
from tests.setup_trees import DEBIAN, build
from tests.vm.debian import Unavailable

from .controller import COLLECTION, Controller, Result, controller

pytestmark = pytest.mark.skipif(not COLLECTION.exists(), reason="no collection beside the package")
HERE = ("--inventory", "localhost,", "--connection", "local", "-e", "ansible_become=false")


@pytest.fixture
def ansible(tmp_path: Path) -> Controller:
    try:
        return controller(tmp_path)
    except Unavailable as unavailable:
        pytest.skip(unavailable.reason)


def python() -> tuple[str, str]:
    return "-e", f"ansible_python_interpreter={sys.executable}"


def test_the_collection_is_clean(ansible: Controller) -> None:
    done = ansible.run(
        "ansible-lint",
        "--strict",
        "--project-dir",
        ansible.folder / "collections/ansible_collections/pykexec/pykexec",
    )
    assert done.status == 0, done.text


def test_what_the_modules_document_is_valid(ansible: Controller) -> None:
    for name in ("crash_dump", "crash_dump_facts"):
        done = ansible.run("ansible-doc", f"pykexec.pykexec.{name}")
        assert done.status == 0, done.text
        assert "EXAMPLES" in done.text


def test_a_machine_is_captured_and_planned(ansible: Controller) -> None:
    done = ansible.playbook("capture", *HERE, *python())
    assert done.status == 0, done.text
    captured = ansible.folder / "captures/localhost.json"
    assert json.loads(captured.read_text())["schema"].startswith("pykexec.capture/")
    again = ansible.playbook("capture", *HERE, *python())
    assert again.status == 0, again.text
    assert again.recap("localhost")["failed"] == 0
    captured.unlink()
    work = ansible.folder / "roots"
    paths = write_fleet(ansible.folder / "captures", work)
    for path in paths:
        if path.stem not in {"4G-plain", "4G-lockdown"}:
            path.unlink()
    kernel = write(ansible.folder, "bzImage", make_bzimage())
    words = ("-e", f"kernel={kernel}", *python())
    done = ansible.playbook("plan", *words)
    assert done.status == 2, done.text
    assert "A machine cannot be armed, see the plan." in done.text
    (ansible.folder / "captures/4G-lockdown.json").unlink()
    done = ansible.playbook("plan", *words)
    assert done.status == 0, done.text
    assert "4G-plain" in done.text


PAGE = COLLECTION.parent / "docs/fleet.md"
COMMANDS = re.findall(r"^ansible-.*$", PAGE.read_text(), re.MULTILINE) if PAGE.exists() else []
IN_GUESTS = ("arm", "verify", "collect", "undo")
"""Playbooks that act on machines, which tests/vm/test_fleet.py runs."""


def test_the_commands_of_the_page(ansible: Controller) -> None:
    """Run as written: install the collection, then capture and plan this machine."""
    shutil.rmtree(ansible.folder / "collections")
    shutil.copytree(COLLECTION, ansible.folder / "ansible")
    (ansible.folder / "inventory").write_text(
        "here ansible_connection=local ansible_become=false "
        f"ansible_python_interpreter={sys.executable}\n"
    )
    for name in ("vmlinuz", "initrd.img"):
        contents = make_bzimage() if name == "vmlinuz" else make_cpio(("init", b"#!/bin/sh\n"))
        write(ansible.folder, name, contents)
    run = []
    for command in COMMANDS:
        program, *words = shlex.split(command.replace("/boot/", f"{ansible.folder}/"))
        play = next((word for word in words if word.startswith("pykexec.pykexec.")), "")
        name = play.rpartition(".")[2]
        run.append(name)
        assert not play or (COLLECTION / "playbooks" / f"{name}.yml").exists(), command
        if name in IN_GUESTS:
            continue
        done = ansible.run(program, *words)
        # This machine may be one that cannot be armed.
        assert done.status == 0 or (name == "plan" and "cannot be armed" in done.text), done.text
    assert run == ["", "capture", "plan", "arm", "arm", "verify", "collect", "undo"]
    assert (ansible.folder / "captures/here.json").exists()


def test_facts_of_a_machine_without_pykexec(ansible: Controller, tmp_path: Path) -> None:
    """It is not armed, and nothing ends in a traceback."""
    words = ("--module-name", "pykexec.pykexec.crash_dump_facts", "--args", "executable=nowhere")
    done = ansible.run("ansible", "localhost", *HERE, *python(), *words)
    assert done.status == 0, done.text
    assert '"installed": false' in done.text


HOSTILE = "pykexec-20260101T000000Z"
DOCUMENTS = {
    "status": {"crash": "loaded", "staged": None},
    "saved": {
        "lost": None,
        "dumps": [
            {"name": HOSTILE, "folder": "{folder}"},
            {"name": "../../outside", "folder": "{folder}"},
            {"name": f"{HOSTILE}/../../../outside", "folder": "{folder}"},
        ],
    },
}
"""What a machine that was broken into could answer."""


def test_a_machine_does_not_choose_where_its_reports_are_written(ansible: Controller) -> None:
    folder = ansible.folder / "crash"
    folder.mkdir()
    write(folder, "report.txt", b"report\n")
    answers = json.dumps(DOCUMENTS).replace("{folder}", str(folder))
    program = ansible.folder / "bin/pykexec"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"print(json.dumps(json.loads({answers!r}).get(sys.argv[1], {{}})))\n"
    )
    program.chmod(0o755)
    environment = f"{program.parent}:/usr/bin:/bin"
    done = ansible.playbook("collect", *HERE, *python(), PATH=environment)
    assert done.status == 0, done.text
    collected = ansible.folder / "collected/localhost"
    assert [path.name for path in collected.iterdir()] == [HOSTILE]
    assert (collected / HOSTILE / "report.txt").read_bytes() == b"report\n"
    assert not list(ansible.folder.rglob("outside"))


def setup(ansible: Controller, root: Path, *words: str) -> Result:
    """The module crash_dump in check mode, for the machine in `root`."""
    program = ansible.folder / "pykexec"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -m pykexec \"$@\" --root '{root}'\n")
    program.chmod(0o755)
    call = ("--module-name", "pykexec.pykexec.crash_dump", "--args", f"executable={program}")
    return ansible.run("ansible", "localhost", *HERE, *python(), *call, *words)


def test_check_mode_shows_what_setup_would_change(ansible: Controller) -> None:
    root = build(ansible.folder / "root", DEBIAN)
    before = sorted(path.stat().st_mtime_ns for path in root.path.rglob("*"))
    done = setup(ansible, root.path, "--check", "--diff")
    assert done.status == 0, done.text
    assert "CHANGED" in done.text
    assert "+BACKEND=kernel" in done.text
    assert '"reboot_required": true' in done.text
    assert sorted(path.stat().st_mtime_ns for path in root.path.rglob("*")) == before


def test_a_refusal_is_a_failure_with_its_remedy(ansible: Controller) -> None:
    files = {**DEBIAN, "/boot/grub/grub.cfg": None}
    done = setup(ansible, build(ansible.folder / "root", files).path, "--check")
    assert done.status == 2, done.text
    assert "no boot loader was found" in done.text
    assert "run pykexec setup again" in done.text
