"""Add the pieces of a new text to the vocabulary of a tokenizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from seq2seq.config import TokenizerConfig
from seq2seq.text.factory import load_tokenizer, train_tokenizer
from seq2seq.text.model_proto import add_pieces, load_processor
from seq2seq.text.sentencepiece import SentencePieceTokenizer
from seq2seq.text.tokenizer import EOS, UNK, Tokenizer
from seq2seq.text.word import WordTokenizer


def extend_tokenizer(tokenizer: Tokenizer, config: TokenizerConfig, texts: Sequence[str], *, most: int) -> Tokenizer:
    """Add the pieces that a tokenizer trained on ``texts`` has and this one lacks; all ids stay.

    A bpe model uses new merges only after its own. A unigram model compares the probabilities of new pieces on the new
    text with those of its own pieces on the text that it was trained on.

    Args:
        tokenizer: the tokenizer without tags.
        config: its settings.
        most: the largest number of new pieces; the most frequent ones are added.
    """
    trained = train_tokenizer(texts, dataclasses.replace(config, model=None))
    names = trained.pieces(range(EOS + 1, trained.size))
    new = [name for name in names if tokenizer.id(name) == UNK]
    if isinstance(tokenizer, WordTokenizer):
        return WordTokenizer([*tokenizer.pieces(range(tokenizer.size)), *new[:most]], tokenizer.normalization)
    assert isinstance(tokenizer, SentencePieceTokenizer)
    old, other = load_processor(tokenizer.to_bytes()), load_processor(trained.to_bytes())
    new = [name for name in new if not other.is_byte(trained.id(name))][:most]  # an adopted model may have no bytes
    scores = [other.get_score(trained.id(name)) for name in new]
    if config.type == "bpe":  # the score orders the merges
        lowest = min(old.get_score(index) for index in range(tokenizer.size))
        scores = [lowest - 1 - number for number in range(len(new))]
    return load_tokenizer(config.type, add_pieces(tokenizer.to_bytes(), zip(new, scores, strict=True)))
