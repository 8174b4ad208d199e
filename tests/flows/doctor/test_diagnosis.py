"""What holds for every diagnosis, and whose image is loaded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pykexec.backends.backend import Slot
from pykexec.backends.kernel.record import LoadRecord
from pykexec.flows.doctor import Level, Row, diagnose, problems
from pykexec.flows.doctor.loaded import Ours
from pykexec.machine import (
    Machine,
    Unknown,
)
from pykexec.memory.ranges import PhysRange
from pykexec.placement.request import Mode
from tests.flows.doctor.machines import (
    ARM,
    HEALTHY,
    MIB,
    kexec,
)


def test_healthy_machine_has_nothing_to_fix() -> None:
    assert [str(row) for row in diagnose(HEALTHY) if row.level is not Level.OK or row.fix] == []
    assert list(problems(diagnose(HEALTHY))) == []


def test_every_row_of_an_unread_machine_is_unknown() -> None:
    rows = diagnose(Machine("m"))
    assert {row.level for row in rows} == {Level.UNKNOWN}
    assert [row.name for row in rows] == [row.name for row in diagnose(HEALTHY)]
    assert len({row.name for row in rows}) == len(rows)
    assert all("not read" in row.evidence for row in rows)


@pytest.mark.parametrize("size", [Unknown("no auxv"), 12345])
def test_a_diagnosis_goes_on_without_a_page_size(size: int | Unknown) -> None:
    found = {row.name: row for row in diagnose(replace(ARM, page_size=size))}
    assert set(found) == {row.name for row in diagnose(ARM)}
    assert found["movable memory"].level is Level.UNKNOWN
    assert found["memory encryption"].level is Level.UNKNOWN


def test_row_as_issue_text() -> None:
    assert str(Row("lockdown", Level.FAIL, "integrity", "boot without")) == (
        "fail    lockdown: integrity -> boot without"
    )
    assert str(Row("seccomp", Level.OK, "no filter")) == "ok      seccomp: no filter"


def test_no_address_is_told() -> None:
    text = "\n".join(str(row) for row in diagnose(HEALTHY))
    for secret in (0x3A001000, 0xFFFF888000000000, 0x3FC1B400, 0x3E000000):
        assert f"{secret:x}" not in text


def test_problems_are_the_failed_rows() -> None:
    machine = replace(HEALTHY, seccomp=True, cpu_flags=frozenset({"tdx_guest"}))
    assert [row.name for row in problems(diagnose(machine))] == ["memory encryption"]


OURS = LoadRecord(
    slot=Slot.CRASH, mode=Mode.IN_PLACE, kernel="/boot/vmlinuz", since=1790000000,
    window=PhysRange(MIB, 2 * MIB), headers=PhysRange(0, 4096),
)  # fmt: skip

NOTED = "crash by normal, mode in-place, since 2026-09-21 14:13:20 UTC (/run/pykexec/loaded.json)"


@pytest.mark.parametrize(
    ("machine", "ours", "expected"),
    [
        (
            kexec(crash_loaded=True),
            OURS,
            Row("crash image", Level.OK, f"loaded by pykexec: {NOTED}",
                "to replace it, run pykexec unload --crash --backend kernel"),
        ),
        (
            kexec(crash_loaded=True),
            replace(OURS, slot=Slot.NORMAL),
            Row("crash image", Level.WARN, "one is loaded already",
                "stop that service first: a crash load frees the old image even if it fails"),
        ),
        (
            kexec(crash_loaded=False),
            OURS,
            Row("crash image", Level.WARN, f"none is loaded, but pykexec had loaded one: {NOTED}",
                "another program has unloaded it; run pykexec unload --crash --backend "
                    "kernel to free its memory"),
        ),
        (
            kexec(crash_loaded=True),
            Unknown("/run/pykexec/loaded.json: permission denied"),
            Row("crash image", Level.WARN,
                "one is loaded already; whether pykexec loaded it is unknown: "
                    "/run/pykexec/loaded.json: permission denied",
                "stop that service first: a crash load frees the old image even if it fails"),
        ),
        (
            kexec(loaded=True),
            replace(OURS, slot=Slot.NORMAL, mode=Mode.KERNEL_SWAP),
            Row("normal image", Level.OK, (
                f"loaded by pykexec: {NOTED}"
            ).replace("in-place", "kernel-swap"),
                "to replace it, run pykexec unload --backend kernel"),
        ),
    ],
    ids=["ours", "ours is the other", "freed by others", "not readable", "the normal slot"],
)  # fmt: skip
def test_whose_image_it_is(machine: Machine, ours: Ours, expected: Row) -> None:
    (found,) = [row for row in diagnose(machine, ours) if row.name == expected.name]
    assert found == expected
