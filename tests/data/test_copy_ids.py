"""The extended vocabulary: ids of source and target pieces, with one vocabulary or two, and decoding them."""

from __future__ import annotations

import pytest

from seq2seq.config import TOKENIZER_NAMES, TokenizerConfig
from seq2seq.data.copy_ids import SourceCopies, extended_target_ids, source_copies
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tokenizer import EOS, SPECIALS, UNK, Segments, Tokenizer
from seq2seq.text.word import WordTokenizer

TEXTS = ["the cat sat on the mat .", "a dog ran to the cat , and sat .", "a man and a dog sat on mats"]
WORDS = WordTokenizer([*SPECIALS, "the", "cat", "sat"])  # 4, 5, 6; out-of-vocabulary pieces from 7 on


def train(kind: str, texts: list[str], size: int = 330) -> Tokenizer:
    return train_tokenizer(texts, TokenizerConfig(type=kind, vocab_size=size))


def test_oov_pieces_get_ids_in_source_order():
    found = source_copies(["the", "zebra", "sat", "zoo", "zebra", "the"], WORDS)
    assert found == SourceCopies([4, 7, 6, 8, 7, 4], ["zebra", "zoo"])
    assert source_copies([], WORDS) == SourceCopies([], [])
    assert source_copies(["cat"], WORDS) == SourceCopies([5], [])


def test_the_strings_of_specials_are_oov_pieces():
    assert source_copies(["<unk>", "</s>", "<pad>"], WORDS) == SourceCopies([7, 8, 9], ["<unk>", "</s>", "<pad>"])


def test_a_target_piece_is_looked_up_in_the_vocabulary_then_in_the_source_and_is_otherwise_unknown():
    oov = ["zebra", "zoo"]
    (target,) = WORDS.segment(["the zoo cat saw zebra zoo"])
    assert target.ids == [4, UNK, 5, UNK, UNK, UNK]
    assert extended_target_ids(target, oov, WORDS) == [4, 8, 5, UNK, 7, 8]
    assert extended_target_ids(target, [], WORDS) == target.ids
    assert extended_target_ids(Segments([], [], []), oov, WORDS) == []


def test_a_target_has_no_oov_id_that_its_source_lacks():
    sources = ["the zebra sat", "a zoo", "cat"]
    for source in sources:
        copied = source_copies(WORDS.segment([source])[0].pieces, WORDS)
        for target in WORDS.segment([*sources, "zebra zoo a a"]):
            ids = extended_target_ids(target, copied.oov, WORDS)
            assert {number for number in ids if number >= WORDS.size} <= set(copied.copy_ids)


def test_words_and_their_joiners_are_different_pieces():
    (source,) = WORDS.segment(["(zebra) zebra, (zoo)"])
    copied = source_copies(source.pieces, WORDS)
    assert copied.oov == ["(￭", "zebra", "￭)", "￭,", "zoo"]
    assert copied.copy_ids == [7, 8, 9, 8, 10, 7, 11, 9]


@pytest.mark.parametrize("kind", TOKENIZER_NAMES)
def test_decoding_all_copy_ids_of_a_source_gives_the_source(kind):
    tokenizer = train(kind, TEXTS, 350)
    for text in [*TEXTS, "the zebra ran (x) to 2 zoos , ☃☃ .", "Ωmega"]:
        (source,) = tokenizer.segment([text])
        copied = source_copies(source.pieces, tokenizer)
        assert tokenizer.decode(copied.copy_ids, copied.oov) == text
        assert not any(number <= EOS for number in copied.copy_ids)
        assert extended_target_ids(source, copied.oov, tokenizer) == copied.copy_ids
        assert [number for number in copied.copy_ids if number < tokenizer.size] == [n for n in source.ids if n > EOS]


@pytest.mark.parametrize("kind", TOKENIZER_NAMES)
def test_pieces_of_two_vocabularies_are_matched_by_their_strings(kind):
    src = train(kind, TEXTS, 350)
    tgt = train(kind, ["der hund sah den mann", "eine katze , ein hund ."], 310)
    assert src.size != tgt.size
    text = "a man sat ,"
    (source,) = src.segment([text])
    copied = source_copies(source.pieces, tgt)
    assert tgt.decode(copied.copy_ids, copied.oov) == text
    for piece, number in zip(source.pieces, copied.copy_ids, strict=True):
        if number < tgt.size:
            assert tgt.pieces([number]) == [piece]
            assert tgt.id(piece) == number
        else:
            assert copied.oov[number - tgt.size] == piece
            assert tgt.id(piece) == UNK
    assert any(number < tgt.size for number in copied.copy_ids)  # the comma, at least
    if kind == "word":
        assert copied == SourceCopies([tgt.size, tgt.size + 1, tgt.size + 2, tgt.id(",")], ["a", "man", "sat"])
        (target,) = tgt.segment(["der mann sat , man"])
        assert extended_target_ids(target, copied.oov, tgt)[2:] == [tgt.size + 2, tgt.id(","), tgt.size + 1]
