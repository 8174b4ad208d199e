"""The shipped schemas match the types: `pytest --update-golden` writes them."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

import pykexec.documents
from tests.documents import SCHEMAS
from tests.schemas import schema_of


def documents() -> dict[str, Any]:
    """Every complete document by the name of its schema file."""
    found = {}
    for module in pkgutil.iter_modules(pykexec.documents.__path__, "pykexec.documents."):
        for kind in vars(importlib.import_module(module.name)).values():
            name = getattr(kind, "schema", None)
            if isinstance(kind, type) and isinstance(name, str):
                found[name.removeprefix("pykexec.").replace("/", "-") + ".json"] = kind
    return found


DOCUMENTS = documents()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_schema_is_that_of_its_type(name: str, request: pytest.FixtureRequest) -> None:
    path: Path = SCHEMAS / name
    generated = schema_of(DOCUMENTS[name])
    if request.config.getoption("--update-golden"):
        path.write_text(generated)
    assert path.read_text() == generated


def test_every_schema_is_in_the_page_about_json() -> None:
    page = (SCHEMAS.parents[1] / "docs/json.md").read_text()
    named = {
        f"{item.replace('/', '-')}.json" for item in re.findall(r"pykexec\.([a-z-]+/\d)", page)
    }
    assert named == set(DOCUMENTS)


def test_every_schema_has_a_type() -> None:
    assert {path.name for path in SCHEMAS.iterdir()} == set(DOCUMENTS)
