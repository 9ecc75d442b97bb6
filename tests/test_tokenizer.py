"""Tokenizers: round trips, special ids, what text cannot do to them, and what they refuse."""

from __future__ import annotations

import io
import itertools
import logging
import unicodedata
from collections.abc import Iterator

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.config import TOKENIZERS, TokenizerConfig
from seq2seq.tokenizer import (
    BOS,
    EOS,
    PAD,
    UNK,
    Tokenizer,
    WordTokenizer,
    load_tokenizer,
    train_tokenizer,
)
from seq2seq.wordsplit import JOINER, join, split

TEXTS = [
    "The cat sat on the mat, and the dog sat by the door.",
    "A dog ran away from the cat; the cat (it was 12:30) ran too!",
    "C'est l'été: 3.50 euros, n'est-ce pas ?",
    "Die Katze sitzt auf der Matte, der Hund läuft weg.",
    "",
]
NORMALIZATIONS = ("identity", "nfkc", "nmt_nfkc")
KINDS = pytest.mark.parametrize("kind", TOKENIZERS)
anything = st.text(max_size=40)
awkward = st.text(alphabet="ab1_é\u0301\u093e .,'\"-(￭\\uFED⁇\u200d\u3000\u2028中☃<s>/", max_size=30)


def train(kind: str, texts: list[str] = TEXTS, size: int = 400, normalization: str = "identity") -> Tokenizer:
    return train_tokenizer(texts, TokenizerConfig(type=kind, vocab_size=size, normalization=normalization))


def squeeze(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def trained() -> dict[str, Tokenizer]:
    return {kind: train(kind) for kind in TOKENIZERS}


@KINDS
def test_special_ids(kind: str, trained: dict[str, Tokenizer]) -> None:
    assert (PAD, UNK, BOS, EOS) == (0, 1, 2, 3)
    assert trained[kind].pieces([PAD, UNK, BOS, EOS]) == ["<pad>", "<unk>", "<s>", "</s>"]


@KINDS
def test_decode_skips_all_specials_but_unk(kind: str, trained: dict[str, Tokenizer]) -> None:
    tokenizer = trained[kind]
    ids = tokenizer.encode("the cat")
    assert tokenizer.decode([BOS, PAD, *ids, EOS, PAD]) == "the cat"
    assert tokenizer.decode([UNK]) == "⁇"
    assert tokenizer.decode([]) == ""


@KINDS
@pytest.mark.parametrize("text", ["", " ", "\t \r", "\u3000", "\u2028\u00a0"])
def test_blank_text_has_no_ids(kind: str, text: str, trained: dict[str, Tokenizer]) -> None:
    assert trained[kind].encode(text) == []


@KINDS
@pytest.mark.parametrize("text", ["<s>", "</s> <pad>", "<unk> the <s> cat </s>", "<0x41>"])
def test_text_that_looks_like_a_special_is_text(kind: str, text: str) -> None:
    tokenizer = train(kind, [*TEXTS, "<s> </s> <pad> <unk> <0x41>", "the <s> cat", "< p a d > u n k / 0 x 4 1"])
    ids = tokenizer.encode(text)
    assert not {PAD, UNK, BOS, EOS} & set(ids)
    assert tokenizer.decode(ids) == text


@KINDS
@pytest.mark.parametrize(
    "text", ["▁", "a▁▁b ▁", "\x00", "\ufeff", "\U0001f469\u200d\U0001f4bb", "\ud800x", "x" * 70000]
)
def test_odd_text_does_not_crash(kind: str, text: str, trained: dict[str, Tokenizer]) -> None:
    assert isinstance(trained[kind].decode(trained[kind].encode(text)), str)
    assert train(kind, [*TEXTS, text]).size > 4


@KINDS
def test_encode_batch_equals_encode(kind: str, trained: dict[str, Tokenizer]) -> None:
    tokenizer = trained[kind]
    assert tokenizer.encode_batch(TEXTS) == [tokenizer.encode(text) for text in TEXTS]
    assert tokenizer.encode_batch([]) == []


@KINDS
def test_training_text_comes_back(kind: str, trained: dict[str, Tokenizer]) -> None:
    for text in TEXTS:
        ids = trained[kind].encode(text)
        assert UNK not in ids
        assert trained[kind].decode(ids) == text
        assert len(trained[kind].pieces(ids)) == len(ids)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@settings(max_examples=150, deadline=None)
@given(text=anything | awkward)
def test_byte_fallback_brings_any_text_back(kind: str, text: str, trained: dict[str, Tokenizer]) -> None:
    ids = trained[kind].encode(text)
    assert UNK not in ids
    assert squeeze(trained[kind].decode(ids)) == squeeze(text.replace("▁", " "))


@settings(max_examples=300, deadline=None)
@given(text=anything | awkward)
def test_split_and_join_are_inverse(text: str) -> None:
    tokens = split(text)
    assert join(tokens) == squeeze(text)
    assert not any(token.strip(JOINER) in ("", *("<pad>", "<unk>", "<s>", "</s>")) for token in tokens)


@settings(max_examples=100, deadline=None)
@given(text=anything | awkward)
def test_words_of_the_vocabulary_come_back(text: str) -> None:
    tokenizer = train("word", [text, "x"], size=1000)
    ids = tokenizer.encode(text)
    assert UNK not in ids
    assert tokenizer.decode(ids) == squeeze(text)


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


def test_word_vocabulary_holds_the_most_frequent_and_ties_go_by_code_point() -> None:
    tokenizer = train("word", ["b b c a d", "d a"], size=7)
    assert isinstance(tokenizer, WordTokenizer)
    assert tokenizer.pieces(range(4, 7)) == ["a", "b", "d"]
    assert tokenizer.encode("a c Z b") == [4, UNK, UNK, 5]
    assert tokenizer.decode(tokenizer.encode("a c, b")) == "a ⁇ ⁇ b"
    assert [tokenizer.id(token) for token in split("d c")] == [6, UNK]


@KINDS
def test_bytes_and_identity(kind: str, trained: dict[str, Tokenizer]) -> None:
    tokenizer = trained[kind]
    loaded = load_tokenizer(kind, tokenizer.to_bytes())
    assert loaded.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS)
    assert loaded.identity == tokenizer.identity == train(kind).identity
    assert loaded.to_bytes() == train(kind).to_bytes()
    others = [train(kind, normalization=rule) for rule in NORMALIZATIONS[1:]] + [train(kind, TEXTS[:3])]
    assert len({tokenizer.identity, *(other.identity for other in others)}) == 4


