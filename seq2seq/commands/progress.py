"""The progress of translating, on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class LineProgress:
    """A bar with the number of lines done, lines per second and the time left.

    Args:
        bar: the bar; None: nothing is shown.
        done: lines that were done before the start, which the speed does not count.
    """

    def __init__(self, bar: Progress | None, done: int) -> None:
        self._bar, self._first, self._done, self._start = bar, done, done, time.monotonic()

    def add(self, lines: int) -> None:
        """Count more lines as done."""
        self._done += lines
        if self._bar is not None:
            speed = (self._done - self._first) / max(time.monotonic() - self._start, 1e-6)
            self._bar.update(TaskID(0), completed=self._done, description=f"{speed:,.1f} lines/s")


@contextmanager
def show_progress(source: Path | None, *, done: int, shown: bool) -> Iterator[LineProgress]:
    """Show a bar on standard error if it is a terminal, until the block ends.

    Args:
        source: the file of lines; its lines are counted for the time left. None: the number is not known.
        done: lines that are done already.
        shown: False hides the bar, because the output goes to the terminal.
    """
    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield LineProgress(None, done)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        bar.add_task("", total=count_lines(source), completed=done)
        yield LineProgress(bar, done)


def count_lines(path: Path | None) -> int | None:
    """Count the lines of a text file; None for no file, a pipe, and a compressed file."""
    if path is None or not path.is_file():
        return None
    count, last = 0, b"\n"
    with path.open("rb") as file:
        if file.read(2) == b"\x1f\x8b":  # gzip
            return None
        file.seek(0)
        while block := file.read(2**20):
            count, last = count + block.count(b"\n"), block[-1:]
    return count + (last != b"\n")


def output_is_terminal(output: Path | None) -> bool:
    """Return whether the output goes to a terminal."""
    return output is None and sys.stdout is not None and sys.stdout.isatty()
