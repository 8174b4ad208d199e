"""What other programs do to an image loaded by pykexec."""

from __future__ import annotations

from collections.abc import Iterator

from pykexec.flows.doctor.row import Row, ok, unknown, warn
from pykexec.machine import Machine, Unknown


def rows(machine: Machine) -> Iterator[Row]:
    yield _reload_rules(machine)
    yield _kdump_units(machine)


def _reload_rules(machine: Machine) -> Row:
    """They unload any loaded crash image, and then load their own, or fail to."""
    name, found = "udev rules of other programs", machine.reload_rules
    if isinstance(found, Unknown):
        return unknown(name, found)
    if not found:
        return ok(name, "no rule reloads a crash image")
    masks = (f"ln -s /dev/null /etc/udev/rules.d/{path.rpartition('/')[2]}" for path in found)
    return warn(
        name,
        f"{', '.join(found)}: on a memory or CPU event they may unload the crash image of pykexec",
        "; ".join(masks),
    )


def _kdump_units(machine: Machine) -> Row:
    """They load an image at boot, and unload any image when they stop."""
    name, found = "kdump services of other programs", machine.kdump_units
    if isinstance(found, Unknown):
        return unknown(name, found)
    if not found:
        return ok(name, "none is enabled")
    return warn(
        name,
        f"{', '.join(found)}: enabled, may unload the crash image of pykexec",
        f"systemctl disable {' '.join(found)}",
    )
