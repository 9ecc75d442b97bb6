"""The log of a run: later records are cut off, and two processes do not write into one run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from seq2seq.training.metrics_log import MetricsLog


def test_records_after_the_saved_state_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, 0)
    log.write({"update": 1})
    size = log.size
    log.write({"update": 2})
    log.close()
    again = MetricsLog(path, size)
    again.write({"update": 20, "text": "é"})
    assert [json.loads(line)["update"] for line in path.read_text().splitlines()] == [1, 20], "flushed at once"
    assert again.size == path.stat().st_size > size
    again.close()


def test_two_processes_do_not_write_into_one_run(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = MetricsLog(path, 0)
    first.write({"update": 1})
    message = f"another process is training in {tmp_path}; wait until it ends, or set name to start a new run"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        MetricsLog(path, 0)
    assert path.read_text() == '{"update": 1}\n', "the log of the other process is not cut off"
    first.close()
    MetricsLog(path, 0).close()


def test_a_new_run_starts_an_empty_log(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("old\n")
    MetricsLog(path, 0).close()
    assert path.read_bytes() == b""


def test_a_log_shorter_than_its_saved_size_is_not_padded(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("{}\n")
    MetricsLog(path, 100).close()
    assert path.read_text() == "{}\n"
