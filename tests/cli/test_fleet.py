"""Plans for many captured machines; each row is what a dry run of that machine answers."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pykexec.cli.report.fleet import REASONS_MAX, Summary
from pykexec.flows.fleet import Refused, Row
from tests.builders import MIB, make_arm64_image, make_bzimage
from tests.cli.conftest import Run
from tests.documents import validate
from tests.fleet import COUNT, SIZES, write_fleet


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet")
    paths = write_fleet(folder, tmp_path_factory.mktemp("roots"))
    assert len(paths) == COUNT >= 40
    return folder


def documents(output: str) -> tuple[list[Any], Any]:
    """The rows and the summary, which their schemas allow."""
    found = [json.loads(line) for line in output.splitlines()]
    for document in found:
        validate(document)
    return found[:-1], found[-1]


PLAN = ("fleet", "plan", "--kernel", "bzImage", "--initrd", "initrd")


def test_each_row_is_what_a_dry_run_answers(run: Run, captures: Path) -> None:
    rows, summary = documents(run(*PLAN, "--json", str(captures), status=3).stdout)
    assert [row["machine"] for row in rows] == sorted(map(str, captures.iterdir()))
    assert summary["machines"] == COUNT
    outcomes = [row["outcome"] for row in rows]
    assert summary["can_be_armed"] == len([item for item in outcomes if item["plan"]])
    assert summary["cannot_be_armed"] == sum(reason["machines"] for reason in summary["reasons"])
    load = ("load", "bzImage", "--initrd", "initrd", "--crash-by-normal", "--backend", "kernel")
    for row in rows:
        if "4G-" not in row["machine"]:
            continue
        words = (*load, "--dry-run", "--root", row["machine"], "--json")
        refused = row["outcome"]["refusal"]
        if refused is None:
            if row["outcome"]["plan"]["after_reboot"]:
                continue
            result = run(*words)
            document = json.loads(result.stdout)
            plan = row["outcome"]["plan"]
            assert document["mode"] == plan["mode"]
            window = document["window"]
            assert int(window["end"], 16) - int(window["start"], 16) == plan["window_size"]
            warned = [
                line.removeprefix("pykexec: warning: ") for line in result.stderr.splitlines()
            ]
            assert set(plan["warnings"]) <= set(warned)
            continue
        status = {"not-permitted": 4, "no-mode": 5, "reservation-too-small": 6}[refused["code"]]
        error = json.loads(run(*words, status=status).stdout)["error"]
        assert {name: error[name] for name in refused} == refused


def test_a_machine_without_a_region_is_armed_after_a_reboot(run: Run, captures: Path) -> None:
    """As the same machine with a region of that size; a dry run names what it lacks today."""
    names = [str(captures / f"4G-{kind}.json") for kind in ("plain", "bare")]
    (plain, bare), summary = documents(run(*PLAN, "--json", *names).stdout)
    now, later = plain["outcome"]["plan"], bare["outcome"]["plan"]
    assert not now["after_reboot"]
    assert later == {**now, "after_reboot": True}
    assert (summary["can_be_armed"], summary["after_reboot"]) == (2, 1)
    load = ("load", "bzImage", "--initrd", "initrd", "--crash-by-normal", "--backend", "kernel")
    refused = run(*load, "--dry-run", "--root", names[1], status=5)
    assert "there is no crash region" in refused.stderr
    page = run(*PLAN, *names).stdout
    assert page.splitlines()[2].split()[1:3] == ["in-place", "reboot"]
    assert "1 machine must reboot once" in page


def test_a_reservation_that_is_too_small_is_replaced(run: Run, captures: Path) -> None:
    capture = (captures / "4G-plain.json").read_text()
    for old, new in (("beff0000-beffffff", "beffc000-beffffff"), ('"65536\\n"', '"16384\\n"')):
        assert capture.count(old) == 1
        capture = capture.replace(old, new)
    Path("small.json").write_text(capture)
    (row,), _ = documents(run(*PLAN, "--json", "small.json").stdout)
    assert row["outcome"]["plan"]["after_reboot"]


def test_the_fleet_has_both(run: Run, captures: Path) -> None:
    page = run(*PLAN, str(captures), "-v", status=3).stdout
    assert f"of {COUNT} machines can be armed" in page
    assert page.count(f"{len(SIZES)} refused (not-permitted), such as ") == 2
    assert "  hint: turn Secure Boot off, and boot without lockdown=" in page
    assert page.count("refused: ") + page.count("in-place  ") >= COUNT


def test_long_names_do_not_move_columns(run: Run, captures: Path, folder: Path) -> None:
    (folder / "m").mkdir()
    for name in ("short", "a" * 40, "b" * 70):
        shutil.copy(captures / "1G-plain.json", folder / "m" / name)
    heading, *rows = run(*PLAN, "m").stdout.splitlines()[:5]
    column = heading.index("mode")
    assert rows[1] == "m/" + "b" * 70
    del rows[1]
    assert [row.index("in-place") for row in rows] == [column] * 3
    assert [row[:column].rstrip() for row in rows] == ["m/" + "a" * 40, "", "m/short"]


def test_every_machine_can_be_armed(run: Run, captures: Path) -> None:
    page = run(*PLAN, str(captures / "*-plain.json")).stdout
    assert f"{len(SIZES)} of {len(SIZES)} machines can be armed: {len(SIZES)} in-place" in page


def test_a_damaged_capture_is_a_row(run: Run, captures: Path, folder: Path) -> None:
    for name in ("1G-plain", "2G-plain"):
        shutil.copy(captures / f"{name}.json", folder)
    (folder / "1H-damaged.json").write_text('{"schema": "pykexec.capture/1", "files": [')
    (folder / "1I-empty.json").touch()
    names = "1G-plain.json\n1H-damaged.json\n1I-empty.json\ngone\n2G-plain.json\n"
    rows, summary = documents(run(*PLAN, "--json", "-", input=names, status=3).stdout)
    assert [row["machine"] for row in rows] == names.split()
    assert [bool(row["outcome"]["plan"]) for row in rows] == [True, False, False, False, True]
    assert summary["can_be_armed"] == 2


def test_a_name_need_not_be_utf_8(run: Run, captures: Path) -> None:
    names = os.fsencode(captures / "1G-plain.json") + b"\ngone-\xff\n"
    rows, _ = documents(run(*PLAN, "--json", "-", input=names, status=3).stdout)
    assert [bool(row["outcome"]["plan"]) for row in rows] == [True, False]


def test_nested_json_is_a_row(run: Run, captures: Path, folder: Path) -> None:
    (folder / "deep").write_text("[" * 200_000)
    rows, _ = documents(run(*PLAN, "--json", "deep", status=3).stdout)
    assert rows[0]["outcome"]["refusal"]["code"] == "bad-root"


def test_a_killed_process_is_an_error(
    run: Run, captures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an end of its own the program would wait for its machines for ever."""

    def die(path: Path) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("pykexec.flows.fleet.read_machine", die)
    assert "was killed" in run(*PLAN, str(captures), status=1).stderr


