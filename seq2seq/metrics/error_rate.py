"""Word and character error rate by jiwer: edits divided by the length of the reference.

Edits are substitutions, deletions and insertions (Levenshtein 1966). TER differs: it also moves blocks of words, and
each move counts as one edit. jiwer is imported only where it is used.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

LINES_AT_A_TIME = 1000  # jiwer holds the alignments of all lines of a call in memory


def count_errors(hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, unit: str) -> np.ndarray:
    """Count the edits of every line and the tokens of its reference: (lines, 2).

    With several references, a line is compared with the one that gives it the lowest error rate. All tokens of a
    hypothesis whose reference is empty are insertions.

    Args:
        unit: the tokens, ``words`` (separated by white space) or ``characters`` (spaces between words included).
    """
    # counts: (references, lines, 2)
    counts = np.array([list(_count_lines(hypotheses, stream, unit)) for stream in references])
    errors, length = counts[..., 0], counts[..., 1]
    rates = np.where(length > 0, errors / np.maximum(length, 1), np.where(errors > 0, np.inf, 0))
    best: np.ndarray = counts[rates.argmin(axis=0), np.arange(len(hypotheses))]
    return best


def _count_lines(hypotheses: Sequence[str], references: Sequence[str], unit: str) -> Iterator[tuple[int, int]]:
    import jiwer

    process: Callable[..., Any] = jiwer.process_words if unit == "words" else jiwer.process_characters
    for start in range(0, len(hypotheses), LINES_AT_A_TIME):
        part = slice(start, start + LINES_AT_A_TIME)
        found = process(*([" ".join(line.split()) for line in stream[part]] for stream in (references, hypotheses)))
        for tokens, chunks in zip(found.references, found.alignments, strict=True):
            edits = (
                max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
                for chunk in chunks
                if chunk.type != "equal"
            )
            yield sum(edits), len(tokens)


def settings(unit: str) -> str:
    """Return the end of the signature: the tokens and the version of jiwer."""
    tokens = {"words": "whitespace", "characters": "char"}[unit]
    return f"tok:{tokens}|version:jiwer-{importlib.metadata.version('jiwer')}"
