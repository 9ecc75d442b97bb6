"""Terminal output of a training run: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Display:
    """Prints lines and a progress bar to standard error; standard output stays free for results.

    Args:
        quiet: print nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)
        self.bar: Progress | None = None
        self.task = TaskID(0)
        self.started, self.first, self.total = 0.0, 0, 0

    def print(self, text: str) -> None:
        """Print a line, above the bar if it is shown."""
        self.console.print(text, markup=False)

    def start(self, done: int, total: int) -> None:
        """Start to measure the time left, and show the bar if standard error is a terminal."""
        self.started, self.first, self.total = time.monotonic(), done, total
        if self.console.is_terminal and not self.console.quiet:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
            self.bar = Progress(*columns, console=self.console)
            self.task = self.bar.add_task("", total=total, completed=done)
            self.bar.start()

    def update(self, done: int, text: str) -> None:
        """Move the bar and show the text next to it; without a bar, print the text."""
        if self.bar is not None:
            self.bar.update(self.task, completed=done, description=text)
        else:
            self.print(f"update {done}  {text}  {self._time_left(done)} left")

    def _time_left(self, done: int) -> timedelta:
        """Estimate the time until the last update from the mean time of an update so far, validations included."""
        per_update = (time.monotonic() - self.started) / max(done - self.first, 1)
        return timedelta(seconds=round(per_update * max(self.total - done, 0)))

    def stop(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
