"""Tokenizers: text to ids and back, trained on text, to and from bytes.

SentencePiece (Kudo & Richardson 2018) for unigram, bpe and char; a reversible word tokenizer of our own. All work on raw
text and give every special the same id. Knows no files and no model.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import logging
import random
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property
from typing import Any, NamedTuple

import sentencepiece

from seq2seq.config import TOKENIZERS, TokenizerConfig
from seq2seq.text.merges import merge
from seq2seq.text.words import script
from seq2seq.text.wordsplit import find_words, join, split

PAD, UNK, BOS, EOS = 0, 1, 2, 3
SPECIALS = ("<pad>", "<unk>", "<s>", "</s>")  # how they print; no text is ever read as one of them
UNKNOWN = "⁇"  # how an unknown piece reads

# Characters of a line that SentencePiece trains on at once. Its bpe trainer dies on words above 65,535; and as each chunk
# begins with a space, longer ones would let the mark of a space fall below the share of a character that is kept.
_CHUNK = 1000
_THREADS = 4  # the trained model depends on it
_COMMON = 10  # a character seen as often is a piece, however small its share of the text
_SPACE = "▁"  # U+2581, SentencePiece's mark of a space
_RESERVED = " ▁▅"  # the space, its mark, and U+2585, SentencePiece's mark of an unknown character
_BYTES = 256
_PROBE = "Ａ①ﬁ\u00a0\u200b\u0001"  # what the normalizations treat differently

log = logging.getLogger(__name__)


class Segments(NamedTuple):
    """The pieces of a text, one by one."""

    ids: list[int]  # as ``encode`` gives them
    pieces: list[str]  # as the text spells them, where it is unknown too
    spans: list[tuple[int, int]]  # their characters of the text, without white space before; a shared one is the last's


class Tokenizer(ABC):
    """Text to ids and back. Ids 0 to 3 are PAD, UNK, BOS, EOS; ``encode`` gives none of them but UNK.

    Ids from ``size`` on mean pieces of a sentence's own, which whoever uses such ids passes as ``own``.
    """

    size: int  # number of ids

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without bos and eos; blank text has none."""
        return self.encode_batch([text])[0]

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts."""

    @abstractmethod
    def segment(self, texts: Sequence[str]) -> list[Segments]:
        """Ids, strings and places of the pieces of many texts."""

    def sample(self, texts: Sequence[str], dropout: float, seed: int) -> list[Segments]:
        """As ``segment``, with a part of the merges left out at random (BPE-dropout, Provilkov et al. 2020).

        Args:
            dropout: the share of the merges that are left out.
            seed: the result is a function of the arguments alone.
        """
        raise NotImplementedError("only a tokenizer of the type bpe has merges")

    @abstractmethod
    def id(self, piece: str) -> int:
        """The id of a piece's string; UNK outside the vocabulary, and for the strings of the specials."""

    @abstractmethod
    def decode(self, ids: Sequence[int], own: Sequence[str] = ()) -> str:
        """The text of ids; PAD, BOS and EOS are skipped, UNK reads as ``UNKNOWN``."""

    def pieces(self, ids: Sequence[int], own: Sequence[str] = ()) -> list[str]:
        """The string of every id, specials included."""
        return [self._piece(int(i)) if i < self.size else own[i - self.size] for i in ids]

    @abstractmethod
    def _piece(self, number: int) -> str:
        """The string of an id below ``size``."""

    @abstractmethod
    def to_bytes(self) -> bytes:
        """What ``load_tokenizer`` takes."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """A hash that two tokenizers share if and only if they encode alike."""


def train_tokenizer(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Train a tokenizer of ``config.type`` with at most ``config.vocab_size`` ids.

    Raises:
        ValueError: there is no text, or ``vocab_size`` is below what this kind needs.
    """
    if config.type not in TOKENIZERS:
        raise ValueError(_unknown_kind(config.type))
    lines = [_encodable(text) for text in texts if text.strip()]
    if not lines:
        raise ValueError("there is no text to train a tokenizer on: every line of data.train is empty")
    train = _train_words if config.type == "word" else _train_sentencepiece
    tokenizer: Tokenizer = train(lines, config)
    if tokenizer.size < config.vocab_size:
        log.warning(
            "the text gives a vocabulary of %d, fewer than tokenizer.vocab_size=%d", tokenizer.size, config.vocab_size
        )
    return tokenizer


