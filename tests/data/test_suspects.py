"""Suspicious pairs: equal sides, ratios of lengths, scripts."""

from __future__ import annotations

import pytest

from seq2seq.data.sources import Pair
from seq2seq.data.suspects import SHOWN, Suspects, find_suspects, main_script


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("", ""),
        ("12 + 3!", ""),
        ("a dog", "LATIN"),
        ("ça été", "LATIN"),
        ("собака (dog)", "CYRILLIC"),
        ("犬がいる", "CJK"),
        ("カタカナー", "CJK"),
        ("كلب", "ARABIC"),
    ],
)
def test_main_script(text: str, script: str) -> None:
    assert main_script(text) == script


def test_pairs_without_a_suspect_are_read_once() -> None:
    calls: list[None] = []

    def read() -> list[Pair]:
        calls.append(None)
        return [Pair("the dog", "der Hund")] * 3

    assert [found.count for found in find_suspects(read)] == [0, 0, 0, 0]
    assert len(calls) == 1


def test_suspects() -> None:
    pairs = [Pair(f"the dog number {number}", f"der Hund Nummer {number}") for number in range(300)]
    pairs[3] = Pair(" the same text ", "the same text")
    pairs[7] = Pair("a short source", "Wort " * 40)
    pairs[9] = Pair("a long source " * 20, "kurzer Text")
    pairs[11] = Pair("no", "x" * 100)  # too short to judge
    pairs[13] = Pair("the dog number 13", "собака номер 13")
    pairs[15] = Pair("", "")
    equal, ratio, source, target = find_suspects(lambda: pairs)
    assert equal == Suspects("both sides equal", 1, [(4, *pairs[3])])
    assert ratio == Suspects("unusual ratio of lengths", 2, [(8, *pairs[7]), (10, *pairs[9])])
    assert source == Suspects("unexpected script of the source", 0, [])
    assert target == Suspects("unexpected script of the target", 1, [(14, *pairs[13])])


def test_only_the_first_ones_are_shown_and_two_scripts_are_expected() -> None:
    pairs = [Pair(f"text {number}", f"text {number}") for number in range(50)]
    pairs += [Pair(f"text {number}", f"текст {number}") for number in range(50)]
    equal, *others = find_suspects(lambda: pairs)
    assert (equal.count, [number for number, _, _ in equal.shown]) == (50, list(range(1, SHOWN + 1)))
    assert [suspects.count for suspects in others] == [0, 0, 0]
    assert [suspects.count for suspects in find_suspects(list)] == [0, 0, 0, 0]
