"""Names of saved dumps, and which of them may be removed.

A folder whose name ends in .incomplete was never finished. Only folders with these names are ever
removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

INCOMPLETE = ".incomplete"
NAME = re.compile(r"pykexec-(\d{8}T\d{6}Z)(?:-(\d{1,3}))?(?:\.incomplete)?")
STAMP = "%Y%m%dT%H%M%SZ"
NUMBERS = range(2, 1000)
LOG, REPORT, REPORT_JSON, DUMP, STATUS = (
    *("dmesg.txt", "report.txt", "report.json", "dump", "status.json"),
)
"""Files of a saved dump; encrypted ones end in .age."""


def new_name(crashed: datetime, there: Iterable[str]) -> str:
    """From the time of the crash, so that names sort by time. Another dump of the same second, as
    with a clock that starts at 1970, gets a number. Raises FileExistsError after a thousand."""
    taken = {name.removesuffix(INCOMPLETE) for name in there}
    first = f"pykexec-{crashed.astimezone(UTC).strftime(STAMP)}"
    for name in (first, *(f"{first}-{number}" for number in NUMBERS)):
        if name not in taken:
            return name
    raise FileExistsError(f"a thousand dumps are named {first}")


def ours(names: Iterable[str]) -> list[str]:
    """The folders of saved dumps among `names`, oldest first."""
    found = [(match, name) for name in names if (match := NAME.fullmatch(name))]
    return [name for *_, name in sorted((m[1], int(m[2] or 1), name) for m, name in found)]


def removable(names: Iterable[str], current: str) -> list[str]:
    """What may be removed to make room for `current`, oldest first: everything except that and the
    newest complete one."""
    others = [name for name in ours(names) if name.removesuffix(INCOMPLETE) != current]
    whole = [name for name in others if not name.endswith(INCOMPLETE)]
    return [name for name in others if name not in whole[-1:]]


def surplus(names: Iterable[str], keep: int, current: str) -> list[str]:
    """What is removed after a capture, oldest first: `keep` (at least 1) complete and as many
    incomplete ones are kept, so that a series of failures does not remove a good dump. `current`
    is the newest one, also if a clock that was set back gives it an old name."""
    found = ours(names)
    found.sort(key=lambda name: name.removesuffix(INCOMPLETE) == current)
    whole = [name for name in found if not name.endswith(INCOMPLETE)]
    rest = [name for name in found if name.endswith(INCOMPLETE)]
    gone = {*whole[: -max(keep, 1)], *rest[: -max(keep, 1)]}
    return [name for name in found if name in gone]


def room(free: int, floor: int, old: list[str]) -> Literal["enough", "remove", "none"]:
    """What to do while `free` bytes are left: continue, remove the first of `old`, or give up."""
    if free >= floor:
        return "enough"
    return "remove" if old else "none"
