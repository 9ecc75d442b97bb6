"""Byte-pair merges, some of them skipped at random (BPE-dropout, Provilkov et al. 2020).

SentencePiece can sample too, but its samples cannot be reproduced: the same seed skips other merges in another process.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence

_MERGED = -1  # in ``after``: this symbol now belongs to the one before it


def merge(symbols: Sequence[str], ranks: Mapping[str, int], skips: Callable[[], bool]) -> list[int]:
    """Merge neighbouring symbols into pieces: the merge of the lowest rank first, the leftmost among equal ranks.

    As in SentencePiece, a skipped merge is considered again only after one of its two parts has grown.

    Args:
        symbols: the smallest parts of a text, mostly characters.
        ranks: the rank of every piece that a merge can produce.
        skips: called once for every possible merge; True skips it.

    Returns:
        The index of the first symbol of each piece; without any merge, the index of every symbol.
    """
    grown, count = list(symbols), len(symbols)
    before, after = list(range(-1, count - 1)), list(range(1, count + 1))
    candidates: list[tuple[int, int, int, str]] = []

    def add_candidate(left: int, right: int) -> None:
        if left >= 0 and right < count and (rank := ranks.get(merged := grown[left] + grown[right])) is not None:
            heapq.heappush(candidates, (rank, left, right, merged))

    for right in range(1, count):
        add_candidate(right - 1, right)
    while candidates:
        _, left, right, merged = heapq.heappop(candidates)
        if after[left] != right or grown[left] + grown[right] != merged or skips():
            continue  # one of the two parts has changed since, or the merge is skipped at random
        grown[left], after[left] = merged, after[right]
        after[right] = _MERGED
        if after[left] < count:
            before[after[left]] = left
        add_candidate(before[left], left)
        add_candidate(left, after[left])
    return [index for index in range(count) if after[index] != _MERGED]
