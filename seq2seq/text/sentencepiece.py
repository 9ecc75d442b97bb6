"""SentencePiece tokenizers (Kudo & Richardson 2018): unigram, bpe and char."""

from __future__ import annotations

import io
import itertools
import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import sentencepiece

from seq2seq.config import TokenizerConfig
from seq2seq.files import expand_home, read_file
from seq2seq.text.merges import merge
from seq2seq.text.model_proto import load_processor, model_kind, read_nbest, renumber
from seq2seq.text.normalization import normalize, replace_surrogates
from seq2seq.text.tokenizer import BOS, EOS, PAD, SPECIALS, UNK, UNKNOWN, Sampling, Segments, Tokenizer, hash_values
from seq2seq.text.words import is_word_character

# For training, lines are split into chunks of this many characters. The bpe trainer of SentencePiece crashes on words of
# more than 65,535 characters. SentencePiece puts a space before each chunk. In text without spaces, longer chunks would
# make the mark of a space so rare that it gets no piece.
_CHUNK = 1000
_THREADS = 4  # the trained model depends on the number of threads
_SAMPLED_TEXTS = 32  # texts whose symbols, usually characters, are in memory at once
_FREQUENT = 10  # a character that occurs this often gets a piece, however small its share of the text is
_SPACE = "▁"  # U+2581, SentencePiece's mark of a space
_RESERVED = " ▁▅"  # the space, its mark, and U+2585, SentencePiece's mark of an unknown character
_BYTES = 256
_PROBE = "Ａ①ﬁ\u00a0\u200b\u0001"  # a text that each normalization rule changes in a different way


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model of kind unigram, bpe or char. U+2581 in a text is decoded as a space.

    Args:
        kind: unigram, bpe or char.
        model: the serialized SentencePiece model.
    """

    def __init__(self, kind: str, model: bytes) -> None:
        processor = load_processor(model)
        ids = (processor.pad_id(), processor.unk_id(), processor.bos_id(), processor.eos_id())
        if ids != (PAD, UNK, BOS, EOS):
            raise ValueError(f"pad, unk, bos and eos of a SentencePiece model must be ids 0, 1, 2, 3, but are {ids}")
        self.size = processor.get_piece_size()
        self.kind = kind
        self._processor = processor
        self._model = model

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        rows = self._processor.encode([replace_surrogates(text) for text in texts], out_type=int)
        return [row if text.strip() else [] for text, row in zip(texts, rows, strict=True)]

    def segment(self, texts: Sequence[str]) -> list[Segments]:
        return self._segment(texts)

    def sample(self, texts: Sequence[str], sampling: Sampling, seed: int) -> list[Segments]:
        if self.kind == "unigram" and sampling.nbest:
            return [self._draw(text, sampling, random.Random(f"{seed} {number}")) for number, text in enumerate(texts)]
        if self.kind != "bpe":
            return self.segment(texts)
        dropout, generator = sampling.dropout, random.Random(seed)
        # alpha=1 skips every merge, so SentencePiece returns the symbols, without randomness
        return [
            self._merge(symbols, dropout, generator)
            for first in range(0, len(texts), _SAMPLED_TEXTS)
            for symbols in self._segment(texts[first : first + _SAMPLED_TEXTS], enable_sampling=True, alpha=1.0)
        ]

    def _draw(self, text: str, sampling: Sampling, generator: random.Random) -> Segments:
        """Draw one of the n best segmentations of a text x with a probability in proportion to P(x)^power."""
        text = replace_surrogates(text)
        if not text.strip():
            return Segments([], [], [])
        found = self._processor.nbest_encode(text, nbest_size=sampling.nbest, return_type="serialized_proto")
        best = read_nbest(found)
        most = best[0].score
        weights = [math.exp(sampling.power * (segmentation.score - most)) for segmentation in best]
        ids, pieces, offsets = generator.choices(best, weights)[0].read()
        number_at = list(  # the characters before each byte, since these offsets count bytes
            itertools.accumulate((byte & 0xC0 != 0x80 for byte in text.encode()), initial=0)
        )
        return _with_spans(text, ids, pieces, [(number_at[start], number_at[end]) for start, end in offsets])

    def _merge(self, symbols: Segments, dropout: float, generator: random.Random) -> Segments:
        """Merge the symbols of one text into pieces; skip each merge with probability ``dropout``."""
        starts = merge(symbols.pieces, self._ranks, lambda: generator.random() < dropout)
        ranges = list(itertools.pairwise([*starts, len(symbols.ids)]))
        pieces = ["".join(symbols.pieces[start:end]) for start, end in ranges]
        ids = [
            symbols.ids[start] if end == start + 1 else self._ranks[piece]
            for piece, (start, end) in zip(pieces, ranges, strict=True)
        ]
        return Segments(ids, pieces, [(symbols.spans[start][0], symbols.spans[end - 1][1]) for start, end in ranges])

    @cached_property
    def _ranks(self) -> dict[str, int]:
        """The id of each piece that a merge can produce. Merges are made in the order of these ids."""
        ids = (i for i in range(EOS + 1, self.size) if not self._processor.is_byte(i))
        return {piece: i for i in ids if len(piece := self._piece(i)) > 1}

    def _segment(self, texts: Sequence[str], **options: Any) -> list[Segments]:
        """Segment texts with options of SentencePiece's ``encode``."""
        encodable = [replace_surrogates(text) for text in texts]
        all_found = self._processor.encode(encodable, return_type="offset_mapping", **options)
        result = []
        for text, found in zip(encodable, all_found, strict=True):
            if not text.strip():
                found = {"ids": [], "pieces": [], "offsets": []}
            result.append(_with_spans(text, found["ids"], found["pieces"], found["offsets"]))
        return result

    def id(self, piece: str) -> int:
        index = self._processor.piece_to_id(replace_surrogates(piece))
        return index if index > EOS else UNK

    def decode(self, ids: Sequence[int], oov: Sequence[str] = ()) -> str:
        visible = [int(i) for i in ids if i not in (PAD, BOS, EOS)]
        if all(i < self.size for i in visible):
            return self._processor.decode(visible)
        # OOV pieces are passed character by character, since a whole piece could have the name of a special token.
        # SentencePiece does not decode the mark of a space if it is not in the vocabulary; it is replaced below.
        parts = ([self._piece(i)] if i < self.size else replace_surrogates(oov[i - self.size]) for i in visible)
        text = self._processor.decode_pieces(list(itertools.chain.from_iterable(parts)))
        return text.replace(_SPACE, " ").strip(" ")

    def joins(self, piece: str) -> tuple[bool, bool]:
        if piece == SPECIALS[UNK]:
            return True, True
        if self._processor.is_byte(self._processor.piece_to_id(piece)):
            byte = int(piece[1:-1], 16)
            is_word = byte >= 0x80 or is_word_character(chr(byte))  # from 0x80 on, a part of any character
            return is_word, is_word
        return is_word_character(piece[0]), is_word_character(piece[-1])

    def with_sides(self, text: str, first: str, last: str) -> str:
        return (_SPACE if first.startswith(_SPACE) else "") + text

    def _piece(self, index: int) -> str:
        return self._processor.id_to_piece(index)

    def to_bytes(self) -> bytes:
        return self._model

    @property
    def identity(self) -> str:
        ids = range(self.size)
        scores = [self._processor.get_score(i) for i in ids]
        return hash_values([self.kind, self.pieces(ids), scores, self._processor.normalize(_PROBE)])


