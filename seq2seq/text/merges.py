"""Byte-pair merges that are skipped at random (BPE-dropout, Provilkov et al. 2020).

SentencePiece can sample too, but its samples are not reproducible: the same seed skips other merges in another process.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence

_MERGED = -1  # value in ``after``: the symbol has been merged into the one before it


def merge(symbols: Sequence[str], ranks: Mapping[str, int], skips: Callable[[], bool]) -> list[int]:
    """Merge neighbouring symbols into pieces, in the order of the ranks and, for equal ranks, from left to right.

    As in SentencePiece, a skipped merge is considered again only after another merge has changed one of its two parts.

    Args:
        symbols: the smallest parts of a text, usually characters.
        ranks: the rank of each piece that a merge can produce; the lowest rank is merged first.
        skips: called once per possible merge; True skips it.

    Returns:
        The index of the first symbol of each piece. Without any merge, these are the indices of all symbols.
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
