"""Analyses of translations for the report: scores of groups of lines, repeated content, and missing content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from seq2seq.metrics import scores, summary
from seq2seq.text.words import words

LENGTH_BOUNDS = (5, 10, 20, 40, 80, 160)  # words of the source; each is the largest number of its group
UNKNOWN_BOUNDS = (0, 1, 2)  # words of the source that do not occur in the training sources
REPEATED_NGRAM = 3  # words, the customary size for repetition (Paulus et al. 2018)
SHOWN_LINES = 5


class LineGroup(NamedTuple):
    """Lines whose sources have similar numbers of something."""

    label: str
    rows: list[int]


class GroupScores(NamedTuple):
    """BLEU and chrF of each system on a group of lines."""

    label: str
    num_lines: int
    scores: list[tuple[float, float]]  # (systems,) of BLEU and chrF


class LineLoss(NamedTuple):
    """A line with much repeated or missing content."""

    row: int  # of the scored lines, from 0
    number: int  # repeated n-grams, or missing words


class Content(NamedTuple):
    """Repeated and missing content of one system, in per cent; NaN where there is nothing to count."""

    repeated: float  # n-grams of the translations that occur earlier in the same translation
    repeated_in_references: float  # the same for the references
    missing: float  # words of the references that the translation lacks
    length_ratio: float  # words of the translations per word of the references
    most_repeated: list[LineLoss]
    most_missing: list[LineLoss]


def group_lines(counts: Sequence[int], bounds: Sequence[int]) -> list[LineGroup]:
    """Group lines by a number of each line; groups without lines are left out.

    >>> [group.label for group in group_lines([1, 5, 6, 70], (5, 10, 20))]
    ['0 to 5', '6 to 10', 'more than 20']
    """
    lows = [0, *(bound + 1 for bound in bounds)]
    labels = [str(low) if low == high else f"{low} to {high}" for low, high in zip(lows, bounds, strict=False)]
    groups = [LineGroup(label, []) for label in [*labels, f"more than {bounds[-1]}"]]
    for row, count in enumerate(counts):
        groups[sum(count > bound for bound in bounds)].rows.append(row)
    return [group for group in groups if group.rows]


def score_groups(
    groups: Sequence[LineGroup], systems: Sequence[Sequence[str]], references: Sequence[str]
) -> list[GroupScores]:
    """Score every system on every group of lines, with the BLEU tokenizer that all references together get."""
    tokenize = scores.find_tokenizer([references])
    found = []
    for label, rows in groups:
        expected = [references[row] for row in rows]
        values = []
        for hypotheses in systems:
            bleu, chrf = scores.score(
                [hypotheses[row] for row in rows], [expected], metrics=("bleu", "chrf"), tokenize=tokenize
            )
            values.append((bleu.score, chrf.score))
        found.append(GroupScores(label, len(rows), values))
    return found


def count_unknown_words(sources: Sequence[str], training_sources: Iterable[str]) -> list[int]:
    """Count the words of each source that occur in no training source, ignoring case."""
    wanted = {word for source in sources for word in words(source)}
    for source in training_sources:
        wanted.difference_update(words(source))
        if not wanted:
            break
    return [sum(word in wanted for word in words(source)) for source in sources]


def compare_content(hypotheses: Sequence[str], references: Sequence[str]) -> Content:
    """Find repeated and missing content of translations, ignoring case."""
    name = f"repeated-{REPEATED_NGRAM}"
    repeated, missing = [], []
    for row, (hypothesis, reference) in enumerate(zip(hypotheses, references, strict=True)):
        expected = Counter(words(reference))
        repeated.append(LineLoss(row, _count_repeated(hypothesis)))
        missing.append(LineLoss(row, (expected - Counter(words(hypothesis))).total()))
    # measure reads the sources for other measures than these; the references stand in for them
    of_hypotheses = {item.name: item.value for item in summary.measure(hypotheses, references, [references])}
    of_references = {item.name: item.value for item in summary.measure(references, references, [references])}
    num_words = sum(len(words(reference)) for reference in references)
    return Content(
        repeated=of_hypotheses[name],
        repeated_in_references=of_references[name],
        missing=100 * sum(line.number for line in missing) / num_words if num_words else float("nan"),
        length_ratio=of_hypotheses["length-ratio"],
        most_repeated=_worst(repeated),
        most_missing=_worst(missing),
    )


def _count_repeated(text: str) -> int:
    """Count the n-grams of a text that occur earlier in it."""
    found = words(text)
    ngrams = list(zip(*(found[start:] for start in range(REPEATED_NGRAM)), strict=False))
    return len(ngrams) - len(set(ngrams))


def _worst(lines: Sequence[LineLoss]) -> list[LineLoss]:
    """Return the lines with the largest counts, the first line first among equal ones."""
    return [line for line in sorted(lines, key=lambda line: -line.number)[:SHOWN_LINES] if line.number]
