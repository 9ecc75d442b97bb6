"""ROUGE-1, -2, -L and -Lsum (Lin 2004) by rouge-score, with words of any script and seeded confidence intervals.

ROUGE-L compares a line as one sequence; ROUGE-Lsum compares it sentence by sentence (``words.sentences``). Papers on
CNN/DailyMail call the latter ROUGE-L; they also stem words, which is not done here. rouge-score is imported only where
it is used, because the import takes half a second.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from seq2seq.metrics.resampling import BOOTSTRAP_SAMPLES, BOOTSTRAP_SEED
from seq2seq.text.words import sentences, words

ROUGE_KINDS = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
}  # name in rouge-score: name in reports


class Rouge(NamedTuple):
    """One kind of ROUGE for a corpus: means over the lines, 0 to 100."""

    name: str  # a value of ROUGE_KINDS
    score: float  # F1
    precision: float
    recall: float
    interval: tuple[float, float] | None  # bounds of the 95 % bootstrap interval of F1; None if not computed


class RougeWords:
    """Tokenizer for rouge-score that finds words in any script; that of rouge-score keeps only a-z and 0-9."""

    def tokenize(self, text: str) -> list[str]:
        """Split text into lowercased words; the method that rouge-score calls."""
        return words(text)


def line_scores(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, kinds: Sequence[str] = tuple(ROUGE_KINDS)
) -> list[dict[str, Any]]:
    """Score every line.

    With several references, each kind uses the one with the best F1 (``score_multi`` of rouge-score).

    Returns:
        For every line, a dict from the kind (a key of ``ROUGE_KINDS``) to (precision, recall, fmeasure), 0 to 1.
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(kinds), tokenizer=RougeWords())
    return [
        scorer.score_multi([_by_sentence(reference) for reference in line], _by_sentence(hypothesis))
        for hypothesis, *line in zip(hypotheses, *references, strict=True)
    ]


def score_rouge(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    kinds: Sequence[str] = tuple(ROUGE_KINDS),
    intervals: bool = True,
) -> dict[str, Rouge]:
    """Score a corpus: a dict from the kind to its result.

    The score is the mean over the lines, so it does not depend on the seed. (``mid`` of rouge-score is the median of the
    resampled means instead.)

    Args:
        kinds: keys of ``ROUGE_KINDS``.
        intervals: whether to compute the bootstrap intervals. They are drawn for all kinds, so that an interval does
            not depend on the other kinds that were chosen.
    """
    lines = line_scores(hypotheses, references, kinds=tuple(ROUGE_KINDS) if intervals else kinds)
    bounds = _intervals(lines) if intervals else {}
    found = {}
    for kind in kinds:
        precision, recall, f1 = 100 * np.mean([line[kind] for line in lines], axis=0)
        found[kind] = Rouge(ROUGE_KINDS[kind], float(f1), float(precision), float(recall), bounds.get(kind))
    return found


def signature(num_references: int, *, intervals: bool = True) -> str:
    """Return the signature: everything that must be equal for two ROUGE scores to be comparable."""
    version = importlib.metadata.version("rouge-score")
    bootstrap = f"|bs:{BOOTSTRAP_SAMPLES}|seed:{BOOTSTRAP_SEED}" if intervals else ""
    return f"nrefs:{num_references}{bootstrap}|case:lc|stem:no|tok:words|version:rouge-score-{version}"


def _intervals(lines: Sequence[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Compute the 95 % intervals of F1 by rouge-score."""
    from rouge_score.scoring import BootstrapAggregator

    aggregator = BootstrapAggregator(confidence_interval=0.95, n_samples=BOOTSTRAP_SAMPLES)
    for line in lines:
        aggregator.add_scores(line)
    with _global_seed(BOOTSTRAP_SEED):
        found = aggregator.aggregate()
    return {kind: (100 * float(found[kind].low.fmeasure), 100 * float(found[kind].high.fmeasure)) for kind in found}


def _by_sentence(text: str) -> str:
    """Put one sentence on each line, as rouge-score requires for Lsum; the other kinds are not affected."""
    return "\n".join(sentences(text))


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Seed the global generator of numpy, which rouge-score uses; the previous state is restored afterwards."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
