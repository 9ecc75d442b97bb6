"""Outputs: an older file is replaced by a complete one or stays as it was."""

from __future__ import annotations

import errno
import gzip
import os
import re
import signal
import stat
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from command_line import refused, run, write

from seq2seq.commands.streams import output_stream, partial_file
from seq2seq.files import lock

MODEL = Path(__file__).parents[1] / "fixtures" / "model"
BAD = b"a dog\nruns\n\xff\n"  # with --strict: two lines, then an error


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_after(path: Path, *contents: bytes) -> None:
    def write_and_fail() -> None:
        with output_stream(path) as output:
            for content in contents:
                output.write(content)
            raise ValueError("stop")

    with pytest.raises(ValueError, match=r"^stop$"):
        write_and_fail()


def test_an_output_is_replaced_when_it_is_complete(tmp_path: Path) -> None:
    path = write(tmp_path / "out", "old\n")
    path.chmod(0o640)
    with output_stream(path) as output:
        output.write(b"one\n")
        assert (path.read_bytes(), (tmp_path / "out.partial").read_bytes()) == (b"old\n", b"one\n")
        output.write(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640, "the permissions of the older file"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ["out", "out.gz"])
def test_a_failure_keeps_the_old_output_and_the_first_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    path = write(tmp_path / name, "old\n")
    fail_after(path, b"one\n", b"two\n")
    partial = tmp_path / f"{name}.partial"
    assert path.read_bytes() == b"old\n"
    content = partial.read_bytes()
    assert (gzip.decompress(content) if name == "out.gz" else content) == b"one\ntwo\n"
    message = f"{path} was not written, because it is not complete; its first lines are in {partial}"
    assert caplog.messages == [message]
    with output_stream(path) as output:  # the partial file is no hindrance
        output.write(b"new\n")
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", ["out", "out.gz"])
@pytest.mark.parametrize("contents", [[], [b""]], ids=["nothing", "no lines"])
def test_a_failure_before_the_first_line_leaves_no_file(tmp_path: Path, name: str, contents: list[bytes]) -> None:
    fail_after(tmp_path / name, *contents)
    assert names(tmp_path) == []


