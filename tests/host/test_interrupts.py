"""Signals that are put off until something is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from pykexec.host.interrupts import ENDING, put_off


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """What a handler of this process has heard."""
    found: list[int] = []
    before = {number: signal.signal(number, lambda n, _: found.append(n)) for number in ENDING}
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_is_heard_at_the_end(heard: list[int]) -> None:
    with put_off():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert heard == []
    assert heard == [signal.SIGTERM]
    signal.raise_signal(signal.SIGINT)
    assert heard == [signal.SIGTERM, signal.SIGINT]


def test_what_is_ignored_stays_so(heard: list[int]) -> None:
    """As under nohup(1)."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with put_off():
        signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert heard == []


def test_an_error_is_not_lost(heard: list[int]) -> None:
    def fail() -> None:
        with put_off():
            signal.raise_signal(signal.SIGINT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert heard == [signal.SIGINT]


def test_in_another_thread_there_is_nothing_to_do(heard: list[int]) -> None:
    def run() -> None:
        with put_off():
            done.append(True)

    done: list[bool] = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [True]
