"""A distribution's kernel with damage to its header and its compressed contents."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pykexec.abi.x86.bootparam import SETUP_HEADER_OFFSET, setup_header
from pykexec.images.identify import identify
from pykexec.images.x86.packed_vmlinux import packed_vmlinux
from tests.fuzz.damage import damage
from tests.fuzz.targets import TARGETS, attempt, survive, written
from tests.vm import supplies
from tests.vm.debian import Unavailable


@cache
def real_kernel() -> Path:
    try:
        return supplies.kernel(supplies.DEFAULT_SERIES).image
    except Unavailable as unavailable:
        pytest.skip(unavailable.reason)


@pytest.mark.parametrize("name", ["bzimage", "any_file"])
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_damage_is_survived(name: str, data: st.DataObject) -> None:
    raw = bytearray(real_kernel().read_bytes())
    damage(raw, data, near=0x400)
    survive(TARGETS[name], bytes(raw))


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damage_to_what_is_packed_is_survived(data: st.DataObject) -> None:
    raw = real_kernel().read_bytes()
    header = setup_header.parse(raw[SETUP_HEADER_OFFSET:])
    start = (header.setup_sects + 1) * 512 + header.payload_offset
    packed = bytearray(raw[start : start + header.payload_length])
    damage(packed, data, near=0x40)
    path = written(raw[:start] + bytes(packed).ljust(header.payload_length, b"\0"))
    attempt(lambda: packed_vmlinux(identify(path)))
