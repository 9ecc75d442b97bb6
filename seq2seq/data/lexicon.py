"""The most probable target pieces of each source piece, by IBM model 1 (Brown et al. 1993, section 4.1).

t(f|e) is the probability that the source piece e is translated as the target piece f. A target piece is linked to every
piece of its source and to the empty piece. Expectation maximisation starts from uniform values; each iteration computes ::

    count(f, e) = sum over the links of f and e of  t(f|e) / (sum of t(f|e') over the links of this target piece)
    t(f|e)      = count(f, e) / sum_f' count(f', e)

All links are arrays, and the sums are ``bincount`` and ``reduceat``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_LINKS = 2**24  # further pairs are not read; each link takes about 40 bytes
_MOST_OF_A_PAIR = 2**18  # links of a pair, 512 pieces on each side; longer ones are left out
_ITERATIONS = 5


class _Links(NamedTuple):
    """The links between the pieces of P target positions and their sources, position after position."""

    kinds: NDArray[np.int64]  # of each link, the row of its pair of pieces in ``pairs``
    pairs: NDArray[np.int64]  # e * target size + f of each kind of link, in increasing order
    counts: NDArray[np.int64]  # (P,), the number of links of each position


class Pairs(NamedTuple):
    """Tokenised pairs, one after the other."""

    src: list[list[int]]
    tgt: list[list[int]]

    @classmethod
    def read(cls, pairs: Iterable[tuple[list[int], list[int]]]) -> Pairs:
        """Collect pairs without an empty side until they have ``MAX_LINKS`` links; very long ones are left out."""
        src: list[list[int]] = []
        tgt: list[list[int]] = []
        links = 0
        for one, other in pairs:
            size = (len(one) + 1) * len(other)
            if not one or not other or size > _MOST_OF_A_PAIR:
                continue
            links += size
            if links > MAX_LINKS:
                break
            src.append(one)
            tgt.append(other)
        return cls(src, tgt)


def likely_targets(pairs: Pairs, *, src_size: int, tgt_size: int, most: int) -> NDArray[np.int32]:
    """Return the ids of the most probable target pieces of each source piece, best first: (src_size, most).

    -1 fills the rows of pieces that have fewer. There must be at least one pair.
    """
    links = _link(pairs, src_size, tgt_size)
    source = links.pairs // tgt_size
    starts = np.cumsum(links.counts) - links.counts
    probability = np.ones(len(links.pairs))
    for _ in range(_ITERATIONS):
        each = probability[links.kinds]
        each /= np.repeat(np.add.reduceat(each, starts), links.counts)
        expected = np.bincount(links.kinds, weights=each, minlength=len(links.pairs))
        probability = expected / np.bincount(source, weights=expected, minlength=src_size + 1)[source]
    order = np.lexsort((-probability, source))
    firsts = np.searchsorted(source[order], np.arange(src_size))
    ranks = np.arange(len(order)) - np.append(firsts, len(order))[np.minimum(source[order], src_size)]
    kept = (ranks < most) & (source[order] < src_size)
    table = np.full((src_size, most), -1, dtype=np.int32)
    table[source[order][kept], ranks[kept]] = links.pairs[order][kept] % tgt_size
    return table


def frequent_targets(pairs: Pairs, most: int) -> NDArray[np.int32]:
    """Return the ids of the most frequent target pieces, the most frequent one first: at most ``most``."""
    ids, counts = np.unique(np.concatenate([np.array(ids) for ids in pairs.tgt]), return_counts=True)
    return ids[np.argsort(-counts, kind="stable")][:most].astype(np.int32)


def _link(pairs: Pairs, src_size: int, tgt_size: int) -> _Links:
    """Link every target piece with the pieces of its source and with the empty piece, whose id is ``src_size``."""
    src = np.concatenate([np.array([*ids, src_size]) for ids in pairs.src])
    tgt = np.concatenate([np.array(ids) for ids in pairs.tgt])
    widths, lengths = _sizes(pairs.src) + 1, _sizes(pairs.tgt)
    counts = np.repeat(widths, lengths)  # (P,)
    first = np.repeat(np.cumsum(widths) - widths, lengths)  # (P,), the first source piece of each position
    inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    keys = src[np.repeat(first, counts) + inside] * tgt_size + np.repeat(tgt, counts)
    kinds, rows = np.unique(keys, return_inverse=True)
    return _Links(rows, kinds, counts)


def _sizes(lists: Sequence[list[int]]) -> NDArray[np.int64]:
    return np.array([len(ids) for ids in lists])
