"""Utilities of every pair, compared with sacreBLEU's scores of single sentences, and their means."""

from __future__ import annotations

import random

import pytest
from sacrebleu import sentence_bleu, sentence_chrf

from seq2seq.config import UTILITY_NAMES
from seq2seq.metrics.utility import UTILITIES, mean_utilities

TEXTS = ["a man sleeps .", "a man sleeps on the bed .", "", "the dog", "a man sleeps .", "A man is sleeping .", "dog"]
STRANGE = [
    " ",
    "\u3000a",
    "aaaaaaa",
    "aaa",
    "a\ta a  a",
    "1,000.5 & 'x'",
    "&quot;Hi&quot;",
    "ß𝔸é",
    "abcdef",
    "b",
    "...",
    "a.",
]


def score(name: str, text: str, other: str) -> float:
    if name == "chrf":
        return sentence_chrf(text, [other]).score
    return sentence_bleu(text, [other], use_effective_order=True).score


def test_the_names_are_those_of_the_setting():
    assert ("none", *UTILITIES) == UTILITY_NAMES


@pytest.mark.parametrize("name", UTILITIES)
def test_every_pair_has_the_score_of_sacrebleu(name: str) -> None:
    numbers = random.Random(1)
    made = [
        " ".join(numbers.choices(["a", "man", "men", "sleeps", ".", ","], k=numbers.randrange(12))) for _ in range(12)
    ]
    texts = [*TEXTS, *STRANGE, *made]
    table = UTILITIES[name](texts)
    for row, text in enumerate(texts):
        assert table[row].tolist() == pytest.approx([score(name, text, other) for other in texts], abs=1e-9), text


@pytest.mark.parametrize("name", UTILITIES)
def test_the_mean_over_all_others(name: str) -> None:
    expected = [
        sum(score(name, text, other) for place, other in enumerate(TEXTS) if place != row) / (len(TEXTS) - 1)
        for row, text in enumerate(TEXTS)
    ]
    assert mean_utilities(TEXTS, name) == pytest.approx(expected)
    assert mean_utilities(TEXTS[1:], name)[3] < expected[4], "equal samples support each other"
    assert mean_utilities(["a man"], name) == [0.0]
    assert mean_utilities([], name) == []
    assert mean_utilities(["a man", "a man"], name) == pytest.approx([100.0, 100.0])
