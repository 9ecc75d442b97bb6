"""Terminal output of a training run: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Display:
    """Prints lines and a progress bar to standard error; standard output stays free for results."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.bar: Progress | None = None
        self.task = TaskID(0)

    def print(self, text: str) -> None:
        """Print a line, above the bar if it is shown."""
        self.console.print(text, markup=False)

    def start(self, done: int, total: int) -> None:
        """Show the bar if standard error is a terminal."""
        if self.console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
            self.bar = Progress(*columns, console=self.console)
            self.task = self.bar.add_task("", total=total, completed=done)
            self.bar.start()

    def update(self, done: int, text: str) -> None:
        """Move the bar and show the text next to it; without a bar, print the text."""
        if self.bar is not None:
            self.bar.update(self.task, completed=done, description=text)
        else:
            self.print(f"update {done}  {text}")

    def stop(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