def adopt_model(path: str, kind: str) -> SentencePieceTokenizer:
    """Read a SentencePiece model of any origin; its special tokens get the ids and names of this package.

    Raises:
        ValueError: the file cannot be read, is not a SentencePiece model, or is of another kind.
    """
    try:
        model = read_file(expand_home(path))
    except OSError as error:
        raise ValueError(f"the SentencePiece model {path} can't be read: {error.strerror or error}") from error
    try:
        found = model_kind(model)
    except ValueError as error:
        raise ValueError(f"{path} must be a SentencePiece model, but {error}") from None
    if found != kind:
        raise ValueError(
            f"a tokenizer must have the type of its model, but {path} is {found}; "
            f"set tokenizer.type={found} instead of {kind}, or tokenizer.tgt_type for the target"
        )
    return SentencePieceTokenizer(kind, renumber(model))


def _with_spans(text: str, ids: list[int], pieces: list[str], offsets: Sequence[tuple[int, int]]) -> Segments:
    """Make segments from SentencePiece's offsets, which include the white space before a piece."""
    return Segments(ids, pieces, [(end - len(text[start:end].lstrip()), end) for start, end in offsets])


def train_sentencepiece(texts: Sequence[str], config: TokenizerConfig) -> SentencePieceTokenizer:
    """Train a tokenizer of kind unigram, bpe or char.

    Raises:
        ValueError: ``vocab_size`` is too small for the characters of the text, or SentencePiece refuses the text.
    """
    model = io.BytesIO()
    is_char = config.type == "char"
    coverage = config.character_coverage
    frequent = _frequent_characters(texts, config) if coverage is None and not is_char else ""
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_chunks(texts),
            model_writer=model,
            model_type=config.type,
            vocab_size=config.vocab_size,
            hard_vocab_limit=False,
            byte_fallback=not is_char if config.byte_fallback is None else config.byte_fallback,
            character_coverage=(1.0 if is_char else 0.9995) if coverage is None else coverage,
            required_chars=frequent,
            user_defined_symbols=list(config.user_defined_symbols or ()),
            normalization_rule_name=config.normalization,
            max_sentence_length=100 * _CHUNK,  # bytes; NFKC turns one character into up to 18
            num_threads=_THREADS,
            pad_id=PAD,
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            unk_surface=UNKNOWN,
            minloglevel=2,
        )
    except RuntimeError as error:
        if "KeyboardInterrupt" in str(error):  # Ctrl-C while SentencePiece read from ``_chunks``
            raise KeyboardInterrupt from None
        needed = re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error))
        if needed is None:
            raise ValueError(f"SentencePiece cannot train on this text: {' '.join(str(error).split())}") from None
        raise ValueError(
            f"tokenizer.vocab_size must be at least {needed[1]} for tokenizer.type={config.type} on this text"
            f" (every character and 256 bytes), but is {config.vocab_size}"
        ) from None
    return SentencePieceTokenizer(config.type, model.getvalue())


def _frequent_characters(texts: Sequence[str], config: TokenizerConfig) -> str:
    """Return the characters that get a piece even if their share of the text is too small for SentencePiece.

    Without them, all digits of a corpus of captions would be encoded as bytes. They take at most a quarter of the
    vocabulary, so the rarer characters of a script with very many characters are encoded as bytes.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalize(text, config.normalization))
    frequent = [char for char, count in counts.most_common() if count >= _FREQUENT and char.isprintable()]
    frequent = [char for char in frequent if char not in _RESERVED]
    return "".join(frequent[: max(0, config.vocab_size - _BYTES - len(SPECIALS)) // 4])


def _chunks(texts: Sequence[str]) -> Iterator[str]:
    """Split texts into parts of at most ``_CHUNK`` characters."""
    for text in texts:
        for first in range(0, len(text), _CHUNK):
            yield text[first : first + _CHUNK]
