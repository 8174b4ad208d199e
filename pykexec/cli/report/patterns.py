"""Pages that were filled with their own address, and found again in a dump."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.documents.vmcore import Patterns

if TYPE_CHECKING:
    from pykexec.dump.vmcore_pages import PatternCount


def patterns(count: PatternCount) -> Patterns:
    return Patterns(count.right, count.copies, count.lost, count.broken, count.first_bad)
