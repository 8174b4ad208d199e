"""Rows about loaded images and other programs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pykexec.flows.doctor import Level, Row
from pykexec.machine import (
    Machine,
)
from tests.flows.doctor.machines import (
    HEALTHY,
    kexec,
    row,
)

ROWS: list[tuple[str, Machine, Row]] = [
    (
        "a normal image is loaded",
        kexec(loaded=True),
        Row("normal image", Level.WARN, "one is loaded already",
            "unload it if it is not wanted: init scripts start it at the next reboot, "
                "and a load replaces it"),
    ),
    (
        "kdump-tools has loaded a crash image",
        replace(kexec(crash_loaded=True), kdump_service="/etc/default/kdump-tools"),
        Row("crash image", Level.WARN,
            "one is loaded already (/etc/default/kdump-tools is installed)",
            "stop that service first: a crash load frees the old image even if it fails"),
    ),
    (
        "rules that reload",
        replace(HEALTHY, reload_rules=(
            "/usr/lib/udev/rules.d/50-kdump-tools.rules", "/etc/udev/rules.d/98-kexec.rules",
        )),
        Row("udev rules of other programs", Level.WARN,
            "/usr/lib/udev/rules.d/50-kdump-tools.rules, "
                "/etc/udev/rules.d/98-kexec.rules: on a memory or CPU event they may unload "
                "the crash image of pykexec",
            "ln -s /dev/null /etc/udev/rules.d/50-kdump-tools.rules; "
            "ln -s /dev/null /etc/udev/rules.d/98-kexec.rules"),
    ),
    (
        "services that load",
        replace(HEALTHY, kdump_units=("kdump-tools.service", "kdump.service")),
        Row("kdump services of other programs", Level.WARN,
            "kdump-tools.service, kdump.service: enabled, may unload the crash image of pykexec",
            "systemctl disable kdump-tools.service kdump.service"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "expected"), [case[1:] for case in ROWS], ids=[case[0] for case in ROWS]
)
def test_row(machine: Machine, expected: Row) -> None:
    assert row(machine, expected.name) == expected
