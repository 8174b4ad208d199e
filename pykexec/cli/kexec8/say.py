"""Output to standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pykexec.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable


def say(lines: Iterable[str]) -> None:
    """Print lines; control characters in them are escaped."""
    for line in lines:
        print(printable(line), file=sys.stderr)
