"""Documents are identical, byte for byte, whenever and wherever they are made."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from jsonschema import ValidationError

from pykexec.documents import codec
from pykexec.documents.error import ErrorDocument, Reason
from tests.cli.conftest import Run
from tests.documents import check_files

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
    """A load draws a random seed, which does not appear in a dump."""
    before, words, status = STORIES[story]
    texts = []
    for name in ("one", "two"):
        here = folder / name
        here.mkdir()
        for file in ("bzImage", "initrd"):
            (here / file).write_bytes((folder / file).read_bytes())
        monkeypatch.chdir(here)
        for step in before:
            run(*step)
        texts.append(run(*words, "--json", status=status).stdout)
    assert texts[0] == texts[1]
    assert str(folder) not in texts[0]


def test_what_is_no_utf8_is_shown_by_its_bytes(run: Run) -> None:
    """A strict reader does not accept lone surrogates; any other text is unchanged."""
    line = os.fsdecode(b"name=caf\xe9 euro=\xe2\x82\xac face=\xf0\x9f\x98\x80")
    words = ["load", "bzImage", "--dry-run", "--append", line]
    document = run(*words, "--json").stdout
    assert json.loads(document)["cmdline"] == "name=caf\\xe9 euro=\u20ac face=\U0001f600"
    assert json.loads(document)["cmdline"].encode()
    assert "name=caf\\xe9 euro=\u20ac" in run(*words).stdout


def test_nor_is_a_surrogate_of_a_file_in_a_document(run: Run) -> None:
    name = os.fsdecode(b"k\xff")
    document = json.loads(run("load", name, "--dry-run", "--json", status=1).stdout)
    assert document["error"]["message"].startswith("k\\xff: cannot be opened")


BAD = {"schema": "pykexec.error/1", "error": {"code": "No Code", "message": "", "hint": None}}


def test_a_document_that_its_schema_forbids_fails_the_test(tmp_path: Path) -> None:
    """In any test: whether it comes from this process, a child, or a guest."""
    with pytest.raises(ValidationError, match="No Code"):
        codec.encode(ErrorDocument(Reason("No Code", "", None)))
    text = json.dumps(BAD, indent=2) + "\n"
    with pytest.raises(ValidationError, match="No Code"):
        subprocess.run(["printf", "%s", text], capture_output=True, text=True)
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "error.json").write_text(text)
    with pytest.raises(ValidationError, match="No Code"):
        check_files(tmp_path)
