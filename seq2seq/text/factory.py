"""Train or load a tokenizer of any kind."""

from __future__ import annotations

import dataclasses
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from seq2seq.config import TokenizerConfig
from seq2seq.text.normalization import replace_surrogates
from seq2seq.text.sentencepiece import SentencePieceTokenizer, adopt_model, train_sentencepiece
from seq2seq.text.tokenizer import Tokenizer
from seq2seq.text.word import WordTokenizer, train_words

log = logging.getLogger(__name__)

_LONG = 2_000_000  # characters; training on this many takes 0.3 s (char), 1.6 s (unigram) or 3.6 s (word) on one core


class TokenizerKind(NamedTuple):
    """The functions that train and load a tokenizer of one kind."""

    train: Callable[[Sequence[str], TokenizerConfig], Tokenizer]
    load: Callable[[bytes], Tokenizer]


TOKENIZER_KINDS: dict[str, TokenizerKind] = {
    "unigram": TokenizerKind(train_sentencepiece, partial(SentencePieceTokenizer, "unigram")),
    "bpe": TokenizerKind(train_sentencepiece, partial(SentencePieceTokenizer, "bpe")),
    "word": TokenizerKind(train_words, WordTokenizer.from_bytes),
    "char": TokenizerKind(train_sentencepiece, partial(SentencePieceTokenizer, "char")),
}


def tokenizer_configs(config: TokenizerConfig) -> list[TokenizerConfig]:
    """Return the settings of each tokenizer: of the shared one, or of source and target."""
    if config.shared:
        return [config]
    return [config, dataclasses.replace(config, type=config.tgt_type or config.type, model=config.tgt_model)]


def train_tokenizer(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Train a tokenizer of ``config.type`` with at most ``config.vocab_size`` ids.

    Blank texts are skipped. Of more than ``config.max_sentences`` texts, a random sample of that size is used. It depends
    only on the number of texts and on ``max_sentences``.

    With ``config.model``, the texts are not read, and the result is that SentencePiece model.

    Raises:
        ValueError: ``config.model`` cannot be used, there is no text, or ``vocab_size`` is too small for this kind and text.
    """
    kind = _kind(config.type)
    if config.model is not None:
        return adopt_model(config.model, config.type)
    lines = _sample((replace_surrogates(text) for text in texts if text.strip()), config.max_sentences)
    if not lines:
        raise ValueError("a tokenizer requires text to train on, but every line of data.train is empty")
    tokenizer = kind.train(lines, config)
    if tokenizer.size < config.vocab_size:
        log.warning(
            "the training text yields a vocabulary of %d pieces, fewer than tokenizer.vocab_size=%d",
            tokenizer.size,
            config.vocab_size,
        )
    return tokenizer


def _sample(lines: Iterable[str], most: int) -> list[str]:
    """Return a random sample of ``most`` lines in their order, or all lines if there are no more; log long training.

    Memory holds the sample only (reservoir sampling, Vitter 1985): line number n replaces a random line of the sample with the
    probability most / n.
    """
    sample: list[tuple[int, str]] = []
    generator, count = random.Random(0), 0
    for line in lines:
        count += 1
        if count <= most:
            sample.append((count, line))
        elif (place := generator.randrange(count)) < most:
            sample[place] = (count, line)
    if count > most:
        log.warning(
            "training the tokenizer on a random sample of %s of %s sentences; tokenizer.max_sentences sets the number",
            f"{most:,}",
            f"{count:,}",
        )
    elif sum(len(line) for _, line in sample) >= _LONG:
        log.warning("training the tokenizer on %s sentences", f"{count:,}")
    return [line for _, line in sorted(sample)]


def load_tokenizer(kind: str, data: bytes) -> Tokenizer:
    """Restore a tokenizer from the result of ``Tokenizer.to_bytes``.

    Raises:
        ValueError: the kind is unknown, or the bytes are not a tokenizer of that kind.
    """
    return _kind(kind).load(data)


def _kind(name: str) -> TokenizerKind:
    if name not in TOKENIZER_KINDS:
        raise ValueError(f"tokenizer.type must be one of {', '.join(TOKENIZER_KINDS)}, but is {name}")
    return TOKENIZER_KINDS[name]
