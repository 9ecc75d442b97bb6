"""Vocabulary shortlists: the target pieces that the search of a sentence may choose from (Jean et al. 2015, section 3.2).

The candidates of a sentence are the most probable target pieces of its source pieces (``data.lexicon``), the most frequent
target pieces, its own pieces, the special ids and the ids that are forced or required. They depend only on the sentence, so a
translation does not depend on the other sentences of its batch. The probabilities of a search are normalised over the
candidates: they are at least as large as those of the whole vocabulary, which ``Translator.score`` computes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor

from seq2seq import model_dir
from seq2seq.data.lexicon import Pairs, frequent_targets, likely_targets
from seq2seq.model_dir import SHORTLIST, Tokenizers
from seq2seq.text.tags import TaggedTokenizer
from seq2seq.text.tokenizer import BOS, EOS, PAD, UNK

MOST_LIKELY = 64  # target pieces that are saved for each source piece
MOST_FREQUENT = 200
_RESTORE = "write it again with seq2seq shortlist"


class Shortlist(NamedTuple):
    """The candidates that were learned from pairs of texts."""

    likely: Tensor  # (source size, C) int32, target ids, the most probable one first; -1 fills short rows
    frequent: Tensor  # (F,) int32, target ids
    shared: bool  # whether the ids of source pieces are those of the same target pieces

    def allowed(
        self, sources: Sequence[Sequence[int]], others: Sequence[Iterable[int]], *, count: int, size: int
    ) -> Tensor:
        """Return whether each of the V target ids is a candidate of each sentence: (B, V).

        Args:
            sources: the source ids of each sentence.
            others: further candidates of each sentence; ids of V or higher are ignored.
            count: the number of target pieces for each source piece.
            size: V.
        """
        allowed = torch.zeros(len(sources), size + 1, dtype=torch.bool)  # the last column is for -1
        allowed[:, self.frequent.long()] = True
        allowed[:, [PAD, UNK, BOS, EOS]] = True
        for row, src, other in zip(allowed, sources, others, strict=True):
            row[self.likely[list(src), :count].long().flatten()] = True
            row[[number for number in (*other, *(src if self.shared else ())) if number < size]] = True
        return allowed[:, :size]


def learn(pairs: Iterable[tuple[list[int], list[int]]], tokenizers: Tokenizers) -> tuple[Shortlist, int]:
    """Learn a shortlist from tokenised pairs; return it and the number of pairs that were read.

    Raises:
        ValueError: no pair has pieces on both sides.
    """
    some = Pairs.read(pairs)
    if not some.src:
        raise ValueError(
            "a shortlist must be learned from pairs of lines with text, but there is none; check --src and --tgt"
        )
    table = likely_targets(some, src_size=tokenizers.src.size, tgt_size=tokenizers.tgt.size, most=MOST_LIKELY)
    frequent = frequent_targets(some, MOST_FREQUENT)
    return Shortlist(torch.from_numpy(table), torch.from_numpy(frequent), _is_shared(tokenizers)), len(some.src)


def save(shortlist: Shortlist, model: str | Path, tokenizers: Tokenizers) -> Path:
    """Write shortlist.safetensors into the folder of the model, and return its path."""
    path = model_dir.find(model) / SHORTLIST
    tensors = {"likely": shortlist.likely, "frequent": shortlist.frequent}
    model_dir.save_tensors(path, tensors, {"tokenizers": _identity(tokenizers)})
    return path


def load(model: str | Path, tokenizers: Tokenizers) -> Shortlist:
    """Read the shortlist of a model.

    Raises:
        ValueError: there is none, or it is damaged or of another model.
    """
    path = model_dir.find(model) / SHORTLIST
    if not path.exists():
        raise ValueError(
            f"search.shortlist requires {path}, which does not exist; write it with seq2seq shortlist, or set "
            "search.shortlist to 0"
        )
    try:
        tensors, metadata = model_dir.load_tensors(path, restore=_RESTORE)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged: {str(error).splitlines()[0]}; {_RESTORE}") from error
    likely, frequent = (tensors.get(name, torch.empty(0)) for name in ("likely", "frequent"))
    shortlist = Shortlist(likely, frequent, _is_shared(tokenizers))
    if metadata.get("tokenizers") != _identity(tokenizers) or not _fits(shortlist, tokenizers):
        raise ValueError(f"{path} does not fit the tokenizers of the model; {_RESTORE}")
    return shortlist


def _is_shared(tokenizers: Tokenizers) -> bool:
    """Return whether the ids of source pieces are those of the same target pieces."""
    src, tgt = (each.plain if isinstance(each, TaggedTokenizer) else each for each in tokenizers)
    return src.identity == tgt.identity


def _fits(shortlist: Shortlist, tokenizers: Tokenizers) -> bool:
    """Return whether shapes, types and ids are possible for a model."""
    shapes = (shortlist.likely.dim(), shortlist.frequent.dim()) == (2, 1)
    if not shapes or len(shortlist.likely) != tokenizers.src.size:
        return False
    return all(
        tensor.dtype == torch.int32 and bool(((tensor >= least) & (tensor < tokenizers.tgt.size)).all())
        for tensor, least in ((shortlist.likely, -1), (shortlist.frequent, 0))
    )


def _identity(tokenizers: Tokenizers) -> str:
    """Return a hash of both tokenizers."""
    return hashlib.sha256(repr((tokenizers.src.identity, tokenizers.tgt.identity)).encode()).hexdigest()
