"""Bootstrap resampling of the lines of a corpus (Efron and Tibshirani 1993; Koehn 2004): 95 % intervals of scores.

Samples and seed are those of sacreBLEU, and so are the lines that are drawn. Only one resample is held in memory at a
time, so the memory does not grow with ``BOOTSTRAP_SAMPLES``.
"""

from __future__ import annotations

import numpy as np

BOOTSTRAP_SAMPLES = 1000  # resamples of the lines, as in rouge-score and sacreBLEU
BOOTSTRAP_SEED = 12345  # as in sacreBLEU


def resampled_sums(counts: np.ndarray) -> np.ndarray:
    """Draw as many lines as there are, with replacement, and sum their counts; for every resample.

    Args:
        counts: the counts of every line, (lines, K).

    Returns:
        The sums, (samples, K).
    """
    generator, lines = np.random.default_rng(BOOTSTRAP_SEED), len(counts)
    counts = counts.astype(np.float64)
    draws = (generator.choice(lines, size=lines) for _ in range(BOOTSTRAP_SAMPLES))
    return np.stack([np.bincount(drawn, minlength=lines) @ counts for drawn in draws])


def percentages(sums: np.ndarray) -> np.ndarray:
    """Divide the first count by the second, in per cent: (..., 2) -> (...).

    If the second is 0, the result is 0 without errors and otherwise 100, as in the TER of sacreBLEU.
    """
    part, of = sums[..., 0], sums[..., 1]
    return 100 * np.where(of > 0, part / np.maximum(of, 1), part > 0)


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the bounds of the middle 95 % of the scores of the resamples, (samples,)."""
    ordered = np.sort(values)
    tail = len(ordered) // 40  # 2.5 %
    return float(ordered[tail]), float(ordered[-1 - tail])
