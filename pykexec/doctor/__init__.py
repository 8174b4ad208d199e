"""Every precondition of a machine, as a row: what was found, and what would change it.

Pure: a captured machine is diagnosed as a real one is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pykexec.doctor import devices, kernel, memory, panic, permission
from pykexec.doctor.row import Level as Level
from pykexec.doctor.row import Row as Row
from pykexec.machine import Machine

AREAS = (permission.rows, kernel.rows, memory.rows, panic.rows, devices.rows)
"""In the order in which a load would stumble over them."""


def diagnose(machine: Machine) -> tuple[Row, ...]:
    """All rows, always the same ones in the same order."""
    return tuple(row for area in AREAS for row in area(machine))


def problems(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows for which the command ends with status 3."""
    return (row for row in rows if row.level is Level.FAIL)
