"""ROUGE-1, -2, -L and -Lsum (Lin 2004) by rouge-score, on words that exist in every script, with seeded intervals.

ROUGE-L takes a line as one sequence. ROUGE-Lsum takes it sentence by sentence (``words.sentences``) and is what papers
on CNN/DailyMail call ROUGE-L; theirs is stemmed besides, ours is not. Knows lines of text only. rouge-score is imported
where it is used: it takes half a second.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from seq2seq.text.words import sentences, words

KINDS = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
}  # rouge-score's: ours
SAMPLES = 1000  # bootstrap resamples of the lines, as in rouge-score and sacreBLEU
SEED = 12345  # sacreBLEU's


class Rouge(NamedTuple):
    """One kind of ROUGE of a corpus: means over the lines, 0 to 100."""

    name: str  # a value of KINDS
    score: float  # F1
    low: float  # 95 % bootstrap interval of F1
    high: float
    precision: float
    recall: float


class WordTokenizer:
    """What rouge-score asks of a tokenizer, for every script: its own one drops all but a-z and 0-9."""

    def tokenize(self, text: str) -> list[str]:
        """Cut text into lowercased words."""
        return words(text)


def line_scores(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Score every line: from rouge-score's kind to (precision, recall, fmeasure), 0 to 1.

    Of several references each kind takes the one with the best F1 (rouge-score's ``score_multi``).
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(KINDS), tokenizer=WordTokenizer())
    return [
        scorer.score_multi([_by_sentence(reference) for reference in line], _by_sentence(hypothesis))
        for hypothesis, *line in zip(hypotheses, *references, strict=True)
    ]


def score_rouge(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[Rouge]:
    """Score a corpus in all four kinds.

    The score is the plain mean over the lines, so it does not depend on the seed. (rouge-score's ``mid`` is the median
    of the resampled means.)
    """
    from rouge_score.scoring import BootstrapAggregator

    lines = line_scores(hypotheses, references)
    aggregator = BootstrapAggregator(confidence_interval=0.95, n_samples=SAMPLES)
    for line in lines:
        aggregator.add_scores(line)
    with _global_seed(SEED):
        intervals = aggregator.aggregate()
    found = []
    for kind, name in KINDS.items():
        precision, recall, f1 = 100 * np.mean([line[kind] for line in lines], axis=0)
        low, high = (100 * float(getattr(intervals[kind], bound).fmeasure) for bound in ("low", "high"))
        found.append(Rouge(name, float(f1), low, high, float(precision), float(recall)))
    return found


def signature(num_references: int) -> str:
    """What has to be known to compare our ROUGE with another."""
    version = importlib.metadata.version("rouge-score")
    return f"nrefs:{num_references}|bs:{SAMPLES}|seed:{SEED}|case:lc|stem:no|tok:words|version:rouge-score-{version}"


def _by_sentence(text: str) -> str:
    """One sentence a line, as rouge-score wants it for Lsum; the other kinds do not see the difference."""
    return "\n".join(sentences(text))


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, which rouge-score draws from, and put the caller's state back."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
