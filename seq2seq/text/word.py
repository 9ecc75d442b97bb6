"""The word tokenizer splits text into words and single punctuation characters. Joining them restores the text.

Only white space is not restored exactly: each run of white space becomes one space.
"""

from __future__ import annotations

import itertools
import json
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from seq2seq.config import TokenizerConfig
from seq2seq.text.normalization import normalize, normalize_with_offsets, replace_surrogates
from seq2seq.text.tokenizer import BOS, EOS, PAD, SPECIALS, UNK, UNKNOWN, Segments, Tokenizer, hash_values
from seq2seq.text.words import script

JOINER = "￭"  # U+FFED, marks the side of a token where the text has no space
_ESCAPED_JOINER = "\\uFFED"  # replaces a joiner in the text; it differs from every other token

log = logging.getLogger(__name__)


class WordTokenizer(Tokenizer):
    """Encodes words and single punctuation characters by a vocabulary.

    Args:
        tokens: the vocabulary, special tokens first.
        normalization: the normalization rule.
    """

    def __init__(self, tokens: Sequence[str], normalization: str = "identity") -> None:
        if tuple(tokens[: len(SPECIALS)]) != SPECIALS:
            raise ValueError(
                f"the vocabulary of a word tokenizer must start with {' '.join(SPECIALS)},"
                f" but starts with {' '.join(tokens[: len(SPECIALS)])}"
            )
        self.size = len(tokens)
        self.normalization = normalization
        self._tokens = list(tokens)
        self._ids = {token: index for index, token in enumerate(tokens) if index > EOS}

    @classmethod
    def from_bytes(cls, data: bytes) -> WordTokenizer:
        """Restore a tokenizer from the result of ``to_bytes``."""
        try:
            values = json.loads(data)
            return cls(values["tokens"], values["normalization"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"these {len(data)} bytes are not a word tokenizer: {error}") from None

    def id(self, piece: str) -> int:
        return self._ids.get(replace_surrogates(piece), UNK)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [segments.ids for segments in self.segment(texts)]

    def segment(self, texts: Sequence[str]) -> list[Segments]:
        result = []
        for text in texts:
            normalized, offsets = normalize_with_offsets(text, self.normalization)
            tokens = find_tokens(normalized)
            pieces = [token.text for token in tokens]
            spans = [(offsets[token.start], offsets[token.end]) for token in tokens]
            result.append(Segments([self.id(piece) for piece in pieces], pieces, spans))
        return result

    def decode(self, ids: Sequence[int], oov: Sequence[str] = ()) -> str:
        visible = [i for i in ids if i not in (PAD, BOS, EOS)]
        pieces = self.pieces(visible, oov)
        text = join_tokens(UNKNOWN if i == UNK else piece for i, piece in zip(visible, pieces, strict=True))
        return replace_surrogates(text)

    def with_sides(self, text: str, first: str, last: str) -> str:
        left, right = JOINER * first.startswith(JOINER), JOINER * last.endswith(JOINER)
        return left + text + right

    def _piece(self, index: int) -> str:
        return self._tokens[index]

    def to_bytes(self) -> bytes:
        values = {"normalization": self.normalization, "tokens": self._tokens}
        return json.dumps(values, ensure_ascii=False, indent=0).encode()

    @property
    def identity(self) -> str:
        return hash_values(["word", self._tokens, self.normalization])


def train_words(texts: Sequence[str], config: TokenizerConfig) -> WordTokenizer:
    """Make a word tokenizer of the most frequent tokens of the texts."""
    if script(texts) != "spaced":
        log.warning(
            "tokenizer.type=word splits text at spaces and punctuation, but this text is written without spaces; "
            "set tokenizer.type to unigram, bpe or char"
        )
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split_tokens(normalize(text, config.normalization)))
    frequent = sorted(counts, key=lambda token: (-counts[token], token))[: config.vocab_size - len(SPECIALS)]
    return WordTokenizer([*SPECIALS, *frequent], config.normalization)


class Token(NamedTuple):
    """A token and its position in the text."""

    text: str  # with its joiners
    start: int  # index of its first character
    end: int  # index after its last character


def find_tokens(text: str) -> list[Token]:
    """Split a text into words and other single characters.

    A word is a run of letters, marks, digits and underscores, and is the same token in every context. Where the text has
    no space between two tokens, one of them gets a joiner on that side: the one that is not a word, or the right one if
    neither is a word. ``3.50 (or so).`` gives ``3 ￭.￭ 50 (￭ or so ￭) ￭.``. White space is defined by ``str.split``.
    """
    found: list[Token] = []
    for match in _token_pattern().finditer(text):
        token, start, end = match[0], match.start(), match.end()
        if token.isspace():
            continue
        if not _is_word(token):
            left = JOINER if start > 0 and not text[start - 1].isspace() else ""
            right = JOINER if end < len(text) and _is_word(text[end]) else ""
            token = left + (_ESCAPED_JOINER if token == JOINER else token) + right
        found.append(Token(token, start, end))
    return found


def split_tokens(text: str) -> list[str]:
    """Split a text into the strings of its tokens; see ``find_tokens``."""
    return [token.text for token in find_tokens(text)]


def join_tokens(tokens: Iterable[str]) -> str:
    """Join tokens into a text: ``join_tokens(split_tokens(text)) == " ".join(text.split())``."""
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
    r"""Match a word or one other character.

    ``\w`` does not match combining marks and the joiners U+200C and U+200D of Indic scripts, so the pattern adds them.
    """
    planes = itertools.chain(range(0x20000), range(0xE0000, 0xE1000))  # the other planes have no marks
    marks = "".join(char for char in map(chr, planes) if unicodedata.category(char)[0] == "M")
    return re.compile(rf"[\w{marks}\u200c\u200d]+|.", re.DOTALL)


def _is_word(token: str) -> bool:
    """Whether a match of the token pattern is a word, which its first character determines."""
    first = token[0]
    return first.isalnum() or first in "_\u200c\u200d" or unicodedata.category(first)[0] == "M"
