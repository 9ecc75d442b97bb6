"""The small systems of scripts/tutorial learn their tasks in short trainings, and write a figure and their results."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import digits
import echo
import pytest
import sine
import topics
import torch
import tutorial_run

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = ROOT / "scripts" / "tutorial"


@pytest.fixture(autouse=True)
def same_threads() -> Any:
    """Restore the number of threads, which the systems set."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def run(system: Any, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a system, and return its results; the figure must be a PNG."""
    figure = folder / "new" / "figure.png"
    system.main([f"--figure={figure}", *arguments])
    assert figure.read_bytes().startswith(b"\x89PNG")
    return json.loads(figure.with_suffix(".json").read_text(encoding="utf-8"))


def test_a_cosine_is_predicted_also_beyond_the_trained_length(tmp_path: Path) -> None:
    found = run(sine, tmp_path, "--updates=100")
    assert found["cell"] == "gru"
    assert found["error_trained"] < 0.5
    assert found["error_beyond"] < 0.5


def test_digits_are_recognised(tmp_path: Path) -> None:
    found = run(digits, tmp_path, "--updates=100", "--seeds=1")
    assert found["mean"] > 0.8
    assert found["accuracy"] == [found["mean"]]


def test_echo_measures_every_way_and_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echo, "TESTED", (2, 20))
    found = run(echo, tmp_path, "--updates=3")
    for way in echo.WAYS:
        assert len(found[way]["known"]) == len(found[way]["rare"]) == 2
    assert found["fixed context"]["rare"] == found["attention"]["rare"] == [0, 0]


@pytest.mark.slow
def test_echo_ranks_the_ways(tmp_path: Path) -> None:
    found = run(echo, tmp_path)
    at = echo.TESTED.index(10)
    fixed, attention, copying = (found[way]["known"][at] for way in echo.WAYS)
    assert fixed < 0.7 < 0.9 < min(attention, copying)
    assert found["copying"]["rare"][at] > 0.9


def test_words_decide_the_class_of_a_text_in_a_file(tmp_path: Path) -> None:
    files = [tmp_path / "train.tsv.gz", tmp_path / "valid.tsv"]
    lines = [
        f"{'so ' * (k % 3)}{word} , it is\t{name}\n" for k in range(20) for word, name in (("good", "+"), ("bad", "-"))
    ]
    files[0].write_bytes(gzip.compress("".join(lines).encode()))
    files[1].write_text("".join(lines[:10]), encoding="utf-8")
    arguments = [f"--train={files[0]}", f"--valid={files[1]}", "--updates=20", "--rate=0.02", "--seeds=2"]
    found = run(topics, tmp_path, *arguments)
    assert found == {"updates": 20, "accuracy": [1, 1], "mean": 1, "spread": 0}


def test_topics_reads_reports_and_desks(tmp_path: Path) -> None:
    file = tmp_path / "few.jsonl"
    file.write_text('{"report":"Rain, at 10.","headline":"Rain","desk":"travel"}\n', encoding="utf-8")
    assert topics.read(file) == [(["rain", ",", "at", "10", "."], "travel")]
    assert {name for _, name in topics.read(topics.BULLETINS / "valid.jsonl")} >= {"sport", "travel"}


@pytest.mark.slow
def test_topics_finds_the_desk_of_reports_with_new_names(tmp_path: Path) -> None:
    assert run(topics, tmp_path)["mean"] > 0.95


def test_weights_and_data_depend_only_on_the_seed(tmp_path: Path) -> None:
    results = [run(sine, tmp_path, "--updates=2", f"--seed={seed}", "--cell=rnn_tanh") for seed in (1, 1, 2)]
    assert results[0] == results[1] != results[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--updates=0"], "error: --updates must be at least 1, but is 0\n"),
        (["--threads=0"], "error: --threads must be at least 1, but is 0\n"),
        (["--seeds=0"], "error: --seeds must be at least 1, but is 0\n"),
        (["--threads=100000"], "error: --threads must be at most "),
    ],
)
def test_impossible_numbers_are_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        digits.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_threads_are_set() -> None:
    parser = tutorial_run.make_parser("A system.\n\nMore.", figure="a.png", updates=7)
    options = tutorial_run.start(parser, ["--threads=1"])
    assert torch.get_num_threads() == 1
    assert (options.updates, options.figure, parser.description) == (7, Path("a.png"), "A system.")


@pytest.mark.parametrize("path", sorted(SYSTEMS.glob("*.py")), ids=lambda path: path.name)
def test_a_system_fits_on_two_screens(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 120
