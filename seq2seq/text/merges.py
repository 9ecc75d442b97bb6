"""Byte-pair merges with some left out at random (BPE-dropout, Provilkov et al. 2020).

SentencePiece can sample too, but not twice alike: from one process to the next the same seed draws other merges.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence

_GONE = -1


def merge(symbols: Sequence[str], ranks: Mapping[str, int], leaves_out: Callable[[], bool]) -> list[int]:
    """Join neighbours into pieces, the merge of the lowest rank first, of equal ones the leftmost.

    As SentencePiece does it, a merge left out comes back only when one of its sides has grown.

    Args:
        symbols: what a text is made of, mostly characters.
        ranks: of every piece that a merge gives.
        leaves_out: asked once for every merge that could be made.

    Returns:
        Which symbol each piece begins with; without a merge, all of them.
    """
    grown, count = list(symbols), len(symbols)
    before, after = list(range(-1, count - 1)), list(range(1, count + 1))
    waiting: list[tuple[int, int, int, str]] = []

    def wait(left: int, right: int) -> None:
        if left >= 0 and right < count and (rank := ranks.get(joined := grown[left] + grown[right])) is not None:
            heapq.heappush(waiting, (rank, left, right, joined))

    for right in range(1, count):
        wait(right - 1, right)
    while waiting:
        _, left, right, joined = heapq.heappop(waiting)
        if after[left] != right or grown[left] + grown[right] != joined or leaves_out():
            continue  # one of the two has changed since, or chance left it out
        grown[left], after[left] = joined, after[right]
        after[right] = _GONE
        if after[left] < count:
            before[after[left]] = left
        wait(before[left], left)
        wait(left, after[left])
    return [place for place in range(count) if after[place] != _GONE]
