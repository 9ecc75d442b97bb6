"""Mean utilities, compared with the scores of every pair."""

from __future__ import annotations

import pytest
from sacrebleu import sentence_bleu, sentence_chrf

from seq2seq.config import UTILITY_NAMES
from seq2seq.metrics.utility import UTILITIES, mean_utilities

TEXTS = ["a man sleeps .", "a man sleeps on the bed .", "", "the dog", "a man sleeps .", "A man is sleeping .", "dog"]


def test_the_names_are_those_of_the_setting():
    assert ("none", *UTILITIES) == UTILITY_NAMES


@pytest.mark.parametrize("name", UTILITIES)
def test_the_mean_over_all_others(name):
    def score(text: str, other: str) -> float:
        if name == "chrf":
            return sentence_chrf(text, [other]).score
        return sentence_bleu(text, [other], use_effective_order=True).score

    expected = [
        sum(score(text, other) for place, other in enumerate(TEXTS) if place != row) / (len(TEXTS) - 1)
        for row, text in enumerate(TEXTS)
    ]
    assert mean_utilities(TEXTS, name) == pytest.approx(expected)
    assert mean_utilities(TEXTS[1:], name)[3] < expected[4], "equal samples support each other"
    assert mean_utilities(["a man"], name) == [0.0]
    assert mean_utilities([], name) == []
    assert mean_utilities(["a man", "a man"], name) == pytest.approx([100.0, 100.0])
