"""Split long texts into parts that a model can read, at the ends of sentences where possible."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from seq2seq.data.beginnings import MORE_PIECES, characters_at_first, cut_text
from seq2seq.text.tokenizer import Segments, Tokenizer
from seq2seq.text.word import JOINER


def split_text(tokenizer: Tokenizer, text: str, most: int) -> Iterator[Segments]:
    """Yield the parts of a long text, each of at most ``most`` pieces, without segmenting the text as a whole.

    The text is segmented in stretches, each of as many characters as ``segment_beginnings`` reads at first, and four times
    as many if these hold too few pieces. The pieces next to the end of a stretch can differ from those of the whole text,
    so a stretch is used up to the last border, with white space if there is one, of which these pieces do not decide; the
    next stretch starts there. So the parts are those of the whole text if it has enough white space. Spans refer to the
    text.
    """
    start, size = 0, characters_at_first(most)
    while start < len(text):
        stretch = cut_text(text[start : start + size + 1], size)
        (segments,) = tokenizer.segment([stretch])
        places, end = split_places(segments, most), start + len(stretch)
        if end < len(text):
            places = _sure_places(segments, places, len(segments.ids) - MORE_PIECES - most)
            end = start + segments.spans[places[-1] - 1][1] if places[-1] else start
            if end == start:
                size *= 4
                continue
        for first, last in itertools.pairwise(places):
            if first < last:
                spans = [(start + left, start + right) for left, right in segments.spans[first:last]]
                yield Segments(segments.ids[first:last], segments.pieces[first:last], spans)
        start, size = end, characters_at_first(most)


def _sure_places(source: Segments, places: list[int], last: int) -> list[int]:
    """Return the borders up to the last one that has white space and is at most ``last``; without white space, all."""
    sure = [place for place in places if place <= last]
    spaced = [place for place in sure[1:] if source.spans[place][0] > source.spans[place - 1][1]]
    return sure[: sure.index(spaced[-1]) + 1] if spaced else sure or [0]


def split_places(source: Segments, most: int) -> list[int]:
    """Find where to split a long source into parts of at most ``most`` pieces.

    A part ends at the last end of a sentence in its second half; else at the last comma or similar mark there; else at
    the last white space there; else where the part is full. A mark must be followed by white space (unlike the one in
    3.50), except in scripts that do not use it.

    Returns:
        The borders, from 0 to the number of pieces.
    """
    pieces, spans, places = source.pieces, source.spans, [0]

    def is_spaced(end: int) -> bool:
        return spans[end][0] > spans[end - 1][1]

    def is_border(end: int, marks: str) -> bool:
        last = pieces[end - 1].strip(JOINER)[-1:]
        return last != "" and last in marks and (last > "\u3000" or is_spaced(end))

    while len(pieces) - places[-1] > most:
        start, limit = places[-1], places[-1] + most
        second_half = range(limit, start + (most - 1) // 2, -1)
        marked = (end for marks in (".!?…。！？।؟", ",;:、，；：") for end in second_half if is_border(end, marks))
        places.append(next(itertools.chain(marked, filter(is_spaced, second_half)), limit))
    return [*places, len(pieces)]
