"""Documents against the schemas that are shipped."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

import pykexec

SCHEMAS = Path(pykexec.__file__).parent / "schemas"


@cache
def validator(name: str) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / name).read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def validate(document: Any) -> None:
    """By the document's own `schema`; and its keys come in the schema's order."""
    name = document["schema"].removeprefix("pykexec.").replace("/", "-") + ".json"
    validator(name).validate(document)
    order = list(json.loads((SCHEMAS / name).read_text())["properties"])
    assert list(document) == [key for key in order if key in document]
