"""`save` and `saved` as their user sees them, on a dump that is built here."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.backends.backend import LoadState, Slot
from pykexec.cli.report.status import StatusReport, last_document, last_line
from pykexec.cli.report.target import Target
from pykexec.documents.codec import plain
from pykexec.flows.save import saved as flow
from pykexec.flows.save.settings import read_settings
from tests.builders import write
from tests.cli.conftest import Run, RunJson
from tests.cli.test_monitoring import samples
from tests.documents import validate
from tests.dump.kernel import Kernel

IDENTITY = "44444444-5555"


@pytest.fixture(autouse=True)
def _no_makedumpfile(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the built dump is copied; a real makedumpfile finds too little in it."""
    which = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name: None if name in {"makedumpfile", "wall"} else which(name)
    )


@pytest.fixture
def state(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the machine remembers from boot to boot."""
    found = folder / "state"
    found.mkdir()
    write(found, "boot_id", f"{IDENTITY}\n".encode())
    for name, file in (("ARMED", "armed"), ("REPORTED", "reported"), ("BOOT_ID", "boot_id")):
        monkeypatch.setattr(flow, name, str(found / file))
    return found


@pytest.fixture
def conf(folder: Path, state: Path) -> Path:
    write(folder, "vmcore", Kernel().elf())
    text = f"SAVE_FOLDER={folder}/crash\nSAVE_FREE=0\nSAVE_HOOK=sh -c 'cat > {folder}/hook'\n"
    return write(folder, "conf", text.encode())


def test_outside_of_a_capture_kernel_nothing_is_done(run: Run, conf: Path) -> None:
    if Path("/proc/vmcore").exists():
        pytest.skip("this is a capture kernel")
    output = run("save", "--config", str(conf), status=2).stderr
    assert "there is no /proc/vmcore: this is not a capture kernel" in output


def test_a_dump_is_saved_and_listed(run: Run, run_json: RunJson, conf: Path) -> None:
    done = run_json("save", "--vmcore", "vmcore", "--config", str(conf))
    assert done["complete"]
    page = run("saved", "--config", str(conf)).stdout
    assert all(word in page for word in (done["folder"], "complete", "6.1.0-built", "built"))
    listed = run_json("saved", "--config", str(conf))
    assert [item["name"] for item in listed["dumps"]] == [done["name"]]
    assert listed["dumps"][0]["status"]["reason"] == "built"


def test_metrics_count_all_dumps_also_announced_ones(run: Run, conf: Path, state: Path) -> None:
    words = ("saved", "--announce", "--config", str(conf), "--textfile", "saved.prom")
    run(*words)
    assert samples(Path("saved.prom").read_text())["pykexec_saved_dumps"] == 0
    run("save", "--vmcore", "vmcore", "--config", str(conf))
    for _ in range(2):
        run(*words)
        values = samples(Path("saved.prom").read_text())
        assert (values["pykexec_saved_dumps"], values["pykexec_dump_lost"]) == (1, 0)
        (folder,) = Path("crash").iterdir()
        assert values["pykexec_last_saved_bytes"] == (folder / "dump").stat().st_blocks * 512
        assert values["pykexec_last_saved_complete"] == 1
        assert values["pykexec_last_saved_timestamp_seconds"] == pytest.approx(time.time(), abs=99)
    write(state, "armed", b"another boot\n")
    os.utime(state / "armed", (time.time() + 99,) * 2)
    run(*words, status=3)
    assert samples(Path("saved.prom").read_text())["pykexec_dump_lost"] == 1


def test_metrics_that_cannot_be_written_do_not_hide_the_dumps(run: Run, conf: Path) -> None:
    result = run("saved", "--config", str(conf), "--textfile", "gone/saved.prom", status=1)
    assert "no saved dump" in result.stdout
    assert "gone/saved.prom: no such file or directory" in result.stderr


def test_what_is_not_complete_is_exit_status_3(run: Run, conf: Path) -> None:
    conf.write_text(conf.read_text() + "SAVE_FREE=900000G\n")
    page = run("save", "--vmcore", "vmcore", "--config", str(conf), status=3).stdout
    assert "the capture is not complete" in page
    assert "MiB are free" in page


def test_faults_of_the_configuration_are_named(run: Run, run_json: RunJson, conf: Path) -> None:
    conf.write_text(conf.read_text() + "SAVE_KEEP=many\nSAVE_IT=1\n")
    done = run_json("save", "--vmcore", "vmcore", "--config", str(conf))
    assert done["complete"]
    assert done["problems"] == [
        "SAVE_KEEP=many: expected a number from 1 to 1000",
        "SAVE_IT: unknown key",
    ]
    assert "SAVE_IT: unknown key" in run("saved", "--config", str(conf)).stderr


def test_each_dump_is_announced_once(run: Run, folder: Path, conf: Path) -> None:
    run("save", "--vmcore", "vmcore", "--config", str(conf))
    assert "complete" in run("saved", "--announce", "--config", str(conf)).stdout
    assert json.loads((folder / "hook").read_text())["dumps"][0]["complete"]
    (folder / "hook").unlink()
    assert "no saved dump" in run("saved", "--announce", "--config", str(conf)).stdout
    assert not (folder / "hook").exists()


def test_a_loss_is_announced_once(run: Run, folder: Path, state: Path, conf: Path) -> None:
    write(state, "armed", b"another\n")
    page = run("saved", "--announce", "--config", str(conf), status=3).stdout
    assert "and no dump was saved" in " ".join(page.split())
    assert json.loads((folder / "hook").read_text())["lost"]
    run("saved", "--announce", "--config", str(conf))


def test_armed_in_this_boot_is_no_loss(run: Run, state: Path, conf: Path) -> None:
    write(state, "armed", f"{IDENTITY}\n".encode())
    run("saved", "--config", str(conf))


def test_a_hook_that_fails_is_a_warning(run: Run, state: Path, conf: Path) -> None:
    write(state, "armed", b"another\n")
    conf.write_text(conf.read_text() + "SAVE_HOOK=false\n")
    output = run("saved", "--announce", "--config", str(conf), status=3).stderr
    assert "warning: false failed with exit status 1" in output


def test_status_names_the_dump_that_was_saved_last(
    run: Run, run_json: RunJson, folder: Path, conf: Path
) -> None:
    settings, _ = read_settings(conf)
    assert flow.newest_saved(settings) is None
    (folder / "crash/pykexec-20200101T000000Z.incomplete").mkdir(parents=True)
    found = flow.newest_saved(settings)
    assert found
    assert last_line(found).endswith(f"not complete: {flow.NO_STATUS}")
    assert last_document(found).saved is None
    done = run_json("save", "--vmcore", "vmcore", "--config", str(conf))
    found = flow.newest_saved(settings)
    assert found
    assert last_line(found) == f"{done['folder']}, complete, built"
    report = StatusReport(Target("kernel", "m"), dict.fromkeys(Slot, LoadState.NOT_LOADED))
    document = plain(replace(report, last=found).document())
    validate(document)
    assert document["last_dump"]["folder"] == done["folder"]
    assert "last_dump" not in plain(report.document())
    assert flow.newest_saved(replace(settings, device="/dev/sdz")) is None
