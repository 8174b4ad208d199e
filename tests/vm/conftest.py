"""Fixtures of the tests with real kernels."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from . import panicked, supplies
from .debian import Unavailable
from .lab import VM

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-kernels",
        action="store_true",
        help=f"boot {', '.join(supplies.KERNEL_SUITES)} and not only {supplies.DEFAULT_SERIES}",
    )
    parser.addoption(
        "--crash-lane",
        action="store_true",
        help="fetch the kernel's debug symbols (some 280 MB), and read dumps with crash(8)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = {"vm", "arm_vm"} & set(getattr(item, "fixturenames", ()))
        if HERE in item.path.parents and fixtures:
            item.add_marker("vm")
    # Files that take minutes come first, so that no process still has one when the others are done.
    items.sort(key=lambda item: HERE not in item.path.parents)


def pytest_sessionfinish() -> None:
    panicked.remove_all()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kernel" in metafunc.fixturenames:
        every = metafunc.config.getoption("--all-kernels", default=False)
        all_series = getattr(metafunc.module, "ALL_SERIES", supplies.KERNEL_SUITES)
        series = list(all_series) if every else [supplies.DEFAULT_SERIES]
        metafunc.parametrize("kernel", series, indirect=True, scope="module")
    if "arm_kernel" in metafunc.fixturenames:
        every = metafunc.config.getoption("--all-kernels", default=False)
        series = list(supplies.ARM64_SUITES) if every else [supplies.DEFAULT_SERIES]
        metafunc.parametrize("arm_kernel", series, indirect=True, scope="module")


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


@pytest.fixture(scope="module")
def kernel(request: pytest.FixtureRequest) -> supplies.Kernel:
    """The kernel under test; skips the test if it is not available, like everything from Debian."""
    return supplies.kernel(request.param)


@pytest.fixture(scope="module")
def vm(kernel: supplies.Kernel) -> Iterator[VM]:
    """A machine to run scripts in; its results are kept until the module's tests are done."""
    with tempfile.TemporaryDirectory(prefix="pykexec-results-") as folder:
        yield VM(kernel, Path(folder))


@pytest.fixture(scope="module")
def arm_kernel(request: pytest.FixtureRequest) -> supplies.Kernel:
    """The same for arm64."""
    return supplies.kernel_arm64(request.param)


@pytest.fixture(scope="module")
def arm_vm(arm_kernel: supplies.Kernel) -> Iterator[VM]:
    """The same for arm64."""
    with tempfile.TemporaryDirectory(prefix="pykexec-results-") as folder:
        yield VM(arm_kernel, Path(folder))
