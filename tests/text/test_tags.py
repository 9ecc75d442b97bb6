"""Tags before a source: one id after the vocabulary, in every kind of tokenizer."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch

from seq2seq.config import ModelConfig, SearchConfig, TokenizerConfig
from seq2seq.layers.pointer import Pointer
from seq2seq.model_dir import Settings, Tokenizers, build_model, with_tags
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tags import TaggedTokenizer, add_tag, check_tag, split_tag, without_tag
from seq2seq.text.tokenizer import BOS, EOS, UNK, Sampling, Tokenizer
from seq2seq.translator import Translator

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


def test_the_target_of_a_shared_vocabulary_reads_no_tag(plain: Tokenizer) -> None:
    tokenizer = TaggedTokenizer(plain, ["de"], reads=False)
    assert tokenizer.size == plain.size + 1
    assert tokenizer.segment(["<2de> a man"]) == plain.segment(["<2de> a man"])
    assert tokenizer.id("<2de>") == plain.id("<2de>")
    assert tokenizer.identity != TaggedTokenizer(plain, ["de"]).identity


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("options", [{}, {"copy": "pointer"}, {"copy": "copynet"}, {"tie_embeddings": "output"}])
def test_search_never_produces_a_tag(options: dict[str, Any], shared: bool, plain: Tokenizer) -> None:
    """Every logit of a tag, and the probability of copying one, is as high as it can be."""
    other = plain if shared else train_tokenizer(TEXTS, TokenizerConfig(type="word", vocab_size=300))
    tokenizers = with_tags(Tokenizers(plain, other), ["de", "fr"])
    config = ModelConfig(embedding_size=8, hidden_size=8, **options)
    settings = Settings(config, TokenizerConfig(shared=shared), SearchConfig(beam_size=4), 50)
    torch.manual_seed(1)
    model = build_model(settings, tokenizers).eval()
    assert set(range(plain.size, plain.size + 2)) <= set(model.readout.banned.tolist()) or not shared
    with torch.no_grad():
        if shared:
            model.readout.logits.bias[plain.size :] = 50
        if isinstance(model.pointer, Pointer):
            model.pointer.gate.bias.fill_(-5)  # copy
    translator = Translator(model, tokenizers, settings.search).with_tag("de")
    for translations in translator.search(["a man sleeps", "two"], n_best=4):
        for found in translations:
            assert not any(piece.startswith("<2") for piece in found.pieces), found.pieces
            assert "<2de>" in found.source_pieces
            assert math.isfinite(found.log_prob)
    assert all(math.isfinite(x) for line in translator.score(["a man"], ["<2de> a man"]) for x in line)


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
