"""Paired bootstrap resampling: its properties, known values, and agreement with sacreBLEU."""

from __future__ import annotations

import json
import logging
import os
import random
import re
from typing import Any

import numpy as np
import pytest
from sacrebleu.metrics.base import Signature
from sacrebleu.significance import PairedTest

from seq2seq.metrics.resampling import BOOTSTRAP_SAMPLES, BOOTSTRAP_SEED
from seq2seq.metrics.scores import score
from seq2seq.metrics.significance import (
    Comparison,
    compare,
    paired_bootstrap,
    paired_count_bootstrap,
    report_comparisons,
)

METRICS = ("bleu", "chrf", "chrf++", "ter", "wer", "cer", "exact", "rouge")
NUM_SCORES = 11  # rouge gives four
KNOWN = (
    "bleu, chrf, chrf++, ter, wer, cer, exact, rouge1, rouge2, rougeL, rougeLsum, copied, novel-1, novel-2, novel-3, "
    "novel-4, repeated-1, repeated-2, repeated-3, repeated-4, length-ratio, numbers, names, rouge, summary"
)
COMPARABLE = "bleu, chrf, chrf++, ter, wer, cer, exact, rouge1, rouge2, rougeL, rougeLsum or rouge"


def random_lines(seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices("abcdefgh", k=draw.randint(4, 9))) for _ in range(40)]


def spoiled(lines: list[str], seed: int, share: float) -> list[str]:
    """Replace a share of the words of the lines."""
    draw = random.Random(seed)
    return [" ".join("x" if draw.random() < share else word for word in line.split()) for line in lines]


REFERENCE = random_lines(0)
GOOD, LIKE_GOOD, BAD = spoiled(REFERENCE, 1, 0.2), spoiled(REFERENCE, 2, 0.2), spoiled(REFERENCE, 3, 0.5)


def compared(*systems: list[str], metrics: tuple[str, ...] = METRICS, **options: Any) -> list[Comparison]:
    named = [(f"system {number}", lines) for number, lines in enumerate(systems, 1)]
    return compare(named, [REFERENCE], metrics=metrics, **options)


def test_scores_and_signatures_are_those_of_a_single_system() -> None:
    found = compared(GOOD, BAD)
    for number, hypotheses in enumerate((GOOD, BAD)):
        scores = score(hypotheses, [REFERENCE], metrics=METRICS)
        assert [item.name for item in found] == [item.name for item in scores]
        assert [item.systems[number].score for item in found] == pytest.approx([item.score for item in scores])
        for item, single in zip(found, scores, strict=True):
            bootstrap = {f"bs:{BOOTSTRAP_SAMPLES}", f"seed:{BOOTSTRAP_SEED}"}
            assert set(item.signature.split("|")) == set(single.signature.split("|")) | bootstrap


def test_a_clear_difference_is_significant_and_a_small_one_is_not() -> None:
    for item in compared(GOOD, BAD, LIKE_GOOD):
        baseline, bad, like = item.systems
        assert baseline.p_value is None
        assert bad.p_value is not None
        assert like.p_value is not None
        assert bad.p_value < 0.01
        assert like.p_value > 0.05


def test_a_system_does_not_differ_from_itself() -> None:
    for item in compared(GOOD, GOOD):
        assert item.systems[1].p_value == 1
        assert item.systems[1]._replace(name="", p_value=None) == item.systems[0]._replace(name="")


def test_one_line_cannot_be_compared() -> None:
    message = "a comparison needs two or more lines, because it resamples them, but has 1; score the systems one by one"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        compare([("a", ["x"]), ("b", ["y"])], [["x"]], metrics=["chrf"])


def test_the_p_value_is_symmetric() -> None:
    for one, other in zip(compared(GOOD, LIKE_GOOD), compared(LIKE_GOOD, GOOD), strict=True):
        assert one.systems[1].p_value == other.systems[1].p_value
        assert one.systems[0][1:4] == other.systems[1][1:4]


def test_a_system_does_not_depend_on_the_others() -> None:
    for three, two in zip(compared(GOOD, BAD, LIKE_GOOD), compared(GOOD, LIKE_GOOD), strict=True):
        assert three.systems[0] == two.systems[0]
        assert three.systems[2][1:] == two.systems[1][1:]


