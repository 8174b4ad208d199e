"""The messages in docs/troubleshooting.md are those of the program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROWS = [
    line.split("|")[1]
    for line in (ROOT / "docs" / "troubleshooting.md").read_text().splitlines()
    if line.startswith("| `")
]
SOURCE = " ".join(
    re.sub(r'"\s*f?"', "", path.read_text()) for path in (ROOT / "pykexec").rglob("*.py")
)


@pytest.mark.parametrize("message", [text for row in ROWS for text in re.findall("`(.*?)`", row)])
def test_the_message_exists(message: str) -> None:
    assert message in SOURCE
