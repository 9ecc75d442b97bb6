"""The random numbers of sampling: each depends on the seed, the line, the sample and the step alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class LinePart(NamedTuple):
    """A part of a line that is translated by itself."""

    number: int  # of the line, from 1
    part: int = 0  # of the parts of a line that was split, from 0


def uniform_numbers(seed: int, parts: Sequence[LinePart], samples: int, steps: int) -> np.ndarray:
    """Return uniform numbers in [0, 1) for every part, sample and step, in fp64 (parts, samples, steps).

    They come from the counter-based generator Philox (Salmon et al. 2011). The seed and the line are its key, sample and
    part are in its counter, so that each has a stream of its own whose beginning does not depend on ``steps``.
    """
    numbers = np.empty((len(parts), samples, steps))
    for row, (line, part) in enumerate(parts):
        key = np.array([seed, line], dtype=np.uint64)
        for sample in range(samples):
            counter = np.array([0, 0, sample, part], dtype=np.uint64)
            np.random.Generator(np.random.Philox(counter=counter, key=key)).random(out=numbers[row, sample])
    return numbers
