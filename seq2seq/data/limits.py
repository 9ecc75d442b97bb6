"""The maximum length of a translation as a function of the source length, learned from the training pairs."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

COVERED = 0.999  # share of the training pairs that the line covers before the margin is added
MARGIN = 1.2  # factor of the learned line and of the longest target
MARGIN_PIECES = 5  # pieces added after that
RATIOS = 100  # number of slopes that are compared, besides 0


@dataclass(frozen=True)
class LengthLimit:
    """The maximum length of a translation: ``ratio * source + extra`` pieces, and at most ``maximum``.

    Source lengths are in pieces without the end of sentence, target lengths include it.
    """

    ratio: float
    extra: int
    maximum: int | None = None  # None: no upper bound

    def max_length(self, source_length: int) -> int:
        """Return the maximum length of the translation of a source; it is at least 1."""
        length = int(self.ratio * source_length) + self.extra
        return max(length if self.maximum is None else min(length, self.maximum), 1)

    def uncovered(self, src_lengths: np.ndarray, tgt_lengths: np.ndarray) -> float:
        """Return the share of pairs, 0 to 1, whose target with its end of sentence is longer than its limit.

        Args:
            src_lengths, tgt_lengths: pieces of each pair, without the end of sentence.
        """
        limits = (self.ratio * src_lengths).astype(np.int64) + self.extra
        if self.maximum is not None:
            limits = np.minimum(limits, self.maximum)
        return float((tgt_lengths + 1 > limits).mean())

    @classmethod
    def from_dict(cls, values: Any) -> LengthLimit:
        """Restore a limit from plain values and check them.

        Raises:
            ValueError: a value is missing, has the wrong type or is out of range.
        """
        names = [item.name for item in dataclasses.fields(cls)]
        if not isinstance(values, dict) or sorted(values) != sorted(names):
            raise ValueError(f"length_limit must hold {', '.join(names)}, but is {values}")
        ratio, extra, maximum = (values[name] for name in names)
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 <= ratio < math.inf:
            raise ValueError(f"length_limit.ratio must be a finite number of at least 0, but is {ratio}")
        if isinstance(extra, bool) or not isinstance(extra, int) or extra < 1:
            raise ValueError(f"length_limit.extra must be a whole number of at least 1, but is {extra}")
        if maximum is not None and (isinstance(maximum, bool) or not isinstance(maximum, int) or maximum < 1):
            raise ValueError(f"length_limit.maximum must be null or a whole number of at least 1, but is {maximum}")
        return cls(float(ratio), extra, maximum)


STANDARD_LIMIT = LengthLimit(2.0, 10)  # of models that were saved without a learned limit


def learn_limit(src_lengths: np.ndarray, tgt_lengths: np.ndarray) -> LengthLimit:
    """Learn a limit that covers at least 99.9 % of the pairs, with a margin.

    For a slope a, let b(a) >= 0 be the smallest intercept for which ``tgt + 1 <= a * src + b`` holds for 99.9 % of the
    pairs. Of 101 slopes from 0 to the 99.9 % quantile of ``(tgt + 1) / src``, the one with the smallest mean limit,
    ``a * mean(src) + b(a)``, is chosen, and the smaller slope of equal ones. All of these lines cover the same share, so
    this one allows the search the fewest useless steps; and one or a few very long targets do not change it. Then

        ratio = 1.2 a,  extra = 1.2 b + 5,  maximum = 1.2 (longest target + 1) + 5,

    rounded up. The margin is for texts that differ from the training texts; the maximum bounds the search of a source
    that is longer than all of them. An intercept below 0 is not allowed, since it would cut short sources.

    The time grows with the number of different length pairs, not with the number of pairs.

    Args:
        src_lengths, tgt_lengths: pieces of each pair, without the end of sentence; sources have at least 1 piece.
    """
    src, tgt = src_lengths.astype(np.int64), tgt_lengths.astype(np.int64) + 1
    width = int(tgt.max()) + 1
    cells, counts = np.unique(src * width + tgt, return_counts=True)
    srcs, tgts = cells // width, cells % width
    mean = float(src.sum()) / len(src)
    best: tuple[float, float, float] | None = None  # mean limit, slope, intercept
    for slope in np.linspace(0.0, _quantile(tgts / srcs, counts), RATIOS + 1).tolist():
        intercept = max(_quantile(tgts - slope * srcs, counts), 0.0)
        if best is None or slope * mean + intercept < best[0] - 1e-9:
            best = (slope * mean + intercept, slope, intercept)
    assert best is not None
    _, slope, intercept = best
    return LengthLimit(
        ratio=math.ceil(MARGIN * slope * 1000 - 1e-6) / 1000,
        extra=math.ceil(MARGIN * intercept - 1e-6) + MARGIN_PIECES,
        maximum=math.ceil(MARGIN * (width - 1) - 1e-6) + MARGIN_PIECES,
    )


def _quantile(values: np.ndarray, counts: np.ndarray) -> float:
    """Return the smallest value that is not below ``COVERED`` of all values, each of which occurs ``counts`` times."""
    order = np.argsort(values, kind="stable")
    covered = np.cumsum(counts[order])
    needed = math.ceil(COVERED * int(covered[-1]) - 1e-6)
    return float(values[order[np.searchsorted(covered, needed)]])
