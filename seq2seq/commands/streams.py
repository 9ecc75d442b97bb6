"""Standard input and output, and files given instead of them."""

from __future__ import annotations

import gzip
import logging
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sized
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from seq2seq.files import lock, publish, special_kind

log = logging.getLogger(__name__)

STANDARD_STREAM = Path("-")  # as a file name: standard input or standard output
_OPEN_FILES = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")  # names of files that a process has open


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


class Output:
    """An open output; what is written reaches the file at once.

    Args:
        file: the open file.
        compressed: whether to write gzip.
        kept: size of what the file holds already, in bytes.
    """

    def __init__(self, file: BinaryIO, *, compressed: bool = False, kept: int = 0) -> None:
        self.complete = kept  # size of the file in bytes after the last ``write`` that succeeded
        self._file = file
        self._gzip = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) if compressed else None

    def write(self, content: bytes) -> None:
        """Write whole lines, or a whole picture."""
        stream = self._gzip or self._file
        stream.write(content)
        stream.flush()
        if content and self._file.seekable():
            self.complete = self._file.tell()

    def close(self) -> None:
        """Write the end of a compressed file, and close the file."""
        with self._file:
            if self._gzip:
                self._gzip.close()
            self._file.flush()
            if self.complete:
                self.complete = self._file.tell()


@contextmanager
def output_stream(path: Path | None, *, kept: int = 0) -> Iterator[Output]:
    """Open an output, compressed if its name ends in .gz; None is standard output.

    A regular file is written under the name ``partial_file(path)`` and renamed at the end. If the block fails, an older
    file stays as it was. The complete writes stay in the partial file, and a warning names it; without any, the partial
    file is removed. A partial file that is there already, for example of a killed process, is overwritten.

    Args:
        kept: size in bytes of the beginning of such a partial file that is kept and continued.

    Raises:
        ValueError: the file can't be written, or standard output is closed.
    """
    if path is None:
        if sys.stdout is None:
            raise ValueError("standard output is closed; give --output")
        yield Output(sys.stdout.buffer)
        return
    partial = partial_file(path)
    output = Output(_open(path, partial, kept), compressed=path.suffix.lower() == ".gz", kept=kept)
    try:
        with closing(output):
            yield output
        if partial:
            publish(partial, Path(os.path.realpath(path)))
    except BaseException as error:
        if partial:
            _keep_complete(partial, output, path)
        if isinstance(error, OSError) and error.filename is None:  # a full disk, for example
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def partial_file(path: Path) -> Path | None:
    """Return the name of an output until it is complete: its name and ``.partial``.

    Returns:
        None if the output is written directly: a pipe, a device, or a file that this process has open (/dev/stdout).
    """
    if path.absolute().as_posix().startswith(_OPEN_FILES) or (path.exists() and not path.is_file()):
        return None
    target = Path(os.path.realpath(path))  # a symbolic link stays a link
    return target.with_name(f"{target.name}.partial")


def _open(path: Path, partial: Path | None, kept: int) -> BinaryIO:
    """Open an output under its own name, or its partial file, locked, with the permissions of an older file.

    Raises:
        ValueError: it can't be written, or another process is writing it.
    """
    try:
        if partial is None:
            return path.open("ab")  # a file that the shell opened with >> is continued
        if kind := special_kind(partial, follow_links=False):
            raise ValueError(
                f"{path} is written as {partial} first, which must be a regular file, but is {kind}; remove it"
            )
        exists = path.exists()
        if exists:
            path.open("ab").close()  # a file that is protected must not be replaced
        file = partial.open("ab")
        if not lock(file):
            file.close()
            raise ValueError(f"another process is writing {path}; wait until it ends, or write to another file")
        file.truncate(min(kept, file.tell()))  # after the lock: another process may have removed the file
        if file.seek(0, os.SEEK_END) < kept:
            file.close()
            raise ValueError(f"{partial} has become shorter; another process may be writing {path}")
        if exists:
            partial.chmod(stat.S_IMODE(path.stat().st_mode))
        return file
    except OSError as error:
        where = f" in its folder, where it is named {partial} first" if partial and path.exists() else ""
        raise ValueError(f"{path} can't be written{where}: {error.strerror}") from error


def _keep_complete(partial: Path, output: Output, path: Path) -> None:
    """Keep the complete writes of a partial file after a failure; remove a file without any."""
    if not output.complete:
        partial.unlink(missing_ok=True)
    if not partial.exists():  # also if Ctrl-C came after the partial file was renamed
        return
    os.truncate(partial, output.complete)
    log.warning("%s was not written, because it is not complete; its first lines are in %s", path, partial)


def model_files(model: str) -> list[Path]:
    """List the files of a model directory and of the run that it belongs to, which no output may overwrite.

    Args:
        model: a model directory or a run directory.
    """
    if not model.strip():
        return []
    folder = Path(os.path.expanduser(model))  # loading the model reports a home that does not exist
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
    inputs = list(inputs)
    for name in (output, partial_file(output) if output else None):
        written = _file_id(name, sys.stdout)
        for path in inputs:
            if written and _file_id(path, sys.stdin) == written:
                raise ValueError(
                    f"the output must not be a file that is read, but {name or 'standard output'} is the same file as "
                    f"{path or 'standard input'}; write to another file"
                )


def _file_id(path: Path | None, standard: object) -> _FileId | None:
    """Identify a regular file; None if there is none, or if it is a pipe, a terminal or a device."""
    try:
        found = os.stat(path) if path else os.fstat(standard.fileno())  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):  # no such file, a closed stream, or not a real stream
        return None
    return _FileId(found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def check_line_counts(first: Path, lines: Sized, second: Path, others: Sized) -> None:
    """Refuse two files that do not match line by line.

    Raises:
        ValueError: the counts differ.
    """
    if len(lines) != len(others):
        raise ValueError(f"{first} has {len(lines)} lines but {second} has {len(others)}; they must match line by line")