def test_an_empty_output_is_a_file(tmp_path: Path) -> None:
    with output_stream(tmp_path / "out"):
        pass
    assert (tmp_path / "out").read_bytes() == b""
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ["out", "out.gz"])
def test_a_full_disk_keeps_whole_writes(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("resource")
    limit = 20_000  # bytes of a file
    code = (
        "import os, resource, signal, sys\n"
        "from pathlib import Path\n"
        "from seq2seq.commands.streams import output_stream\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "with output_stream(Path(sys.argv[1])) as output:\n"
        "    for number in range(1000):\n"
        "        output.write(b'%d ' % number + os.urandom(300).hex().encode() + b'\\n')\n"
    )
    path = write(tmp_path / name, "old\n")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"File too large: '{path}'" in done.stderr
    assert path.read_bytes() == b"old\n"
    content = (tmp_path / f"{name}.partial").read_bytes()
    assert 0 < len(content) <= limit
    if name == "out.gz":
        content = zlib.decompressobj(wbits=31).decompress(content)
    lines = content.decode().split("\n")
    assert lines.pop() == "", "no half line at the end"
    assert [line.partition(" ")[0] for line in lines] == [str(number) for number in range(len(lines))]
    assert all(len(line.partition(" ")[2]) == 600 for line in lines)


def test_a_symbolic_link_stays_a_link(tmp_path: Path) -> None:
    real, link = write(tmp_path / "real", "old\n"), tmp_path / "link"
    link.symlink_to(real)
    with output_stream(link) as output:
        output.write(b"new\n")
    assert (link.is_symlink(), real.read_bytes(), names(tmp_path)) == (True, b"new\n", ["link", "real"])


def test_outputs_that_are_written_directly(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in ("/dev/null", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", str(fifo), str(tmp_path)):
        assert partial_file(Path(path)) is None
    assert partial_file(tmp_path / "new") == tmp_path / "new.partial"
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with output_stream(fifo) as output:
        output.write(b"one\n")
        assert os.read(reader, 99) == b"one\n"
    os.close(reader)
    line = f"{sys.executable} -m seq2seq translate {MODEL} --output /dev/stdout <in >>log"
    write(tmp_path / "in", "w1\n")
    write(tmp_path / "log", "first\n")
    subprocess.run(["bash", "-c", line], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "log").read_text().startswith("first\n")
    assert (tmp_path / "log").read_text().count("\n") == 2


def test_two_processes_do_not_write_one_output(tmp_path: Path) -> None:
    path = tmp_path / "out"
    message = f"another process is writing {path}; wait until it ends, or write to another file"
    with output_stream(path) as output:
        output.write(b"one\n")
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"), output_stream(path):
            pass
    assert path.read_bytes() == b"one\n"
    with path.open() as one, path.open() as two:
        assert (lock(one.buffer), lock(two.buffer)) == (True, False)


@pytest.mark.parametrize(("make", "kind"), [(os.mkfifo, "a named pipe"), (os.mkdir, "a folder")])
def test_a_partial_file_that_is_none(tmp_path: Path, make: object, kind: str) -> None:
    path, partial = tmp_path / "out", tmp_path / "out.partial"
    make(partial)  # type: ignore[operator]
    message = f"{path} is written as {partial} first, which must be a regular file, but is {kind}; remove it"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"), output_stream(path):
        pass
    partial.rmdir() if partial.is_dir() else partial.unlink()
    partial.symlink_to(write(tmp_path / "other", "kept"))
    with pytest.raises(ValueError, match=r"but is a symbolic link; remove it$"), output_stream(path):
        pass
    assert (tmp_path / "other").read_text() == "kept"


def test_a_folder_that_takes_no_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, partial = write(tmp_path / "out", "old\n"), tmp_path / "out.partial"
    original = Path.open

    def refuse(self: Path, mode: str = "r", **options: object) -> object:
        if self == partial:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return original(self, mode, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    message = f"{path} can't be written in its folder, where it is named {partial} first: Permission denied"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"), output_stream(path):
        pass
    path.unlink()
    message = f"{path} can't be written: Permission denied"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"), output_stream(path):
        pass


# ---- translate


def test_translate_keeps_an_older_output_when_its_input_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "out", "old\n")
    for text, count in ((b"\xff\n", 0), (BAD, 2)):
        message = refused("translate", MODEL, "--strict", "--output", path, text=text)
        assert message.endswith("is not valid UTF-8; convert the file to UTF-8")
        assert path.read_text() == "old\n"
        partial = tmp_path / "out.partial"
        assert (len(partial.read_text().splitlines()) if partial.exists() else 0) == count
    assert len([message for message in caplog.messages if "its first lines are in" in message]) == 1
    assert run("translate", MODEL, "--output", path, text=BAD).exit_code == 0
    assert path.read_text().count("\n") == 3
    assert names(tmp_path) == ["out"]


def test_a_partial_file_is_not_overwritten_while_it_is_read(tmp_path: Path) -> None:
    partial = write(tmp_path / "out.partial", "w1\n")
    assert refused("translate", MODEL, "--input", partial, "--output", tmp_path / "out") == (
        f"the output must not be a file that is read, but {partial} is the same file as {partial}; write to another file"
    )
    assert partial.read_text() == "w1\n"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGKILL, -signal.SIGKILL, marks=pytest.mark.slow)]
)
def test_translate_that_is_stopped_keeps_an_older_output(tmp_path: Path, number: int, code: int) -> None:
    path, partial = write(tmp_path / "out", "old\n"), tmp_path / "out.partial"
    command = [sys.executable, "-m", "seq2seq", "translate", str(MODEL), "--output", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stderr
        process.stdin.write("w1\n")
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not (partial.exists() and partial.read_bytes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(60) == code
        message = f"WARNING: {path} was not written, because it is not complete; its first lines are in {partial}\n"
        assert process.stderr.read() == (message if number == signal.SIGINT else "")
    assert (path.read_text(), partial.read_text().count("\n")) == ("old\n", 1)
    assert run("translate", MODEL, "--output", path, text="w1\nw2\n").exit_code == 0
    assert (path.read_text().count("\n"), names(tmp_path)) == (2, ["out"])
