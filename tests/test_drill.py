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
@pytest.mark.timeout(600)
def test_one_trial_of_each_kind_loses_nothing() -> None:
    command = [sys.executable, "scripts/drill.py", "--count", "1", "--seed", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=590)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:6] == ["kind     survived  failed", *(f"{kind:8} {1:8}  {0:6}" for kind in drill.SIZES)]
    assert lines[6] in ("the full disk was a tmpfs", "the full disk was a limit on the size of files")
    assert re.fullmatch(r"seed 3, \d+ s", lines[7])


def fill_and_write(disk: drill.Disk, free: int) -> list[int]:
    """Fill a disk in a process of its own, write 8192 bytes there, and return the sizes of the file and of the error."""

    def action() -> None:
        disk.fill(free)
        with open(disk.folder / "file", "wb", buffering=0) as file:
            file.write(bytes(8192))
            file.write(bytes(8192))

    ended = drill.run_process(action)
    disk.clear()
    return [ended.code, (disk.folder / "file").stat().st_size]


@pytest.mark.parametrize("mountable", [True, False])
def test_a_filled_disk_refuses_writes_until_it_is_cleared(
    mountable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not mountable:
        monkeypatch.setattr(drill, "CLONE_NEWNS", -1)

    def action() -> None:  # in a process of its own, whose mounts end with it
        disk = drill.Disk(tmp_path / "disk")
        assert mountable or not disk.mounted
        assert fill_and_write(disk, 0) == [1, 0]
        assert fill_and_write(disk, 8192) == [1, 8192]
        (disk.folder / "file").write_bytes(bytes(16384))
        disk.unmount()

    ended = drill.run_process(action)
    assert ended.code == 0, ended.errors


@pytest.mark.parametrize(
    ("arguments", "counts"),
    [
        ([], {kind: size.short for kind, size in drill.SIZES.items()}),
        (["--long"], {"kill": 100, "write": 0, "flood": 100, "model": 60, "run": 60}),
        (["--long", "--only", "run", "--count", "7"], {"run": 7}),
    ],
)
def test_the_size_of_a_drill(
    arguments: list[str], counts: dict[str, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[tuple[dict[str, int], int]] = []

    def perform(exercise: drill.Drill, counts: dict[str, int], lines: int) -> dict[str, list[str | None]]:
        given.append((counts, lines))
        return {}

    monkeypatch.setattr(drill, "perform", perform)
    monkeypatch.setattr(drill.Disk, "__init__", lambda self, folder: setattr(self, "mounted", False))
    monkeypatch.setattr(sys, "argv", ["drill.py", *arguments])
    assert drill.main() == 0
    assert given == [(counts, 1000 if "--long" in arguments else 50)]
    assert capsys.readouterr().out.startswith("kind     survived  failed\nseed 1, ")


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