def load_tokenizer(kind: str, data: bytes) -> Tokenizer:
    """The tokenizer that ``to_bytes`` wrote.

    Raises:
        ValueError: an unknown kind, or bytes that are no tokenizer of that kind.
    """
    if kind not in TOKENIZERS:
        raise ValueError(_unknown_kind(kind))
    return WordTokenizer.from_bytes(data) if kind == "word" else SentencePieceTokenizer(kind, data)


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model of the kind unigram, bpe or char. U+2581 in a text comes back as a space."""

    def __init__(self, kind: str, model: bytes) -> None:
        processor = sentencepiece.SentencePieceProcessor()
        try:
            loaded = bool(model) and processor.load_from_serialized_proto(model)
        except RuntimeError:
            loaded = False
        if not loaded:
            raise ValueError(f"these {len(model)} bytes are no SentencePiece model")
        ids = (processor.pad_id(), processor.unk_id(), processor.bos_id(), processor.eos_id())
        if ids != (PAD, UNK, BOS, EOS):
            raise ValueError(f"pad, unk, bos and eos of a SentencePiece model must be ids 0, 1, 2, 3, but are {ids}")
        self.size = processor.get_piece_size()
        self.kind = kind
        self._processor = processor
        self._model = model

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        rows = self._processor.encode([_encodable(text) for text in texts], out_type=int)
        return [row if text.strip() else [] for text, row in zip(texts, rows, strict=True)]

    def segment(self, texts: Sequence[str]) -> list[Segments]:
        return self._segment(texts)

    def sample(self, texts: Sequence[str], dropout: float, seed: int) -> list[Segments]:
        if self.kind != "bpe":
            return super().sample(texts, dropout, seed)
        numbers = random.Random(seed)

        def merged(symbols: Segments) -> Segments:
            starts = merge(symbols.pieces, self._ranks, lambda: numbers.random() < dropout)
            borders = list(itertools.pairwise([*starts, len(symbols.ids)]))
            pieces = ["".join(symbols.pieces[start:end]) for start, end in borders]
            ids = [
                symbols.ids[start] if end == start + 1 else self._ranks[piece]
                for piece, (start, end) in zip(pieces, borders, strict=True)
            ]
            return Segments(
                ids, pieces, [(symbols.spans[start][0], symbols.spans[end - 1][1]) for start, end in borders]
            )

        symbols = self._segment(texts, enable_sampling=True, alpha=1.0)  # without any merge, so nothing is drawn
        return [merged(found) for found in symbols]

    @cached_property
    def _ranks(self) -> dict[str, int]:
        """The id of every piece that a merge can give; the merge of the lowest is made first."""
        made = (i for i in range(EOS + 1, self.size) if not self._processor.is_byte(i))
        return {piece: i for i in made if len(piece := self._piece(i)) > 1}

    def _segment(self, texts: Sequence[str], **options: Any) -> list[Segments]:
        encodable = [_encodable(text) for text in texts]
        all_found = self._processor.encode(encodable, return_type="offset_mapping", **options)
        result = []
        for text, found in zip(encodable, all_found, strict=True):
            if not text.strip():
                found = {"ids": [], "pieces": [], "offsets": []}
            spans = [(end - len(text[start:end].lstrip()), end) for start, end in found["offsets"]]
            result.append(Segments(found["ids"], found["pieces"], spans))
        return result

    def id(self, piece: str) -> int:
        number = self._processor.piece_to_id(piece)
        return number if number > EOS else UNK

    def decode(self, ids: Sequence[int], own: Sequence[str] = ()) -> str:
        shown = [int(i) for i in ids if i not in (PAD, BOS, EOS)]
        if all(i < self.size for i in shown):
            return self._processor.decode(shown)
        # own pieces go in by character, as the whole might spell a special; an unknown one keeps its mark of a space
        parts = ([self._piece(i)] if i < self.size else own[i - self.size] for i in shown)
        text = self._processor.decode_pieces(list(itertools.chain.from_iterable(parts)))
        return text.replace(_SPACE, " ").strip(" ")

    def _piece(self, number: int) -> str:
        return self._processor.id_to_piece(number)

    def to_bytes(self) -> bytes:
        return self._model

    @property
    def identity(self) -> str:
        ids = range(self.size)
        scores = [self._processor.get_score(i) for i in ids]
        return _hash([self.kind, self.pieces(ids), scores, self._processor.normalize(_PROBE)])


class WordTokenizer(Tokenizer):
    """Words and single punctuation characters, looked up in a list; see ``seq2seq.text.wordsplit``."""

    def __init__(self, tokens: Sequence[str], normalization: str = "identity") -> None:
        """Make one from its vocabulary, specials first."""
        if tuple(tokens[: len(SPECIALS)]) != SPECIALS:
            raise ValueError(f"the vocabulary of a word tokenizer must start with {' '.join(SPECIALS)}")
        self.size = len(tokens)
        self.normalization = normalization
        self._tokens = list(tokens)
        self._ids = {token: number for number, token in enumerate(tokens) if number > EOS}

    @classmethod
    def from_bytes(cls, data: bytes) -> WordTokenizer:
        """The tokenizer that ``to_bytes`` wrote."""
        try:
            values = json.loads(data)
            return cls(values["tokens"], values["normalization"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"these {len(data)} bytes are no word tokenizer: {error}") from None

    def id(self, piece: str) -> int:
        return self._ids.get(piece, UNK)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [segments.ids for segments in self.segment(texts)]

    def segment(self, texts: Sequence[str]) -> list[Segments]:
        result = []
        for text in texts:
            normalized, places = _normalize_with_places(text, self.normalization)
            words = find_words(normalized)
            pieces = [word.token for word in words]
            spans = [(places[word.start], places[word.end]) for word in words]
            result.append(Segments([self.id(piece) for piece in pieces], pieces, spans))
        return result

    def decode(self, ids: Sequence[int], own: Sequence[str] = ()) -> str:
        shown = [i for i in ids if i not in (PAD, BOS, EOS)]
        return join(UNKNOWN if i == UNK else piece for i, piece in zip(shown, self.pieces(shown, own), strict=True))

    def _piece(self, number: int) -> str:
        return self._tokens[number]

    def to_bytes(self) -> bytes:
        values = {"normalization": self.normalization, "tokens": self._tokens}
        return json.dumps(values, ensure_ascii=False, indent=0).encode()

    @property
    def identity(self) -> str:
        return _hash(["word", self._tokens, self.normalization])


def _train_words(texts: Sequence[str], config: TokenizerConfig) -> WordTokenizer:
    if script(texts) != "spaced":
        log.warning(
            "tokenizer.type=word takes what stands between two spaces or signs for a word, but this text is written "
            "without spaces; set tokenizer.type to unigram, bpe or char"
        )
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split(_normalize(text, config.normalization)))
    most = sorted(counts, key=lambda token: (-counts[token], token))[: config.vocab_size - len(SPECIALS)]
    return WordTokenizer([*SPECIALS, *most], config.normalization)


def _train_sentencepiece(texts: Sequence[str], config: TokenizerConfig) -> SentencePieceTokenizer:
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_chunks(texts),
            model_writer=model,
            model_type=config.type,
            vocab_size=config.vocab_size,
            hard_vocab_limit=False,
            byte_fallback=config.type != "char",
            character_coverage=1.0 if config.type == "char" else 0.9995,
            required_chars="" if config.type == "char" else _common_characters(texts, config),
            normalization_rule_name=config.normalization,
            max_sentence_length=100 * _CHUNK,  # bytes; NFKC makes up to 18 characters of one
            num_threads=_THREADS,
            pad_id=PAD,
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            unk_surface=UNKNOWN,
            minloglevel=2,
        )
    except RuntimeError as error:
        if "KeyboardInterrupt" in str(error):  # Ctrl-C while it took a line from ``_chunks``
            raise KeyboardInterrupt from None
        needed = re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error))
        if needed is None:
            raise ValueError(f"SentencePiece cannot train on this text: {' '.join(str(error).split())}") from None
        raise ValueError(
            f"tokenizer.vocab_size must be at least {needed[1]} for tokenizer.type={config.type} on this text"
            f" (every character and 256 bytes), but is {config.vocab_size}"
        ) from None
    return SentencePieceTokenizer(config.type, model.getvalue())


def _common_characters(texts: Sequence[str], config: TokenizerConfig) -> str:
    """Characters that are pieces even below the share at which SentencePiece cuts: in captions all digits are.

    At most a quarter of the vocabulary, so that of a language of many signs the rarer ones stay bytes.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_normalize(text, config.normalization))
    common = [sign for sign, count in counts.most_common() if count >= _COMMON and sign.isprintable()]
    common = [sign for sign in common if sign not in _RESERVED]
    return "".join(common[: max(0, config.vocab_size - _BYTES - len(SPECIALS)) // 4])


def _chunks(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        for first in range(0, len(text), _CHUNK):
            yield text[first : first + _CHUNK]


@cache
def _normalizer(rule: str) -> sentencepiece.SentencePieceNormalizer:
    return sentencepiece.SentencePieceNormalizer(rule_name=rule, escape_whitespaces=False)


def _normalize(text: str, rule: str) -> str:
    """Normalize with a rule of SentencePiece, so that a rule means the same for every tokenizer."""
    return text if rule == "identity" else _normalizer(rule).normalize(_encodable(text))


def _normalize_with_places(text: str, rule: str) -> tuple[str, Sequence[int]]:
    """As ``_normalize``; and where in the text each character and the end come from."""
    if rule == "identity":
        return text, range(len(text) + 1)
    normalized, places = _normalizer(rule).normalize(_encodable(text), with_offsets=True)
    return normalized, places


def _encodable(text: str) -> str:
    """The text with "?" for lone surrogates, which no UTF-8 file holds but a Python string may."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _unknown_kind(kind: str) -> str:
    return f"tokenizer.type must be one of {', '.join(TOKENIZERS)}, but is {kind}"


def _hash(values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
