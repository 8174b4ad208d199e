"""A bar on a terminal, while the steps of long work last."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class Bar:
    """Shows on standard error the step under way, a bar that moves, because nobody knows how long
    the step takes, and the time since its beginning. Nothing of it is left at the end."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self.progress = Progress(*columns, console=Console(stderr=True), transient=True)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def step(self, text: str) -> None:
        """Begin a step, instead of the one before it."""
        for task in self.progress.task_ids:
            self.progress.remove_task(task)
        self.progress.add_task(text, total=None)

    def line(self, text: str) -> None:
        """Print a line above the bar, which stays."""
        self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
