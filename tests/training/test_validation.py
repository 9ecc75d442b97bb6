"""Validation: which of two results is better, and what a result changes in the progress of a run."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_runs import config_of, write_corpus

from seq2seq.config import VALIDATION_METRICS, Config, TrainConfig
from seq2seq.data.corpus import Pair
from seq2seq.metrics import rouge, scores
from seq2seq.metrics.scores import Score
from seq2seq.model_dir import Tokenizers
from seq2seq.training.state import Progress
from seq2seq.training.train import train
from seq2seq.training.validation import ValidationResult, Validator


def make_validator(folder: Path, metric: str, progress: Progress, pairs: Sequence[Pair] = ()) -> Validator:
    """Return a validator whose model, with the tag de, is never called."""
    model: Any = SimpleNamespace(has_attention=True, copies=False, max_source_length=9, never_id=None)
    src: Any = SimpleNamespace(tags=("de",))
    tgt: Any = SimpleNamespace(segment=lambda texts: [])  # no constraint has words
    return Validator(
        Config(train=TrainConfig(metric=metric)),
        run=folder,
        progress=progress,
        model=model,
        tokenizers=Tokenizers(src, tgt),
        pairs=pairs,
    )


def make_result(bleu: float, chrf: float, loss: float, **chosen: float) -> ValidationResult:
    others = [(name, Score(name.upper(), score, "", {})) for name, score in chosen.items()]
    return ValidationResult(Score("BLEU", bleu, "", {}), Score("chrF2", chrf, "", {}), loss, *others)


def test_the_tag_of_a_source_is_not_scored(tmp_path: Path) -> None:
    validator = make_validator(tmp_path, "numbers", Progress(), [Pair("<2de> two dogs", "zwei Hunde")])
    assert validator._result(["2 Hunde"], 1.0, 0).values()["numbers"] == 0, (
        "the 2 of the tag is no number of the source"
    )


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


@pytest.mark.parametrize(
    ("metric", "score", "better"),
    [
        ("exact", 21.0, True),
        ("exact", 19.0, False),
        ("rougeLsum", 21.0, True),
        ("wer", 19.0, True),
        ("wer", 21.0, False),
        ("ter", 21.0, False),
        ("cer", 19.0, True),
        ("cer", math.nan, False),
        ("numbers", math.nan, False),
        ("repeated-3", 0.0, True),
    ],
)
def test_every_metric_has_its_direction(tmp_path: Path, metric: str, score: float, better: bool) -> None:
    progress = Progress(update=8, best=20.0, best_loss=2.0, best_update=4)
    result = make_result(99.0, 99.0, 9.0, **{metric: score})
    assert make_validator(tmp_path, metric, progress).is_better(result) is better
    equal = make_result(0.0, 0.0, 1.9, **{metric: 20.0})
    assert make_validator(tmp_path, metric, progress).is_better(equal), "the lower loss breaks ties"


@pytest.mark.parametrize(("metric", "score"), [("numbers", 0.0), ("repeated-4", 100.0)])
def test_any_number_is_better_than_nan(tmp_path: Path, metric: str, score: float) -> None:
    validator = make_validator(tmp_path, metric, Progress(update=8, best=math.nan, best_loss=2.0, best_update=4))
    assert validator.is_better(make_result(0.0, 0.0, 9.0, **{metric: score}))
    assert validator.is_better(make_result(0.0, 0.0, 1.9, **{metric: math.nan})), "the lower loss breaks ties"
    assert not validator.is_better(make_result(0.0, 0.0, 2.0, **{metric: math.nan}))


class FixedTranslations:
    """A translator whose translations are given."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def score(self, sources: list[str], references: list[str]) -> list[list[float]]:
        return [[-1.0, -2.0] for _ in sources]

    def translate(self, sources: list[str], *, first_line: int) -> list[str]:
        return self.lines


@pytest.mark.parametrize("metric", VALIDATION_METRICS)
def test_a_validation_has_bleu_chrf_loss_and_the_chosen_metric(tmp_path: Path, metric: str) -> None:
    validator = make_validator(tmp_path, metric, Progress())
    validator.sources, validator.references = ["Ann has 3 cats .", "b"], ["Ann has 3 dogs .", "b"]
    hypotheses = ["Ann has 3 cats , Ann has 3 cats", "b"]
    validator.translator = FixedTranslations(hypotheses)  # type: ignore[assignment]
    result = validator.score()
    names = ["bleu", "chrf", "loss"]
    assert list(result.values()) == [*names, *([] if metric in names else [metric])]
    assert result.loss == 1.5
    for name in {"bleu", "chrf", metric} - {"loss"}:
        (expected,) = scores.score(hypotheses, [validator.references], metrics=[name], sources=validator.sources)
        assert result.values()[name] == expected.score
        assert expected in result.scores()


def test_a_costly_metric_is_computed_only_if_it_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(rouge, "line_scores", lambda *_, kinds: calls.extend(kinds) or [{kinds[0]: (0, 0, 0)}])
    for metric in ("bleu", "exact", "rouge2"):
        validator = make_validator(tmp_path, metric, Progress())
        validator.sources, validator.references = ["a"], ["a"]
        validator.translator = FixedTranslations(["a"])  # type: ignore[assignment]
        validator.score()
    assert calls == ["rouge2"]


def test_the_translations_that_are_cut_are_counted_anew_in_each_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validator = make_validator(tmp_path, "bleu", Progress())

    def translate(lines: Any, *, first_line: int) -> list[str]:
        validator.translator.notices.cut += 2
        return ["x"]

    validator.sources = validator.references = ["x"]
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


@pytest.mark.parametrize("metric", ["cer", "names"])
def test_a_run_follows_its_metric(tmp_path: Path, metric: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(tmp_path, pairs=20)
    config = config_of(tmp_path, train__metric=metric, train__valid_every=1, train__max_updates=3)
    best = train(config)
    records = [json.loads(line, parse_constant=pytest.fail) for line in log_of(config).read_text().splitlines()]
    found = [record for record in records if "best" in record]
    assert all({"valid_bleu", "valid_chrf", "valid_loss", f"valid_{metric}"} <= record.keys() for record in found)
    printed = {"cer": "CER", "names": "names"}[metric]
    assert all({"BLEU", "chrF2", printed} <= record["signatures"].keys() for record in found)
    assert f"  {printed} " in capsys.readouterr().err
    if metric == "cer":
        assert best == min(record["valid_cer"] for record in found)
    else:  # the corpus has no names, and JSON has no NaN
        assert math.isnan(best)
        assert {record["valid_names"] for record in found} == {None}


def log_of(config: Config) -> Path:
    return Path(config.run_dir) / "metrics.jsonl"
