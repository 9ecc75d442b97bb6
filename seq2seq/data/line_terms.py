"""The terms of one source line as ids: what its translation must have, its exact text, and what it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from seq2seq.data.spellings import MarkedText, decode_marked, spellings, word_edges
from seq2seq.data.terms import MaskedLine, SourceTerm, count_of
from seq2seq.search.required import RequiredTerm, RequiredTerms
from seq2seq.text.tokenizer import UNK, Tokenizer


@dataclass
class TermResult:
    """A term of the source line that the translation must have: of the glossary, or a span that is kept unchanged."""

    source: str
    targets: list[str]  # one of these must be in the translation; for a kept span the span itself
    start: int  # index of its first character in the line, from 0
    end: int  # index after its last character
    kept: bool  # whether it must appear unchanged and exactly as often as in the source
    met: bool  # whether the translation has it as required


class SourceIds(NamedTuple):
    """The pieces of a source, by which its terms are spelled."""

    spans: Sequence[tuple[int, int]]  # of its pieces in the line
    copy_ids: Sequence[int]  # the target ids of its pieces; empty if the model does not copy
    oov: Sequence[str]  # pieces outside the target vocabulary
    with_unknown: bool  # whether the search can produce UNK


class LineTerms:
    """The terms of a line, or of a part of a line.

    Args:
        terms: those inside the part.
        spelled: for each term, its spellings with the text of each; empty if the vocabulary cannot spell it.
        masks: the text of each placeholder.
    """

    def __init__(
        self,
        terms: Sequence[SourceTerm],
        spelled: Sequence[dict[tuple[int, ...], str]],
        *,
        tgt: Tokenizer,
        oov: Sequence[str],
        masks: Mapping[str, str],
    ) -> None:
        self.terms = tuple(terms)
        self._tgt, self._oov = tgt, oov
        self._numbers = [number for number, found in enumerate(spelled) if found]  # of the terms that can be spelled
        self._texts = [spelled[number] for number in self._numbers]
        required = [
            RequiredTerm(tuple(found), exact=terms[number].kept)
            for number, found in zip(self._numbers, self._texts, strict=True)
        ]
        self.required = RequiredTerms(required, word_edges(tgt, oov, masks)) if required else None

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of a hypothesis, with the exact text of its terms."""
        return self._marked(ids).restored()

    def results(self, ids: Sequence[int]) -> list[TermResult]:
        """Return which terms a hypothesis has; a kept span must not be in its text outside the places of the terms."""
        text = self._marked(ids).text
        found = {number for number, *_ in self._matches(ids)}
        results = []
        for number, term in enumerate(self.terms):
            met = number in found
            if met and term.kept:
                met = count_of(term.source, text) == 0
            results.append(TermResult(term.source, list(term.targets), term.start, term.end, term.kept, met))
        return results

    def faults(self, ids: Sequence[int]) -> int:
        """See ``RequiredTerms.faults``."""
        return self.required.faults(ids) if self.required else 0

    def _marked(self, ids: Sequence[int]) -> MarkedText:
        return decode_marked(self._tgt, ids, self._oov, [found[1:] for found in self._matches(ids)])

    def _matches(self, ids: Sequence[int]) -> list[tuple[int, int, int, str]]:
        """Return for each term in a hypothesis its number, its first id, the id after it, and its text."""
        found = self.required.find(ids) if self.required else []
        return [
            (self._numbers[term], start, end, self._texts[term][tuple(ids[start:end])]) for term, start, end in found
        ]


def make_line_terms(
    terms: Sequence[SourceTerm], line: MaskedLine, source: SourceIds, tgt: Tokenizer
) -> LineTerms | None:
    """Spell the terms that start in a line, or in a part of it; None: there are none.

    A term that the part does not hold as a whole is not required, so that it is reported as lacking.

    Args:
        line: the line with the placeholders of its kept spans.
        source: the pieces of the line or part, without a tag.
    """
    if not source.spans:
        return None
    start, end = source.spans[0][0], source.spans[-1][1]
    inside = [number for number, term in enumerate(terms) if start <= term.start < end]
    spelled = []
    for number in inside:
        term = terms[number]
        written = (
            {line.placeholders[number]: term.source} if number in line.placeholders else {t: t for t in term.targets}
        )
        found = {
            ids: target
            for text, target in written.items()
            for ids in spellings(text, tgt, source.oov, with_unknown=source.with_unknown)
        }
        spelled.append((found or _copied(term, source)) if term.end <= end else {})
    if not inside:
        return None
    masks = {name: terms[number].source for number, name in line.placeholders.items()}
    return LineTerms([terms[number] for number in inside], spelled, tgt=tgt, oov=source.oov, masks=masks)


def _copied(term: SourceTerm, source: SourceIds) -> dict[tuple[int, ...], str]:
    """Return the ids of a kept span that are copied from its place in the source; empty if the model does not copy."""
    if not (term.kept and source.copy_ids):
        return {}
    places = [number for number, (first, last) in enumerate(source.spans) if first < term.end and last > term.start]
    ids = tuple(source.copy_ids[place] for place in places)
    return {ids: term.source} if ids and UNK not in ids else {}
