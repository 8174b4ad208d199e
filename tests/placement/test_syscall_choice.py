"""Which system call a load is made by, and the reason that is given for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pykexec.errors import NotPermitted, UsageError
from pykexec.machine import Machine, Unknown
from pykexec.placement.plan import ImageKind, LoadRequest
from pykexec.placement.syscall_choice import Syscall, choose_syscall
from tests.builders import make_machine

FREE = replace(make_machine(), lockdown="none", config={"CONFIG_KEXEC": "y"})
LOCKED = replace(FREE, lockdown="integrity")


@pytest.mark.parametrize(
    ("machine", "asked", "syscall", "why"),
    [
        (FREE, None, Syscall.LOAD, "it places the image where the plan says"),
        (FREE, Syscall.FILE, Syscall.FILE, "it was asked for"),
        (LOCKED, Syscall.LOAD, Syscall.LOAD, "it was asked for"),
        (LOCKED, None, Syscall.FILE, "lockdown=integrity refuses kexec_load"),
        (
            replace(FREE, config={"CONFIG_KEXEC_FILE": "y"}),
            None,
            Syscall.FILE,
            "this kernel has no kexec_load (CONFIG_KEXEC is not set)",
        ),
        (
            replace(FREE, config={"CONFIG_KEXEC": "y", "CONFIG_KEXEC_SIG_FORCE": "y"}),
            None,
            Syscall.FILE,
            "CONFIG_KEXEC_SIG_FORCE refuses what has no signature",
        ),
        (
            replace(FREE, lockdown=Unknown("not readable"), config=Unknown("not readable")),
            None,
            Syscall.LOAD,
            "it places the image where the plan says",
        ),
    ],
)
def test_choice(machine: Machine, asked: Syscall | None, syscall: Syscall, why: str) -> None:
    choice = choose_syscall(machine, LoadRequest(), asked)
    assert (choice.syscall, choice.why) == (syscall, why)


@pytest.mark.parametrize(
    ("option", "wishes", "image_type"),
    [
        ("--mem-min", {"mem_min": 1}, None),
        ("--mem-max", {"mem_max": 0}, None),
        ("--entry", {"entry": 0}, None),
        ("--no-checks", {"checks": False}, None),
        ("--type", {}, "bzImage64"),
        ("--crash-by-normal", {"kind": ImageKind.CRASH_BY_NORMAL}, None),
    ],
)
def test_what_the_file_syscall_would_ignore_is_an_error(
    option: str, wishes: dict[str, Any], image_type: str | None
) -> None:
    request = LoadRequest(**wishes)
    with pytest.raises(UsageError, match=f"^{option} would be ignored: with --syscall file"):
        choose_syscall(FREE, request, Syscall.FILE, image_type)
    with pytest.raises(
        NotPermitted, match=f"^lockdown=integrity refuses kexec_load, and {option} needs it"
    ):
        choose_syscall(LOCKED, request, None, image_type)


def test_the_names_are_those_of_the_kernel() -> None:
    assert [str(item) for item in Syscall] == ["kexec_load", "kexec_file_load"]
