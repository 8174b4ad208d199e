"""Remedies are worded with options of kexec(8), and with pykexec's where it has none."""

from __future__ import annotations

import pytest

from pykexec.cli.kexec8.options import OPTIONS
from pykexec.cli.kexec8.terms import KEXEC8, OTHERS, OWN
from pykexec.cli.terms import PYKEXEC
from pykexec.remedies import Omit, Use, Wish
from tests.cli.kexec8.conftest import Kexec


def test_its_words_are_its_options() -> None:
    long = {f"--{option.long}" for option in OPTIONS}
    assert {word for word in OWN.values() if word.startswith("--")} <= long


@pytest.mark.parametrize("wish", OTHERS)
def test_what_it_has_no_option_for_is_pykexecs(wish: Wish) -> None:
    assert KEXEC8[wish] == f"pykexec load {PYKEXEC[wish]}"


def test_a_system_call_is_one_of_its_letters() -> None:
    assert Use(Wish.SYSCALL, "file").text(KEXEC8) == "use -s"
    assert Omit(Wish.SYSCALL, "load").text(KEXEC8) == "omit -c"


def test_a_refusal_has_them(kexec: Kexec) -> None:
    result = kexec("-c -p bzImage --real-mode", status=1)
    assert "  hint: omit --real-mode\n" in result.err
