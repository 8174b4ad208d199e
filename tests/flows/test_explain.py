from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

import pykexec
from pykexec.documents.plan import PlanDocument, plan_of
from pykexec.errors import KexecError, UsageError
from pykexec.flows.explain import (
    CHECKS,
    FILE_LOAD,
    LOAD,
    NOT_THE_KERNELS,
    REBOOT,
    RULES,
    error_kinds,
    explain_code,
    explain_errno,
    subclasses,
    verdicts,
)
from pykexec.placement.cmdline import file_load_limit
from pykexec.syscalls import exit_status_of
from tests import plans


def stages(name: str, syscall: str) -> list[str]:
    return [check.stage for check in explain_errno(name) if check.syscall == syscall]


ORDER = [
    ("EPERM", LOAD, ["A1", "A1", "A2", "A4"]),
    ("EACCES", LOAD, ["A3"]),
    ("EINVAL", LOAD, ["A5", "A6", "A7", "F2", "F3", "F4", "F5"]),
    ("EADDRNOTAVAIL", LOAD, ["E", "F1", "F6"]),
    ("EBUSY", LOAD, ["B", "G"]),
    ("ENOMEM", LOAD, ["G", "G"]),
    ("EFAULT", LOAD, ["A8", "G"]),
    ("ENOSYS", LOAD, ["0"]),
    ("EPERM", FILE_LOAD, ["A1", "A1", "A2", "S"]),
    ("ENOEXEC", FILE_LOAD, ["D"]),
    ("EKEYREJECTED", FILE_LOAD, ["S"]),
    ("EADDRNOTAVAIL", FILE_LOAD, ["P"]),
    ("EINVAL", REBOOT, ["C"]),
    ("EPERM", REBOOT, ["A1"]),
]


@pytest.mark.parametrize(("name", "syscall", "expected"), ORDER)
def test_checks_in_the_kernels_order(name: str, syscall: str, expected: list[str]) -> None:
    assert stages(name, syscall) == expected


def test_errno_by_number_and_in_lower_case() -> None:
    assert explain_errno("1") == explain_errno("eperm") == explain_errno("EPERM")


def test_errno_that_kexec_never_answers() -> None:
    assert explain_errno("EPIPE") == ()


@pytest.mark.parametrize("name", ["", "EWHAT", "99999", "-1", "0", "not-permitted"])
def test_no_errno(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        explain_errno(name)
    assert str(caught.value) == f"not an errno: {name!r}"


def test_the_limit_of_the_file_syscalls_command_line() -> None:
    """From the same function that refuses a longer one before the call."""
    (check,) = (item for item in CHECKS if "cmdline_size" in item.check)
    assert check.syscall == FILE_LOAD
    assert f"{file_load_limit(2047)} bytes if cmdline_size is 2047" in check.fix


def test_every_row_is_complete() -> None:
    for check in CHECKS:
        assert check.errno in errno.errorcode.values(), check
        assert check.check, check
        assert check.fix, check
        assert "\n" not in check.check + check.fix
    assert len(set(CHECKS)) == len(CHECKS)


def test_signature_and_privilege_are_not_permitted() -> None:
    for check in CHECKS:
        if check.stage in ("A1", "A2", "A3", "A4", "S"):
            assert exit_status_of(getattr(errno, check.errno)) == 4, check


def test_rules_are_those_of_a_plan() -> None:
    """Every rule named here is one that placement checks."""
    source = (Path(pykexec.__file__).parent / "placement" / "kernel_rules.py").read_text()
    assert set(RULES) <= set(re.findall(r'"([a-z0-9-]+)"', source))


def plan(*checks: tuple[str, bool | None, str]) -> PlanDocument:
    found = [{"rule": rule, "ok": ok, "detail": detail} for rule, ok, detail in checks]
    return plan_of(plans.plan(checks=found), "a plan")


def test_the_kernels_answer_to_a_broken_rule() -> None:
    found = verdicts(
        plan(
            ("overlap", False, "segment 2 overlaps segment 3"),
            ("half-of-ram", False, "too many pages"),
            ("window", False, "segment 1 is outside"),
        )
    )
    assert [(item.rule, item.answer) for item in found] == [
        ("overlap", "kexec_load: EINVAL"),
        ("half-of-ram", "kexec_load: EINVAL"),
        ("window", NOT_THE_KERNELS),
    ]


def test_verdicts_keep_what_is_unknown() -> None:
    (found,) = verdicts(plan(("half-of-ram", None, "totalram is unknown")))
    assert found.ok is None
    assert found.answer == "kexec_load: EINVAL"


def test_every_error_code_has_a_meaning() -> None:
    kinds = error_kinds()
    assert {"no-hole", "usage", "bad-root", "no-room-for-stage", "kcore-refused"} <= set(kinds)
    assert [kind.code for kind in kinds.values() if not kind.meaning] == []


def test_code() -> None:
    found = explain_code("kcore-refused")
    assert found is not None
    assert found.exit_status == 4
    assert found.meaning == "The kernel does not allow this process to read it."
    assert explain_code("no-such-code") is None


def test_a_code_has_one_exit_status() -> None:
    """Whichever backend reports it."""
    error_kinds()  # imports them all
    kinds = [kind for kind in subclasses(KexecError) if "code" in vars(kind)]
    found = {(kind.code, kind.exit_status) for kind in kinds}
    assert len(found) == len({code for code, _ in found})
