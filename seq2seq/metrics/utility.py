"""Minimum Bayes risk: the expected utility of each of several hypotheses for one source.

Eikema & Aziz 2022 (arXiv 2108.04718) choose the hypothesis with the largest mean utility against samples of the model. The
time grows with the square of the number of different hypotheses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF


def _chrf() -> CHRF:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def _bleu() -> BLEU:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(effective_order=True)  # counts only the orders of n-grams that a short text has


# Sentence scores from 0 to 100. Translator imports this file, and sacrebleu only when it is used.
UTILITIES: dict[str, Callable[[], BLEU | CHRF]] = {"chrf": _chrf, "bleu": _bleu}


def mean_utilities(texts: Sequence[str], name: str) -> list[float]:
    """Return the mean sentence score of each text with each of the others as the reference; 0 for a single text.

    Equal texts count as often as they occur, since the frequency of a sample estimates its probability.

    Args:
        name: one of ``UTILITIES``.
    """
    metric, counts = UTILITIES[name](), Counter(texts)
    means = {}
    for text in counts:
        scores = {other: metric.sentence_score(text, [other]).score for other in counts if other != text}
        others = sum(counts[other] * score for other, score in scores.items())
        if counts[text] > 1:
            others += (counts[text] - 1) * metric.sentence_score(text, [text]).score
        means[text] = others / max(len(texts) - 1, 1)
    return [means[text] for text in texts]
