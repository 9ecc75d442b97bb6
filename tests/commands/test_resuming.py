"""Continuing an interrupted translation: the same bytes wherever it stopped, and what is refused; the progress bar."""

from __future__ import annotations

import functools
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import refused, run, write

from seq2seq.commands import progress as progress_module
from seq2seq.commands.progress import count_lines, show_progress
from seq2seq.commands.resuming import ResumeRecord, record_file
from seq2seq.commands.streams import output_stream
from seq2seq.data import stream
from seq2seq.model_dir import fingerprint
from seq2seq.version import __version__

MODEL = Path(__file__).parents[1] / "fixtures" / "model"
LINES = [f"w{number % 7} w{number % 5} w{number}" if number != 6 else "" for number in range(11)]
TEXT = "".join(line + "\n" for line in LINES)
AGAIN = "or leave out --resume to start again"
JSONL = ("--format", "jsonl", "--beam-size", 2)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "chunks", functools.partial(stream.chunks, size=3))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def snapshots(folder: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[], Any]) -> list[Path]:
    """Run a command; return copies of the folder as it was before and after every write of the record."""
    copies: list[Path] = []

    def copy() -> None:
        copies.append(folder.with_name(f"copy{len(copies)}"))
        shutil.copytree(folder, copies[-1])

    original = ResumeRecord.write

    def recorded(self: ResumeRecord, *arguments: Any, **options: Any) -> None:
        copy()
        original(self, *arguments, **options)
        copy()

    with monkeypatch.context() as patch:
        patch.setattr(ResumeRecord, "write", recorded)
        command()
    return copies


@pytest.mark.parametrize("options", [(), JSONL], ids=["text", "jsonl"])
@pytest.mark.usefixtures("small_chunks")
def test_resuming_ends_with_the_same_bytes_wherever_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[Any, ...]
) -> None:
    lines = write(tmp_path / "in", TEXT)
    folder = tmp_path / "run"
    folder.mkdir()

    def translate(into: Path, *more: Any) -> None:
        result = run("translate", MODEL, "--input", lines, "--output", into / "out", *options, *more)
        assert result.exit_code == 0, result.output

    copies = snapshots(folder, monkeypatch, lambda: translate(folder))
    expected = (folder / "out").read_bytes()
    assert names(folder) == ["out"]
    assert len(copies) == 2 * (1 + 4)
    kept = []
    for copy in copies:
        partial, record = copy / "out.partial", copy / "out.partial.json"
        kept.append(json.loads(record.read_text())["lines"] if record.exists() else 0)
        with partial.open("ab") as file:
            file.write(b'{"translat' if record.exists() else b"")  # a half line
        translate(copy, "--resume")
        assert (copy / "out").read_bytes() == expected
        assert names(copy) == ["out"]
    assert kept == [0, 0, 0, 3, 3, 6, 6, 9, 9, 11]


@pytest.mark.usefixtures("small_chunks")
def test_resuming_translates_only_the_other_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, folder = write(tmp_path / "in", TEXT), tmp_path / "run"
    folder.mkdir()
    command = ["translate", MODEL, "--input", lines, "--output"]
    copies = snapshots(folder, monkeypatch, lambda: run(*command, folder / "out"))
    partial = copies[5] / "out.partial"
    size = partial.stat().st_size
    partial.write_bytes(b"x" * size)
    run(*command, copies[5] / "out", "--resume")
    expected = (folder / "out").read_bytes()
    assert 0 < size < len(expected)
    assert (copies[5] / "out").read_bytes() == b"x" * size + expected[size:]


