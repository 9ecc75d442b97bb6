"""The interface of tokenizers, which convert text to ids and back, and the ids of the special tokens.

The kinds are in ``sentencepiece`` and ``word``; ``factory`` trains and loads them. Every tokenizer takes raw text and has
the same ids for the special tokens. A tokenizer does not depend on files or on a model.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

PAD, UNK, BOS, EOS = 0, 1, 2, 3
SPECIALS = (
    "<pad>",
    "<unk>",
    "<s>",
    "</s>",
)  # names of the special tokens in output; text is never encoded as a special token
UNKNOWN = "⁇"  # decoded text of an unknown piece


class Segments(NamedTuple):
    """The pieces of one text."""

    ids: list[int]  # the result of ``encode``
    pieces: list[str]  # in the spelling of the text, also where the id is UNK
    # start and end of each piece in the text, without the white space before it; a character that several pieces share
    # is in the span of the last of them
    spans: list[tuple[int, int]]


class Sampling(NamedTuple):
    """The random segmentation of training texts."""

    dropout: float = 0.0  # bpe: probability of skipping a merge (BPE-dropout, Provilkov et al. 2020)
    nbest: int = 0  # unigram: draw from this many best segmentations (subword regularization, Kudo 2018); 0: off
    power: float = 0.1  # unigram: P(x)^power is the weight of a segmentation x


class Tokenizer(ABC):
    """Converts text to ids and back. Ids 0 to 3 are PAD, UNK, BOS, EOS; of these, ``encode`` returns only UNK.

    Ids of ``size`` or higher are the out-of-vocabulary (OOV) pieces of one source sentence (see ``data.copy_ids``). Methods
    that take such ids require the strings of these pieces as ``oov``.
    """

    size: int  # number of ids
    tags: tuple[str, ...] = ()  # the tags that a text may begin with, see ``tags.TaggedTokenizer``

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without bos and eos. A blank text has no ids."""
        return self.encode_batch([text])[0]

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of several texts."""

    @abstractmethod
    def segment(self, texts: Sequence[str]) -> list[Segments]:
        """Return the ids, strings and positions of the pieces of several texts."""

    def sample(self, texts: Sequence[str], sampling: Sampling, seed: int) -> list[Segments]:
        """Segment at random; a kind that ``sampling`` does not concern segments as usual.

        Args:
            seed: seed of the random choice; the result depends only on the arguments.
        """
        del sampling, seed
        return self.segment(texts)

    @abstractmethod
    def id(self, piece: str) -> int:
        """Return the id of a piece; UNK for a string outside the vocabulary and for the names of special tokens."""

    @abstractmethod
    def decode(self, ids: Sequence[int], oov: Sequence[str] = ()) -> str:
        """Return the text of ids; PAD, BOS and EOS are skipped, UNK becomes ``UNKNOWN``."""

    def pieces(self, ids: Sequence[int], oov: Sequence[str] = ()) -> list[str]:
        """Return the string of each id, special tokens included."""
        return [self._piece(int(i)) if i < self.size else oov[i - self.size] for i in ids]

    def joins(self, piece: str) -> tuple[bool, bool]:
        """Return whether a piece begins and ends with a character of a word that the pieces beside it can go on with."""
        del piece
        return False, False

    def with_sides(self, text: str, first: str, last: str) -> str:
        """Return the piece of a text that stands in place of the pieces from ``first`` to ``last``, with their spaces."""
        del first, last
        return text

    @abstractmethod
    def _piece(self, index: int) -> str:
        """Return the string of an id below ``size``."""

    @abstractmethod
    def to_bytes(self) -> bytes:
        """Serialize the tokenizer; ``factory.load_tokenizer`` restores it."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """A hash that two tokenizers share if and only if they encode every text to the same ids."""


def hash_values(values: object) -> str:
    """Hash plain values, for ``Tokenizer.identity``."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
