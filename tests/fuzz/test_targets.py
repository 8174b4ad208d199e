"""Damaged inputs of every kind, the same ones in each run; scripts/fuzz goes further."""

from __future__ import annotations

import resource
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import MIB
from tests.fuzz.damage import damage
from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS, survive

GROWTH = 400 * MIB
"""Limit for the growth of this process by all inputs of a target, to detect decompression bombs."""


@cache
def seeds(name: str) -> tuple[bytes, ...]:
    return tuple(SEEDS[name]())


def test_every_target_has_seeds() -> None:
    assert list(TARGETS) == list(SEEDS)


@pytest.mark.parametrize("name", TARGETS)
def test_a_seed_is_good(name: str) -> None:
    """Otherwise damaged versions would never pass the first check."""
    for data in seeds(name):
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
@settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(data=st.data())
def test_damage_is_survived(name: str, data: st.DataObject) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    raw = bytearray(data.draw(st.sampled_from(seeds(name))))
    damage(raw, data, near=0x200)
    survive(TARGETS[name], bytes(raw))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown << 10 < GROWTH, "one input took too much memory"


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=300))
def test_anything_is_survived(name: str, data: bytes) -> None:
    survive(TARGETS[name], data)
