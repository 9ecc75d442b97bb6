"""Splitting into words: what a token is, where it stands, and that joining brings the text back."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.text.wordsplit import JOINER, Word, find_words, join, split

anything = st.text(max_size=40)
awkward = st.text(alphabet="ab1_é\u0301\u093e .,'\"-(￭\\uFED⁇\u200d\u3000\u2028中☃<s>/", max_size=30)


def squeeze(text: str) -> str:
    return " ".join(text.split())


@settings(max_examples=300, deadline=None)
@given(text=anything | awkward)
def test_split_and_join_are_inverse(text: str) -> None:
    tokens = split(text)
    assert join(tokens) == squeeze(text)
    assert not any(token.strip(JOINER) in ("", *("<pad>", "<unk>", "<s>", "</s>")) for token in tokens)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Hello, world.", "Hello ￭, world ￭."),
        ("3.50 (or so).", "3 ￭.￭ 50 (￭ or so ￭) ￭."),
        ("don't at 12:30", "don ￭'￭ t at 12 ￭:￭ 30"),
        ('"Où ?" snake_case', '"￭ Où ? ￭" snake_case'),
        ("e\u0301te\u0301 हिन्दी", "e\u0301te\u0301 हिन्दी"),
        ("a￭b", "a ￭\\uFFED￭ b"),
        ("你好，世界。", "你好 ￭，￭ 世界 ￭。"),
    ],
)
def test_split(text: str, tokens: str) -> None:
    assert split(text) == tokens.split(" ")
    assert join(split(text)) == text


def test_a_word_looks_the_same_wherever_it_stands() -> None:
    words = [split(text.format("cat")) for text in ("{}", "({})", "a {}.", "'{}'-x", "x,{},y")]
    assert all("cat" in tokens for tokens in words)


def test_every_mark_is_part_of_a_word() -> None:
    marks = [char for char in map(chr, range(0x110000)) if unicodedata.category(char)[0] == "M"]
    assert all(split(f"a{mark}b") == [f"a{mark}b"] for mark in marks)


def test_words_know_where_they_stand() -> None:
    assert find_words(" 3.50 (or\u3000so).") == [
        Word("3", 1, 2),
        Word("￭.￭", 2, 3),
        Word("50", 3, 5),
        Word("(￭", 6, 7),
        Word("or", 7, 9),
        Word("so", 10, 12),
        Word("￭)", 12, 13),
        Word("￭.", 13, 14),
    ]
    assert find_words(" \t ") == find_words("") == []


@settings(max_examples=200, deadline=None)
@given(text=anything | awkward)
def test_places_hold_the_tokens_and_leave_only_white_space_out(text: str) -> None:
    words = find_words(text)
    assert [word.token for word in words] == split(text)
    for word in words:
        shown = text[word.start : word.end]
        assert shown == JOINER or shown == word.token.strip(JOINER)
    assert "".join(text[word.start : word.end] for word in words) == "".join(text.split())
