"""A bar on a terminal, while the steps of long work last."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class Bar:
    """Shows on standard error the step under way, a bar, and the time since the step began. The
    bar moves if nobody knows how long the step takes. Nothing of it is left at the end."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self.what = ""
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

    def step(self, text: str, total: float | None = None) -> None:
        """Begin a step, instead of the one before it."""
        for task in self.progress.task_ids:
            self.progress.remove_task(task)
        self.progress.add_task(text, total=total)

    def line(self, text: str) -> None:
        """Print a line above the bar, which stays."""
        self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def reading(self, what: str, part: float) -> None:
        """Show what is being read, and the finished part of that: 0 to 1."""
        if what != self.what:
            self.what = what
            self.step(f"Reading {what}", total=1)
        self.progress.update(self.progress.task_ids[0], completed=part)
