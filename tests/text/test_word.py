"""The reversible split into words: the tokens, their positions, and joining, which restores the text."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.text.word import JOINER, Token, find_tokens, join_tokens, split_tokens

anything = st.text(max_size=40)
awkward = st.text(alphabet="ab1_é\u0301\u093e .,'\"-(￭\\uFED⁇\u200d\u3000\u2028中☃<s>/", max_size=30)


def squeeze(text: str) -> str:
    return " ".join(text.split())


@settings(max_examples=300, deadline=None)
@given(text=anything | awkward)
def test_split_and_join_are_inverse(text: str) -> None:
    tokens = split_tokens(text)
    assert join_tokens(tokens) == squeeze(text)
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
    assert split_tokens(text) == tokens.split(" ")
    assert join_tokens(split_tokens(text)) == text


def test_a_word_is_the_same_token_in_every_context() -> None:
    words = [split_tokens(text.format("cat")) for text in ("{}", "({})", "a {}.", "'{}'-x", "x,{},y")]
    assert all("cat" in tokens for tokens in words)


def test_every_mark_is_part_of_a_word() -> None:
    marks = [char for char in map(chr, range(0x110000)) if unicodedata.category(char)[0] == "M"]
    assert all(split_tokens(f"a{mark}b") == [f"a{mark}b"] for mark in marks)


def test_tokens_have_their_positions_in_the_text() -> None:
    assert find_tokens(" 3.50 (or\u3000so).") == [
        Token("3", 1, 2),
        Token("￭.￭", 2, 3),
        Token("50", 3, 5),
        Token("(￭", 6, 7),
        Token("or", 7, 9),
        Token("so", 10, 12),
        Token("￭)", 12, 13),
        Token("￭.", 13, 14),
    ]
    assert find_tokens(" \t ") == find_tokens("") == []


@settings(max_examples=200, deadline=None)
@given(text=anything | awkward)
def test_positions_cover_everything_except_white_space(text: str) -> None:
    found = find_tokens(text)
    assert [token.text for token in found] == split_tokens(text)
    for token in found:
        shown = text[token.start : token.end]
        assert shown == JOINER or shown == token.text.strip(JOINER)
    assert "".join(text[token.start : token.end] for token in found) == "".join(text.split())
