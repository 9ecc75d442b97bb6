"""Byte-pair merges: their order, and the effect of skipping some."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from seq2seq.text.merges import merge

RANKS = {"ab": 0, "bc": 1, "abc": 2, "cd": 3, "aa": 4, "aaaa": 5}


def skip_nothing() -> bool:
    return False


def pieces(text: str, skips: Callable[[], bool] = skip_nothing) -> list[str]:
    starts = merge(text, RANKS, skips)
    return [text[start:end] for start, end in itertools.pairwise([*starts, len(text)])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("x", ["x"]),
        ("xyz", ["x", "y", "z"]),
        ("abcd", ["abc", "d"]),  # ab before bc and cd, then abc
        ("bcd", ["bc", "d"]),
        ("cdab", ["cd", "ab"]),
        ("aaa", ["aa", "a"]),  # equal ranks: from left to right
        ("aaaaa", ["aaaa", "a"]),
    ],
)
def test_merges_are_made_in_the_order_of_their_ranks(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected


def test_every_symbol_is_a_piece_if_all_merges_are_skipped() -> None:
    assert pieces("abcd", lambda: True) == list("abcd")


def test_the_next_merge_is_made_if_one_is_skipped() -> None:
    answers = iter([True, False])  # skips ab, merges bc; then a + bc = abc of rank 2 is a candidate
    assert pieces("abc", lambda: next(answers, False)) == ["abc"]
    answers = iter([True, False, True])
    assert pieces("abc", lambda: next(answers)) == ["a", "bc"]


def test_a_skipped_merge_is_not_tried_again() -> None:
    calls = []
    assert pieces("abx", lambda: not calls.append(1)) == ["a", "b", "x"]
    assert len(calls) == 1
