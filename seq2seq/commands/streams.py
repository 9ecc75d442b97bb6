"""Standard input and output, and files given instead of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def standard_input() -> BinaryIO:
    """Duplicate standard input: Python aborts if it exits while a thread waits in ``sys.stdin``.

    Raises:
        ValueError: standard input is closed.
    """
    if sys.stdin is None:
        raise ValueError("standard input is closed; give --input")
    try:
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    except OSError:  # not a real file, as in tests
        return sys.stdin.buffer


@contextmanager
def output_stream(path: Path | None) -> Iterator[BinaryIO]:
    """Open a file for writing; None is standard output.

    Raises:
        ValueError: the file can't be written, or standard output is closed.
    """
    if path is None:
        if sys.stdout is None:
            raise ValueError("standard output is closed; give --output")
        yield sys.stdout.buffer
        return
    try:
        stream = path.open("wb")
    except OSError as error:
        raise ValueError(f"{path} can't be written: {error.strerror}") from error
    with stream:
        yield stream


def check_line_counts(first: Path, lines: list[str], second: Path, others: list[str]) -> None:
    """Refuse two files that do not match line by line.

    Raises:
        ValueError: the counts differ.
    """
    if len(lines) != len(others):
        raise ValueError(f"{first} has {len(lines)} lines but {second} has {len(others)}; they must match line by line")
