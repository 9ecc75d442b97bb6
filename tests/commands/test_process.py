"""The process of the command line: a quiet Ctrl-C at any moment, and the environment of torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seq2seq.commands.errors import one_line_errors

ROOT = Path(__file__).resolve().parents[2]
# Sends SIGINT to itself after some seconds, then runs the command line.
INTERRUPTED_COMMAND = """
import os, signal, sys, threading, time
seconds = float(sys.argv.pop(1))
threading.Thread(target=lambda: (time.sleep(seconds), os.kill(os.getpid(), signal.SIGINT)), daemon=True).start()
import runpy
runpy.run_module("seq2seq", run_name="__main__", alter_sys=True)
"""


def run_interrupted(seconds: float, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", INTERRUPTED_COMMAND, str(seconds), *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        out, error = process.stdout.read(), process.stderr.read()  # standard input stays open: translate waits for it
        process.stdin.close()
    return subprocess.CompletedProcess(command, process.returncode, out, error)


@pytest.mark.parametrize("seconds", [0.2, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("command", ["translate", "train"])
def test_an_interrupt_during_the_start_is_quiet(command: str, seconds: float, tmp_path: Path) -> None:
    model = str(ROOT / "tests" / "fixtures" / "model")
    arguments = [model] if command == "translate" else ["data=phrasebook", f"run_dir={tmp_path}", "train.device=cpu"]
    done = run_interrupted(seconds, command, *arguments)
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    assert done.returncode == 130, done.stderr
    if command == "translate":
        assert (done.stdout, done.stderr) == (b"", b"")


@pytest.mark.parametrize("given", [None, "active"])
def test_the_threads_of_openmp_wait_passively_unless_the_user_says_otherwise(given: str | None) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    if given:
        environment["OMP_WAIT_POLICY"] = given
    code = "import os, sys, seq2seq.__main__; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert done.stdout.decode().split() == [given or "passive", "False"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "there is not enough memory; shorten very long lines, or lower X"),
        (OSError(28, "No space left on device"), "reading or writing failed: No space left on device"),
        (OSError(28, "No space left on device", "a/b"), "a/b can't be used: No space left on device"),
        (OSError("no number"), "reading or writing failed: no number"),
    ],
)
def test_errors_of_the_system_are_one_line(
    error: BaseException, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, one_line_errors("X"):
        raise error
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"error: {message}\n"
