"""Atomic writes: whole or not at all, on the disk before they are visible, and with the file in every error."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seq2seq import files
from seq2seq.files import append, expand_home, make_folder, read_file, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def failing(number: int = errno.ENOSPC) -> Callable[..., Any]:
    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with monkeypatch.context() as patched:
        patched.setattr(files.os, call, failing(number))
        with pytest.raises(OSError, match=f"{os.strerror(number)}: '{re.escape(str(path))}'$") as caught:
            write_atomically(path, b"new")
    assert (caught.value.errno, caught.value.filename, caught.value.filename2) == (number, str(path), None)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_half_written_file_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = os.write, []

    def write(descriptor: int, content: bytes) -> int:
        calls.append(len(content))
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(descriptor, content[:4])

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "write", write)
        with pytest.raises(OSError, match="No space left on device"):
            write_atomically(tmp_path / "file", b"0123456789")
    assert calls == [10, 6, 2]
    assert names(tmp_path) == []


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"new")
    assert names(tmp_path) == []


def test_a_file_is_on_the_disk_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for call in ("write", "fsync", "replace"):
        original = getattr(os, call)

        def record(*arguments: Any, call: str = call, original: Callable[..., Any] = original) -> Any:
            folder = call == "fsync" and stat.S_ISDIR(os.fstat(arguments[0]).st_mode)
            calls.append("fsync folder" if folder else call)
            return original(*arguments)

        monkeypatch.setattr(files.os, call, record)
    write_atomically(tmp_path / "file", b"content")
    assert calls == ["write", "fsync", "replace", "fsync folder"]
    calls.clear()
    make_folder(tmp_path / "one" / "two")
    assert calls == ["fsync folder", "fsync folder"]
    make_folder(tmp_path / "one" / "two")
    assert len(calls) == 2


def test_a_file_system_that_cannot_sync_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        original(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)
    write_atomically(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"


def test_leftovers_of_a_killed_process_are_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file.tmp")  # opening it would wait for ever
    write_atomically(tmp_path / "file", b"content")
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_the_mode_follows_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


def test_a_failed_append_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first\n")
    original = os.write

    def write(descriptor: int, content: bytes) -> int:
        if len(content) < 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(descriptor, content[:4])

    monkeypatch.setattr(files.os, "write", write)
    with path.open("ab", buffering=0) as stream, pytest.raises(OSError, match=re.escape(str(path))):
        append(stream.fileno(), b"second\n", path=path)
    assert path.read_bytes() == b"first\n"


def bind_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a named pipe"),
        (Path.mkdir, "a folder"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
        (bind_socket, "a socket"),
    ],
)
def test_only_regular_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file"
    make(path)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path} must be a regular file, but is {kind}')}$"):
        read_file(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "file"))):
        read_file(tmp_path / "file")
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "none" / "file"))):
        write_atomically(tmp_path / "none" / "file", b"")


def test_home_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert expand_home("~/x") == tmp_path / "x"
    assert expand_home("x/~y") == Path("x/~y")
    message = (
        "~nobodyhere/x must start with the home folder of a user, but ~nobodyhere has none; "
        "write ./~nobodyhere/x for a path in the current folder"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        expand_home("~nobodyhere/x")
    (tmp_path / "~nobodyhere").mkdir()
    (tmp_path / "~nobodyhere" / "x").touch()
    assert expand_home("~nobodyhere/x") == Path("~nobodyhere/x")
