"""Addresses in arm64 machine code. The words are from the listing of Debian's 6.1."""

from __future__ import annotations

import struct

import pytest

from pykexec.host.arm64.code_addresses import Addresses, addresses_in

START = 0xFFFFB00319B83484
PAGE = 0xFFFFB0031B432000
ADRP_X3 = 0xF000C563  # at START + 0x10
ADD_X3 = 0x913CC063  # add x3, x3, #0xf30
ADD_X5 = 0x91004065  # add x5, x3, #0x10
LDAXR_X5 = 0x885FFCA2
CASA_X5 = 0x88E07CA2
STLR_X5 = 0x889FFCA2
LDP_X3 = 0xA9480464  # ldp x4, x1, [x3, #128]
LDR_X3 = 0xF9404064  # ldr x4, [x3, #128]
BL = 0x9427A4ED
BLR = 0xD63F0020
B = 0x14000014
LDP_POST = 0xA8C47C63  # ldp x3, xzr, [x3], #64
MOV_X3 = 0x52800003


def found_in(*words: int) -> Addresses:
    return addresses_in(struct.pack(f"<{len(words)}I", *words), START + 0x10)


def read(*words: int) -> tuple[list[int], list[int]]:
    found = found_in(*words)
    return sorted(found.atomic), sorted(found.used)


def test_an_address_is_a_page_and_an_offset() -> None:
    assert read(ADRP_X3, ADD_X3, ADD_X5) == ([], [PAGE, PAGE + 0xF30, PAGE + 0xF40])


def test_a_page_before_the_code() -> None:
    assert read(0xF0FFFFE3)[1] == [(START & ~0xFFF) - 0x1000]


def test_an_offset_in_pages() -> None:
    assert read(ADRP_X3, 0x91400463)[1] == [PAGE, PAGE + 0x1000]


@pytest.mark.parametrize("word", [LDAXR_X5, CASA_X5, STLR_X5])
def test_an_atomic_word(word: int) -> None:
    assert read(ADRP_X3, ADD_X3, ADD_X5, B, word)[0] == [PAGE + 0xF40]


@pytest.mark.parametrize("word", [LDP_X3, LDR_X3])
def test_a_load(word: int) -> None:
    found = found_in(ADRP_X3, ADD_X3, word)
    assert found.read == {PAGE + 0xF30 + 128}
    assert found.used == {PAGE, PAGE + 0xF30, PAGE + 0xF30 + 128}


@pytest.mark.parametrize("word", [BL, BLR, LDP_POST, MOV_X3])
def test_a_register_that_may_have_changed_is_unknown(word: int) -> None:
    assert read(ADRP_X3, ADD_X3, word, LDR_X3, ADD_X5, LDAXR_X5) == ([], [PAGE, PAGE + 0xF30])


def test_a_call_keeps_the_registers_of_the_caller() -> None:
    adrp_x21, ldr_x21 = 0xF000C575, 0xF9479AA0
    assert read(adrp_x21, BL, ldr_x21)[1] == [PAGE, PAGE + 3888]
