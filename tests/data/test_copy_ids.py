"""The extended vocabulary: which ids source and target pieces get, with one vocabulary or two, and the way back."""

from __future__ import annotations

import pytest

from seq2seq.config import TOKENIZERS, TokenizerConfig
from seq2seq.data.copy_ids import Extended, extend, target_ids
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tokenizer import EOS, SPECIALS, UNK, Segments, Tokenizer
from seq2seq.text.word import WordTokenizer

TEXTS = ["the cat sat on the mat .", "a dog ran to the cat , and sat .", "a man and a dog sat on mats"]
WORDS = WordTokenizer([*SPECIALS, "the", "cat", "sat"])  # 4, 5, 6; a sentence's own from 7 on


def train(kind: str, texts: list[str], size: int = 330) -> Tokenizer:
    return train_tokenizer(texts, TokenizerConfig(type=kind, vocab_size=size))


def test_own_pieces_get_ids_in_the_order_of_the_source():
    found = extend(["the", "zebra", "sat", "zoo", "zebra", "the"], WORDS)
    assert found == Extended([4, 7, 6, 8, 7, 4], ["zebra", "zoo"])
    assert extend([], WORDS) == Extended([], [])
    assert extend(["cat"], WORDS) == Extended([5], [])


def test_the_strings_of_specials_are_own_pieces():
    assert extend(["<unk>", "</s>", "<pad>"], WORDS) == Extended([7, 8, 9], ["<unk>", "</s>", "<pad>"])


def test_a_target_takes_the_vocabulary_first_then_the_source_and_else_is_unknown():
    own = ["zebra", "zoo"]
    (target,) = WORDS.segment(["the zoo cat saw zebra zoo"])
    assert target.ids == [4, UNK, 5, UNK, UNK, UNK]
    assert target_ids(target, own, WORDS) == [4, 8, 5, UNK, 7, 8]
    assert target_ids(target, [], WORDS) == target.ids
    assert target_ids(Segments([], [], []), own, WORDS) == []


def test_a_target_never_has_an_own_piece_that_its_source_lacks():
    sources = ["the zebra sat", "a zoo", "cat"]
    for source in sources:
        copied = extend(WORDS.segment([source])[0].pieces, WORDS)
        for target in WORDS.segment([*sources, "zebra zoo a a"]):
            ids = target_ids(target, copied.own, WORDS)
            assert {number for number in ids if number >= WORDS.size} <= set(copied.ids)


def test_words_and_their_joiners_are_different_pieces():
    (source,) = WORDS.segment(["(zebra) zebra, (zoo)"])
    copied = extend(source.pieces, WORDS)
    assert copied.own == ["(￭", "zebra", "￭)", "￭,", "zoo"]
    assert copied.ids == [7, 8, 9, 8, 10, 7, 11, 9]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_source_copied_piece_by_piece_is_the_source(kind):
    tokenizer = train(kind, TEXTS, 350)
    for text in [*TEXTS, "the zebra ran (x) to 2 zoos , ☃☃ .", "Ωmega"]:
        (source,) = tokenizer.segment([text])
        copied = extend(source.pieces, tokenizer)
        assert tokenizer.decode(copied.ids, copied.own) == text
        assert not any(number <= EOS for number in copied.ids)
        assert target_ids(source, copied.own, tokenizer) == copied.ids
        assert [number for number in copied.ids if number < tokenizer.size] == [n for n in source.ids if n > EOS]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_between_two_vocabularies_pieces_meet_by_their_strings(kind):
    src = train(kind, TEXTS, 350)
    tgt = train(kind, ["der hund sah den mann", "eine katze , ein hund ."], 310)
    assert src.size != tgt.size
    text = "a man sat ,"
    (source,) = src.segment([text])
    copied = extend(source.pieces, tgt)
    assert tgt.decode(copied.ids, copied.own) == text
    for piece, number in zip(source.pieces, copied.ids, strict=True):
        if number < tgt.size:
            assert tgt.pieces([number]) == [piece]
            assert tgt.id(piece) == number
        else:
            assert copied.own[number - tgt.size] == piece
            assert tgt.id(piece) == UNK
    assert any(number < tgt.size for number in copied.ids)  # the comma, at least
    if kind == "word":
        assert copied == Extended([tgt.size, tgt.size + 1, tgt.size + 2, tgt.id(",")], ["a", "man", "sat"])
        (target,) = tgt.segment(["der mann sat , man"])
        assert target_ids(target, copied.own, tgt)[2:] == [tgt.size + 2, tgt.id(","), tgt.size + 1]
