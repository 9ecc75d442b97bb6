"""Tokenizers of every kind: round trips, special ids, unusual text, segments, sampling, and every error."""

from __future__ import annotations

import io
import itertools
import json
import logging
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.config import TOKENIZER_NAMES, TokenizerConfig
from seq2seq.text.factory import TOKENIZER_KINDS, _sample, load_tokenizer, train_tokenizer
from seq2seq.text.tokenizer import BOS, EOS, PAD, UNK, Sampling, Tokenizer
from seq2seq.text.word import JOINER, WordTokenizer, split_tokens

TEXTS = [
    "The cat sat on the mat, and the dog sat by the door.",
    "A dog ran away from the cat; the cat (it was 12:30) ran too!",
    "C'est l'été: 3.50 euros, n'est-ce pas ?",
    "Die Katze sitzt auf der Matte, der Hund läuft weg.",
    "",
]
NORMALIZATIONS = ("identity", "nfkc", "nmt_nfkc")
KINDS = pytest.mark.parametrize("kind", TOKENIZER_NAMES)
anything = st.text(max_size=40)
awkward = st.text(alphabet="ab1_é\u0301\u093e .,'\"-(￭\\uFED⁇\u200d\u3000\u2028中☃<s>/", max_size=30)


def train(kind: str, texts: list[str] = TEXTS, size: int = 400, normalization: str = "identity") -> Tokenizer:
    return train_tokenizer(texts, TokenizerConfig(type=kind, vocab_size=size, normalization=normalization))


@cache
def train_once(kind: str, normalization: str) -> Tokenizer:
    return train(kind, normalization=normalization)


def squeeze(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def trained() -> dict[str, Tokenizer]:
    return {kind: train(kind) for kind in TOKENIZER_NAMES}


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
def test_text_that_looks_like_a_special_token_is_text(kind: str, text: str) -> None:
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
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\x00", "a\x00b \x00", "\x00" * 20 + "\ud801" * 20])
def test_lone_surrogates_and_nul_are_encodable_text_everywhere(kind: str, text: str, normalization: str) -> None:
    tokenizer = train(kind, [*TEXTS, *[text] * 15], normalization=normalization)
    loaded = load_tokenizer(kind, tokenizer.to_bytes())
    assert loaded.identity == tokenizer.identity
    segments = [loaded.segment([text])[0]]
    if kind == "bpe":
        segments += loaded.sample([text], Sampling(0.5), 1)
    for ids, pieces, _ in segments:
        assert all(piece.encode() for piece in pieces)
        assert isinstance(loaded.decode(ids).encode(), bytes)
    assert segments[0].ids == loaded.encode(text)
    assert loaded.id(text) in range(loaded.size)
    assert "\ud800" not in loaded.decode([loaded.size], [text])
    assert isinstance(loaded.decode([loaded.size], [text]).encode(), bytes)


@KINDS
def test_encode_batch_equals_encode(kind: str, trained: dict[str, Tokenizer]) -> None:
    tokenizer = trained[kind]
    assert tokenizer.encode_batch(TEXTS) == [tokenizer.encode(text) for text in TEXTS]
    assert tokenizer.encode_batch([]) == []


# ---- segments

SEGMENTED = [
    *TEXTS,
    "  The   cat ",
    "the zebra☃☃ sat 𝒳-x",
    "unseen Ωords (it ran)!",
    "<s> the </s>",
    "e\u0301te\u0301 中 ☃",
    "\ud800x the",
    " \t ",
]


@KINDS
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_segments_have_the_ids_of_encode(kind: str, normalization: str) -> None:
    tokenizer = train(kind, normalization=normalization)
    found = tokenizer.segment(SEGMENTED)
    assert [segments.ids for segments in found] == tokenizer.encode_batch(SEGMENTED)
    for ids, pieces, spans in found:
        assert len(ids) == len(pieces) == len(spans)
        known = [(number, piece) for number, piece in zip(ids, pieces, strict=True) if number != UNK]
        assert tokenizer.pieces([number for number, _ in known]) == [piece for _, piece in known]
        assert all(tokenizer.id(piece) == number for number, piece in known)
    assert tokenizer.segment([]) == []


def test_sampling_skips_merges() -> None:
    tokenizer = train("bpe")
    texts = SEGMENTED * 20
    plain, few, many = (tokenizer.sample(texts, Sampling(dropout), seed=1) for dropout in (0.0, 0.1, 0.9))
    assert plain == tokenizer.segment(texts)
    assert few == tokenizer.sample(texts, Sampling(0.1), seed=1) != tokenizer.sample(texts, Sampling(0.1), seed=2)
    counts = [sum(len(found.ids) for found in sampled) for sampled in (plain, few, many)]
    assert counts[0] < counts[1] < counts[2]
    for text, found in zip(texts, many, strict=True):
        if UNK not in found.ids:
            assert tokenizer.decode(found.ids) == tokenizer.decode(tokenizer.encode(text))
        assert [
            tokenizer.id(piece) for piece, number in zip(found.pieces, found.ids, strict=True) if number != UNK
        ] == [number for number in found.ids if number != UNK]


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@given(st.lists(anything | awkward, max_size=4))
def test_a_sample_without_dropout_equals_the_segmentation_of_sentencepiece(
    normalization: str, texts: list[str]
) -> None:
    tokenizer = train_once("bpe", normalization)
    assert tokenizer.sample(texts, Sampling(), seed=1) == tokenizer.segment(texts)


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_as_many_merges_are_skipped_as_by_sentencepiece(dropout: float) -> None:
    tokenizer = train("bpe")
    texts = TEXTS * 200
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.to_bytes())
    sampled = processor.encode(texts, enable_sampling=True, alpha=dropout)
    expected = sum(map(len, sampled))
    found = sum(len(segments.ids) for segments in tokenizer.sample(texts, Sampling(dropout), seed=1))
    assert found == pytest.approx(expected, rel=0.02)


