"""IBM model 1: the table of likely target pieces, compared with a plain implementation."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict

import numpy as np
import pytest

from seq2seq.data import lexicon
from seq2seq.data.lexicon import Pairs, frequent_targets, likely_targets

SRC, TGT = 7, 9
NULL = SRC


def random_pairs(count: int = 30) -> list[tuple[list[int], list[int]]]:
    numbers = random.Random(1)
    sides = ([numbers.randrange(size) for _ in range(numbers.randint(1, 5))] for size in itertools.cycle((SRC, TGT)))
    return [(next(sides), next(sides)) for _ in range(count)]


def plain(pairs: list[tuple[list[int], list[int]]]) -> dict[tuple[int, int], float]:
    """Return t(f|e) by loops over all links."""
    probability: dict[tuple[int, int], float] = defaultdict(lambda: 1.0)
    for _ in range(5):
        counts: dict[tuple[int, int], float] = defaultdict(float)
        for src, tgt in pairs:
            for f in tgt:
                total = sum(probability[e, f] for e in [*src, NULL])
                for e in [*src, NULL]:
                    counts[e, f] += probability[e, f] / total
        sums: dict[int, float] = defaultdict(float)
        for (e, _), count in counts.items():
            sums[e] += count
        probability = defaultdict(float, {(e, f): count / sums[e] for (e, f), count in counts.items()})
    return probability


def test_the_table_is_that_of_plain_loops() -> None:
    pairs = random_pairs()
    found = likely_targets(Pairs.read(pairs), src_size=SRC, tgt_size=TGT, most=4)
    expected = plain(pairs)
    assert found.shape == (SRC, 4)
    for e, row in enumerate(found.tolist()):
        values = [expected[e, f] for f in row if f >= 0]
        best = sorted((p for (source, _), p in expected.items() if source == e), reverse=True)[:4]
        assert values == pytest.approx(best)
        assert len(set(row) - {-1}) == len(best)


def test_translations_are_found_and_absent_pieces_have_none() -> None:
    pairs = [([1, 2], [5, 6]), ([1], [5]), ([2, 3], [6, 7]), ([3], [7])] * 3
    found = likely_targets(Pairs.read(pairs), src_size=5, tgt_size=8, most=2)
    assert found[1:4, 0].tolist() == [5, 6, 7]
    assert found[[0, 4]].tolist() == [[-1, -1], [-1, -1]]


def test_the_most_frequent_targets_come_first() -> None:
    pairs = Pairs.read([([1], [5, 6, 6]), ([1], [6, 5, 7])])
    assert frequent_targets(pairs, 2).tolist() == [6, 5]
    assert frequent_targets(pairs, 9).tolist() == [6, 5, 7]


def test_empty_sides_are_left_out_and_the_number_of_links_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [([1], [2]), ([], [3]), ([4], []), ([5, 6], [7])]
    assert Pairs.read(pairs) == Pairs([[1], [5, 6]], [[2], [7]])
    monkeypatch.setattr(lexicon, "MAX_LINKS", 4)
    assert Pairs.read(pairs) == Pairs([[1]], [[2]])


def test_a_very_long_pair_is_left_out_and_does_not_end_the_reading() -> None:
    assert Pairs.read([([1], [2]), ([3] * 5000, [4] * 5000), ([5], [6])]) == Pairs([[1], [5]], [[2], [6]])


def test_an_order_of_pairs_changes_nothing() -> None:
    pairs = random_pairs()
    one, other = (likely_targets(Pairs.read(some), src_size=SRC, tgt_size=TGT, most=3) for some in (pairs, pairs[::-1]))
    assert np.array_equal(one, other)
