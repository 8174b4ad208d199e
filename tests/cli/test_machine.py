"""A machine from its creation to the check of its dump, verb by verb."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.backends.kernel.backend import KernelBackend
from pykexec.backends.simulated import SimulatedBackend
from pykexec.cli.run.execute import start
from pykexec.errors import KexecError, UsageError
from pykexec.machine import KexecState
from tests.backends.kernel.calls import Calls
from tests.builders import make_machine
from tests.cli.conftest import Run, RunJson
from tests.conftest import Golden

WINDOW = ["--crash-by-normal", "--mem-min", "16M", "--mem-max", "0x2ffffff"]


def test_create_and_show(run: Run, run_json: RunJson, golden: Golden) -> None:
    created = run(
        "machine", "create", "m", "--memory", "128M", "--crashkernel", "4M", "--seed", "7"
    )
    golden("machine-show.txt", created.stdout)
    assert run("machine", "show", "m").stdout == created.stdout
    document = run_json("machine", "show", "m")
    assert document["reservation"]["end"] == hex(
        int(document["reservation"]["start"], 16) + (4 << 20)
    )
    assert "in use\n" in run("machine", "show", "m", "-v").stdout


def test_create_json_is_show_json(run_json: RunJson) -> None:
    assert run_json("machine", "create", "m", "--memory", "64M") == run_json("machine", "show", "m")


def test_create_refusals(run: Run, machine: str) -> None:
    again = run("machine", "create", machine, status=2)
    assert again.stderr.startswith("pykexec: m: not an empty folder")
    assert "from 8M to" in run("machine", "create", "n", "--memory", "1M", status=2).stderr
    both = run("machine", "create", "n", "--from", "x", "--memory", "1G", status=2)
    assert both.stderr == "pykexec: --memory would be ignored: --from has the memory map\n"
    assert not Path("n").exists()


def test_create_from_a_captured_machine(run: Run, run_json: RunJson) -> None:
    proc = Path("root/proc")
    proc.mkdir(parents=True)
    (proc / "iomem").write_text("00100000-07ffffff : System RAM\n08000000-080fffff : Reserved\n"
                                "00001000-0009ffff : System RAM\n")  # fmt: skip
    document = run_json("machine", "create", "m", "--from", "root")
    assert {"start": "0x100000", "end": "0x8000000", "type": "System RAM"} in document["memory_map"]


def test_the_whole_story(run: Run, run_json: RunJson, machine: str) -> None:
    assert run_json("status", "--machine", machine, status=3)["crash"] == "not loaded"
    free = run_json("machine", "show", machine)["free"]
    plan = run("load", "bzImage", *WINDOW, "--machine", machine, "--json")
    Path("plan.json").write_text(plan.stdout)
    loaded = run_json("status", "--machine", machine)
    assert loaded == {
        "schema": "pykexec.status/1", "backend": "simulated",
        "normal": "not loaded", "crash": "loaded", "staged": None,
        "unseen": None,
    }  # fmt: skip
    crashed = run_json("machine", "crash", machine)
    assert crashed["started"] == "crash"
    assert crashed["vmcore"]["loads"] > 10
    assert run_json("vmcore", "verify", "m/vmcore", "--machine", machine)["whole"] is True
    verdict = run_json("vmcore", "verify", "m/vmcore", "--plan", "plan.json")
    assert [check["rule"] for check in verdict["checks"] if check["ok"] is None] == [
        "pattern-pages"
    ]
    assert run_json("vmcore", "info", "m/vmcore")["vmcoreinfo"]["PAGESIZE"] == "4096"
    assert run_json("unload", "--crash", "--machine", machine)["was"] == "not loaded"
    assert run_json("machine", "show", machine)["free"] == free


def test_unload_gives_back_every_page(run: Run, run_json: RunJson, machine: str) -> None:
    before = run_json("machine", "show", machine)
    run("load", "bzImage", *WINDOW, "--machine", machine)
    assert run_json("machine", "show", machine)["images"]
    result = run("unload", "--crash", "--machine", machine)
    assert result.stdout.startswith("crash      unloaded\n")
    assert run_json("machine", "show", machine) == before


def test_exec_starts_the_normal_image(run_json: RunJson, run: Run, machine: str) -> None:
    nothing = run("exec", "--machine", machine, status=3)
    assert nothing.stderr == (
        "pykexec: no image is loaded (EINVAL)\n  hint: load an image first, with pykexec load\n"
    )
    run("load", "bzImage", "--append", "quiet", "--machine", machine)
    run("load", "bzImage", *WINDOW, "--machine", machine)
    document = run_json("exec", "--machine", machine)
    assert (document["started"], document["cmdline"]) == ("exec", "quiet")
    assert document["vmcore"] is None


def test_exec_panics_where_only_that_starts_something(
    run_json: RunJson, run: Run, machine: str
) -> None:
    run("load", "bzImage", *WINDOW, "--machine", machine)
    assert run_json("exec", "--machine", machine)["started"] == "crash"


def test_a_crash_with_nothing_loaded(run: Run, machine: str) -> None:
    result = run("machine", "crash", machine, status=3)
    assert result.stderr.startswith("pykexec: no crash image is loaded: a panic would only halt")


def test_the_output_names_the_dump(run: Run, machine: str) -> None:
    run("load", "bzImage", *WINDOW, "--machine", machine)
    lines = run("machine", "crash", machine).stdout.splitlines()
    assert lines[0] == "started    the crash image, by a panic"
    assert lines[3].startswith("vmcore     m/vmcore (")


def test_exec_on_the_real_kernel_asks(tmp_path: Path) -> None:
    """Without a terminal and without --yes nothing is started."""
    calls = Calls()
    facts = replace(make_machine(), kexec=KexecState(loaded=True, crash_loaded=False))
    kernel = KernelBackend(calls, tmp_path / "run", lambda: facts)
    with pytest.raises(UsageError) as caught:
        start(kernel, yes=False)
    assert (
        caught.value.message
        == "standard input is not a terminal, so exec cannot ask for confirmation"
    )
    assert caught.value.hint == "use --yes"
    assert calls.nothing
    start(kernel, yes=True)
    assert calls.others == ["sync", "reboot"]


class Terminal(io.StringIO):
    """A terminal with a user who answers."""

    def isatty(self) -> bool:
        return True


def test_the_answer_is_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls()
    facts = replace(make_machine(), kexec=KexecState(loaded=True, crash_loaded=False))
    kernel = KernelBackend(calls, tmp_path / "run", lambda: facts)
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    with pytest.raises(KexecError, match="nothing was started"):
        start(kernel, yes=False)
    assert calls.nothing
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    start(kernel, yes=False)
    assert calls.others == ["sync", "reboot"]


def test_capture(run: Run, run_json: RunJson) -> None:
    Path("root/proc").mkdir(parents=True)
    Path("root/proc/iomem").write_text("00100000-07ffffff : System RAM\n")
    document = run_json("machine", "capture", "facts", "--root", "root")
    assert document["file"] == "facts"
    assert document["files"] == 1
    assert json.loads(Path("facts").read_text())["schema"] == "pykexec.capture/1"
    assert Path("facts").stat().st_mode & 0o777 == 0o600
    again = run("machine", "capture", "facts", "--root", "root", status=2)
    assert again.stderr == "pykexec: facts: already exists\n  hint: choose another name\n"
    planned = run("load", "bzImage", "--dry-run", "--root", "facts")
    assert "simulated, facts, map of /proc/iomem\n" in planned.stdout


def test_the_first_use_of_two_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them creates the machine that both use."""
    create = SimulatedBackend.create

    def after_another(path: Path) -> SimulatedBackend:
        create(path)
        return create(path)

    monkeypatch.setattr(SimulatedBackend, "create", after_another)
    assert "created" not in run("load", "bzImage").stderr
