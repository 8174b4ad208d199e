"""Validates every JSON document that a test produces against its shipped schema.

`watch` is called once for the whole suite: it checks what this process encodes, by mashumaro and by
hand, and what child processes print. `check_files` is for documents that a guest wrote.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

import pykexec
from pykexec.documents import by_hand, by_mashumaro, codec
from pykexec.documents.base import Document

SCHEMAS = Path(pykexec.__file__).parent / "schemas"
STATE = frozenset({"loaded", "stage", "simulated", "setup-journal"})
"""Files that only pykexec itself reads, with separate types."""
BEGINNING = '{\n  "schema": "pykexec.'


@cache
def validator(name: str) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / name).read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def validate(document: Any) -> None:
    """Validate by the document's own `schema`; its keys must be in the schema's order."""
    name = document["schema"].removeprefix("pykexec.").replace("/", "-") + ".json"
    validator(name).validate(document)
    order = list(validator(name).schema["properties"])
    assert list(document) == [key for key in order if key in document]


def check_text(text: str | bytes | None) -> None:
    """Validate a text if it is one of our documents; part of a document is ignored, because an
    interrupted child may print that."""
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    if not text or not text.startswith(BEGINNING) or not text.endswith("\n}\n"):
        return
    document = json.loads(text)
    if document["schema"].removeprefix("pykexec.").split("/")[0] not in STATE:
        validate(document)


def check_files(folder: Path) -> None:
    """Validate every document below a folder."""
    for path in sorted(folder.rglob("*.json")):
        if path.is_file() and not path.is_symlink():
            try:
                check_text(path.read_bytes())
            except Exception as error:
                error.add_note(f"in {path}")
                raise


def watch() -> None:
    """Validate documents of this process and its children from now on."""
    codec.encode = checked_encode(codec.encode)  # type: ignore[assignment]
    subprocess.Popen.communicate = checked_communicate(  # type: ignore[method-assign]
        subprocess.Popen.communicate
    )


def checked_encode(encode: Callable[[Document], str]) -> Callable[[Document], str]:
    @wraps(encode)
    def checked(document: Document) -> str:
        text = encode(document)
        validate(json.loads(text))
        assert by_hand.write(document) == by_mashumaro.write(document), "without mashumaro"
        return text

    return checked


def checked_communicate(communicate: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(communicate)
    def checked(*args: Any, **more: Any) -> Any:
        out, err = communicate(*args, **more)
        check_text(out)
        return out, err

    return checked
