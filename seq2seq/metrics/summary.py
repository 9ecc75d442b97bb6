"""What summaries are judged by beside ROUGE: copying, novelty, repetition, length, and whether facts are in the source.

See et al. 2017 (copied, novel and repeated n-grams), Paulus et al. 2018 (repeated trigrams). Counts are summed over all
lines before they are divided. Knows lines of text only.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import regex

from seq2seq.text.words import sentences, split_words, words

ORDERS = (1, 2, 3, 4)
NAMES = (
    "copied",
    *(f"novel-{n}" for n in ORDERS),
    *(f"repeated-{n}" for n in ORDERS),
    "length-ratio",
    "numbers",
    "names",
)

_NUMBER = regex.compile(r"\p{Nd}+(?:[.,]\p{Nd}+)*")
_THOUSANDS = regex.compile(r"(?<=\p{Nd}),(?=\p{Nd}{3}(?!\p{Nd}))")
# Where a capital says nothing: the first word of a sentence, of what follows a colon, of a quotation. A letter that has
# no capital (Lo: Chinese, say) opens nothing.
_OPENING_WORD = regex.compile(
    r"""(?: ^[^\p{L}\p{N}]* | [:：]\s* | [,:：，]\s*["'“„«‘「]\s* ) [\p{Lu}\p{Ll}\p{Lt}\p{N}\p{M}]+""", regex.VERBOSE
)


class Measure(NamedTuple):
    """One number about a corpus of summaries, and the two it is the quotient of."""

    name: str  # one of NAMES
    value: float  # per cent of ``of``, for length-ratio the plain quotient; nan where ``of`` is 0
    part: float
    of: float


def measure(
    hypotheses: Sequence[str], sources: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[Measure, ...]:
    """Measure summaries against what they summarize, case ignored, in the order of ``NAMES``.

    copied: words of the hypotheses that occur in their source (novel-1 is the rest). novel-n: n-grams that do not occur
    there. repeated-n: n-grams that stand earlier in the same hypothesis. length-ratio: words to words of the
    references, of several references their mean. numbers, names: those that stand in the source. A name is a
    capitalised word of two or more letters that does not open a sentence or quotation; in German so is every noun.
    """
    counts: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for hypothesis, source, *line in zip(hypotheses, sources, *references, strict=True):
        hyp, src = words(hypothesis), words(source)
        for n in ORDERS:
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
    return tuple(_quotient(name, counts[name], totals[name], len(references)) for name in NAMES)


def _quotient(name: str, part: float, of: float, num_references: int) -> Measure:
    if name == "length-ratio":
        of, scale = of / num_references, 1
    else:
        scale = 100
    return Measure(name, scale * part / of if of else math.nan, part, of)


def _ngrams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]


def _numbers(text: str) -> list[str]:
    """Numbers in digits; 1,500 and 1500 are the same one, and so are digits of full and half width."""
    return _NUMBER.findall(_THOUSANDS.sub("", unicodedata.normalize("NFKC", text)))


def _names(text: str) -> list[str]:
    """Capitalised words inside sentences, lowercased: a headline may write them otherwise."""
    inside = (_OPENING_WORD.sub(" ", unicodedata.normalize("NFC", sentence)) for sentence in sentences(text))
    return [word.lower() for part in inside for word in split_words(part) if len(word) > 1 and word[0].isupper()]
