"""The sentence of each piece of a source, for an encoder with sentences.

All batches of text get their segments here: those of training, translation, scoring and pictures.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Sequence

from seq2seq.text.words import sentence_ends

MAX_SENTENCE_PIECES = 128


def sentence_numbers(text: str, spans: Sequence[tuple[int, int]]) -> list[int]:
    """Number the sentences of a text: return the number of each piece, from 0, without gaps.

    A sentence ends at a newline and where ``text.words.sentences`` ends one. One of more than ``MAX_SENTENCE_PIECES``
    pieces is divided after each so many: the sentences of a batch are padded to the longest one, so this bounds memory.

    >>> sentence_numbers("A man sleeps. Two run.", [(0, 1), (2, 5), (6, 12), (12, 13), (14, 17), (18, 21), (21, 22)])
    [0, 0, 0, 0, 1, 1, 1]

    Args:
        text: at least up to the end of the last span.
        spans: ``Segments.spans`` of the pieces of the text, or of a part of it.
    """
    if not spans:
        return []
    start = spans[0][0]
    part = text[start : spans[-1][1]]
    newlines = (found.start() for found in re.finditer("\n", part))
    borders = (start + place for place in itertools.chain(newlines, sentence_ends(part)))
    starts = [first for first, _ in spans]
    edges = sorted({0, len(spans), *(bisect.bisect_left(starts, border) for border in borders)})  # between pieces
    numbers: list[int] = []
    for first, last in itertools.pairwise(edges):
        following = numbers[-1] + 1 if numbers else 0
        numbers += [following + place // MAX_SENTENCE_PIECES for place in range(last - first)]
    return numbers
