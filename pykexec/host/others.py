"""Installed parts of other packages that unload a crash image: udev rules, services."""

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
"""In order of precedence: a file hides those of the same name further down (udev(7))."""
RULES_NAME = re.compile(r"(?<!py)(kdump|kexec).*\.rules$")
"""Debian and Ubuntu: 50-kdump-tools.rules; kdump-utils: 98-kexec.rules; SUSE: 70-kdump.rules."""
RELOADS = r"^[^#\n]*(kdump|kexec)"
UNITS = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")
SERVICES = ("kdump-tools.service", "kdump.service", "kdump-early.service")
TARGETS = ("sysinit", "basic", "multi-user", "graphical", "default")
NULL = "/dev/null"


def reload_rules(root: Root) -> tuple[str, ...] | Unknown:
    """The rules files that udev reads and that mention kdump or kexec, sorted by name."""
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
    """Whether a rules file reloads an image. A link to /dev/null masks a rule; an unreadable file
    is judged by its name."""
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
    """Yields for each possible link by which a target wants the unit whether it exists."""
    for folder in UNITS:
        for target in TARGETS:
            yield bool(root.exists(f"{folder}/{target}.target.wants/{name}"))


def masked(root: Root, name: str) -> bool:
    """Whether there is a link to /dev/null in place of the unit."""
    return any(root.link(f"{folder}/{name}") == NULL for folder in UNITS)
