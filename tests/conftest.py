"""Options of the whole suite, golden files, and settings of hypothesis.

Hypothesis draws the same examples in each run, so that only a change can cause a failure, and has
no deadline. `pytest --hypothesis-profile=random` draws new ones, and prints how to reproduce a
failure.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from .documents import watch

GOLDEN = Path(__file__).parent / "golden"
Golden = Callable[[str, str], None]

COMMON = settings(
    deadline=None,
    print_blob=True,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
)
settings.register_profile("same", COMMON, derandomize=True)
settings.register_profile("random", COMMON, derandomize=False)
settings.load_profile("same")

watch()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite tests/golden; look at the diff"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compares a complete output with the golden file of that name."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.write_text(text)
        assert path.exists(), f"no golden file {name}: pytest --update-golden"
        assert text == path.read_text()

    return compare
