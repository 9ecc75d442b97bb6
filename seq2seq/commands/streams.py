"""Standard input and output, and files given instead of them."""

from __future__ import annotations

import gzip
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

STANDARD_STREAM = Path("-")  # as a file name: standard input or standard output


def named_file(path: Path | None) -> Path | None:
    """Return a file name given by the user, or None for the standard stream: no name, or ``-``."""
    return None if path == STANDARD_STREAM else path


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
    """Open a file for writing, compressed if its name ends in .gz; None is standard output.

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
    try:
        with stream:
            if path.suffix.lower() == ".gz":
                with gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as compressed:
                    yield cast(BinaryIO, compressed)
            else:
                yield stream
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk, for example


def model_files(model: str) -> list[Path]:
    """List the files of a model directory and of the run that it belongs to, which no output may overwrite.

    Args:
        model: a model directory or a run directory.
    """
    folder = Path(os.path.expanduser(model))
    run = folder.parent if (folder.parent / "last").is_dir() else folder
    try:
        folders = [each for each in {folder, run, run / "model", run / "last"} if each.is_dir()]
        return [path for each in folders for path in each.iterdir() if path.is_file()]
    except OSError:  # loading the model reports it
        return []


class _FileId(NamedTuple):
    """The identity of a file, which hard links and symbolic links share."""

    device: int
    inode: int


def check_output(output: Path | None, inputs: Iterable[Path | None]) -> None:
    """Refuse an output that is the same file as an input, whatever the names are; nothing is opened.

    Args:
        output: the file to write; None is standard output.
        inputs: the files to read; None is standard input.

    Raises:
        ValueError: the output is one of the inputs.
    """
    written = _file_id(output, sys.stdout)
    if written is None:
        return
    for path in inputs:
        if _file_id(path, sys.stdin) == written:
            raise ValueError(
                f"the output must not be a file that is read, but {output or 'standard output'} is the same file as "
                f"{path or 'standard input'}; write to another file"
            )


def _file_id(path: Path | None, standard: object) -> _FileId | None:
    """Identify a regular file; None if there is none, or if it is a pipe, a terminal or a device."""
    try:
        found = os.stat(path) if path else os.fstat(standard.fileno())  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):  # no such file, a closed stream, or not a real stream
        return None
    return _FileId(found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def check_line_counts(first: Path, lines: list[str], second: Path, others: list[str]) -> None:
    """Refuse two files that do not match line by line.

    Raises:
        ValueError: the counts differ.
    """
    if len(lines) != len(others):
        raise ValueError(f"{first} has {len(lines)} lines but {second} has {len(others)}; they must match line by line")
