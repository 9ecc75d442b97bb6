"""Paired bootstrap resampling (Koehn 2004): tests whether one system is better than another on the same lines.

BLEU, chrF, chrF++ and TER use the test of sacreBLEU. The other metrics (ROUGE, exact, WER and CER) are tested in the same
way on the same resampled lines.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, cast

import numpy as np
from sacrebleu.significance import PairedTest, Result

from seq2seq.metrics import rouge, scores
from seq2seq.metrics.resampling import BOOTSTRAP_SAMPLES, BOOTSTRAP_SEED, interval, percentages, resampled_sums


class System(NamedTuple):
    """The result of one system in one metric."""

    name: str
    score: float  # of the whole corpus
    mean: float  # of the resampled corpora
    interval: float  # half the width of the 95 % interval around the mean
    p_value: float | None  # probability of such a difference to the baseline by chance; None for the baseline


class Comparison(NamedTuple):
    """The results of all systems in one metric."""

    name: str  # BLEU, chrF2, TER, ROUGE-1 ...
    signature: str
    systems: tuple[System, ...]  # the baseline first


def compare(
    systems: Sequence[tuple[str, Sequence[str]]],
    references: Sequence[Sequence[str]],
    *,
    metrics: Sequence[str] = ("bleu",),
    tokenize: str | None = None,
    lowercase: bool = False,
) -> list[Comparison]:
    """Compare every system with the first one, the baseline.

    Args:
        systems: name and hypotheses of each system; all must be translations of the same lines.
        references: one list of lines for each reference, each as long as the hypotheses.
        metrics, tokenize, lowercase: as in ``scores.score``; the measures of ``summary`` cannot be compared.

    Returns:
        One comparison per metric, four for ``rouge``. The same input gives the same numbers.

    Raises:
        ValueError: there are fewer than two systems, the numbers of lines differ, or ``scores.score`` would refuse the
            arguments.
    """
    if len(systems) < 2:
        raise ValueError(f"a comparison needs two or more systems, but has {len(systems)}; add another one")
    check_comparable(metrics)
    scores.check_names(metrics, tokenize, lowercase)
    (baseline, lines), *others = systems
    for name, hypotheses in others:
        if len(hypotheses) != len(lines):
            raise ValueError(
                f"{baseline} has {len(lines)} lines but {name} has {len(hypotheses)}; they must match line by line"
            )
    scores.check_lines(lines, references)
    if len(lines) < 2:
        raise ValueError(
            "a comparison needs two or more lines, because it resamples them, but has 1; score the systems one by one"
        )
    if "bleu" in metrics and tokenize != "none":
        for _, hypotheses in systems:
            scores.warn_if_tokenized(hypotheses)
    tokenize = tokenize or scores.find_tokenizer(references)
    names = scores.expand_groups(metrics)
    inputs = [
        scores.MetricInput(hypotheses, references, None, tokenize, lowercase, intervals=True, metrics=names)
        for _, hypotheses in systems
    ]
    kinds = [name for name in names if name in rouge.ROUGE_KINDS]
    rouges = dict(zip(kinds, _compare_rouge(systems, references, kinds), strict=True)) if kinds else {}
    found: list[Comparison] = []
    for metric in names:
        if metric in rouges:
            found.append(rouges[metric])
        elif metric in scores.SACREBLEU:
            found.append(_compare_sacrebleu(metric, systems, references, tokenize=tokenize, lowercase=lowercase))
        else:
            found.append(_compare_counts(metric, [name for name, _ in systems], inputs))
    return found


def check_comparable(metrics: Sequence[str]) -> None:
    """Raise ValueError for a metric in which systems cannot be compared."""
    known = [name for name, metric in scores.METRICS.items() if not metric.requires_sources]
    for metric in metrics:
        if scores.requires_sources([metric]):
            raise ValueError(
                f"several systems are compared by {', '.join(known)} or rouge, but the metric is {metric}; "
                "score them one by one or choose another metric"
            )


def paired_bootstrap(baseline: np.ndarray, system: np.ndarray) -> tuple[float, float, float]:
    """Resample lines and compare the means of scores per line.

    The p-value is defined as in sacreBLEU: the share of resamples in which the difference of the systems exceeds the mean
    difference by at least the observed one.

    Args:
        baseline, system: the score of every line, (lines,).

    Returns:
        Mean and half the 95 % interval of the system, and the p-value.
    """
    rows = np.random.default_rng(BOOTSTRAP_SEED).choice(len(system), size=(BOOTSTRAP_SAMPLES, len(system)))
    differences = (system - baseline)[rows].mean(axis=1)  # (samples, lines) -> (samples,)
    return _summarize(system[rows].mean(axis=1), differences, float((system - baseline).mean()))


def paired_count_bootstrap(baseline: np.ndarray, system: np.ndarray) -> tuple[float, float, float]:
    """Resample lines and compare the ratios of the summed counts, in per cent.

    Args:
        baseline, system: the two counts of every line, (lines, 2).

    Returns:
        As ``paired_bootstrap``.
    """
    resampled = percentages(resampled_sums(system))
    differences = resampled - percentages(resampled_sums(baseline))
    observed = percentages(system.sum(axis=0)) - percentages(baseline.sum(axis=0))
    return _summarize(resampled, differences, float(observed))


def _summarize(resampled: np.ndarray, differences: np.ndarray, observed: float) -> tuple[float, float, float]:
    """Return mean and half the 95 % interval of the resampled scores, and the p-value of the observed difference."""
    distances = np.abs(differences)
    as_large = distances - distances.mean() >= abs(observed)
    low, high = interval(resampled)
    return float(resampled.mean()), (high - low) / 2, float((as_large.sum() + 1) / (len(as_large) + 1))


def report_comparisons(comparisons: Sequence[Comparison], format: str = "text") -> str:
    """Format comparisons as tables of text (two decimals) or as a JSON list (full precision)."""
    if format not in COMPARISON_FORMATS:
        raise ValueError(f"the format of a report must be one of {', '.join(COMPARISON_FORMATS)}, but is {format}")
    return COMPARISON_FORMATS[format](comparisons)


def _compare_sacrebleu(
    metric: str,
    systems: Sequence[tuple[str, Sequence[str]]],
    references: Sequence[Sequence[str]],
    *,
    tokenize: str,
    lowercase: bool,
) -> Comparison:
    measure, _ = scores.SACREBLEU[metric](lowercase, tokenize)
    with _sacrebleu_seed(BOOTSTRAP_SEED):
        signatures, results = PairedTest(
            list(systems), {metric: measure}, references, test_type="bs", n_samples=BOOTSTRAP_SAMPLES
        )()
    ((name, signature),) = signatures.items()
    first, *_ = rows = cast(list[Result], results[name])
    found = []
    for (system, _), result in zip(systems, rows, strict=True):
        assert result.mean is not None
        assert result.ci is not None
        p_value = result.p_value
        if p_value is not None and (result.score, result.mean, result.ci) == (first.score, first.mean, first.ci):
            p_value = 1.0  # equal counts in every line; sacreBLEU would find a difference of 0 significant
        found.append(System(system, float(result.score), float(result.mean), float(result.ci), p_value))
    return Comparison(name, str(signature), tuple(found))


def _compare_rouge(
    systems: Sequence[tuple[str, Sequence[str]]], references: Sequence[Sequence[str]], kinds: Sequence[str]
) -> Iterator[Comparison]:
    lines = [rouge.line_scores(hypotheses, references, kinds=kinds) for _, hypotheses in systems]
    for kind in kinds:
        f1 = [np.array([100 * line[kind].fmeasure for line in of_system]) for of_system in lines]
        found = []
        for number, (system, _) in enumerate(systems):
            mean, half, p_value = paired_bootstrap(f1[0], f1[number])
            score = float(f1[number].mean())
            found.append(System(system, score, mean, half, p_value if number else None))
        yield Comparison(rouge.ROUGE_KINDS[kind], rouge.signature(len(references)), tuple(found))


def _compare_counts(metric: str, names: Sequence[str], inputs: Sequence[scores.MetricInput]) -> Comparison:
    """Compare systems in a metric that counts something in every line."""
    row = scores.METRICS[metric]
    assert row.counts is not None
    counts = [row.counts(text) for text in inputs]
    found = []
    for number, name in enumerate(names):
        mean, half, p_value = paired_count_bootstrap(counts[0], counts[number])
        score = float(percentages(counts[number].sum(axis=0)))
        found.append(System(name, score, mean, half, p_value if number else None))
    first = row.score(inputs[0])
    return Comparison(first.name, first.signature, tuple(found))


@contextmanager
def _sacrebleu_seed(seed: int) -> Iterator[None]:
    """Set the seed of the test of sacreBLEU, which reads it from the environment."""
    name, before = "SACREBLEU_SEED", os.environ.get("SACREBLEU_SEED")
    os.environ[name] = str(seed)
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _text(comparisons: Sequence[Comparison]) -> str:
    width = max(len(system.name) for item in comparisons for system in item.systems)
    blocks = []
    for item in comparisons:
        rows = [f"{item.name}  {item.signature}"]
        for system in item.systems:
            row = f"  {system.name:<{width}}  {system.score:6.2f}  {system.mean:6.2f} ± {system.interval:5.2f}"
            if system.p_value is None:
                row += "  baseline"
            else:
                row += f"  p = {system.p_value:.4f}{' *' if system.p_value < 0.05 else ''}"
            rows.append(row)
        blocks.append("\n".join(rows))
    note = "columns: score; mean ± half the 95 % interval of resampled corpora; p-value against the baseline, * if below 0.05"
    return "\n".join([*blocks, note])


def _json(comparisons: Sequence[Comparison]) -> str:
    found = [item._asdict() | {"systems": [system._asdict() for system in item.systems]} for item in comparisons]
    return json.dumps(found, ensure_ascii=False, indent=2)


COMPARISON_FORMATS: dict[str, Callable[[Sequence[Comparison]], str]] = {"text": _text, "json": _json}