def resumed(folder: Path, lines: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Continue after the first three lines; return the records of the output, which is that of an uninterrupted run."""
    folder.mkdir()
    command = ["translate", MODEL, "--input", lines, *JSONL, "--output"]
    copy = snapshots(folder, monkeypatch, lambda: run(*command, folder / "out"))[3]
    assert run(*command, copy / "out", "--resume").exit_code == 0
    assert (copy / "out").read_bytes() == (folder / "out").read_bytes()
    return [json.loads(line) for line in (copy / "out").read_text().splitlines()]


@pytest.mark.usefixtures("small_chunks")
def test_resuming_keeps_the_values_of_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = "".join(json.dumps({"src": line, "number": number}) + "\n" for number, line in enumerate(LINES))
    found = resumed(tmp_path / "run", write(tmp_path / "in.jsonl", records), monkeypatch)
    assert [each["number"] for each in found] == list(range(len(LINES)))


@pytest.mark.usefixtures("small_chunks")
def test_resuming_keeps_the_numbers_of_invalid_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = resumed(tmp_path / "run", write(tmp_path / "in", b"\xff\n" + TEXT.encode() + b"\xff\n"), monkeypatch)
    assert [number for number, each in enumerate(found, start=1) if each["invalid_utf8"]] == [1, 13]
    assert [message for message in caplog.messages if "2 lines are not valid UTF-8 (lines 1, 13)" in message][1:]


@pytest.mark.slow
def test_a_killed_process_is_resumed_with_the_same_lines_of_a_pipe(tmp_path: Path) -> None:
    path, partial = tmp_path / "out", tmp_path / "out.partial"
    command = [sys.executable, "-m", "seq2seq", "translate", str(MODEL), "--output", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdin
        process.stdin.write("".join(line + "\n" for line in LINES[:3]))
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            record = tmp_path / "out.partial.json"
            if record.exists() and json.loads(record.read_text())["lines"]:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    assert partial.read_bytes()
    done = subprocess.run([*command, "--resume"], input=TEXT, text=True, capture_output=True, timeout=60, check=True)
    assert done.stderr == ""
    assert run("translate", MODEL, "--output", tmp_path / "again", text=TEXT).exit_code == 0
    assert path.read_bytes() == (tmp_path / "again").read_bytes()
    assert names(tmp_path) == ["again", "out"]


# ---- what is refused


@pytest.fixture
def interrupted(tmp_path: Path, small_chunks: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the input ``in`` and the incomplete output of its first three lines."""
    folder = tmp_path / "run"
    folder.mkdir()
    write(folder / "in", TEXT)
    command = ["translate", MODEL, "--input", folder / "in", "--output", folder / "out"]
    return snapshots(folder, monkeypatch, lambda: run(*command))[3]


def resume(folder: Path, *options: Any, model: Path = MODEL, lines: str = "in") -> str:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    message = refused("translate", model, "--input", folder / lines, "--output", folder / "out", "--resume", *options)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    return message


@pytest.mark.parametrize(
    ("options", "name", "before", "now"),
    [
        (["--beam-size", 2], "--beam-size", "None", "2"),
        (["--format", "jsonl"], "--format", "text", "jsonl"),
        (["--threads", 1], "--threads", "0", "1"),
        (["--too-long", "split"], "--too-long", "None", "split"),
        (["--mixture", "linear"], "--mixture", "log-linear", "linear"),
        (["--precision", "bf16"], "--precision", "fp32", "bf16"),
    ],
)
def test_other_options_are_refused(interrupted: Path, options: list[Any], name: str, before: str, now: str) -> None:
    assert resume(interrupted, *options) == (
        f"{interrupted / 'out.partial'} was written with another {name}: it was {before}, but is {now} now; "
        f"give the same {name}, {AGAIN}"
    )


def test_another_model_is_refused(interrupted: Path, tmp_path: Path) -> None:
    other = shutil.copytree(MODEL, tmp_path / "other")
    path = other / "config.json"
    assert fingerprint(other) == fingerprint(MODEL)
    path.write_text(path.read_text().replace('"beam_size": ', '"beam_size": 1'))
    assert resume(interrupted, model=other) == (
        f"{interrupted / 'out.partial'} was written with another model: it was {fingerprint(MODEL)}, but is "
        f"{fingerprint(other)} now; give the same model, {AGAIN}"
    )


def test_another_version_is_refused(interrupted: Path) -> None:
    record = interrupted / "out.partial.json"
    record.write_text(
        record.read_text().replace(f'"version of seq2seq": "{__version__}"', '"version of seq2seq": "0.0"')
    )
    assert resume(interrupted) == (
        f"{interrupted / 'out.partial'} was written with another version of seq2seq: it was 0.0, but is {__version__} now; "
        f"give the same version of seq2seq, {AGAIN}"
    )


@pytest.mark.parametrize("other", [TEXT.replace("w1", "w2", 1), "w0 w0 w0\n"], ids=["changed", "too short"])
def test_other_lines_are_refused_but_only_those_that_were_translated(interrupted: Path, other: str) -> None:
    write(interrupted / "in", other)
    assert resume(interrupted) == (
        f"{interrupted / 'out.partial'} holds translations of 3 lines that the input does not begin with; "
        f"give the same input, {AGAIN}"
    )
    changed = write(interrupted / "in", "".join(line + "\n" for line in [*LINES[:3], "w4"]))
    assert run("translate", MODEL, "--input", changed, "--output", interrupted / "out", "--resume").exit_code == 0
    assert (interrupted / "out").read_text().count("\n") == 4


def test_a_record_that_is_missing_or_does_not_fit_is_refused(interrupted: Path) -> None:
    partial, record = interrupted / "out.partial", interrupted / "out.partial.json"
    content = record.read_text()
    does_not_fit = f"{partial} cannot be continued, because its record {record} does not fit; leave out --resume"
    for wrong in ("", "{}", "[]", content.replace('"lines": 3', '"lines": "3"'), content[:50]):
        record.write_text(wrong)
        assert resume(interrupted) == does_not_fit
    record.write_text(content)
    os.truncate(partial, partial.stat().st_size - 1)
    assert resume(interrupted) == does_not_fit
    record.unlink()
    assert resume(interrupted) == (
        f"{partial} cannot be continued, because its record {record} is missing; leave out --resume"
    )


def test_outputs_that_cannot_be_continued(tmp_path: Path) -> None:
    command = ("translate", MODEL, "--resume")
    assert refused(*command) == "--resume continues an incomplete output and requires --output FILE"
    for path in (tmp_path / "out.gz", Path("/dev/null")):
        assert refused(*command, "--output", path) == (
            f"--resume requires an output that is an uncompressed regular file, but is {path}; "
            "write to a file whose name does not end in .gz"
        )
        assert record_file(path) is None
    assert names(tmp_path) == []


def test_without_an_incomplete_output_resuming_starts_with_the_first_line(tmp_path: Path) -> None:
    for _ in range(2):
        assert run("translate", MODEL, "--resume", "--output", tmp_path / "out", text=TEXT).exit_code == 0
        assert (tmp_path / "out").read_text().count("\n") == len(LINES)


def test_a_failure_before_the_first_line_leaves_no_record(tmp_path: Path) -> None:
    assert "not valid UTF-8" in refused("translate", MODEL, "--strict", "--output", tmp_path / "out", text=b"\xff\n")
    assert names(tmp_path) == []


def test_the_record_of_another_process_stays(interrupted: Path) -> None:
    path, record = interrupted / "out", interrupted / "out.partial.json"
    content, size = record.read_bytes(), (interrupted / "out.partial").stat().st_size
    message = f"another process is writing {path}; wait until it ends, or write to another file"
    with output_stream(path, kept=size) as output:
        assert refused("translate", MODEL, "--output", path, text=b"w1\n") == message
        assert resume(interrupted) == message
        assert record.read_bytes() == content
        output.write(b"x\n")
    assert path.stat().st_size == size + 2


def test_a_partial_file_that_has_become_shorter_is_refused(interrupted: Path) -> None:
    path, partial = interrupted / "out", interrupted / "out.partial"
    size = partial.stat().st_size
    message = f"{partial} has become shorter; another process may be writing {path}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"), output_stream(path, kept=size + 1):
        pass
    assert partial.stat().st_size == size