def test_progress_on_a_terminal(captures: Path, folder: Path) -> None:
    """Where the rows do not show it; the line is gone at the end."""
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "pykexec", *PLAN, "--json", str(captures)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=terminal, check=False)
    os.close(terminal)
    assert done.returncode == 3
    shown = os.read(controller, 4096)
    os.close(controller)
    assert shown.startswith(b"\r50 machines\r\x1b[K")


def test_what_names_machines(run: Run, captures: Path, folder: Path) -> None:
    """Folders of captured files and folders, and patterns in each part of a path."""
    for name in ("east", "west"):
        (folder / "sites" / name).mkdir(parents=True)
        shutil.copy(captures / "1G-plain.json", folder / "sites" / name / f"{name}1.json")
    (folder / "sites/east/.hidden").touch()
    (folder / "sites/east/captured/proc").mkdir(parents=True)
    (folder / "sites/east/notes").mkdir()
    every = ["sites/east/captured", "sites/east/east1.json", "sites/west/west1.json"]
    for words in (["sites/*"], ["sites/east", "sites/west/west?.json"], ["sites/[ew]*"]):
        rows, _ = documents(run(*PLAN, "--json", *words, status=3).stdout)
        assert [row["machine"] for row in rows] == every, words
    (folder / "[1].json").write_bytes((captures / "1G-plain.json").read_bytes())
    rows, _ = documents(run(*PLAN, "--json", "[1].json").stdout)
    assert [row["machine"] for row in rows] == ["[1].json"]


def test_reasons_are_bounded() -> None:
    """Captures choose their texts, but not how much memory the summary takes."""
    summary = Summary(compares=False)
    for number in range(1000):
        word = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        summary.add(Row(f"m{number}", Refused("code", f"message {number}", f"hint {word}")))
        summary.add(Row(f"n{number}", Refused("same", f"message {number}", f"hint {number}")))
    reasons = summary.reasons()
    assert len(reasons) <= REASONS_MAX + 1
    assert sum(reason.machines for reason in reasons) == 2000
    assert [reason.machines for reason in reasons if reason.code == "same"] == [1000]


def test_a_second_kernel_shows_what_changes(run: Run, captures: Path, folder: Path) -> None:
    (folder / "large").write_bytes(make_bzimage(init_size=600 * MIB))
    words = (*PLAN, "--compare", "large", str(captures / "512M-plain.json"))
    assert (
        "the other kernel changes 0 machines, and cannot be armed on 0 of 1"
        in run(*PLAN, "--compare", "bzImage", str(captures / "512M-plain.json")).stdout
    )
    rows, summary = documents(run(*words, "--json", status=3).stdout)
    assert summary["changed"] == summary["compared_cannot_be_armed"] == len(rows) == 1
    assert summary["cannot_be_armed"] == 0
    assert rows[0]["compared"] != rows[0]["outcome"]


def test_what_no_machine_can_load_is_an_error(run: Run, captures: Path, folder: Path) -> None:
    (folder / "text").write_text("no kernel")
    words = ("fleet", "plan", "--kernel", "text", str(captures))
    assert run(*words, status=1).stdout == ""
    assert "matches no file" in run(*PLAN, "none*", status=2).stderr
    (folder / "empty").mkdir()
    assert "no captured machine was found" in run(*PLAN, "empty", status=2).stderr


def test_a_machine_of_another_architecture_cannot_run_the_kernel(run: Run, captures: Path) -> None:
    names = ("4G-plain", "arm64-virt", "arm64-virt-efi")
    files = [str(captures / f"{name}.json") for name in names]
    rows, _ = documents(run(*PLAN, "--json", *files, status=3).stdout)
    assert [bool(row["outcome"]["plan"]) for row in rows] == [True, False, False]
    Path("Image").write_bytes(make_arm64_image())
    words = ("fleet", "plan", "--kernel", "Image", "--json", *files)
    rows, _ = documents(run(*words, status=3).stdout)
    assert [bool(row["outcome"]["plan"]) for row in rows] == [False, True, True]
