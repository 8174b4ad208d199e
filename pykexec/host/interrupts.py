"""Defers signals that end this process while an operation must be completed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def put_off() -> Iterator[None]:
    """The first signal that arrives meanwhile is handled at the end. Python handles signals only in
    the main thread: in others this does nothing. Ignored signals stay ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(number)

    handlers = {number: signal.getsignal(number) for number in ENDING}
    before = {
        number: handler
        for number, handler in handlers.items()
        if handler is not None and handler is not signal.SIG_IGN
    }
    for number in before:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if heard:
            signal.raise_signal(heard[0])
