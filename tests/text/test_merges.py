"""Merges of neighbours: their order, and what is left out."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from seq2seq.text.merges import merge

RANKS = {"ab": 0, "bc": 1, "abc": 2, "cd": 3, "aa": 4, "aaaa": 5}


def nothing() -> bool:
    return False


def pieces(text: str, leaves_out: Callable[[], bool] = nothing) -> list[str]:
    starts = merge(text, RANKS, leaves_out)
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
        ("aaa", ["aa", "a"]),  # the leftmost of equals
        ("aaaaa", ["aaaa", "a"]),
    ],
)
def test_merges_come_in_the_order_of_their_ranks(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected


def test_without_merges_every_symbol_stays() -> None:
    assert pieces("abcd", lambda: True) == list("abcd")


def test_a_merge_left_out_makes_way_for_the_next() -> None:
    answers = iter([True, False])  # not ab, but bc; a and bc make abc, of rank 2, which is asked for then
    assert pieces("abc", lambda: next(answers, False)) == ["abc"]
    answers = iter([True, False, True])
    assert pieces("abc", lambda: next(answers)) == ["a", "bc"]


def test_a_merge_left_out_is_not_asked_for_again() -> None:
    asked = []
    assert pieces("abx", lambda: not asked.append(1)) == ["a", "b", "x"]
    assert len(asked) == 1
