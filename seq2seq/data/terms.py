"""Terms of a source line that its translation must have: glossary terms, and spans that are kept unchanged.

A model that was trained with placeholders reads a kept span as a placeholder. The placeholders are pieces ``<ph1>``,
``<ph2>``, ... that both vocabularies have (``tokenizer.user_defined_symbols``); the spans of a line get them in order.
Where they do not suffice, and for other models, the source keeps the span, and the translation must have its pieces.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from seq2seq.data.lines import CorpusError, read_lines
from seq2seq.text.tokenizer import UNK, Tokenizer
from seq2seq.text.words import in_one_word

KEPT_SPANS = {  # regular expressions of the kinds of spans with a name
    "urls": r"(?:https?|ftp)://[^\s<>\"]*[^\s<>\".,;:!?()\[\]{}'“”‘’«»]",
    # only from the start of a run of these characters, so that the time does not grow with the square of its length
    "emails": r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    "tags": r"</?[A-Za-z][^<>]*>|&(?:[A-Za-z]\w*|#\d+|#x[0-9A-Fa-f]+);",
    "numbers": r"(?<![\w.,])\d+(?:[.,:/-]\d+)*(?!\w|[.,:/-]\d)",
}


class SourceTerm(NamedTuple):
    """A term of a source line."""

    source: str
    targets: tuple[str, ...]  # one of these must be in the translation
    start: int  # index of its first character in the line
    end: int  # index after its last character
    kept: bool  # whether it is kept unchanged, so that it must appear exactly as often as in the source


class MaskedLine(NamedTuple):
    """A line in which placeholders replace kept spans."""

    text: str
    offsets: Sequence[int] | None  # of each character and of the end, the place in the line; None: nothing is replaced
    placeholders: dict[int, str]  # the placeholder of each term that has one, by the number of the term

    def spans(self, spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return the spans in the line of spans in this text."""
        if self.offsets is None:
            return list(spans)
        return [(self.offsets[start], self.offsets[end]) for start, end in spans]


class TermFinder:
    """Finds the terms of source lines.

    Terms do not overlap. The term that starts first counts, of several ones the longest, and a kept span before a term of
    the glossary. A glossary term counts if it has the same letters, in the same case, and is not part of a longer word.

    Args:
        glossary: the target terms of each source term.
        keep: what is kept unchanged: names of ``KEPT_SPANS`` and regular expressions.

    Raises:
        ValueError: an invalid regular expression, or a term without text.
    """

    def __init__(self, glossary: Mapping[str, Sequence[str]], keep: Sequence[str] = ()) -> None:
        for source, targets in glossary.items():
            if not targets or not all(text.strip() for text in (source, *targets)):
                raise ValueError(
                    f"a glossary must have source terms and target terms with text, but has {source!r}: {list(targets)}; "
                    "remove it"
                )
        self.glossary = {source: tuple(targets) for source, targets in glossary.items()}
        self.keep = tuple(keep)
        self._lengths = sorted({len(source) for source in self.glossary}, reverse=True)
        self._patterns = [_pattern(text) for text in self.keep]

    def __bool__(self) -> bool:
        return bool(self.glossary or self.keep)

    def find(self, line: str) -> list[SourceTerm]:
        """Find the terms of a line, in order."""
        found = [
            _kept(line, *match.span())
            for pattern in self._patterns
            for match in pattern.finditer(line)
            if match[0].strip()
        ]
        for start in range(len(line)) if self.glossary else ():
            if start == 0 or not in_one_word(line[start - 1], line[start]):
                found += self._glossary_term(line, start)
        found.sort(key=lambda term: (term.start, -term.end, not term.kept))
        chosen: list[SourceTerm] = []
        for term in found:
            if not chosen or term.start >= chosen[-1].end:
                chosen.append(term)
        return chosen

    def _glossary_term(self, line: str, start: int) -> list[SourceTerm]:
        """Return the longest term of the glossary that starts at a place, or nothing."""
        for length in self._lengths:
            source = line[start : start + length]
            end = start + len(source)
            if source in self.glossary and (end == len(line) or not in_one_word(line[end - 1], line[end])):
                return [SourceTerm(source, self.glossary[source], start, end, False)]
        return []


def _kept(line: str, start: int, end: int) -> SourceTerm:
    """Return a kept span without the spaces at its ends, which are those that the model writes."""
    start, end = end - len(line[start:end].lstrip()), start + len(line[start:end].rstrip())
    return SourceTerm(line[start:end], (line[start:end],), start, end, True)


def count_of(text: str, whole: str) -> int:
    """Return how often a text occurs in another one, without overlaps and not as a part of longer words."""
    count, place = 0, whole.find(text)
    while place >= 0:
        end = place + len(text)
        joins = place > 0 and in_one_word(whole[place - 1], text[0])
        joins = joins or (end < len(whole) and in_one_word(text[-1], whole[end]))
        count += not joins
        place = whole.find(text, place + 1 if joins else end)
    return count


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(KEPT_SPANS.get(text, text))
    except re.error as error:
        names = ", ".join(KEPT_SPANS)
        raise ValueError(
            f"what is kept must be one of {names} or a regular expression, but {text} is none: {error}"
        ) from None


def read_glossary(path: Path) -> dict[str, tuple[str, ...]]:
    """Read a glossary: a source term, a tab and a target term on each line; blank lines are skipped.

    A source term with several lines has several target terms, of which the translation must have one.

    Raises:
        CorpusError: the file cannot be read, or a line has not two columns with text.
    """
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        columns = [column.strip() for column in line.split("\t")]
        if len(columns) != 2 or not all(columns):
            raise CorpusError(
                f"{path}, line {number} must have a source term, a tab and a target term, but has "
                f"{sum(map(bool, columns))} columns with text"
            )
        source, target = columns
        found[source] = (*found.get(source, ()), target)
    return found


def known_placeholders(src: Tokenizer, tgt: Tokenizer) -> list[str]:
    """Return the placeholders that both vocabularies have: ``<ph1>``, ``<ph2>``, ..."""
    names = (f"<ph{number}>" for number in itertools.count(1))
    return list(itertools.takewhile(lambda name: src.id(name) != UNK and tgt.id(name) != UNK, names))


def mask_line(line: str, terms: Sequence[SourceTerm], placeholders: Sequence[str]) -> MaskedLine:
    """Replace the kept spans of a line by placeholders; one that the line has already is not used."""
    numbers = [number for number, term in enumerate(terms) if term.kept]
    masks = dict(zip(numbers, [name for name in placeholders if name not in line], strict=False))
    if not masks:
        return MaskedLine(line, None, {})
    parts, offsets, end = [], [], 0
    for number, name in masks.items():
        term = terms[number]
        parts += [line[end : term.start], name]
        offsets += [*range(end, term.start), term.start, *[term.end] * (len(name) - 1)]
        end = term.end
    return MaskedLine("".join([*parts, line[end:]]), [*offsets, *range(end, len(line) + 1)], masks)
