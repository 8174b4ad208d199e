"""A line on the console every few seconds: progress, speed, and remaining time."""

from __future__ import annotations

import time
from collections.abc import Callable

LOOK_SECONDS, LINE_SECONDS = 0.5, 5.0


class Progress:
    """The progress of one dump. `clock` is in seconds."""

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.say, self.clock = say, clock
        self.begun = clock()
        self.looked, self.shown = float("-inf"), self.begun

    def due(self) -> bool:
        """Whether it is time to check the free space and the progress again."""
        now = self.clock()
        if now - self.looked < LOOK_SECONDS:
            return False
        self.looked = now
        return True

    def show(self, part: float | None, size: int | None) -> None:
        """`part` is the finished part, 1 for all; `size` the bytes written."""
        now = self.clock()
        if now - self.shown >= LINE_SECONDS:
            self.shown = now
            self.say(line(part, size, now - self.begun))


def line(part: float | None, size: int | None, seconds: float) -> str:
    words = []
    if part is not None:
        words.append(f"{part:.0%}")
    if size is not None:
        rate = size / seconds if seconds else 0
        words.append(f"{size >> 20} MiB written, {rate / (1 << 20):.1f} MiB/s")
    if part:
        words.append(f"about {seconds / part - seconds:.0f} s left")
    return f"dump: {', '.join(words) or f'{seconds:.0f} s'}"