def test_the_result_is_reproducible_whatever_the_environment_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SACREBLEU_SEED", raising=False)
    first = compared(GOOD, BAD)
    assert "SACREBLEU_SEED" not in os.environ
    monkeypatch.setenv("SACREBLEU_SEED", "none")
    np.random.seed(3)
    state = np.random.get_state()[1].tolist()  # type: ignore[index,union-attr,call-overload]
    assert compared(GOOD, BAD) == first
    assert os.environ["SACREBLEU_SEED"] == "none"
    assert np.random.get_state()[1].tolist() == state  # type: ignore[index,union-attr,call-overload]


def test_several_references() -> None:
    (two,) = compare([("a", GOOD), ("b", BAD)], [REFERENCE, BAD], metrics=["bleu"])
    assert two.systems[1].score == pytest.approx(100)
    assert "nrefs:2" in two.signature


def test_tokenize_and_lowercase_have_an_effect() -> None:
    upper = [line.upper() for line in GOOD]
    (plain,) = compared(upper, BAD, metrics=("bleu",))
    (lower,) = compared(upper, BAD, metrics=("bleu",), lowercase=True)
    (char,) = compared(GOOD, BAD, metrics=("bleu",), tokenize="char")
    assert plain.systems[0].score < lower.systems[0].score
    assert "case:lc" in lower.signature
    assert "tok:char" in char.signature


def test_single_kinds_of_rouge_are_those_of_the_group() -> None:
    group = {item.name: item for item in compared(GOOD, BAD, metrics=("rouge",))}
    assert compared(GOOD, BAD, metrics=("rougeL", "rouge1")) == [group["ROUGE-L"], group["ROUGE-1"]]


# ---- the bootstrap over scores of lines


def test_bootstrap_of_constant_distance() -> None:
    mean, interval, p_value = paired_bootstrap(np.zeros(30), np.ones(30))
    assert (mean, interval) == (1, 0)
    assert p_value == pytest.approx(1 / (BOOTSTRAP_SAMPLES + 1))


def test_bootstrap_interval_is_that_of_the_central_limit() -> None:
    values = np.random.default_rng(1).normal(50, 10, 400)
    mean, interval, _ = paired_bootstrap(np.zeros(400), values)
    assert mean == pytest.approx(values.mean(), abs=0.1)
    assert interval == pytest.approx(1.96 * values.std() / 20, rel=0.1)


def test_bootstrap_of_counts_is_that_of_their_means_where_every_line_counts_the_same() -> None:
    draw = np.random.default_rng(2)
    baseline, system = draw.integers(0, 5, 60), draw.integers(0, 6, 60)
    counts = [np.stack([errors, np.full(60, 4)], axis=1) for errors in (baseline, system)]
    assert paired_count_bootstrap(*counts) == pytest.approx(paired_bootstrap(25.0 * baseline, 25.0 * system))


class MeanOfNumbers:
    """A metric for the test of sacreBLEU: every hypothesis is a number, the corpus score is their mean."""

    class Score(float):
        name = "mean"

        @property
        def score(self) -> float:
            return float(self)

    def _extract_corpus_statistics(self, hypotheses: list[str], references: object) -> list[list[float]]:
        return [[float(line), 1] for line in hypotheses]

    def _compute_score_from_stats(self, stats: Any) -> MeanOfNumbers.Score:
        return self.Score(float(stats[0]) / float(stats[1]))

    def _aggregate_and_compute(self, stats: list[list[float]]) -> MeanOfNumbers.Score:
        return self._compute_score_from_stats(np.array(stats).sum(0))

    def get_signature(self) -> Signature:
        return Signature({"num_refs": 1})


