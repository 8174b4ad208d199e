"""What is loaded in the running kernel, and whether it is ours."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from pykexec.backends.backend import Slot
from pykexec.backends.kernel.record import LoadRecord, unload_command
from pykexec.flows.doctor.row import Level, Row, ok, unknown, warn
from pykexec.machine import Machine, Unknown

Ours = LoadRecord | Unknown | None
"""What pykexec noted of its own load; None where it has none, or for another machine."""


def rows(machine: Machine, ours: Ours) -> Iterator[Row]:
    yield normal_image(machine, ours)
    yield crash_image(machine, ours)


def normal_image(machine: Machine, ours: Ours) -> Row:
    return image(
        machine.kexec.loaded,
        Slot.NORMAL,
        ours,
        fix="a load replaces it; init scripts start what is loaded at the next reboot",
    )


def crash_image(machine: Machine, ours: Ours) -> Row:
    """kdump-tools and others load one at boot."""
    service = machine.kdump_service
    return image(
        machine.kexec.crash_loaded,
        Slot.CRASH,
        ours,
        owner=f" ({service} is there)" if isinstance(service, str) else "",
        fix="stop that service first: a crash load frees the old image even when it then fails",
    )


def image(loaded: bool | Unknown, slot: Slot, ours: Ours, *, fix: str, owner: str = "") -> Row:
    """One slot: what the kernel says of it, beside what pykexec noted."""
    name = f"{slot} image"
    record = ours if isinstance(ours, LoadRecord) and ours.slot is slot else None
    if isinstance(loaded, Unknown):
        return unknown(name, loaded)
    if loaded and record:
        return Row(
            name, Level.OK, f"ours: {noted(record)}", f"to replace it: {unload_command(slot)}"
        )
    if record:
        return warn(
            name,
            f"none is loaded{owner}, and one of ours was: {noted(record)}",
            f"others have freed it; {unload_command(slot)} gives its memory back",
        )
    if not loaded:
        return ok(name, f"none is loaded{owner}")
    doubt = f"; whether it is ours is {ours}" if isinstance(ours, Unknown) else ""
    return warn(name, f"one is loaded already{owner}{doubt}", fix)


def noted(record: LoadRecord) -> str:
    """Mode and time, and where that is written."""
    since = datetime.fromtimestamp(record.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"crash by normal, mode {record.mode}, since {since} (/run/pykexec/loaded.json)"
