"""pykexec diff, with plans printed by load."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run, RunJson
from tests.cli.test_render import on_terminal
from tests.conftest import Golden

PLAN = ["load", "bzImage", "--machine", "m", "--crash-by-normal", "--dry-run", "--json"]


def plans(run: Run) -> None:
    """a: 32 MiB without an initrd; b: 48 MiB with one."""
    run("machine", "create", "m", "--memory", "128M")
    Path("a.json").write_text(run(*PLAN, "--crash-size", "32M").stdout)
    more = ["--crash-size", "48M", "--initrd", "initrd", "--append", "quiet"]
    Path("b.json").write_text(run(*PLAN, *more).stdout)


def test_a_plan_is_the_same_as_itself(run: Run, run_json: RunJson) -> None:
    plans(run)
    assert run("diff", "a.json", "a.json").stdout == "the same\n"
    assert run_json("diff", "a.json", "a.json") == {
        "schema": "pykexec.diff/1", "same": True, "fields": [], "segments": [],
    }  # fmt: skip


def test_two_plans(run: Run, run_json: RunJson, golden: Golden) -> None:
    plans(run)
    golden("diff.txt", run("diff", "a.json", "b.json", status=3).stdout)
    document = run_json("diff", "a.json", "b.json", status=3)
    assert {item["field"] for item in document["fields"]} >= {"cmdline", "window", "entry"}
    added = [item for item in document["segments"] if item["what"] == ["added"]]
    assert [item["name"] for item in added if item["a"] is None] == ["initrd"]
    other_way = run_json("diff", "b.json", "a.json", status=3)
    assert len(other_way["segments"]) == len(document["segments"])


def test_two_loads_differ_in_no_more_than_their_seed(run: Run, run_json: RunJson) -> None:
    """The random seed, its digest, and where the kernel put the old pages."""
    plans(run)
    words = [word for word in PLAN if word != "--dry-run"]
    for name in ("c.json", "d.json"):
        Path(name).write_text(run(*words, "--crash-size", "32M").stdout)
    document = run_json("diff", "c.json", "d.json", status=3)
    assert {tuple(item["what"]) for item in document["segments"]} == {("contents",)}
    assert {item["field"] for item in document["fields"]} <= {"backup pages"}


def test_no_plan(run: Run) -> None:
    Path("text").write_text("x")
    result = run("diff", "text", "text", status=1)
    assert result.stderr.startswith("pykexec: text: not a plan: ")


def test_drawn(run: Run) -> None:
    plans(run)
    text = run("diff", "a.json", "b.json", status=3).stdout
    drawn = on_terminal(["diff", "a.json", "b.json"], 200, status=3)
    assert "initrd" in drawn
    for word in text.split():
        if word.startswith("0x"):
            assert word in drawn, word


def test_a_kernel_instead_of_its_plan_is_named(run: Run) -> None:
    done = run("diff", "bzImage", "bzImage", status=1)
    assert "bzImage: not a plan, but a Linux kernel (bzImage)" in done.stderr
    assert "load --dry-run --json" in done.stderr
