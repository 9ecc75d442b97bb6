"""Source lines as a model reads them: segmented, tagged, masked, and cut or split where they are too long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from seq2seq.data.beginnings import segment_beginnings
from seq2seq.data.copy_ids import SourceCopies, extended_target_ids, source_copies
from seq2seq.data.line_terms import LineTerms, SourceIds, make_line_terms
from seq2seq.data.notices import Notices
from seq2seq.data.segments import sentence_numbers
from seq2seq.data.splitting import split_text
from seq2seq.data.terms import MaskedLine, SourceTerm, TermFinder, known_placeholders, mask_line
from seq2seq.data.uniforms import LinePart
from seq2seq.text.tags import add_tag, split_tag, tag_piece
from seq2seq.text.tokenizer import Segments, Tokenizer


class SourceLine(NamedTuple):
    """A line, or a part of a line, converted to ids."""

    row: int  # of the line, from 0
    ids: list[int]
    pieces: list[str]
    spans: list[tuple[int, int]]
    segments: list[int]  # the sentence of each piece
    copy_ids: list[int]  # empty if the model does not copy
    oov: list[str]  # pieces outside the target vocabulary
    status: str  # ok, source_cut or source_split
    place: LinePart  # the number of the line, and of its part
    prefix: Sequence[int] = ()  # target ids that are forced
    terms: LineTerms | None = None  # that the translation must have


class SourceReader:
    """Converts lines to ids.

    Args:
        src, tgt: the tokenizers.
        most: the largest number of source pieces of the model, ``data.max_source_length``.
        copies: whether the model copies.
        with_unknown: whether the search can produce UNK.
        tag: the tag before every source; empty: none is added.
        terms: finds the terms that translations must have.
    """

    def __init__(
        self,
        src: Tokenizer,
        tgt: Tokenizer,
        *,
        most: int,
        copies: bool,
        with_unknown: bool,
        tag: str,
        terms: TermFinder,
    ) -> None:
        self.src, self.tgt = src, tgt
        self.most = most
        self.copies = copies
        self.with_unknown = with_unknown
        self.tag = tag
        self.terms = terms
        self._placeholders = known_placeholders(src, tgt) if terms.keep else []

    def read(self, lines: Sequence[str], first_line: int, *, too_long: str, notices: Notices) -> Iterator[SourceLine]:
        """Segment lines into pieces; cut or split lines that are too long, and warn about them.

        Args:
            first_line: number of the first line, for messages and for sampling.
            too_long: cut or split.
        """
        terms = [self.terms.find(line) for line in lines] if self.terms else [[] for _ in lines]
        masked = [mask_line(line, some, self._placeholders) for line, some in zip(lines, terms, strict=True)]
        tagged = [add_tag(self.tag, line.text) for line in masked]
        for row, (segments, length, exact) in enumerate(segment_beginnings(self.src, tagged, self.most)):
            tag, rest = split_tag(segments, self.src, added=self.tag)
            if rest.ids and self.src.tags and not tag.ids:
                self._warn_of_missing_tag(first_line + row, notices)
            place = LinePart(first_line + row)
            if length <= self.most:
                yield self._source(row, masked[row], terms[row], tag, rest, "ok", place)
                continue
            number, done = str(length) if exact else f"at least {length}", "is cut to"
            if too_long == "cut":
                yield self._source(row, masked[row], terms[row], tag, rest, "source_cut", place)
            else:
                pieces = parts = 0
                for part in self._split(masked[row].text, tag):
                    now = place._replace(part=parts)
                    yield self._source(row, masked[row], terms[row], tag, part, "source_split", now)
                    pieces, parts = pieces + len(part.ids), parts + 1
                number, done = str(pieces + len(tag.ids)), f"is split into {parts} parts of at most"
            limit = f"{self.most}, the model's data.max_source_length"
            notices.warn(
                f"line {first_line + row} has {number} pieces and {done} {limit}",
                summary=f"are too long; each is {'cut to' if too_long == 'cut' else 'split into parts of at most'} {limit}",
            )

    def with_prefixes(self, sources: Iterable[SourceLine], prefixes: Sequence[str]) -> Iterator[SourceLine]:
        """Add the ids of a target prefix to the first part of each line.

        Args:
            prefixes: one for each line; empty: none.
        """
        segments = self.tgt.segment(prefixes)
        for source in sources:
            prefix = extended_target_ids(segments[source.row], source.oov, self.tgt) if source.place.part == 0 else ()
            yield source._replace(prefix=prefix)

    def _split(self, line: str, tag: Segments) -> Iterator[Segments]:
        """Split a long line into parts that fit after its tag; the spans are those of the line."""
        written = 0 if self.tag or not tag.ids else len(tag.pieces[0]) + 1  # characters of a tag that the line holds
        for ids, pieces, spans in split_text(self.src, line[written:], max(self.most - len(tag.ids), 1)):
            yield Segments(ids, pieces, [(start + written, end + written) for start, end in spans])

    def _source(
        self,
        row: int,
        line: MaskedLine,
        terms: Sequence[SourceTerm],
        tag: Segments,
        rest: Segments,
        status: str,
        place: LinePart,
    ) -> SourceLine:
        """Convert the pieces of a line, or of a part of it, and of the tag before it."""
        ids, pieces, spans = tag.ids + rest.ids, tag.pieces + rest.pieces, tag.spans + rest.spans
        copied = source_copies(pieces, self.tgt, tags=self.src.tags) if self.copies else SourceCopies([], [])
        segments = sentence_numbers(line.text, rest.spans[:1] * len(tag.ids) + rest.spans)  # a tag is in the first one
        source = SourceLine(row, ids, pieces, line.spans(spans), segments, *copied, status=status, place=place)
        if not terms:
            return source
        tags = len(tag.ids)
        found = SourceIds(source.spans[tags:], source.copy_ids[tags:], source.oov, self.with_unknown)
        return source._replace(terms=make_line_terms(terms, line, found, self.tgt))

    def _warn_of_missing_tag(self, number: int, notices: Notices) -> None:
        tags = ", ".join(self.src.tags)
        notices.warn(
            f"line {number} has no tag, but the model was trained with the tags {tags}; give one of them with --tag, or put "
            f"{tag_piece(self.src.tags[0])} and a space before the line",
            summary=f"have no tag, but the model was trained with the tags {tags}",
        )


def as_texts(texts: Iterable[str], name: str, first: int = 1) -> list[str]:
    """Return texts as a list.

    Args:
        name: what the texts are, for messages.
        first: number of the first one, for messages.

    Raises:
        ValueError: ``texts`` is a single text or not iterable, or one of them is not a string.
    """
    if isinstance(texts, str | bytes):
        raise ValueError(f"{name} must be a list of texts, but are one text; put the text into a list")
    if not isinstance(texts, Iterable):
        raise ValueError(f"{name} must be a list of texts, but are of type {type(texts).__name__}")
    found = list(texts)
    for number, text in enumerate(found, start=first):
        if not isinstance(text, str):
            raise ValueError(f"{name} must be of type str, but number {number} is of type {type(text).__name__}")
    return found
