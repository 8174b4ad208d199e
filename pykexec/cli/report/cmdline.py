"""The names, in documents and pages, of the origin of a word of the command line, and of the reason
why one is dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pykexec.cli.terms import PYKEXEC
from pykexec.placement.cmdline import WHY_REMOVED, Origin
from pykexec.remedies import Wish

if TYPE_CHECKING:
    from pykexec.placement.cmdline import Dropped


def origin(found: Origin) -> Literal["--append", "running kernel", "capture kernel"]:
    """The name of the origin in documents and pages."""
    match found:
        case Origin.APPEND:
            return "--append"
        case Origin.RUNNING:
            return "running kernel"
        case Origin.CAPTURE:
            return "capture kernel"


def why_dropped(word: Dropped) -> str:
    """The reason why a word is dropped, and the option if the user asked for it."""
    return PYKEXEC[Wish.CMDLINE_REMOVE] if word.why == WHY_REMOVED else word.why
