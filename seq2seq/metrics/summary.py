"""Measures of summaries in addition to ROUGE: copying, novelty, repetition, length, and whether facts occur in the source.

See et al. 2017 (copied, novel and repeated n-grams), Paulus et al. 2018 (repeated trigrams). Counts are summed over all
lines before they are divided.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import regex

from seq2seq.text.words import sentences, split_words, words

NGRAM_SIZES = (1, 2, 3, 4)
MEASURES = (
    "copied",
    *(f"novel-{n}" for n in NGRAM_SIZES),
    *(f"repeated-{n}" for n in NGRAM_SIZES),
    "length-ratio",
    "numbers",
    "names",
)

_NUMBER = regex.compile(r"\p{Nd}+(?:[.,]\p{Nd}+)*")
_THOUSANDS = regex.compile(r"(?<=\p{Nd}),(?=\p{Nd}{3}(?!\p{Nd}))")
# Words whose capital does not mark a name: the first word of a sentence, after a colon, or of a quotation. Letters
# without case (category Lo, such as Chinese) are not matched.
_OPENING_WORD = regex.compile(
    r"""(?: ^[^\p{L}\p{N}]* | [:：]\s* | [,:：，]\s*["'“„«‘「]\s* ) [\p{Lu}\p{Ll}\p{Lt}\p{N}\p{M}]+""", regex.VERBOSE
)


class Measure(NamedTuple):
    """One measure of a corpus of summaries, with its numerator and denominator."""

    name: str  # one of MEASURES
    value: float  # part / of in per cent, for length-ratio the plain ratio; NaN if ``of`` is 0
    part: float
    of: float


def measure(
    hypotheses: Sequence[str], sources: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[Measure, ...]:
    """Compare summaries with their sources and references, ignoring case.

    - copied: words of the hypotheses that occur in their source (novel-1 is the rest).
    - novel-n: n-grams that do not occur in the source.
    - repeated-n: n-grams that occur earlier in the same hypothesis.
    - length-ratio: words of the hypotheses divided by words of the references (the mean of several references).
    - numbers, names: numbers and names that occur in the source. A name is a capitalised word of two or more letters that
      does not start a sentence or quotation; in German, this includes every noun.

    Returns:
        The measures in the order of ``MEASURES``.
    """
    counts: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for hypothesis, source, *line in zip(hypotheses, sources, *references, strict=True):
        hyp, src = words(hypothesis), words(source)
        for n in NGRAM_SIZES:
            ngrams, known = _ngrams(hyp, n), set(_ngrams(src, n))
            counts[f"novel-{n}"] += sum(ngram not in known for ngram in ngrams)
            counts[f"repeated-{n}"] += len(ngrams) - len(set(ngrams))
            totals[f"novel-{n}"] += len(ngrams)
            totals[f"repeated-{n}"] += len(ngrams)
        counts["length-ratio"] += len(hyp)
        totals["length-ratio"] += sum(len(words(reference)) for reference in line)
        for kind, facts, known_facts in (
            ("numbers", _numbers(hypothesis), set(_numbers(source))),
            ("names", _names(hypothesis), set(src)),
        ):
            counts[kind] += sum(fact in known_facts for fact in facts)
            totals[kind] += len(facts)
    counts["copied"], totals["copied"] = totals["novel-1"] - counts["novel-1"], totals["novel-1"]
    return tuple(_measure(name, counts[name], totals[name], len(references)) for name in MEASURES)


def _measure(name: str, part: float, of: float, num_references: int) -> Measure:
    if name == "length-ratio":
        of, scale = of / num_references, 1
    else:
        scale = 100
    return Measure(name, scale * part / of if of else math.nan, part, of)


def _ngrams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]


def _numbers(text: str) -> list[str]:
    """Find numbers written in digits; 1,500 equals 1500, and digits of full and half width are equal."""
    return _NUMBER.findall(_THOUSANDS.sub("", unicodedata.normalize("NFKC", text)))


def _names(text: str) -> list[str]:
    """Find capitalised words inside sentences, lowercased because a headline may write them in another case."""
    inside = (_OPENING_WORD.sub(" ", unicodedata.normalize("NFC", sentence)) for sentence in sentences(text))
    return [word.lower() for part in inside for word in split_words(part) if len(word) > 1 and word[0].isupper()]
