"""ROUGE-1, -2, -L and -Lsum (Lin 2004) by rouge-score, with words for every script and seeded confidence intervals.

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

from seq2seq.text.words import sentences, words

ROUGE_KINDS = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
}  # name in rouge-score: name in reports
BOOTSTRAP_SAMPLES = 1000  # resamples of the lines, as in rouge-score and sacreBLEU
BOOTSTRAP_SEED = 12345  # as in sacreBLEU


class Rouge(NamedTuple):
    """One kind of ROUGE for a corpus: means over the lines, 0 to 100."""

    name: str  # a value of ROUGE_KINDS
    score: float  # F1
    low: float  # bounds of the 95 % bootstrap interval of F1
    high: float
    precision: float
    recall: float


class RougeWords:
    """Words for rouge-score, in every script; the tokenizer of rouge-score drops everything but a-z and 0-9."""

    def tokenize(self, text: str) -> list[str]:
        """Split text into lowercased words; the method that rouge-score calls."""
        return words(text)


def line_scores(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Score every line.

    With several references, each kind uses the one with the best F1 (``score_multi`` of rouge-score).

    Returns:
        For every line, a dict from the kind (a key of ``ROUGE_KINDS``) to (precision, recall, fmeasure), 0 to 1.
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(ROUGE_KINDS), tokenizer=RougeWords())
    return [
        scorer.score_multi([_by_sentence(reference) for reference in line], _by_sentence(hypothesis))
        for hypothesis, *line in zip(hypotheses, *references, strict=True)
    ]


def score_rouge(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[Rouge]:
    """Score a corpus with all four kinds of ROUGE.

    The score is the mean over the lines, so it does not depend on the seed. (``mid`` of rouge-score is the median of the
    resampled means instead.)
    """
    from rouge_score.scoring import BootstrapAggregator

    lines = line_scores(hypotheses, references)
    aggregator = BootstrapAggregator(confidence_interval=0.95, n_samples=BOOTSTRAP_SAMPLES)
    for line in lines:
        aggregator.add_scores(line)
    with _global_seed(BOOTSTRAP_SEED):
        intervals = aggregator.aggregate()
    found = []
    for kind, name in ROUGE_KINDS.items():
        precision, recall, f1 = 100 * np.mean([line[kind] for line in lines], axis=0)
        low, high = (100 * float(getattr(intervals[kind], bound).fmeasure) for bound in ("low", "high"))
        found.append(Rouge(name, float(f1), low, high, float(precision), float(recall)))
    return found


def signature(num_references: int) -> str:
    """Return the signature: everything that must be equal for two ROUGE scores to be comparable."""
    version = importlib.metadata.version("rouge-score")
    return f"nrefs:{num_references}|bs:{BOOTSTRAP_SAMPLES}|seed:{BOOTSTRAP_SEED}|case:lc|stem:no|tok:words|version:rouge-score-{version}"


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
