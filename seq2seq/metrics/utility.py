"""Minimum Bayes risk: the expected utility of each of several hypotheses for one source.

Eikema & Aziz 2022 (arXiv 2108.04718) choose the hypothesis with the largest mean utility against samples of the model. The
time grows with the square of the number of different hypotheses. The scores are those of sacreBLEU for single sentences,
which counts the n-grams of both texts for every pair; here those of a text are counted once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

CHARACTER_ORDER, BETA = 6, 2  # of chrF (Popović 2015), as in sacreBLEU
_Table = np.ndarray[Any, np.dtype[np.float64]]


def mean_utilities(texts: Sequence[str], name: str) -> list[float]:
    """Return the mean sentence score of each text with each of the others as the reference; 0 for a single text.

    Equal texts count as often as they occur, since the frequency of a sample estimates its probability.

    Args:
        name: one of ``UTILITIES``.
    """
    counts = Counter(texts)
    if not counts:
        return []
    scores = UTILITIES[name](list(counts))
    times = np.array(list(counts.values()))
    totals = scores @ times - scores.diagonal()  # each text counts as a reference once less for itself
    means = dict(zip(counts, totals / max(len(texts) - 1, 1), strict=True))
    return [float(means[text]) for text in texts]


def chrf_table(texts: Sequence[str]) -> _Table:
    """Return chrF of each of n texts (rows) with each as the reference (columns), from 0 to 100: (n, n)."""
    joined = ["".join(text.split()) for text in texts]
    n = len(texts)
    precision, recall, orders = np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n))
    for order in range(1, CHARACTER_ORDER + 1):
        ngrams = [Counter(text[i : i + order] for i in range(len(text) - order + 1)) for text in joined]
        matches = _matches(ngrams)
        sizes = np.array([max(len(text) - order + 1, 0) for text in joined])
        both = np.outer(sizes > 0, sizes > 0)  # an order counts if both texts have n-grams of it
        divisors = np.maximum(sizes, 1)
        precision += both * matches / divisors[:, None]
        recall += both * matches / divisors
        orders += both
    weighted = BETA**2 * precision + recall
    scale = 100 * (1 + BETA**2) / np.maximum(orders, 1)
    return np.divide(precision * recall, weighted, out=np.zeros((n, n)), where=weighted > 0) * scale


def bleu_table(texts: Sequence[str]) -> _Table:
    """Return BLEU of each of n texts (rows) with each as the reference (columns), from 0 to 100: (n, n).

    Only the orders of n-grams that a short text has are counted ("effective order").
    """
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(effective_order=True)
    words = [metric.tokenizer(text.rstrip()).split() for text in texts]
    orders = range(1, metric.max_ngram_order + 1)
    matches = []
    for order in orders:
        ngrams = [Counter(tuple(row[i : i + order]) for i in range(len(row) - order + 1)) for row in words]
        matches.append(_matches(ngrams))
    table = np.zeros((len(texts), len(texts)))
    for row, hypothesis in enumerate(words):
        totals = [max(len(hypothesis) - order + 1, 0) for order in orders]
        for column, reference in enumerate(words):
            correct = [int(each[row, column]) for each in matches]
            score = metric.compute_bleu(
                correct, list(totals), len(hypothesis), len(reference), metric.smooth_method, effective_order=True
            )
            table[row, column] = score.score
    return table


def _matches(ngrams: Sequence[Counter[Any]]) -> _Table:
    """Return the number of n-grams that each two texts share, each as often as both have it: (n, n)."""
    numbers = {ngram: number for number, ngram in enumerate(dict.fromkeys(key for each in ngrams for key in each))}
    counts = np.zeros((len(ngrams), len(numbers)))
    for row, each in enumerate(ngrams):
        counts[row, [numbers[ngram] for ngram in each]] = list(each.values())
    return np.array([np.minimum(row, counts).sum(axis=1) for row in counts])


UTILITIES: dict[str, Callable[[Sequence[str]], _Table]] = {"chrf": chrf_table, "bleu": bleu_table}
