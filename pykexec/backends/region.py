"""A crash region that is made and released while the kernel runs: common parts of both backends."""

from __future__ import annotations

import re
from enum import StrEnum

from pykexec.backends.backend import NothingLoaded
from pykexec.errors import DoesNotFit, KexecError, UsageError
from pykexec.frozen import dataclass
from pykexec.host.module import NAME
from pykexec.machine import Machine, RegionModule, Unknown
from pykexec.memory.ranges import PhysRange, align_up
from pykexec.placement.boot_protocol import page_size
from pykexec.placement.panic_modes import typical_need
from pykexec.remedies import Wish, saying

REGION_MAX = 4 << 30
"""Bytes, as in module/pykexec_region.c."""
STEP = 64 << 10
"""A default size is rounded up to a multiple of this, in bytes."""


class Origin(StrEnum):
    """When the region was made."""

    BOOT = "boot"
    RUN_TIME = "run time"


class RegionExists(KexecError):
    """There is only one region per machine."""

    code = "region-exists"


class BadRegionSize(UsageError):
    """Not a whole number of pages."""

    code = "bad-region-size"


class RegionTooLarge(DoesNotFit):
    """Larger than the module supports, or than half of memory."""

    code = "region-too-large"


class NoContiguousMemory(DoesNotFit):
    """No contiguous pages of this size."""

    code = "no-contiguous-memory"


class NoRegion(NothingLoaded):
    """There is no crash region to release."""

    code = "no-region"


class RegionInUse(KexecError):
    """A crash image is loaded into it."""

    code = "region-in-use"


@dataclass(frozen=True, slots=True)
class CrashRegion:
    """The present region. `span` is None without one, or if its address is hidden."""

    span: PhysRange | None
    size: int
    origin: Origin | None
    need: int
    """Bytes that the stub needs on this machine."""
    module: RegionModule | None = None
    """The module installed for the running kernel."""
    refusal: KexecError | None = None
    """Why none can be made; None if one can, or exists."""


def default_size(machine: Machine) -> int:
    """Bytes that the stub needs on this machine, in whole steps."""
    return align_up(typical_need(machine), STEP)


def origin(machine: Machine) -> Origin | None:
    """None without a region. The module cannot be inserted if there is a region already, so if it
    is inserted, the region is the module's; otherwise crashkernel= reserved it at boot."""
    if not machine.crash_kernel and not machine.kexec.crash_size:
        return None
    if machine.modules.region_inserted:
        return Origin.RUN_TIME
    asked = re.search(r"(^|\s)crashkernel=", machine.cmdline or "")
    return Origin.BOOT if asked else Origin.RUN_TIME


def present(machine: Machine, refusal: KexecError | None = None) -> CrashRegion:
    """The present region, from the facts."""
    spans = machine.crash_kernel or None
    module = machine.modules.region
    return CrashRegion(
        span=spans.ranges[-1] if spans else None,
        size=spans.ranges[-1].size if spans else machine.kexec.crash_size or 0,
        origin=origin(machine),
        need=default_size(machine),
        module=module if isinstance(module, RegionModule) else None,
        refusal=refusal,
    )


def size_refusal(machine: Machine, size: int) -> KexecError | None:
    """Why no region can have `size` bytes."""
    page = page_size(machine)
    if size <= 0 or size % page:
        return BadRegionSize(
            f"a crash region of {size} bytes: the size must be a multiple of {page}",
            hint=f"use pykexec region make {max(align_up(size, page), page) >> 10}K",
            size=size,
        )
    total = machine.totalram
    if size > REGION_MAX or (not isinstance(total, Unknown) and size > total // 2):
        return RegionTooLarge(
            f"a crash region of {size >> 20} MiB is more than 4 GiB or half of the memory",
            hint=saying("use a smaller size: ", Wish.CRASH_BY_NORMAL, " needs some 64 KiB"),
            size=size,
        )
    return None


def existing(machine: Machine) -> KexecError | None:
    """The error if there is a region already."""
    made = origin(machine)
    if made is None and machine.modules.region_inserted:
        return RegionExists(
            f"the module {NAME} is inserted, but its region is gone",
            hint="run pykexec region release to remove it",
        )
    if made is None:
        return None
    return RegionExists(
        f"there is a crash region of {present(machine).size >> 10} KiB already, made at {made}",
        hint="use it, or release it with pykexec region release",
    )
