"""What other packages have installed that unloads a crash image: udev rules, services."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pykexec.machine import Unknown

if TYPE_CHECKING:
    from pykexec.host.root import Root

RULES = (
    "/etc/udev/rules.d",
    "/run/udev/rules.d",
    "/usr/local/lib/udev/rules.d",
    "/usr/lib/udev/rules.d",
    "/lib/udev/rules.d",
)
"""Best first: a file hides those of its name further down (udev(7))."""
RULES_NAME = re.compile(r"(?<!py)(kdump|kexec).*\.rules$")
"""Debian and Ubuntu: 50-kdump-tools.rules; kdump-utils: 98-kexec.rules; SUSE: 70-kdump.rules."""
RELOADS = r"^[^#\n]*(kdump|kexec)"
UNITS = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")
SERVICES = ("kdump-tools.service", "kdump.service", "kdump-early.service")
TARGETS = ("sysinit", "basic", "multi-user", "graphical", "default")
NULL = "/dev/null"


def reload_rules(root: Root) -> tuple[str, ...] | Unknown:
    """The files of rules that udev reads and that name kdump or kexec, sorted by name."""
    listed = {folder: root.entries(folder) for folder in RULES}
    found: dict[str, str] = {}
    for folder, names in listed.items():
        for name in () if isinstance(names, Unknown) else names:
            if RULES_NAME.search(name):
                found.setdefault(name, f"{folder}/{name}")
    if all(isinstance(names, Unknown) for names in listed.values()):
        return listed["/usr/lib/udev/rules.d"]
    return tuple(path for _, path in sorted(found.items()) if _reloads(root, path))


def _reloads(root: Root, path: str) -> bool:
    """A link to /dev/null masks a rule. What cannot be read is taken for what its name says."""
    if root.link(path) == NULL:
        return False
    lines = root.matching_lines(path, RELOADS)
    return isinstance(lines, Unknown) or bool(lines)


def kdump_units(root: Root) -> tuple[str, ...] | Unknown:
    """The services that a target starts and that are not masked."""
    present = root.exists("/etc/systemd/system")
    if isinstance(present, Unknown):
        return present
    return tuple(name for name in SERVICES if any(started(root, name)) and not masked(root, name))


def started(root: Root, name: str) -> Iterator[bool]:
    """For each place of a link by which a target wants it."""
    for folder in UNITS:
        for target in TARGETS:
            yield bool(root.exists(f"{folder}/{target}.target.wants/{name}"))


def masked(root: Root, name: str) -> bool:
    """By a link to /dev/null in the place of the unit."""
    return any(root.link(f"{folder}/{name}") == NULL for folder in UNITS)
