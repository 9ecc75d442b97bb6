"""Words of every script and the ends of sentences, for the metrics."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.tokenizers import DefaultTokenizer

from seq2seq.text.words import join_texts, script, sentences, split_words, words


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_words_are_those_of_rouge_score(text: str) -> None:
    assert words(text) == DefaultTokenizer().tokenize(text)


@given(st.text("aZ09 .,-_'’“”–—…€°\t\n"))
def test_words_between_typographic_punctuation_are_those_of_rouge_score(text: str) -> None:
    assert words(text) == DefaultTokenizer().tokenize(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop: it's 3.50!", ["don", "t", "stop", "it", "s", "3", "50"]),
        ("Ein Café in Köln, straße", ["ein", "café", "in", "köln", "straße"]),
        ("Привет, МИР", ["привет", "мир"]),
        ("Καλημέρα κόσμε", ["καλημέρα", "κόσμε"]),
        ("今天去北京。", ["今", "天", "去", "北", "京"]),
        ("GPT4模型有3个", ["gpt4", "模", "型", "有", "3", "个"]),
        ("ひらカナー・々〇", ["ひ", "ら", "カ", "ナ", "ー", "々", "〇"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("हिन्दी में", ["हिन्दी", "में"]),  # vowel signs stay in their word
        ("می\u200cخواهم بروم", ["می\u200cخواهم", "بروم"]),
        ("מה שלומך?", ["מה", "שלומך"]),
        ("กินข้าว", ["กิ", "น", "ข้", "า", "ว"]),
        ("ໄປ ខ្មែរ", ["ໄ", "ປ", "ខ្", "មែ", "រ"]),
        ("ab\u3000cd，ef", ["ab", "cd", "ef"]),
        (" …!? ", []),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_split_words_keeps_case() -> None:
    assert split_words("Ann saw the NATO in Paris") == ["Ann", "saw", "the", "NATO", "in", "Paris"]
    assert split_words("Émile 和 Ann") == ["Émile", "和", "Ann"]


@given(st.text())
def test_composed_and_decomposed_accents_are_the_same_word(text: str) -> None:
    assert words(unicodedata.normalize("NFD", text)) == words(unicodedata.normalize("NFC", text))


@pytest.mark.parametrize(
    "expected",
    [
        ["The cat sat.", "The dog ran!", "Who knows?", "Nobody…"],
        ["He paid 3.50 to Mr. Smith of the U.S. Army.", "Then he left."],
        ["He said etc. and so on.", "“Why?” asked Ann.", "Nobody knew."],
        ['She said "Go away."', "(He went.)", "3 days passed."],
        ["a dog runs .", "he is happy !", "it barks ."],
        ["他来了。", "他说：“走！”", "我走了？"],
        ["वह आया।", "वह गया।"],
        ["no full stop"],
        ["What?!", "Really..."],
        [],
    ],
)
def test_sentences(expected: list[str]) -> None:
    spaced = any(character.isascii() for sentence in expected for character in sentence)
    assert sentences((" " if spaced else "").join(expected)) == expected


def test_only_newlines_end_sentences_if_the_text_has_newlines() -> None:
    assert sentences("One. Two.\nThree\n\n") == ["One. Two.", "Three"]


@given(st.text("aB .!?。\"'()…"))
def test_sentences_hold_every_word_of_the_text(text: str) -> None:
    assert [word for sentence in sentences(text) for word in words(sentence)] == words(text)


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        (["a b.", "", "c"], "a b. c"),
        (["你好，", "世界"], "你好，世界"),
        (["你好。", "世界"], "你好。世界"),
        (["ฉันรัก", "คุณ"], "ฉันรักคุณ"),
        ([], ""),
    ],
)
def test_texts_are_joined_with_a_space_where_their_script_has_one(texts: list[str], joined: str) -> None:
    assert join_texts(texts) == joined


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], "spaced"),
        (["", "3.50!", "the cat"], "spaced"),
        (["Ein Café in Köln"], "spaced"),
        (["한국어 문장"], "spaced"),
        (["今天去北京。"], "han"),
        (["Python 的文档是用 `Sphinx` 编写的"], "han"),
        (["the sign 京 means a capital city"], "spaced"),
        (["今日は北京へ行きます。"], "unspaced"),
        (["กินข้าว"], "unspaced"),
    ],
)
def test_script(texts: list[str], expected: str) -> None:
    assert script(texts) == expected
