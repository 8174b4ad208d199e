"""What the oracles need; a test is skipped, with the reason, if it is not available."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.vm import supplies
from tests.vm.debian import Unavailable

from .kexec_tools import build_shim


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    try:
        return (yield)
    except Unavailable as unavailable:
        pytest.skip(unavailable.reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    try:
        return (yield)
    except Unavailable as unavailable:
        pytest.skip(unavailable.reason)


@pytest.fixture(scope="session")
def debian_kernel() -> Path:
    return supplies.kernel(supplies.DEFAULT_SERIES).image


@pytest.fixture(scope="session")
def kexec() -> supplies.Program:
    return supplies.program("kexec")


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shim(tmp_path_factory.mktemp("shim"))
