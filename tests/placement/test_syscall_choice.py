"""Which system call makes a load, and the reason given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pykexec.cli.terms import PYKEXEC
from pykexec.errors import KexecError, NotPermitted, NotSupported, UsageError
from pykexec.flows.doctor import Level, diagnose
from pykexec.machine import Machine, Unknown
from pykexec.placement.request import ImageKind, LoadRequest, Mode
from pykexec.placement.syscall_choice import Syscall, choose_syscall
from pykexec.remedies import Wish
from tests.builders import make_machine

BOTH = {"CONFIG_KEXEC": "y", "CONFIG_KEXEC_FILE": "y"}
FREE = replace(make_machine(), lockdown="none", config=BOTH)
LOCKED = replace(FREE, lockdown="integrity")


@pytest.mark.parametrize(
    ("machine", "asked", "syscall", "why"),
    [
        (FREE, None, Syscall.LOAD, "it places the image as planned"),
        (FREE, Syscall.FILE, Syscall.FILE, "requested by the user"),
        (LOCKED, None, Syscall.FILE, "kexec_load is disabled by lockdown=integrity"),
        (
            replace(FREE, config={"CONFIG_KEXEC_FILE": "y"}),
            None,
            Syscall.FILE,
            "this kernel has no kexec_load: CONFIG_KEXEC is not set",
        ),
        (
            replace(FREE, config=BOTH | {"CONFIG_KEXEC_SIG_FORCE": "y"}),
            None,
            Syscall.FILE,
            "kexec_load is disabled by CONFIG_KEXEC_SIG_FORCE, which requires signatures",
        ),
        (
            replace(FREE, lockdown=Unknown("not readable"), config=Unknown("not readable")),
            None,
            Syscall.LOAD,
            "it places the image as planned",
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
    with pytest.raises(UsageError, match="has no effect in kexec_file_load") as caught:
        choose_syscall(FREE, request, Syscall.FILE, image_type)
    assert caught.value.hint_in(PYKEXEC) == f"omit {option}, or use --syscall load"
    with pytest.raises(
        NotPermitted, match=r"^kexec_load is disabled by lockdown=integrity, and .* needs it"
    ) as refused:
        choose_syscall(LOCKED, request, None, image_type)
    assert str(refused.value.hint_in(PYKEXEC)).startswith(f"omit {option}: ")


def test_the_names_are_those_of_the_kernel() -> None:
    assert [str(item) for item in Syscall] == ["kexec_load", "kexec_file_load"]


NO_LOAD = replace(FREE, config={"CONFIG_KEXEC_FILE": "y"})
NO_FILE = replace(FREE, config={"CONFIG_KEXEC": "y"})
NEITHER = replace(FREE, config={"CONFIG_RELOCATABLE": "y"})
CRASH, BY_NORMAL = LoadRequest(ImageKind.CRASH), LoadRequest(ImageKind.CRASH_BY_NORMAL)
PANIC = replace(BY_NORMAL, mode=Mode.IN_PLACE)


def kexec(**state: Any) -> Machine:
    return replace(FREE, kexec=replace(FREE.kexec, **state))


FORCED = replace(FREE, config=BOTH | {"CONFIG_KEXEC_SIG_FORCE": "y"})
OFF = kexec(load_disabled=True)


@pytest.mark.parametrize(
    ("machine", "request_", "asked", "kind", "message"),
    [
        (NEITHER, LoadRequest(), None, NotSupported, "no kexec system call"),
        (NEITHER, LoadRequest(), Syscall.FILE, NotSupported, "no kexec system call"),
        (NEITHER, LoadRequest(), Syscall.LOAD, NotSupported, "no kexec system call"),
        (NEITHER, BY_NORMAL, None, NotSupported, "no kexec system call"),
        (kexec(in_kernel=False), PANIC, None, NotSupported, "no kexec system call"),
        (NO_FILE, LoadRequest(), Syscall.FILE, NotSupported, "no kexec_file_load"),
        (NO_LOAD, LoadRequest(), Syscall.LOAD, NotSupported, "no kexec_load"),
        (NO_LOAD, BY_NORMAL, None, NotSupported, "no kexec_load: .*a crash by normal needs it"),
        (LOCKED, LoadRequest(), Syscall.LOAD, NotPermitted, "disabled by lockdown=integrity"),
        (
            replace(NO_FILE, lockdown="integrity"),
            LoadRequest(),
            None,
            NotPermitted,
            "kexec_load is disabled by lockdown=integrity, and this kernel has no kexec_file_load",
        ),
        (kexec(load_disabled=True), LoadRequest(), None, NotPermitted, "kexec_load_disabled is 1"),
        (kexec(load_disabled=True), CRASH, Syscall.FILE, NotPermitted, "kexec_load_disabled is 1"),
        (kexec(load_limit_reboot=0), LoadRequest(), None, NotPermitted, "limit_reboot is 0"),
        (kexec(load_limit_panic=0), CRASH, None, NotPermitted, "limit_panic is 0"),
        (kexec(load_limit_panic=0), PANIC, None, NotPermitted, "limit_panic is 0"),
        (
            kexec(load_limit_panic=0),
            BY_NORMAL,
            None,
            NotPermitted,
            "limit_panic is 0",
        ),
    ],
)
def test_what_is_known_to_be_refused_is_refused_before_any_call(
    machine: Machine,
    request_: LoadRequest,
    asked: Syscall | None,
    kind: type[KexecError],
    message: str,
) -> None:
    with pytest.raises(kind, match=message) as refused:
        choose_syscall(machine, request_, asked)
    assert refused.value.hint
    assert "crashkernel" not in refused.value.hint


@pytest.mark.parametrize(
    ("machine", "request_"),
    [
        (kexec(load_limit_panic=0), LoadRequest()),
        (kexec(load_limit_reboot=0), CRASH),
        (kexec(load_limit_reboot=1, load_limit_panic=-1), CRASH),
        (kexec(in_kernel=Unknown("no such file"), load_disabled=Unknown("")), LoadRequest()),
        (Machine("nothing is known"), LoadRequest()),
        (Machine("nothing is known"), PANIC),
        (replace(FREE, capabilities=frozenset[str]()), LoadRequest()),
    ],
)
def test_what_is_unknown_or_meant_for_others_refuses_nothing(
    machine: Machine, request_: LoadRequest
) -> None:
    assert choose_syscall(machine, request_, None).syscall is Syscall.LOAD


@pytest.mark.parametrize("machine", [NO_LOAD, NO_FILE, NEITHER, LOCKED, FREE, FORCED, OFF])
def test_doctor_says_what_a_load_does(machine: Machine) -> None:
    (row,) = [row for row in diagnose(machine) if row.name == "system call"]
    try:
        choice = choose_syscall(machine, LoadRequest(), None)
    except KexecError as error:
        assert (row.level, row.evidence, row.fix) == (Level.FAIL, error.message, error.remedy)
    else:
        assert (row.level, row.evidence) == (Level.OK, f"{choice.syscall}: {choice.why}")


@pytest.mark.parametrize("machine", [NO_LOAD, NO_FILE, NEITHER, LOCKED, FREE, FORCED, OFF])
def test_doctor_never_points_to_a_call_that_is_not_there(machine: Machine) -> None:
    fixes = [row.fix for row in diagnose(machine) if "KEXEC" in row.name]
    assert not any(Wish.SYSCALL.value in str(fix) for fix in fixes)
