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
import re
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import sentencepiece

from seq2seq.config import TOKENIZERS, TokenizerConfig

PAD, UNK, BOS, EOS = 0, 1, 2, 3
SPECIALS = ("<pad>", "<unk>", "<s>", "</s>")  # how they print; no text is ever read as one of them
UNKNOWN = "⁇"  # how an unknown piece reads

JOINER = "￭"  # U+FFED on the side of a token where no space stands
_ESCAPED_JOINER = "\\uFFED"  # a joiner that was in the text; no word and no single character, so no other token

_CHUNK = 3000  # characters of a line that SentencePiece trains on at once; its bpe trainer dies on words above 65,535
_THREADS = 4  # the trained model depends on it
_PROBE = "Ａ①ﬁ\u00a0\u200b\u0001"  # what the normalizations treat differently

log = logging.getLogger(__name__)


class Tokenizer(ABC):
    """Text to ids and back. Ids 0 to 3 are PAD, UNK, BOS, EOS; ``encode`` gives none of them but UNK."""

    size: int  # number of ids

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without bos and eos; blank text has none."""
        return self.encode_batch([text])[0]

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; PAD, BOS and EOS are skipped, UNK reads as ``UNKNOWN``."""

    @abstractmethod
    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The string of every id, specials included."""

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
    filled = (_encodable(text) for text in texts if text.strip())
    first = next(filled, None)
    if first is None:
        raise ValueError("there is no text to train a tokenizer on: every line of data.train is empty")
    train = _train_words if config.type == "word" else _train_sentencepiece
    tokenizer: Tokenizer = train(itertools.chain([first], filled), config)
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

    def decode(self, ids: Sequence[int]) -> str:
        return self._processor.decode([int(i) for i in ids if i not in (PAD, BOS, EOS)])

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [self._processor.id_to_piece(int(i)) for i in ids]

    def to_bytes(self) -> bytes:
        return self._model

    @property
    def identity(self) -> str:
        ids = range(self.size)
        scores = [self._processor.get_score(i) for i in ids]
        return _hash([self.kind, self.pieces(ids), scores, self._processor.normalize(_PROBE)])


class WordTokenizer(Tokenizer):
    """Words and single punctuation characters, looked up in a list; see ``split``."""

    def __init__(self, tokens: Sequence[str], normalization: str = "identity") -> None:
        """Make one from its vocabulary, specials first."""
        if tuple(tokens[: len(SPECIALS)]) != SPECIALS:
            raise ValueError(f"the vocabulary of a word tokenizer must start with {' '.join(SPECIALS)}")
        self.size = len(tokens)
        self.normalization = normalization
        self._tokens = list(tokens)
        self._ids = {token: number for number, token in enumerate(tokens)}

    @classmethod
    def from_bytes(cls, data: bytes) -> WordTokenizer:
        """The tokenizer that ``to_bytes`` wrote."""
        try:
            values = json.loads(data)
            return cls(values["tokens"], values["normalization"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"these {len(data)} bytes are no word tokenizer: {error}") from None

    def split(self, text: str) -> list[str]:
        """Normalize a text and split it into token strings, those outside the vocabulary too."""
        return split(_normalize(text, self.normalization))

    def id(self, token: str) -> int:
        """The id of a token string; UNK outside the vocabulary."""
        return self._ids.get(token, UNK)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [[self.id(token) for token in self.split(text)] for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return join([UNKNOWN if i == UNK else self._tokens[i] for i in ids if i not in (PAD, BOS, EOS)])

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [self._tokens[i] for i in ids]

    def to_bytes(self) -> bytes:
        values = {"normalization": self.normalization, "tokens": self._tokens}
        return json.dumps(values, ensure_ascii=False, indent=0).encode()

    @property
    def identity(self) -> str:
        return _hash(["word", self._tokens, self.normalization])


def split(text: str) -> list[str]:
    """Split a text into words and single other characters.

    A word is a run of letters, marks, digits and underscores and looks the same wherever it stands. Where no space
    stands between two tokens, the one that is not a word carries a joiner on that side (the right one of two):
    ``3.50 (or so).`` gives ``3 ￭.￭ 50 (￭ or so ￭) ￭.``. White space is any that ``str.split`` knows.
    """
    tokens: list[str] = []
    for chunk in text.split():
        found = _token_pattern().findall(chunk)
        last = len(found) - 1
        for position, token in enumerate(found):
            if _is_word(token):
                tokens.append(token)
                continue
            left = JOINER if position > 0 else ""
            right = JOINER if position < last and _is_word(found[position + 1]) else ""
            tokens.append(left + (_ESCAPED_JOINER if token == JOINER else token) + right)
    return tokens


def join(tokens: Iterable[str]) -> str:
    """Put token strings together again: ``join(split(text)) == " ".join(text.split())``."""
    parts: list[str] = []
    glued = True
    for token in tokens:
        core = token.strip(JOINER)
        if not glued and not token.startswith(JOINER):
            parts.append(" ")
        parts.append(JOINER if core == _ESCAPED_JOINER else core)
        glued = token.endswith(JOINER)
    return "".join(parts)


@cache
def _token_pattern() -> re.Pattern[str]:
    r"""A word or one other character. ``\w`` lacks the combining marks and the joiners U+200C, U+200D of Indic script."""
    planes = itertools.chain(range(0x20000), range(0xE0000, 0xE1000))  # the others hold no marks
    marks = "".join(char for char in map(chr, planes) if unicodedata.category(char)[0] == "M")
    return re.compile(rf"[\w{marks}\u200c\u200d]+|.", re.DOTALL)


def _is_word(token: str) -> bool:
    """Whether a match of the token pattern is a word: told by its first character."""
    first = token[0]
    return first.isalnum() or first in "_\u200c\u200d" or unicodedata.category(first)[0] == "M"


def _train_words(texts: Iterable[str], config: TokenizerConfig) -> WordTokenizer:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split(_normalize(text, config.normalization)))
    most = sorted(counts, key=lambda token: (-counts[token], token))[: config.vocab_size - len(SPECIALS)]
    return WordTokenizer([*SPECIALS, *most], config.normalization)


def _train_sentencepiece(texts: Iterable[str], config: TokenizerConfig) -> SentencePieceTokenizer:
    model = io.BytesIO()
    failures: list[BaseException] = []
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_chunks(texts, failures),
            model_writer=model,
            model_type=config.type,
            vocab_size=config.vocab_size,
            hard_vocab_limit=False,
            byte_fallback=config.type != "char",
            character_coverage=1.0 if config.type == "char" else 0.9995,
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
        if failures:
            raise failures[0] from None
        needed = re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error))
        if needed is None:
            raise ValueError(f"SentencePiece cannot train on this text: {' '.join(str(error).split())}") from None
        raise ValueError(
            f"tokenizer.vocab_size must be at least {needed[1]} for tokenizer.type={config.type} on this text"
            f" (every character and 256 bytes), but is {config.vocab_size}"
        ) from None
    return SentencePieceTokenizer(config.type, model.getvalue())


def _chunks(texts: Iterable[str], failures: list[BaseException]) -> Iterator[str]:
    """Cut texts into chunks; keep what reading them raises, as SentencePiece turns it into a string."""
    try:
        for text in texts:
            for first in range(0, len(text), _CHUNK):
                yield text[first : first + _CHUNK]
    except BaseException as error:
        failures.append(error)
        raise


@cache
def _normalizer(rule: str) -> sentencepiece.SentencePieceNormalizer:
    return sentencepiece.SentencePieceNormalizer(rule_name=rule, escape_whitespaces=False)


def _normalize(text: str, rule: str) -> str:
    """Normalize with a rule of SentencePiece, so that a rule means the same for every tokenizer."""
    return text if rule == "identity" else _normalizer(rule).normalize(_encodable(text))


def _encodable(text: str) -> str:
    """The text with "?" for lone surrogates, which no UTF-8 file holds but a Python string may."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _unknown_kind(kind: str) -> str:
    return f"tokenizer.type must be one of {', '.join(TOKENIZERS)}, but is {kind}"


def _hash(values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
