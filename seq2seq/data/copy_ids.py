"""The extended vocabulary of copying: the target vocabulary plus the out-of-vocabulary pieces of one source.

See et al. 2017, section 2.2. Pieces are compared as strings, so subwords, words, a shared vocabulary and two separate
vocabularies are treated in the same way. The out-of-vocabulary ("oov") pieces of a source get the ids V, V + 1, ..., where V is
the size of the target vocabulary. Such an id is valid only for this source.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from seq2seq.text.tags import tag_piece
from seq2seq.text.tokenizer import EOS, UNK, Segments, Tokenizer


class SourceCopies(NamedTuple):
    """The pieces of one source, as ids that a decoder can copy."""

    copy_ids: list[int]  # the target id of every source piece; V + k stands for oov[k]
    oov: list[str]  # the source pieces that are not in the target vocabulary, each once, in source order


def source_copies(pieces: Sequence[str], tgt: Tokenizer, *, tags: Sequence[str] = ()) -> SourceCopies:
    """Look up the target ids of the pieces of a source, and number the out-of-vocabulary pieces.

    Args:
        tags: the tags of the source tokenizer. A tag at the start has the id UNK, which search never produces.
    """
    oov: dict[str, int] = {}
    ids = []
    if pieces and pieces[0] in map(tag_piece, tags):
        ids, pieces = [UNK], pieces[1:]
    for piece in pieces:
        index = tgt.id(piece)
        ids.append(index if index > EOS else tgt.size + oov.setdefault(piece, len(oov)))
    return SourceCopies(ids, list(oov))


def extended_target_ids(target: Segments, oov: Sequence[str], tgt: Tokenizer) -> list[int]:
    """Return the ids of a target's pieces; a piece outside the vocabulary gets its oov id, or UNK if it has none."""
    oov_ids = {piece: tgt.size + k for k, piece in enumerate(oov)}
    return [
        index if index > EOS else oov_ids.get(piece, index)
        for index, piece in zip(target.ids, target.pieces, strict=True)
    ]
