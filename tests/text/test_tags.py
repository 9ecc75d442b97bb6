"""Tags before a source: one id after the vocabulary, in every kind of tokenizer."""

from __future__ import annotations

import re

import pytest

from seq2seq.config import TokenizerConfig
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tags import TaggedTokenizer, add_tag, check_tag, split_tag, without_tag
from seq2seq.text.tokenizer import BOS, EOS, UNK, Sampling, Tokenizer

TEXTS = ["a man sleeps", "two dogs run, fast", "a man and a dog"] * 20


@pytest.fixture(scope="module", params=["word", "bpe", "unigram", "char"])
def plain(request: pytest.FixtureRequest) -> Tokenizer:
    return train_tokenizer(TEXTS, TokenizerConfig(type=request.param, vocab_size=300))


def test_a_tag_is_one_id_after_the_vocabulary(plain: Tokenizer) -> None:
    tokenizer = TaggedTokenizer(plain, ["de", "fr"])
    assert tokenizer.size == plain.size + 2
    for number, tag in enumerate(["de", "fr"]):
        text = add_tag(tag, "a man runs")
        (tagged,), (alone,) = tokenizer.segment([text]), plain.segment(["a man runs"])
        assert tagged.ids == [plain.size + number, *alone.ids] == tokenizer.encode(text)
        assert tagged.pieces == [f"<2{tag}>", *alone.pieces]
        assert [text[start:end] for start, end in tagged.spans][1:] == [
            "a man runs"[start:end] for start, end in alone.spans
        ]
        assert tagged.spans[0] == (0, 5)
        assert tokenizer.id(f"<2{tag}>") == plain.size + number
        assert tokenizer.pieces(tagged.ids) == [f"<2{tag}>", *plain.pieces(alone.ids)]
        assert tokenizer.decode([BOS, *tagged.ids, EOS]) == plain.decode(alone.ids)


@pytest.mark.parametrize("text", ["a <2de> man", "<2de>", "<2de>man", " <2de> man", "<2it> man", "", "a man"])
def test_other_texts_are_unchanged(text: str, plain: Tokenizer) -> None:
    tokenizer = TaggedTokenizer(plain, ["de"])
    assert tokenizer.segment([text]) == plain.segment([text])
    assert tokenizer.encode(text) == plain.encode(text)
    assert tokenizer.id("man") == plain.id("man")
    assert tokenizer.id("<2it>") == UNK


def test_blank_texts_have_no_tag(plain: Tokenizer) -> None:
    tokenizer = TaggedTokenizer(plain, ["de"])
    assert add_tag("de", " ") == " "
    assert add_tag("", "x") == "x"
    assert tokenizer.encode("<2de>  ") == tokenizer.segment(["<2de>  "])[0].ids == []


def test_out_of_vocabulary_ids_follow_the_tags(plain: Tokenizer) -> None:
    tokenizer = TaggedTokenizer(plain, ["de", "fr"])
    assert tokenizer.pieces([tokenizer.size, tokenizer.size + 1], ["new", "word"]) == ["new", "word"]
    assert tokenizer.decode([tokenizer.size], ["new"]) == plain.decode([plain.size], ["new"])


def test_sampled_segmentations_keep_the_tag() -> None:
    plain = train_tokenizer(TEXTS, TokenizerConfig(type="bpe", vocab_size=300))
    (found,) = TaggedTokenizer(plain, ["de"]).sample(["<2de> two dogs"], Sampling(0.5), 1)
    (expected,) = plain.sample(["two dogs"], Sampling(0.5), 1)
    assert found.ids == [plain.size, *expected.ids]


def test_identity_depends_on_the_tags(plain: Tokenizer) -> None:
    identities = [TaggedTokenizer(plain, tags).identity for tags in (["de"], ["fr"], ["de", "fr"], ["fr", "de"])]
    assert len({plain.identity, *identities}) == 5
    assert TaggedTokenizer(plain, ["de"]).to_bytes() == plain.to_bytes()


def test_split_tag(plain: Tokenizer) -> None:
    tokenizer = TaggedTokenizer(plain, ["de"])
    (segments,), (alone,) = tokenizer.segment(["<2de> a man"]), plain.segment(["a man"])
    tag, rest = split_tag(segments, tokenizer, added="de")
    assert (tag.ids, tag.pieces, tag.spans) == ([plain.size], ["<2de>"], [(0, 0)])
    assert rest == alone
    tag, rest = split_tag(segments, tokenizer, added="")
    assert (tag.spans, rest.spans) == ([(0, 5)], segments.spans[1:])
    assert split_tag(alone, tokenizer, added="") == (([], [], []), alone)
    assert split_tag(alone, plain, added="") == (([], [], []), alone)


def test_without_tag() -> None:
    assert without_tag("<2fr> a", ["de", "fr"]) == "a"
    assert without_tag("<2it> a", ["de", "fr"]) == "<2it> a"


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (["de", "fr"], "--tag must be one of the model's tags: de, fr; but is it"),
        ([], "--tag must be empty, because the model has no tags; but is it"),
    ],
)
def test_an_unknown_tag_is_refused(known: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_tag("it", known, setting="--tag")
