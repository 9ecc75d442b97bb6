"""Reading and writing whole files: atomic writes that survive a crash, and errors that always name the file."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_SPECIAL_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISLNK, "a symbolic link"),
)
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}  # file systems that cannot sync a folder


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that a reader, a full disk or a crash never leaves part of it.

    The content is written to ``path`` with the suffix ``.tmp`` in the same folder and reaches the disk before the file
    is renamed to ``path``; the folder is synchronized after that. On any failure the temporary file is removed and the
    previous file stays. The permissions follow the umask.

    Raises:
        OSError: the file cannot be written; ``filename`` is ``path``.
    """
    temporary = path.with_name(path.name + ".tmp")
    with _naming(path):
        temporary.unlink(missing_ok=True)  # of a process that was killed
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
            try:
                _write_all(descriptor, content)
            finally:
                os.close(descriptor)
            publish(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def write_stream(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing piece by piece; it gets its name at the end, when all of it has reached the disk.

    Several processes may write the same file; the last one counts. On any failure the temporary file is removed.

    Raises:
        OSError: the file cannot be written; ``filename`` is ``path``.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with _naming(path):
        try:
            with temporary.open("wb") as stream:
                yield stream
            publish(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def publish(temporary: Path, path: Path) -> None:
    """Rename a complete file to ``path`` in the same folder, after its content has reached the disk.

    Raises:
        OSError: the disk reports an error, or the file cannot be renamed; ``filename`` is ``path``.
    """
    with _naming(path):
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)


def append(descriptor: int, content: bytes, *, path: Path) -> None:
    """Append to an open file all of ``content``, or nothing if that fails.

    Raises:
        OSError: the file cannot be written; ``filename`` is ``path``.
    """
    with _naming(path):
        size = os.fstat(descriptor).st_size
        try:
            _write_all(descriptor, content)
        except BaseException:
            os.ftruncate(descriptor, size)
            raise


def sync(descriptor: int, *, path: Path) -> None:
    """Wait until the content of an open file is on the disk.

    Raises:
        OSError: the disk reports an error; ``filename`` is ``path``.
    """
    with _naming(path):
        os.fsync(descriptor)


def make_folder(folder: Path) -> None:
    """Create a folder and the folders above it, and wait until they are on the disk; do nothing if it exists."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def read_file(path: Path) -> bytes:
    """Read a whole file.

    Raises:
        ValueError: it is not a regular file. A named pipe or a device could be read without end.
        OSError: the file cannot be read; ``filename`` is ``path``.
    """
    check_readable(path)
    with _naming(path):
        return path.read_bytes()


def check_readable(path: Path) -> None:
    """Check that a file can be opened for reading.

    Raises:
        ValueError: it is not a regular file.
        OSError: the file cannot be opened; ``filename`` is ``path``.
    """
    if kind := special_kind(path):
        raise ValueError(f"{path} must be a regular file, but is {kind}")
    with _naming(path):
        path.open("rb").close()


def special_kind(path: Path, *, follow_links: bool = True) -> str | None:
    """Name the kind of a path that is not a regular file; None for a regular file, and if the path cannot be examined."""
    try:
        mode = path.stat(follow_symlinks=follow_links).st_mode
    except OSError:
        return None
    return next((kind for is_kind, kind in _SPECIAL_KINDS if is_kind(mode)), None)


def lock(file: BinaryIO) -> bool:
    """Lock an open file until it is closed or the process ends; return False if another process has locked it.

    Returns True without a lock on Windows and on file systems without locks.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


def expand_home(path: str | Path) -> Path:
    """Replace ``~`` or ``~user`` at the start of a path by the home folder.

    A path that starts with ``~`` and a name that is not a user's is kept if it exists.

    Raises:
        ValueError: there is neither such a home folder nor such a path.
    """
    path = Path(path)
    try:
        return path.expanduser()
    except RuntimeError:
        if os.path.lexists(path):
            return path
        raise ValueError(
            f"{path} must start with the home folder of a user, but {path.parts[0]} has none; "
            f"write ./{path} for a path in the current folder"
        ) from None


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raise every OSError with ``path`` as its only file name."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _write_all(descriptor: int, content: bytes | memoryview) -> None:
    """Write all bytes; a single call may write only some of them."""
    remaining = memoryview(content)
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]


def _sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can do this."""
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)
