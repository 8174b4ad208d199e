"""How a machine gets the crash region that a panic needs."""

from __future__ import annotations

import re
from enum import StrEnum

from pykexec.backends.kernel.region import with_assumed_region
from pykexec.backends.kernel.region_rules import refusal
from pykexec.backends.region import Origin, default_size, origin
from pykexec.frozen import dataclass
from pykexec.machine import Machine, RegionModule, Unknown

SMALL = 1 << 20
"""A reservation up to this size, in bytes, is not worth replacing."""


class Way(StrEnum):
    """How the crash region is made."""

    BOOT = "boot"
    NEXT_BOOT = "next-boot"
    MODULE = "module"


@dataclass(frozen=True, slots=True)
class RegionChoice:
    """How the region is made, with `size` in bytes. `word` is the reservation that the kernel
    command line must have: None to leave it unchanged, "" for no reservation."""

    way: Way
    size: int
    word: str | None
    now: bool
    """Whether the machine can be armed without a reboot."""
    why: str
    """In the imperative if the command line has to change."""


def choose_region(machine: Machine) -> RegionChoice:
    """Choose the existing region, else one that the module makes, else a reservation at the next
    boot."""
    size = default_size(machine)
    kib = size >> 10
    word = f"crashkernel={kib}K"
    found = machine.kexec.crash_size or 0
    made = origin(machine)
    module = _has_module(machine, size)
    if made is Origin.BOOT and found >= size:
        if found <= SMALL or not is_foreign(machine):
            return RegionChoice(Way.BOOT, size, None, True, f"{found >> 10} KiB, reserved at boot")
        kdump = f"the {found >> 20} MiB that another package's kdump has reserved"
        if module:
            return RegionChoice(Way.MODULE, size, "", True, f"free {kdump}, at the next boot")
        return RegionChoice(
            Way.BOOT, size, word, True, f"reserve {kib} KiB instead of {kdump}, at the next boot"
        )
    if module or (made is Origin.RUN_TIME and found >= size):
        why = f"{kib} KiB, made at run time by the kernel module"
        return RegionChoice(Way.MODULE, size, None, True, why)
    return RegionChoice(Way.NEXT_BOOT, size, word, False, f"reserve {kib} KiB at the next boot")


def after_reboot(machine: Machine) -> Machine | None:
    """The machine as the next boot would start it, with the region that `pykexec setup` reserves
    for it; None if it needs no reboot, or if that is unknown. Raises NoHole."""
    if isinstance(machine.crash_kernel, Unknown) or isinstance(machine.memory_map, Unknown):
        return None
    choice = choose_region(machine)
    return None if choice.now else with_assumed_region(machine, choice.size)


def is_foreign(machine: Machine) -> bool:
    """Whether the kdump service of another package loads into the reservation."""
    return bool(machine.kdump_units)


def _has_module(machine: Machine, size: int) -> bool:
    """Whether the module can make a region. An existing one is no obstacle after a reboot."""
    if not isinstance(machine.modules.region, RegionModule):
        return False
    why = refusal(machine, size)
    return why is None or why.code == "region-exists"


def reservations(line: str) -> list[str]:
    """The crashkernel= words of a command line."""
    return re.findall(r"(?:(?<=\s)|^)crashkernel=\S*", line)


def with_reservation(line: str, word: str) -> str:
    """A command line with this reservation only; unchanged if it has just that."""
    if reservations(line) == ([word] if word else []):
        return line
    rest = re.sub(r"(^|[ \t]+)crashkernel=\S*", "", line).rstrip()
    return f"{rest} {word}".strip() if word else rest.strip()
