"""The script that translates with several workers: the same bytes as seq2seq translate, also if a worker is killed."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import translate_corpus
from command_line import run, write

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "tests" / "fixtures" / "model"
SCRIPT = ROOT / "scripts" / "translate_corpus.py"
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["translate_corpus.py", *map(str, arguments)])
    translate_corpus.main()


def test_settings_are_read() -> None:
    given = ["beam_size=2", "length_penalty=0.5", "too_long=split"]
    assert translate_corpus.read_settings(given) == {"beam_size": 2, "length_penalty": 0.5, "too_long": "split"}
    words = translate_corpus.read_settings(["forbidden=1984", "may_repeat=2"])
    assert words == {"forbidden": "1984", "may_repeat": "2"}
    message = r"^--search must have the form NAME=VALUE, but is beam; for example --search beam_size=1$"
    with pytest.raises(ValueError, match=message):
        translate_corpus.read_settings(["beam"])


def test_chunks_have_the_numbers_of_their_first_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "in.txt", b"a\n" * 2001 + b"\xff\n")
    rows = translate_corpus.read_chunks(path)
    assert [(row["number"], row["first_line"], len(row["lines"])) for row in rows] == [(0, 1, 2000), (1, 2001, 2)]
    assert rows[1]["lines"][-1] == "\ufffd"


def test_a_worker_translates_a_chunk_as_the_translator_does() -> None:
    settings = {"tag": None, "glossary": {"w1": ("vous",)}, "keep": [], "threads": 0}
    worker = translate_corpus.ChunkWorker([str(MODEL)], {"beam_size": 2}, **settings)
    expected = worker.translator.translate(["w1 w2", ""])
    row = worker({"number": 3, "first_line": 7, "lines": ["w1 w2", ""]})
    assert row == {"number": 3, "count": 2, "content": "".join(f"{text}\n" for text in expected).encode()}
    assert worker.translator.search_config.beam_size == 2
    assert worker.translator.terms


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = write(tmp_path / "in.txt", "a\n")
    files = (MODEL, "--input", lines, "--output", tmp_path / "out.txt")
    with pytest.raises(ValueError, match=r"^--workers and --threads must be at least 1, but are 0 and 1$"):
        call(monkeypatch, *files, "--workers", 0)
    with pytest.raises(ValueError, match=r"^what is kept must be one of "):
        call(monkeypatch, *files, "--keep", "(")
    with pytest.raises(ValueError, match=r"^the tag must be empty, because the model has no tags; but is de$"):
        call(monkeypatch, *files, "--tag", "de")
    monkeypatch.setitem(sys.modules, "ray", None)
    message = r"^translate_corpus\.py requires Ray \(.*\); run pip install \"\.\[ray\]\"$"
    with pytest.raises(ValueError, match=message):
        call(monkeypatch, *files)


@needs_ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [False, True])
def test_the_output_has_the_bytes_of_translate(kills: bool, tmp_path: Path) -> None:
    """With ``kills``, one of the two workers is killed after it has begun; the test fails if there is none to kill."""
    lines = write(tmp_path / "in.txt", "".join(f"w{n % 9} w{n % 4} w{n}\n" for n in range(9000)) + "\n\r\n\nw1")
    expected, output = tmp_path / "expected.txt", tmp_path / "out.txt"
    assert run("translate", MODEL, "--input", lines, "--output", expected, "--beam-size", 1).exit_code == 0
    arguments = (SCRIPT, MODEL, "--input", lines, "--output", output, "--workers", 2, "--search", "beam_size=1")
    paths = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, *map(str, arguments)], env=os.environ | paths)
    try:
        if kills:
            victim = wait_for_worker(process)
            time.sleep(3)
            os.kill(victim, signal.SIGKILL)
        assert process.wait(timeout=500) == 0
    finally:
        process.kill()
    assert output.read_bytes() == expected.read_bytes()


def wait_for_worker(process: subprocess.Popen) -> int:
    """Return the id of a worker that descends from a process."""
    while process.poll() is None:
        for path in Path("/proc").glob("[0-9]*"):
            try:
                is_worker = b"MapWorker" in (path / "cmdline").read_bytes()
            except OSError:
                continue
            if is_worker and process.pid in ancestors(int(path.name)):
                return int(path.name)
        time.sleep(0.05)
    raise AssertionError("the script has ended without a worker")


def ancestors(process_id: int) -> set[int]:
    """Return the ids of the processes that a process descends from."""
    found: set[int] = set()
    while process_id > 1:
        try:
            fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            break
        process_id = int(fields[1])
        found.add(process_id)
    return found
