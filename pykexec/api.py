"""The Python interface: the stable names that scripts may import.

Nothing here acts on the running kernel. Values are frozen; every error caused by the input or the
machine is a KexecError, with a `message` and a `hint`. docs/python.md has examples.
"""

from __future__ import annotations

import os
from pathlib import Path

from pykexec.dump.log import records as log_records
from pykexec.dump.reader import Dump, open_dump
from pykexec.dump.report import Report, make_report
from pykexec.errors import KexecError
from pykexec.flows.checked_plan import CheckedPlan, plan
from pykexec.flows.inspect import inspect_file
from pykexec.host.captured import open_root
from pykexec.host.facts import read_machine
from pykexec.images.contents import joined_initrd
from pykexec.machine import Machine, Unknown
from pykexec.placement.request import ImageKind, LoadRequest, Mode

__all__ = [
    "CheckedPlan",
    "Dump",
    "ImageKind",
    "KexecError",
    "LoadRequest",
    "Machine",
    "Mode",
    "Report",
    "Unknown",
    "captured_machine",
    "inspect_file",
    "joined_initrd",
    "log_records",
    "make_report",
    "open_dump",
    "plan",
    "this_machine",
]


def this_machine() -> Machine:
    """The facts of the running machine, as far as this user may read them; the memory map is
    assumed if it cannot be read. Raises nothing: an unreadable fact is Unknown, with the reason."""
    return read_machine().with_assumed_map()


def captured_machine(path: str | os.PathLike[str]) -> Machine:
    """The same from a file written by `pykexec machine capture`, or from a folder with /proc and
    /sys. Raises BadRoot."""
    return read_machine(open_root(Path(path))).with_assumed_map()
