"""The log of a run: later records are cut off, and two processes do not write into one run."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from seq2seq import files
from seq2seq.training.metrics_log import MetricsLog


def test_records_after_the_saved_state_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.write({"update": 1})
    size = log.size
    log.write({"update": 2})
    log.close()
    again = MetricsLog(path)
    again.truncate(size)
    again.write({"update": 20, "text": "é"})
    assert [json.loads(line)["update"] for line in path.read_text().splitlines()] == [1, 20], "flushed at once"
    assert again.size == path.stat().st_size > size
    again.close()


def test_two_processes_do_not_write_into_one_run(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = MetricsLog(path)
    first.write({"update": 1})
    message = f"another process is training in {tmp_path}; wait until it ends, or set name to start a new run"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        MetricsLog(path)
    assert path.read_text() == '{"update": 1}\n', "the log of the other process is not cut off"
    first.close()
    MetricsLog(path).close()


def test_a_new_run_starts_an_empty_log(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("old\n")
    log = MetricsLog(path)
    assert path.read_text() == "old\n", "opening changes nothing"
    log.truncate(0)
    log.close()
    assert path.read_bytes() == b""


def test_a_log_shorter_than_its_saved_size_is_not_padded(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("{}\n")
    log = MetricsLog(path)
    log.truncate(100)
    log.close()
    assert path.read_text() == "{}\n"


def test_a_full_disk_leaves_no_half_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.write({"update": 1})
    original = os.write

    def write(descriptor: int, content: bytes) -> int:
        if len(content) < 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(descriptor, content[:4])

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "write", write)
        with pytest.raises(OSError, match=f"No space left on device: '{re.escape(str(path))}'$"):
            log.write({"update": 2})
    log.close()
    assert path.read_text() == '{"update": 1}\n'


@pytest.mark.parametrize(("make", "kind"), [(os.mkfifo, "a named pipe"), (Path.mkdir, "a folder")])
def test_a_log_that_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None], kind: str) -> None:
    path = tmp_path / "metrics.jsonl"
    make(path)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path} must be a regular file, but is {kind}')}$"):
        MetricsLog(path)


def test_a_refused_run_leaves_no_log(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    MetricsLog(path).discard()
    assert not path.exists()
    path.touch()
    MetricsLog(path).discard()
    assert path.exists(), "it was there before"