def test_the_record_does_not_overwrite_the_input(tmp_path: Path) -> None:
    lines = write(tmp_path / "out.partial.json", '{"src": "w1"}\n')
    assert refused("translate", MODEL, "--input", lines, "--output", tmp_path / "out") == (
        f"the output must not be a file that is read, but {lines} is the same file as {lines}; write to another file"
    )
    assert lines.read_text() == '{"src": "w1"}\n'


# ---- progress


def test_lines_are_counted(tmp_path: Path) -> None:
    for text, count in (("", 0), ("a", 1), ("a\n", 1), ("a\n\nb", 3)):
        assert count_lines(write(tmp_path / "in", text)) == count
    assert count_lines(write(tmp_path / "in", gzip.compress(b"a\n"))) is None
    assert count_lines(None) is None
    os.mkfifo(tmp_path / "fifo")
    assert count_lines(tmp_path / "fifo") is None


def test_a_terminal_shows_lines_and_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    console = functools.partial(progress_module.Console, force_terminal=True)
    monkeypatch.setattr(progress_module, "Console", console)
    lines = write(tmp_path / "in", TEXT)
    with show_progress(lines, done=4, shown=True) as progress:
        progress.add(7)
    shown = re.sub(r"\x1b\[[\d;?]*\w", "", capsys.readouterr().err)
    assert "11/11" in shown
    assert re.search(r"\d lines/s", shown)
    with show_progress(lines, done=4, shown=False) as progress:
        progress.add(7)
    assert capsys.readouterr().err == ""


def test_no_progress_without_a_terminal(tmp_path: Path) -> None:
    assert run("translate", MODEL, "--input", write(tmp_path / "in", TEXT), "--output", tmp_path / "out").stderr == ""
