"""Every precondition of a machine, as a row: what was found, and what would change it.

Pure: a captured machine is diagnosed like a real one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from pykexec.flows.doctor import (
    build_options,
    devices,
    loaded,
    memory,
    others,
    panic,
    permission,
    region,
)
from pykexec.flows.doctor.row import Level as Level
from pykexec.flows.doctor.row import Row as Row

if TYPE_CHECKING:
    from pykexec.flows.doctor.loaded import Ours
    from pykexec.machine import Machine


def diagnose(machine: Machine, ours: Ours = None) -> tuple[Row, ...]:
    """All rows, always the same ones, in the order in which a load would encounter them."""
    areas = (
        permission.rows(machine),
        build_options.rows(machine),
        loaded.rows(machine, ours),
        others.rows(machine),
        memory.rows(machine),
        region.rows(machine),
        panic.rows(machine),
        devices.rows(machine),
    )
    return tuple(chain.from_iterable(areas))


def problems(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows for which the command ends with status 3."""
    return (row for row in rows if row.level is Level.FAIL)