def test_bootstrap_draws_the_lines_and_computes_the_p_value_of_sacrebleu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACREBLEU_SEED", str(BOOTSTRAP_SEED))
    draw = np.random.default_rng(5)
    baseline, system = draw.integers(0, 100, 50), draw.integers(5, 105, 50)
    named = [(name, [str(value) for value in values]) for name, values in (("a", baseline), ("b", system))]
    measure: Any = MeanOfNumbers()
    _, results = PairedTest(named, {"mean": measure}, [], test_type="bs", n_samples=BOOTSTRAP_SAMPLES)()
    expected: Any = results["mean"][1]
    found = paired_bootstrap(baseline.astype(float), system.astype(float))
    assert found == pytest.approx((expected.mean, expected.ci, expected.p_value))
    assert 0.01 < found[2] < 0.5  # an extreme value would prove little


# ---- reports and errors


def test_text_report() -> None:
    found = compare([("base", GOOD), ("longer name", BAD)], [REFERENCE], metrics=["bleu", "chrf"])
    first, baseline, other, *_, note = report_comparisons(found).split("\n")
    system = found[0].systems[1]
    assert first == f"BLEU  {found[0].signature}"
    assert baseline.startswith(f"  base         {found[0].systems[0].score:6.2f}")
    assert baseline.endswith("baseline")
    assert other == (
        f"  longer name  {system.score:6.2f}  {system.mean:6.2f} ± {system.interval:5.2f}  p = {system.p_value:.4f} *"
    )
    assert note.startswith("columns: score; mean ± half the 95 % interval")
    assert not report_comparisons(compared(GOOD, GOOD, metrics=("bleu",))).split("\n")[2].endswith("*")


def test_json_report_holds_everything() -> None:
    found = compared(GOOD, BAD)
    assert len(found) == NUM_SCORES
    read = json.loads(report_comparisons(found, "json"))
    assert [{"name": item.name, "signature": item.signature} for item in found] == [
        {key: item[key] for key in ("name", "signature")} for item in read
    ]
    assert [[system._asdict() for system in item.systems] for item in found] == [item["systems"] for item in read]


def test_tokenized_text_gives_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    lines = ["we go home ."] * 100
    with caplog.at_level(logging.WARNING):
        compare([("a", lines), ("b", lines)], [lines], tokenize="none")
        assert not caplog.messages
        compare([("a", lines), ("b", lines)], [lines])
    assert len([message for message in caplog.messages if 'hypotheses end in " ."' in message]) == 2


@pytest.mark.parametrize(
    ("systems", "options", "message"),
    [
        ([], {}, "a comparison needs two or more systems, but has 0; add another one"),
        ([("a", ["x"])], {}, "a comparison needs two or more systems, but has 1; add another one"),
        ([("a", ["x"]), ("b", ["x", "y"])], {}, "a has 1 lines but b has 2; they must match line by line"),
        (
            [("a", ["x"] * 2), ("b", ["x"] * 2)],
            {},
            "there are 2 hypotheses but 1 lines in reference 1; they must match line by line",
        ),
        (
            [("a", ["x"]), ("b", ["x"])],
            {"metrics": ["blue"]},
            f"metric must be one of {KNOWN}, but is blue",
        ),
        (
            [("a", ["x"]), ("b", ["x"])],
            {"metrics": ["ter"], "tokenize": "zh"},
            "tokenize=zh has no effect on ter, only on bleu; remove tokenize, or add the metric bleu",
        ),
        (
            [("a", ["x"]), ("b", ["x"])],
            {"metrics": ["rouge"], "lowercase": True},
            "lowercase has no effect on rouge, because case is always ignored there; remove lowercase, or add one of bleu, chrf, chrf++, ter, wer, cer, exact",
        ),
        (
            [("a", ["x"]), ("b", ["x"])],
            {"metrics": ["bleu", "summary"]},
            f"several systems are compared by {COMPARABLE}, but the metric is summary; score them one by one or choose another metric",
        ),
        (
            [("a", ["x"]), ("b", ["x"])],
            {"metrics": ["novel-2"]},
            f"several systems are compared by {COMPARABLE}, but the metric is novel-2; score them one by one or choose another metric",
        ),
    ],
)
def test_errors_of_compare(systems: list[tuple[str, list[str]]], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        compare(systems, [["x"]], **options)


def test_format_is_checked() -> None:
    with pytest.raises(ValueError, match=r"^the format of a report must be one of text, json, but is xml$"):
        report_comparisons(compared(GOOD, BAD, metrics=("bleu",)), "xml")
