"""The ids that spell a term in a translation, and the text of a translation in which terms have their exact text.

A term is spelled in several ways: with a space before it, as at the start of a text, and without. A text that the target
vocabulary cannot spell exactly, for example because the tokenizer normalises it, is restored after the search: the decoder
knows at which ids a term stands, and puts its text there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from seq2seq.data.copy_ids import extended_target_ids
from seq2seq.search.required import WordEdges
from seq2seq.text.tokenizer import UNK, Segments, Tokenizer
from seq2seq.text.words import in_one_word, is_word_character

_PRIVATE = range(0xE000, 0xF900)  # characters of the private use area, which stand for terms while a text is decoded


def spellings(text: str, tgt: Tokenizer, oov: Sequence[str], *, with_unknown: bool) -> list[tuple[int, ...]]:
    """Return the sequences of ids that spell a text in the middle of a translation.

    Args:
        oov: the out-of-vocabulary pieces of the source.
        with_unknown: whether a spelling may have the id UNK.
    """
    afters = [""] if in_one_word(text[-1], "x") else ["", "x"]
    befores = ["", "("]  # the context of the text: none, or punctuation before and a word after it
    places = [(before, after) for before in befores for after in afters]
    found: dict[tuple[int, ...], None] = {}
    for (before, _), segments in zip(places, tgt.segment([b + text + a for b, a in places]), strict=True):
        inside = _inside(segments, len(before), len(before) + len(text))
        ids = tuple(extended_target_ids(inside, oov, tgt))
        if ids and (with_unknown or UNK not in ids):
            found[ids] = None
    return list(found)


def _inside(segments: Segments, start: int, end: int) -> Segments:
    """Return the pieces of a part of a text; none if a piece crosses its borders."""
    ids, pieces, spans = segments
    kept = [number for number, (first, last) in enumerate(spans) if first >= start and last <= end and first < end]
    crosses = any(first < border < last for first, last in spans for border in (start, end))
    if crosses or not kept:
        return Segments([], [], [])
    return Segments([ids[k] for k in kept], [pieces[k] for k in kept], [spans[k] for k in kept])


def word_edges(tgt: Tokenizer, oov: Sequence[str], masks: Mapping[str, str] = MappingProxyType({})) -> WordEdges:
    """Return which ids begin and end inside a word.

    Args:
        oov: the out-of-vocabulary pieces of the source.
        masks: the text of each placeholder.
    """
    others = {
        tgt.id(name): _both(is_word_character(text[0]), is_word_character(text[-1])) for name, text in masks.items()
    }
    return WordEdges(_vocabulary_bits(tgt), _bits(tgt, oov), others)


@lru_cache(maxsize=2)
def _vocabulary_bits(tgt: Tokenizer) -> list[int]:
    return _bits(tgt, tgt.pieces(range(tgt.size)))


def _bits(tgt: Tokenizer, pieces: Sequence[str]) -> list[int]:
    return [_both(*tgt.joins(piece)) for piece in pieces]


def _both(begins: bool, ends: bool) -> int:
    return begins + 2 * ends


class MarkedText(NamedTuple):
    """The text of a translation in which a character of the private use area stands for each term."""

    text: str
    marks: dict[str, str]  # the text of each of these characters

    def restored(self) -> str:
        """Return the text with the exact texts of the terms."""
        found = self.text
        for mark, text in self.marks.items():
            found = found.replace(mark, text)
        return found


def decode_marked(
    tgt: Tokenizer, ids: Sequence[int], oov: Sequence[str], texts: Sequence[tuple[int, int, str]]
) -> MarkedText:
    """Decode ids, some of which stand for given texts.

    Args:
        texts: the index of the first id, the index after the last id, and the text, in order.
    """
    plain = tgt.decode(ids, oov)
    unused = (chr(code) for code in _PRIVATE if not any(chr(code) in text for text in (plain, *(t for *_, t in texts))))
    marks = dict(zip(unused, (text for *_, text in texts), strict=False))
    if not marks:
        return MarkedText(plain, {})
    longer, replaced, last = list(oov), [], 0
    for mark, (start, end, _) in zip(marks, texts, strict=False):
        pieces = tgt.pieces(ids[start:end], oov)
        replaced += [*ids[last:start], tgt.size + len(longer)]
        longer.append(tgt.with_sides(mark, pieces[0], pieces[-1]))
        last = end
    return MarkedText(tgt.decode([*replaced, *ids[last:]], longer), marks)
