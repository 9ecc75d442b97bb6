"""The drill: its table, its exit code, and a short run of the kinds of damage."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import drill
import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_kill_and_a_flood_lose_nothing() -> None:
    command = [sys.executable, "scripts/drill.py", "--only", "kill", "--only", "flood", "--count", "1", "--seed", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:3] == [
        "kind     survived  failed",
        "kill            1       0",
        "flood           1       0",
    ]
    assert re.fullmatch(r"seed 3, \d+ s", done.stdout.splitlines()[3])


def test_a_failure_is_counted_and_sets_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def model(exercise: drill.Drill, number: int) -> str:
        if number == 1:
            raise drill.DrillError("other translations without an error")
        return "plain"

    monkeypatch.setattr(drill, "model", model)
    monkeypatch.setattr(sys, "argv", ["drill.py", "--only", "model", "--count", "3"])
    assert drill.main() == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[:2] == ["kind     survived  failed", "model           2       1"]
    assert captured.err == "model 1: other translations without an error\n"


@pytest.mark.parametrize(
    ("code", "errors", "refusal"),
    [
        (2, "error: no\n", True),
        (2, "train: 4 pairs read\nerror: no\n", True),
        (2, "error: no\nmore\n", False),
        (2, "error: no\nerror: no\n", False),
        (2, "", False),
        (1, "error: no\n", False),
        (2, "Traceback (most recent call last):\nerror: no\n", False),
    ],
)
def test_a_refusal_is_one_line(code: int, errors: str, refusal: bool) -> None:
    assert drill.Ended(code, errors).is_refusal() is refusal
