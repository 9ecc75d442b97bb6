"""What a run says while it trains: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Display:
    """Speaks to the standard error, so that a pipe of results stays clean."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.bar: Progress | None = None
        self.task = TaskID(0)

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        self.console.print(text, markup=False)

    def start(self, done: int, total: int) -> None:
        """Show the bar if this is a terminal."""
        if self.console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
            self.bar = Progress(*columns, console=self.console)
            self.task = self.bar.add_task("", total=total, completed=done)
            self.bar.start()

    def update(self, done: int, text: str) -> None:
        """Move the bar; without one print the text."""
        if self.bar is not None:
            self.bar.update(self.task, completed=done, description=text)
        else:
            self.say(f"update {done}  {text}")

    def stop(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