def test_identity_differs_between_kinds(trained: dict[str, Tokenizer]) -> None:
    assert len({tokenizer.identity for tokenizer in trained.values()}) == len(TOKENIZERS)


@KINDS
def test_normalization_acts(kind: str) -> None:
    text, texts = "Ａ\u200bB", ["Ａ\u200bB A B", *TEXTS]
    decoded = {rule: train(kind, texts, normalization=rule) for rule in NORMALIZATIONS}
    assert {rule: one.decode(one.encode(text)) for rule, one in decoded.items()} == {
        "identity": "Ａ\u200bB",
        "nfkc": "A\u200bB",
        "nmt_nfkc": "A B",
    }


@KINDS
def test_small_text_gives_a_smaller_vocabulary_and_one_warning(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tokenizer = train(kind, size=8000)
    assert 4 < tokenizer.size < 8000
    message = f"the text gives a vocabulary of {tokenizer.size}, fewer than tokenizer.vocab_size=8000"
    assert [record.message for record in caplog.records] == [message]


@KINDS
def test_vocabulary_is_at_most_so_large(kind: str) -> None:
    texts = [" ".join(word) for word in itertools.permutations(["red", "green", "blue", "black", "grey", "pink"], 4)]
    size = {"char": 10, "word": 8}.get(kind, 280)
    assert train(kind, texts, size=size).size == size


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_vocabulary_too_small_for_the_bytes(kind: str) -> None:
    message = rf"tokenizer\.vocab_size must be at least 306 for tokenizer\.type={kind} on this text .*, but is 100"
    with pytest.raises(ValueError, match=message):
        train(kind, size=100)


@KINDS
@pytest.mark.parametrize("texts", [[], ["", " \u3000"]])
def test_no_text(kind: str, texts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"no text to train a tokenizer on: every line of data\.train is empty"):
        train(kind, texts)


@KINDS
def test_what_reading_the_text_raises_comes_through(kind: str) -> None:
    def texts() -> Iterator[str]:
        yield "one line"
        raise UserWarning("the second line is bad")

    with pytest.raises(UserWarning, match=r"^the second line is bad$"):
        train_tokenizer(texts(), TokenizerConfig(type=kind))


def test_unknown_kind() -> None:
    message = "tokenizer.type must be one of unigram, bpe, word, char, but is morse"
    with pytest.raises(ValueError, match=message):
        load_tokenizer("morse", b"")
    with pytest.raises(ValueError, match=message):
        train("morse")


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
@pytest.mark.parametrize("data", [b"", b"nonsense"])
def test_bytes_that_are_no_sentencepiece_model(kind: str, data: bytes) -> None:
    with pytest.raises(ValueError, match=f"these {len(data)} bytes are no SentencePiece model"):
        load_tokenizer(kind, data)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"tokens": 5, "normalization": ""}', b"\xff"])
def test_bytes_that_are_no_word_tokenizer(data: bytes) -> None:
    with pytest.raises(ValueError, match=f"these {len(data)} bytes are no word tokenizer"):
        load_tokenizer("word", data)


def test_word_vocabulary_must_start_with_the_specials() -> None:
    with pytest.raises(ValueError, match="must start with <pad> <unk> <s> </s>"):
        WordTokenizer(["a", "b"])


def test_sentencepiece_model_with_other_special_ids() -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=model, model_type="char", vocab_size=30, minloglevel=2
    )
    with pytest.raises(ValueError, match=r"must be ids 0, 1, 2, 3, but are \(-1, 0, 1, 2\)"):
        load_tokenizer("char", model.getvalue())


def test_training_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    for kind in TOKENIZERS:
        train(kind)
    assert capfd.readouterr() == ("", "")
