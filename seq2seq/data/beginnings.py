"""Segment the beginning of long texts, so that memory and time are bounded by the pieces that are used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from seq2seq.data.batching import group_by_size
from seq2seq.text.tokenizer import Segments, Tokenizer

CHARACTERS_PER_PIECE = 64  # characters read per piece at first; text of usual languages has 1 to 10
GROUP_CHARACTERS = 2**18  # characters segmented at once
MAX_SCORED_PIECES = 2**16  # of a target whose probability is asked for
MORE_PIECES = 32  # pieces after the used ones, since the pieces next to the end of a part can differ


class Beginning(NamedTuple):
    """The first pieces of a text."""

    segments: Segments
    length: int  # number of pieces of the text, or a lower bound
    whole: bool  # whether length is exact


def segment_beginnings(tokenizer: Tokenizer, texts: Sequence[str], most: int) -> Iterator[Beginning]:
    """Return the first ``most`` pieces of each text, without segmenting a long text as a whole.

    At first 64 characters per piece are segmented, up to the last white space among them. If these give too few pieces,
    four times as many characters are segmented, until there are enough pieces or the text ends. So the result is the
    beginning of the segmentation of the whole text, except in a text without white space, where a piece can depend on
    characters after it.
    """
    bound = characters_at_first(most)
    for group in group_by_size(texts, lambda text: min(len(text), bound), GROUP_CHARACTERS):
        parts = [cut_text(text, bound) for text in group]
        for text, part, segments in zip(group, parts, tokenizer.segment(parts), strict=True):
            while len(part) < len(text) and len(segments.ids) < most + MORE_PIECES:
                part = cut_text(text, 4 * max(len(part), bound))
                (segments,) = tokenizer.segment([part])
            first = Segments(segments.ids[:most], segments.pieces[:most], segments.spans[:most])
            yield Beginning(first, len(segments.ids), len(part) == len(text))


def segment_targets(tokenizer: Tokenizer, lines: Sequence[str], numbers: Iterable[int]) -> Iterator[Segments]:
    """Segment target lines whose probability is asked for; they are never cut.

    Args:
        numbers: the number of each line, for messages.

    Raises:
        ValueError: a line has more than 65,536 pieces.
    """
    beginnings = segment_beginnings(tokenizer, lines, MAX_SCORED_PIECES)
    for number, (segments, length, exact) in zip(numbers, beginnings, strict=True):
        if length > MAX_SCORED_PIECES:
            raise ValueError(
                f"a target line must have at most {MAX_SCORED_PIECES:,} pieces, but line {number} has "
                f"{'' if exact else 'at least '}{length:,}; split it into several lines"
            )
        yield segments


def characters_at_first(most: int) -> int:
    """Return how many characters are segmented at first to find ``most`` pieces."""
    return CHARACTERS_PER_PIECE * (most + MORE_PIECES)


def cut_text(text: str, bound: int) -> str:
    """Cut a text to at most ``bound`` characters, at the last white space in the last quarter of these if there is one."""
    if len(text) <= bound:
        return text
    places = range(bound, bound - bound // 4, -1)
    return text[: next((place for place in places if text[place].isspace()), bound)]
