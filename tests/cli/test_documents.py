"""Documents are the same, byte for byte, whenever and wherever they are made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run

CREATE = ["machine", "create", "m", "--memory", "128M"]
BY_NORMAL = ["load", "bzImage", "--machine", "m", "--crash-by-normal", "--crash-size", "32M"]
STORIES = {
    "a dry run": ([CREATE], [*BY_NORMAL, "--dry-run"], 0),
    "a machine": ([], CREATE, 0),
    "a machine after a load": ([CREATE, BY_NORMAL], ["machine", "show", "m"], 0),
    "a status": ([CREATE, BY_NORMAL], ["status", "--machine", "m"], 0),
    "a crash": ([CREATE, BY_NORMAL], ["machine", "crash", "m"], 0),
    "a dump": (
        [CREATE, BY_NORMAL, ["machine", "crash", "m"]],
        ["vmcore", "verify", "m/vmcore", "--machine", "m"],
        0,
    ),
    "an unload": ([CREATE, BY_NORMAL], ["unload", "--crash", "--machine", "m"], 0),
    "a rehearsal": ([], ["rehearse", "bzImage", "--memory", "128M", "--crash-size", "32M"], 0),
    "an image": ([], ["inspect", "bzImage"], 0),
    "an explanation": ([], ["explain", "EPERM"], 0),
    "an error": ([CREATE], [*BY_NORMAL, "--mem-max", "8M"], 6),
}


@pytest.mark.parametrize("story", STORIES)
def test_two_folders_give_the_same_bytes(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, story: str
) -> None:
    """A load draws a random seed, and a dump shows the second kernel nothing of it."""
    before, words, status = STORIES[story]
    documents = []
    for name in ("one", "two"):
        here = folder / name
        here.mkdir()
        for file in ("bzImage", "initrd"):
            (here / file).write_bytes((folder / file).read_bytes())
        monkeypatch.chdir(here)
        for step in before:
            run(*step)
        documents.append(run(*words, "--json", status=status).stdout)
    assert documents[0] == documents[1]
    assert str(folder) not in documents[0]
