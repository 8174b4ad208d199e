"""A bar on a terminal while a dump is read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pykexec.dump.watch import unwatched

if TYPE_CHECKING:
    from pykexec.dump.watch import Watch


@contextmanager
def watched(shown: bool) -> Iterator[Watch]:
    """What shows the progress on standard error, if that is a terminal and `shown` is set."""
    if not shown or not sys.stderr.isatty():
        yield unwatched
        return
    from pykexec.cli.out.bar import Bar

    with Bar() as bar:
        yield bar.reading
