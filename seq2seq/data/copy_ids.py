"""The extended vocabulary of copying: target ids, and from V on the pieces of one source that the target side lacks.

See et al. 2017, section 2.2. Works on the strings of pieces, so subwords, words and two separate vocabularies are one
case. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from seq2seq.text.tokenizer import EOS, Segments, Tokenizer


class Extended(NamedTuple):
    """What a source lets a decoder copy."""

    ids: list[int]  # the target id of every source piece; V + k stands for own[k]
    own: list[str]  # the pieces that the target vocabulary lacks, each once, in the order of the source


def extend(pieces: Sequence[str], tgt: Tokenizer) -> Extended:
    """Find the target ids of a source's pieces, and new ids for those that have none."""
    own: dict[str, int] = {}
    ids = []
    for piece in pieces:
        number = tgt.id(piece)
        ids.append(number if number > EOS else tgt.size + own.setdefault(piece, len(own)))
    return Extended(ids, list(own))


def target_ids(target: Segments, own: Sequence[str], tgt: Tokenizer) -> list[int]:
    """The ids of a target's pieces, with those of its source's own pieces where the vocabulary has none."""
    numbers = {piece: tgt.size + k for k, piece in enumerate(own)}
    return [
        number if number > EOS else numbers.get(piece, number)
        for number, piece in zip(target.ids, target.pieces, strict=True)
    ]
