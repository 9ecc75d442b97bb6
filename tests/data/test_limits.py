"""The limit of the target length: learned lines cover the training pairs with a margin, and outliers do not move them."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from typing import Any

import numpy as np
import pytest

from seq2seq.data.limits import COVERED, STANDARD_LIMIT, LengthLimit, learn_limit


def make_lengths(pairs: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random, random.integers(1, 41, pairs)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0), (6.0, 0), (0.2, 3), (3.0, 10), (0.0, 12)])
def test_the_line_of_the_task_is_found(slope: float, intercept: int) -> None:
    random, src = make_lengths(20_000)
    tgt = (slope * src + intercept).astype(int) + random.integers(0, 4, len(src))
    limit = learn_limit(src, tgt)
    assert limit.uncovered(src, tgt) == 0.0
    assert limit.ratio == pytest.approx(1.2 * slope, rel=0.15, abs=0.1)
    assert limit.maximum is not None
    longest = int(tgt.max()) + 1
    assert 1.2 * longest + 5 <= limit.maximum <= 1.2 * longest + 6
    limits = np.array([limit.max_length(length) for length in src.tolist()])
    assert limits.mean() < 1.3 * (tgt.mean() + 1) + 12, "the limit is not wasteful"


@pytest.mark.parametrize("seed", range(20))
def test_at_least_the_stated_share_is_covered_whatever_the_lengths(seed: int) -> None:
    random = np.random.default_rng(seed)
    pairs = int(random.choice([1, 2, 7, 100, 999, 5000]))
    src = random.geometric(random.uniform(0.02, 0.9), pairs)
    tgt = random.geometric(random.uniform(0.02, 0.9), pairs) + (src * random.uniform(0, 5)).astype(int)
    limit = learn_limit(src, tgt)
    assert limit.uncovered(src, tgt) <= 1 - COVERED + 1e-12
    counted = np.mean(
        [target + 1 > limit.max_length(source) for source, target in zip(src.tolist(), tgt.tolist(), strict=True)]
    )
    assert limit.uncovered(src, tgt) == counted


def test_a_few_outliers_do_not_move_the_line_but_raise_the_maximum() -> None:
    _, src = make_lengths(10_000)
    tgt = src + 2
    plain = learn_limit(src, tgt)
    tgt[:5] = 250
    limit = learn_limit(src, tgt)
    assert (limit.ratio, limit.extra) == (plain.ratio, plain.extra)
    assert limit.maximum == 307  # 1.2 * 251 + 5 = 306.2
    assert limit.uncovered(src, tgt) == 5 / 10_000


def test_a_source_longer_than_all_training_sources_is_bounded_by_the_longest_target() -> None:
    src = np.arange(1, 101)
    limit = learn_limit(src, 3 * src)
    assert limit.max_length(1) >= 4
    assert limit.max_length(100) >= 301
    assert limit.max_length(10_000) == limit.maximum == 367  # 1.2 * 301 + 5 = 366.2


def test_the_order_of_the_pairs_does_not_matter() -> None:
    random, src = make_lengths(3_000)
    tgt = src * 2 + random.integers(0, 30, len(src))
    order = random.permutation(len(src))
    assert learn_limit(src, tgt) == learn_limit(src[order], tgt[order])


def test_a_million_pairs_take_seconds() -> None:
    random = np.random.default_rng(1)
    src = random.integers(1, 257, 1_000_000).astype(np.int32)
    tgt = random.integers(1, 257, 1_000_000).astype(np.int32)
    started = time.perf_counter()
    learn_limit(src, tgt)
    assert time.perf_counter() - started < 20  # 1 s on a free core


def test_the_standard_limit_has_no_maximum() -> None:
    assert [STANDARD_LIMIT.max_length(length) for length in (1, 100, 10_000)] == [12, 210, 20_010]
    assert LengthLimit(0.0, 1, 1).max_length(5) == 1


def test_plain_values_and_back() -> None:
    limit = LengthLimit(1.25, 7, 99)
    assert LengthLimit.from_dict(json.loads(json.dumps(dataclasses.asdict(limit)))) == limit


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ratio": 1.0}, "length_limit must hold ratio, extra, maximum, but is {'ratio': 1.0}"),
        (3, "length_limit must hold ratio, extra, maximum, but is 3"),
        (
            {"ratio": float("nan"), "extra": 1, "maximum": 1},
            "length_limit.ratio must be a finite number of at least 0, but is nan",
        ),
        (
            {"ratio": 1.0, "extra": True, "maximum": 1},
            "length_limit.extra must be a whole number of at least 1, but is True",
        ),
        (
            {"ratio": 1.0, "extra": 1, "maximum": 0},
            "length_limit.maximum must be null or a whole number of at least 1, but is 0",
        ),
    ],
)
def test_damaged_values_are_refused(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        LengthLimit.from_dict(values)
