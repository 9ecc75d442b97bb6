"""Validation: which of two results is better, and what a result changes in the progress of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seq2seq.config import Config, TrainConfig
from seq2seq.metrics.scores import Score
from seq2seq.training.state import Progress
from seq2seq.training.validation import ValidationResult, Validator


def make_validator(folder: Path, metric: str, progress: Progress) -> Validator:
    """Return a validator whose model is never called."""
    model: Any = SimpleNamespace(has_attention=True)
    tokenizers: Any = None
    return Validator(
        Config(train=TrainConfig(metric=metric)),
        run=folder,
        progress=progress,
        model=model,
        tokenizers=tokenizers,
        pairs=[],
    )


def make_result(bleu: float, chrf: float, loss: float) -> ValidationResult:
    return ValidationResult(Score("BLEU", bleu, "", {}), Score("chrF2", chrf, "", {}), loss)


@pytest.mark.parametrize(
    ("metric", "result", "better"),
    [
        ("bleu", (21.0, 0.0, 9.0), True),
        ("bleu", (19.0, 99.0, 0.1), False),
        ("bleu", (20.0, 0.0, 1.9), True),
        ("bleu", (20.0, 99.0, 2.0), False),
        ("chrf", (0.0, 21.0, 9.0), True),
        ("chrf", (99.0, 19.0, 0.1), False),
        ("loss", (0.0, 0.0, 19.0), True),
        ("loss", (99.0, 99.0, 21.0), False),
        ("loss", (99.0, 99.0, 20.0), False),
    ],
)
def test_the_metric_decides_and_the_loss_breaks_ties(
    tmp_path: Path, metric: str, result: tuple[float, float, float], better: bool
) -> None:
    progress = Progress(update=8, best=20.0, best_loss=20.0 if metric == "loss" else 2.0, best_update=4)
    before = dataclasses.asdict(progress)
    assert make_validator(tmp_path, metric, progress).is_better(make_result(*result)) is better
    assert dataclasses.asdict(progress) == before, "the question changes nothing"


def test_the_translations_that_are_cut_are_counted_anew_in_each_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validator = make_validator(tmp_path, "bleu", Progress())

    def translate(lines: Any) -> list[str]:
        validator.translator.notices.cut += 2
        return ["x"]

    validator.references = ["x"]
    monkeypatch.setattr(validator.translator, "score", lambda src, tgt: [[-1.0]])
    monkeypatch.setattr(validator.translator, "translate", translate)
    assert [validator.score().cut for _ in range(2)] == [2, 2]


def test_the_first_result_is_the_best(tmp_path: Path) -> None:
    assert make_validator(tmp_path, "bleu", Progress()).is_better(make_result(0.0, 0.0, 9.0))


def test_a_better_result_is_saved_and_a_worse_one_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    progress = Progress(update=8)
    validator = make_validator(tmp_path, "chrf", progress)
    monkeypatch.setattr(validator, "_save_model", lambda: saved.append(progress.update))
    assert validator.record(make_result(1.0, 30.0, 2.0))
    assert (progress.best, progress.best_loss, progress.best_update) == (30.0, 2.0, 8)
    progress.update = 10
    assert not validator.record(make_result(2.0, 29.0, 1.0))
    progress.update = 12
    assert not validator.record(make_result(2.0, 29.0, 1.0))
    assert (progress.best_update, progress.without_gain, progress.plateaus) == (8, 2, 2)
    progress.update = 14
    assert validator.record(make_result(0.0, 31.0, 3.0))
    assert (progress.best_update, progress.without_gain, progress.plateaus) == (14, 0, 2)
    assert saved == [8, 14]
