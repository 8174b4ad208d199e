"""The images loaded in the running kernel, and whether pykexec loaded them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from pykexec.backends.backend import Slot
from pykexec.backends.kernel.record import LoadRecord, unloading
from pykexec.flows.doctor.row import Level, Row, ok, unknown, warn
from pykexec.machine import Machine, Unknown

Ours = LoadRecord | Unknown | None
"""The record of pykexec's own load; None if there is none, or for another machine."""


def rows(machine: Machine, ours: Ours) -> Iterator[Row]:
    yield _normal_image(machine, ours)
    yield _crash_image(machine, ours)


def _normal_image(machine: Machine, ours: Ours) -> Row:
    return image(
        machine.kexec.loaded,
        Slot.NORMAL,
        ours,
        fix="unload it if it is not wanted: init scripts start it at the next reboot, and a "
        "load replaces it",
    )


def _crash_image(machine: Machine, ours: Ours) -> Row:
    """kdump-tools and others load one at boot."""
    service = machine.kdump_service
    return image(
        machine.kexec.crash_loaded,
        Slot.CRASH,
        ours,
        owner=f" ({service} is installed)" if isinstance(service, str) else "",
        fix="stop that service first: a crash load frees the old image even if it fails",
    )


def image(loaded: bool | Unknown, slot: Slot, ours: Ours, *, fix: str, owner: str = "") -> Row:
    """One slot: what the kernel reports, compared with pykexec's record."""
    name = f"{slot} image"
    record = ours if isinstance(ours, LoadRecord) and ours.slot is slot else None
    if isinstance(loaded, Unknown):
        return unknown(name, loaded)
    if loaded and record:
        return Row(
            name,
            Level.OK,
            f"loaded by pykexec: {_noted(record)}",
            f"to replace it, {unloading(slot)}",
        )
    if record:
        return warn(
            name,
            f"none is loaded{owner}, but pykexec had loaded one: {_noted(record)}",
            f"another program has unloaded it; {unloading(slot)} to free its memory",
        )
    if not loaded:
        return ok(name, f"none is loaded{owner}")
    doubt = f"; whether pykexec loaded it is {ours}" if isinstance(ours, Unknown) else ""
    return warn(name, f"one is loaded already{owner}{doubt}", fix)


def _noted(record: LoadRecord) -> str:
    """Mode and time, and the file that has them."""
    since = datetime.fromtimestamp(record.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"crash by normal, mode {record.mode}, since {since} (/run/pykexec/loaded.json)"
