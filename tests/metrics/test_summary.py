"""Measures of summaries: copying, novelty, repetition, length and facts, counted by hand."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.metrics.summary import MEASURES, NGRAM_SIZES, Measure, measure

TEXT = st.text("abc .", max_size=30)


def measured(hypothesis: str, source: str = "", reference: str = "a") -> dict[str, Measure]:
    found = measure([hypothesis], [source], [[reference]])
    assert tuple(item.name for item in found) == MEASURES
    return {item.name: item for item in found}


def counts_of(found: Measure) -> tuple[float, float]:
    return found.part, found.of


def test_copied_and_novel_by_hand() -> None:
    found = measured("a dog ran in the park", "The dog ran. A cat sat in the park!")
    assert counts_of(found["copied"]) == (6, 6)
    assert counts_of(found["novel-1"]) == (0, 6)
    assert counts_of(found["novel-2"]) == (2, 5)  # a dog, ran in
    assert counts_of(found["novel-3"]) == (3, 4)
    assert counts_of(found["novel-4"]) == (3, 3)
    assert found["novel-2"].value == pytest.approx(40)


def test_repeated_by_hand() -> None:
    found = measured("the dog ran the dog ran the dog sat")
    assert counts_of(found["repeated-1"]) == (5, 9)
    assert counts_of(found["repeated-2"]) == (4, 8)  # the dog twice, dog ran and ran the once each
    assert counts_of(found["repeated-3"]) == (3, 7)
    assert counts_of(found["repeated-4"]) == (2, 6)


def test_repetition_is_counted_within_a_line() -> None:
    found = {item.name: item for item in measure(["a b", "a b"], ["a b", ""], [["a", "a"]])}
    assert counts_of(found["repeated-1"]) == (0, 4)
    assert counts_of(found["copied"]) == (2, 4)  # nor is anything copied from the source of another line


def test_length_ratio_by_hand() -> None:
    assert measured("a b c", reference="a b c d")["length-ratio"].value == 0.75
    found = measure(["a b c", "a"], ["", ""], [["a", "b"], ["a b c", "d e f"]])  # references of 2 and 6 words
    assert Measure("length-ratio", 1.0, 4, 4) in found


@pytest.mark.parametrize(
    ("hypothesis", "source", "expected"),
    [
        ("1,500 people paid 3.50 in 2020.", "In 2020 some 1500 people paid 3.55", (2, 3)),
        ("it is 12:30", "at 12 or 30", (2, 2)),
        ("3,5 is no 35", "35", (1, 2)),
        ("2 of 20", "20", (1, 2)),
        ("１２岁", "他12岁", (1, 1)),
        ("three", "3", (0, 0)),
    ],
)
def test_numbers_by_hand(hypothesis: str, source: str, expected: tuple[int, int]) -> None:
    assert counts_of(measured(hypothesis, source)["numbers"]) == expected


@pytest.mark.parametrize(
    ("hypothesis", "source", "expected"),
    [
        ("Yesterday Ann met Bob in New York.", "Bob and ANN met in York.", (3, 4)),
        ("He left. She met Ann.", "Ann", (1, 1)),  # She starts a sentence
        ("He said: The end. They wrote, “Go home”", "", (0, 0)),
        ("The film “Titanic” and the car: a Volvo", "titanic", (1, 2)),
        ("Here I am, Émile", "émile", (1, 1)),  # one letter is not a name
        ("nobody there", "", (0, 0)),
        ("Dr. Smith met Mr. Jones", "Smith, Jones and Dr. Who, Mr. Nobody", (3, 3)),
        ("他在Paris见了Ann。Bob来了", "Paris", (1, 2)),
    ],
)
def test_names_by_hand(hypothesis: str, source: str, expected: tuple[int, int]) -> None:
    assert counts_of(measured(hypothesis, source)["names"]) == expected


def test_chinese_counts_characters() -> None:
    found = measured("我去北京。", "他去北京", "去北京")
    assert counts_of(found["copied"]) == (3, 4)
    assert counts_of(found["novel-2"]) == (1, 3)
    assert counts_of(found["length-ratio"]) == (4, 3)


def test_a_measure_without_anything_to_count_is_nan() -> None:
    found = measured("", "a", "")
    assert all(math.isnan(item.value) and counts_of(item) == (0, 0) for item in found.values())


@given(TEXT, TEXT)
def test_measures_of_any_text_are_consistent(hypothesis: str, source: str) -> None:
    found = measured(hypothesis, source)
    assert found["copied"].part + found["novel-1"].part == found["copied"].of
    for n, longer in itertools.pairwise(NGRAM_SIZES):  # if a longer n-gram is copied or repeated, its parts are too
        known, known_longer = (found[f"novel-{m}"].of - found[f"novel-{m}"].part for m in (n, longer))
        assert known_longer <= known
        assert found[f"repeated-{longer}"].part <= found[f"repeated-{n}"].part


@given(TEXT)
def test_a_copy_has_nothing_novel(text: str) -> None:
    found = measured(text, text, text)
    assert all(found[f"novel-{n}"].part == 0 for n in NGRAM_SIZES)
    assert math.isnan(found["length-ratio"].value) or found["length-ratio"].value == 1
    assert found["names"].part == found["names"].of
