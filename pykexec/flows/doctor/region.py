"""The crash region, which a panic needs to reach an image: whether there is one, how it was made,
and whether one can be made while the kernel runs. No row has its address."""

from __future__ import annotations

from collections.abc import Iterator

from pykexec.backends.kernel.region_rules import refusal
from pykexec.backends.region import default_size, origin
from pykexec.flows.doctor.row import Row, in_mib, ok, unknown, warn
from pykexec.machine import Machine, RegionModule, Unknown
from pykexec.placement.panic_modes import advised_boot, advised_region, typical_need

KIB = 1 << 10


def rows(machine: Machine) -> Iterator[Row]:
    yield region(machine)
    yield module(machine)


def region(machine: Machine) -> Row:
    """Whether a panic can reach an image loaded by pykexec."""
    name, size = "crash region", machine.kexec.crash_size
    if isinstance(size, Unknown):
        return unknown(name, size)
    need = typical_need(machine)
    if size >= need:
        return ok(
            name, f"{in_mib(size)}, made at {origin(machine)}; a stub needs {need // KIB} KiB"
        )
    if size:
        return warn(
            name,
            f"{in_mib(size)}, but a stub needs {need // KIB} KiB, so a panic cannot start "
            "a crash by normal",
            advised_boot(machine),
        )
    fix = "run pykexec region make" if _can_be_made(machine) else advised_region(machine)
    return warn(name, "there is no crash region, so a panic cannot start an image", fix)


def _can_be_made(machine: Machine) -> bool:
    """Only known facts count."""
    module = machine.modules.region
    return isinstance(module, RegionModule) and not refusal(machine, default_size(machine))


def module(machine: Machine) -> Row:
    """Only needed if no region was reserved at boot."""
    name, found = "region module", machine.modules.region
    if origin(machine):
        return ok(name, "not needed, because there is a crash region")
    if isinstance(found, Unknown):
        return unknown(name, found)
    if why := refusal(machine, default_size(machine)):
        return warn(name, why.message, why.remedy or "")
    assert found
    signed = "signed" if found.signed else "not signed"
    return ok(name, f"{found.path} ({signed}) can make a crash region on {machine.release}")