def test_samples_are_the_same_in_every_process(tmp_path: Path) -> None:
    """Samples of SentencePiece are not: they do not depend only on the seed."""
    tokenizer = train("bpe")
    (tmp_path / "model").write_bytes(tokenizer.to_bytes())
    program = (
        "import json, sys; from pathlib import Path; from seq2seq.text.factory import load_tokenizer; "
        "from seq2seq.text.tokenizer import Sampling; tokenizer = load_tokenizer('bpe', Path(sys.argv[1]).read_bytes()); "
        "print(json.dumps(tokenizer.sample(json.loads(sys.argv[2]), Sampling(0.3), 1)))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "model"), json.dumps(TEXTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads(json.dumps(tokenizer.sample(TEXTS, Sampling(0.3), seed=1)))


@pytest.mark.parametrize(("kind", "sampling"), [("unigram", Sampling(0.5)), ("bpe", Sampling(nbest=8))])
def test_a_kind_that_cannot_sample_in_this_way_segments_as_usual(
    kind: str, sampling: Sampling, trained: dict[str, Tokenizer]
) -> None:
    assert trained[kind].sample(TEXTS, sampling, seed=1) == trained[kind].segment(TEXTS)


@pytest.mark.parametrize("kind", ["word", "char"])
def test_words_and_characters_have_one_segmentation(kind: str, trained: dict[str, Tokenizer]) -> None:
    assert trained[kind].sample(TEXTS, Sampling(0.5, nbest=8), seed=1) == trained[kind].segment(TEXTS)


@KINDS
@settings(max_examples=100, deadline=None)
@given(text=anything | awkward)
def test_pieces_of_any_text_join_to_the_text(kind: str, text: str, trained: dict[str, Tokenizer]) -> None:
    """Every piece is decoded as an OOV piece, except bytes, which every vocabulary contains."""
    tokenizer = trained[kind]
    ids, pieces, _ = tokenizer.segment([text])[0]
    assert ids == tokenizer.encode(text)
    numbers = [
        n if piece.startswith("<0x") else tokenizer.size + k
        for k, (n, piece) in enumerate(zip(ids, pieces, strict=True))
    ]
    joined = tokenizer.decode(numbers, pieces)
    assert squeeze(joined) == squeeze(text.replace("▁", " ") if kind != "word" else text)


@KINDS
@settings(max_examples=100, deadline=None)
@given(text=anything | awkward)
def test_spans_are_the_positions_of_the_pieces_in_the_text(kind: str, text: str, trained: dict[str, Tokenizer]) -> None:
    _, pieces, spans = trained[kind].segment([text])[0]
    end = 0
    for piece, span in zip(pieces, spans, strict=True):
        assert end <= span[0] <= span[1] <= len(text)
        end = span[1]
        shown = text[slice(*span)]
        if piece.startswith("<0x"):
            assert len(shown) <= 1  # the last byte of a character has its span
        elif kind == "word":
            assert shown == (JOINER if piece.strip(JOINER) == "\\uFFED" else piece.strip(JOINER))
        else:
            assert shown.replace("▁", " ").strip() == piece.replace("▁", " ").strip()
    covered = "".join(text[slice(*span)] for span in spans)
    if kind != "word":  # SentencePiece reads its mark of a space as a space, and keeps unusual white space
        covered, text = covered.replace("▁", " "), text.replace("▁", " ")
    assert "".join(covered.split()) == "".join(text.split())


@KINDS
@pytest.mark.parametrize("normalization", ["nfkc", "nmt_nfkc"])
def test_spans_refer_to_the_text_before_normalization(kind: str, normalization: str) -> None:
    text = "  The   ｃat,  Ａ①  éte\u0301 ☃ "
    _, _, spans = train(kind, normalization=normalization).segment([text])[0]
    assert "".join(text[slice(*span)] for span in spans) == "".join(text.split())
    assert spans[-1] == (len(text) - 2, len(text) - 1)
    if kind == "word":
        assert [text[slice(*span)] for span in spans] == ["The", "ｃat", ",", "Ａ①", "éte\u0301", "☃"]


def test_segments_of_words_by_hand() -> None:
    tokenizer = train("word", ["the cat , ."], size=8)
    ids, pieces, spans = tokenizer.segment([" the zebra, (cat)"])[0]
    assert pieces == ["the", "zebra", "￭,", "(￭", "cat", "￭)"]
    assert spans == [(1, 4), (5, 10), (10, 11), (12, 13), (13, 16), (16, 17)]
    assert [tokenizer.id(piece) == number for piece, number in zip(pieces, ids, strict=True)] == [True] * 6
    assert [number == UNK for number in ids] == [False, True, True, True, False, True]


def test_neighbouring_unknown_characters_form_one_piece_as_the_text_spells_it() -> None:
    ids, pieces, spans = train("char", ["a b"], size=10).segment(["a xyz b"])[0]
    assert pieces == ["▁", "a", "▁", "xyz", "▁", "b"]
    assert ids.index(UNK) == 3
    assert spans == [(0, 0), (0, 1), (2, 2), (2, 5), (6, 6), (6, 7)]


# ---- OOV pieces


def test_oov_words_are_decoded_with_their_joiners() -> None:
    tokenizer = train("word", ["the cat"], size=6)
    oov = ["zebra", "￭,", "(￭"]
    cat, the, zebra, comma, bracket = 4, 5, 6, 7, 8
    assert tokenizer.pieces([the, cat, zebra, comma], oov) == ["the", "cat", "zebra", "￭,"]
    assert tokenizer.decode([BOS, the, zebra, comma, bracket, cat, UNK, EOS, PAD], oov) == "the zebra, (cat ⁇"


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
def test_oov_pieces_of_sentencepiece_keep_their_space(kind: str, trained: dict[str, Tokenizer]) -> None:
    tokenizer = trained[kind]
    oov = ["▁zebra", "s", "☃☃", "▁"]
    first, second, snow, space = range(tokenizer.size, tokenizer.size + 4)
    the, cat = tokenizer.encode("the"), tokenizer.encode("cat")
    assert tokenizer.decode([*the, first, second, *cat], oov) == "the zebras cat"
    assert tokenizer.decode([BOS, first, snow, *cat, EOS, PAD], oov) == "zebra☃☃ cat"
    assert tokenizer.decode([space, snow, UNK, first], oov) == "☃☃⁇ zebra"
    assert tokenizer.pieces([first, the[0]], oov) == ["▁zebra", tokenizer.pieces(the)[0]]


@KINDS
@pytest.mark.parametrize("piece", ["<s>", "</s>", "<pad>", "<unk>", "<0x41>"])
def test_an_oov_piece_that_looks_like_a_special_token_is_text(
    kind: str, piece: str, trained: dict[str, Tokenizer]
) -> None:
    tokenizer = trained[kind]
    (the,) = tokenizer.encode("the")[:1] if kind != "char" else tokenizer.encode("t")[1:]
    first = tokenizer.decode([the])
    assert tokenizer.decode([the, tokenizer.size, the], [f"￭{piece}￭" if kind == "word" else piece]) in (
        f"{first}{piece}{first}",
        f"{first}{piece} {first}",  # if the piece of the vocabulary starts with a space
    )


def test_unknown_characters_that_spell_a_special_token_are_copied() -> None:
    tokenizer = train("char", ["a b"], size=10)
    (found,) = tokenizer.segment(["a <s>"])
    assert found.pieces[-1] == "<s>"
    assert tokenizer.decode([*found.ids[:-1], tokenizer.size], found.pieces[-1:]) == "a <s>"


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_byte_pieces_next_to_oov_pieces_are_decoded(kind: str, trained: dict[str, Tokenizer]) -> None:
    tokenizer = trained[kind]
    snow = tokenizer.encode("☃")
    assert all(piece.startswith("<0x") for piece in tokenizer.pieces(snow)[-3:])
    assert tokenizer.decode([*snow, tokenizer.size, *snow], ["▁zebra"]) == "☃ zebra ☃"


@KINDS
def test_decoding_does_not_depend_on_oov_pieces_that_are_not_used(kind: str, trained: dict[str, Tokenizer]) -> None:
    for text in TEXTS:
        ids = trained[kind].encode(text)
        assert trained[kind].decode(ids, ["▁never"]) == text


@KINDS
def test_training_text_is_restored(kind: str, trained: dict[str, Tokenizer]) -> None:
    for text in TEXTS:
        ids = trained[kind].encode(text)
        assert UNK not in ids
        assert trained[kind].decode(ids) == text
        assert len(trained[kind].pieces(ids)) == len(ids)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@settings(max_examples=150, deadline=None)
@given(text=anything | awkward)
def test_byte_fallback_restores_any_text(kind: str, text: str, trained: dict[str, Tokenizer]) -> None:
    ids = trained[kind].encode(text)
    assert UNK not in ids
    assert squeeze(trained[kind].decode(ids)) == squeeze(text.replace("▁", " "))


@settings(max_examples=100, deadline=None)
@given(text=anything | awkward)
def test_words_of_the_vocabulary_are_restored(text: str) -> None:
    tokenizer = train("word", [text, "x"], size=1000)
    ids = tokenizer.encode(text)
    assert UNK not in ids
    assert tokenizer.decode(ids) == squeeze(text)


def test_the_word_vocabulary_holds_the_most_frequent_words_and_ties_are_sorted_by_code_point() -> None:
    tokenizer = train("word", ["b b c a d", "d a"], size=7)
    assert isinstance(tokenizer, WordTokenizer)
    assert tokenizer.pieces(range(4, 7)) == ["a", "b", "d"]
    assert tokenizer.encode("a c Z b") == [4, UNK, UNK, 5]
    assert tokenizer.decode(tokenizer.encode("a c, b")) == "a ⁇ ⁇ b"
    assert [tokenizer.id(token) for token in split_tokens("d c")] == [6, UNK]


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
    assert len({tokenizer.identity for tokenizer in trained.values()}) == len(TOKENIZER_NAMES)


@KINDS
def test_normalization_changes_the_ids(kind: str) -> None:
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
    message = f"the training text yields a vocabulary of {tokenizer.size} pieces, fewer than tokenizer.vocab_size=8000"
    assert [record.message for record in caplog.records] == [message]


@KINDS
def test_the_vocabulary_has_the_configured_size(kind: str) -> None:
    texts = [" ".join(word) for word in itertools.permutations(["red", "green", "blue", "black", "grey", "pink"], 4)]
    size = {"char": 10, "word": 8}.get(kind, 280)
    assert train(kind, texts, size=size).size == size


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_vocabulary_too_small_for_the_bytes(kind: str) -> None:
    message = (
        f"tokenizer.vocab_size must be at least 306 for tokenizer.type={kind} on this text (every character and 256 bytes)"
        ", but is 100"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        train(kind, size=100)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_frequent_character_is_a_piece_and_not_bytes(kind: str) -> None:
    """The share of digits or capital umlauts in captions is so small that SentencePiece drops them."""
    texts = ["a red dog and a blue cat"] * 2000 + ['7 Übungen "Café", 100 %'] * 10 + ["ñ ☃"] * 9
    tokenizer = train(kind, texts)
    assert not [piece for piece in tokenizer.pieces(tokenizer.encode(texts[2000])) if piece.startswith("<0x")]
    assert len(tokenizer.encode("ñ")) == 3  # the space and two bytes


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_very_long_lines_without_spaces_keep_the_mark_of_a_space_in_the_vocabulary(kind: str) -> None:
    numbers = random.Random(1)
    lines = ["".join(numbers.choices("ACGT", k=2500)) for _ in range(30)]
    tokenizer = train_tokenizer(lines, TokenizerConfig(type=kind, vocab_size=300))
    assert tokenizer.id("▁") != UNK
    for text in (lines[0], "AC GT"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_frequent_characters_take_at_most_a_quarter_of_the_vocabulary() -> None:
    signs = [chr(0x4E00 + k) for k in range(60)]
    texts = ["a red dog and a blue cat"] * 100_000 + [" ".join(signs)] * 12
    tokenizer = train("bpe", texts, size=460)
    assert sum(tokenizer.id(sign) != UNK for sign in signs) == (460 - 260) // 4 - len(set("areddogandabluecat"))


@KINDS
@pytest.mark.parametrize("texts", [[], ["", " \u3000"]])
def test_no_text(kind: str, texts: list[str]) -> None:
    message = "a tokenizer requires text to train on, but every line of data.train is empty"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        train(kind, texts)


# ---- large training texts

MANY = [f"{TEXTS[number % 4]} {number:03}" for number in range(300)]


@KINDS
def test_above_max_sentences_a_tokenizer_is_trained_on_a_seeded_sample_and_says_so(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = TokenizerConfig(type=kind, vocab_size=330, max_sentences=200)
    tokenizer = train_tokenizer(MANY, config)
    message = (
        "training the tokenizer on a random sample of 200 of 300 sentences; tokenizer.max_sentences sets the number"
    )
    assert [record.getMessage() for record in caplog.records if "training the" in record.getMessage()] == [message]
    assert train_tokenizer(MANY, config).to_bytes() == tokenizer.to_bytes()
    assert tokenizer.to_bytes() == train_tokenizer(_sample(iter(MANY), 200), config).to_bytes()


def test_the_sample_is_the_same_on_every_platform() -> None:
    sample = _sample((str(number) for number in range(10_000)), 5)
    assert sample == ["2469", "4021", "7786", "8255", "9555"]


def test_every_line_is_equally_probable_in_the_sample_and_lines_keep_their_order() -> None:
    sample = [int(line) for line in _sample((str(number) for number in range(10_000)), 2000)]
    assert sample == sorted(set(sample))
    counts = [sum(first <= number < first + 2000 for number in sample) for first in range(0, 10_000, 2000)]
    assert sum(counts) == 2000
    assert all(abs(count - 400) < 80 for count in counts)  # more than 4 standard deviations


@KINDS
def test_up_to_max_sentences_every_sentence_is_used(kind: str) -> None:
    exact = TokenizerConfig(type=kind, vocab_size=330, max_sentences=len(MANY))
    default = TokenizerConfig(type=kind, vocab_size=330)
    assert train_tokenizer(MANY, exact).to_bytes() == train_tokenizer(MANY, default).to_bytes()


@pytest.mark.parametrize("enough", [True, False])
def test_a_training_that_takes_long_is_announced(
    enough: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    characters = sum(map(len, MANY))
    monkeypatch.setattr("seq2seq.text.factory._LONG", characters if enough else characters + 1)
    train("char", MANY)
    assert ("training the tokenizer on 300 sentences" in caplog.text) == enough


@KINDS
def test_errors_while_reading_the_text_are_raised(kind: str) -> None:
    def texts() -> Iterator[str]:
        yield "one line"
        raise UserWarning("the second line is bad")

    with pytest.raises(UserWarning, match=r"^the second line is bad$"):
        train_tokenizer(texts(), TokenizerConfig(type=kind))


@KINDS
@pytest.mark.parametrize(("text", "warned"), [("今天我们去北京看看。", True), ("a cat, a café and 京", False)])
def test_training_words_on_text_without_spaces_gives_a_warning(
    kind: str, text: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    train(kind, [text] * 20)
    message = (
        "tokenizer.type=word splits text at spaces and punctuation, but this text is written without spaces; "
        "set tokenizer.type to unigram, bpe or char"
    )
    assert (message in caplog.text) == (warned and kind == "word")


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_an_interrupt_while_training_is_raised_as_such(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(texts: list[str]) -> Iterator[str]:
        yield texts[0]
        raise KeyboardInterrupt

    monkeypatch.setattr("seq2seq.text.sentencepiece._chunks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(kind)


def test_the_factory_makes_every_kind_of_the_configuration() -> None:
    assert tuple(TOKENIZER_KINDS) == TOKENIZER_NAMES


def test_unknown_kind() -> None:
    message = "tokenizer.type must be one of unigram, bpe, word, char, but is morse"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_tokenizer("morse", b"")
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        train("morse")


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
@pytest.mark.parametrize("data", [b"", b"nonsense"])
def test_bytes_that_do_not_hold_a_sentencepiece_model(kind: str, data: bytes) -> None:
    message = f"these {len(data)} bytes are not a SentencePiece model"
    with pytest.raises(ValueError, match=f"^{message}$"):
        load_tokenizer(kind, data)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"tokens": 5, "normalization": ""}', b"\xff"])
def test_bytes_that_do_not_hold_a_word_tokenizer(data: bytes) -> None:
    message = f"these {len(data)} bytes are not a word tokenizer: "
    with pytest.raises(ValueError, match=f"^{message}.+$"):
        load_tokenizer("word", data)


def test_word_vocabulary_must_start_with_the_specials() -> None:
    message = "the vocabulary of a word tokenizer must start with <pad> <unk> <s> </s>, but starts with a b"
    with pytest.raises(ValueError, match=f"^{message}$"):
        WordTokenizer(["a", "b"])


def test_sentencepiece_model_with_other_special_ids() -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=model, model_type="char", vocab_size=30, minloglevel=2
    )
    message = "pad, unk, bos and eos of a SentencePiece model must be ids 0, 1, 2, 3, but are (-1, 0, 1, 2)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_tokenizer("char", model.getvalue())


def test_training_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    for kind in TOKENIZER_NAMES:
        train(kind)
    assert capfd.readouterr() == ("", "")
