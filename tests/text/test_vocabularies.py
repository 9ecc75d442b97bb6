"""SentencePiece models of other origin, settings of their training, and sampling of unigram segmentations."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece

from seq2seq.config import TokenizerConfig
from seq2seq.config_checks import check_tokenizer
from seq2seq.text.extension import extend_tokenizer
from seq2seq.text.factory import load_tokenizer, tokenizer_configs, train_tokenizer
from seq2seq.text.model_proto import add_pieces, load_processor, model_kind, renumber
from seq2seq.text.sentencepiece import SentencePieceTokenizer
from seq2seq.text.tokenizer import SPECIALS, UNK, Sampling

TEXTS = [
    "The cats sat on the mats, and the dogs sat by the doors.",
    "A dog ran away from the cat; the cat (it was 12:30) ran too!",
    "C'est l'été: 3.50 euros, n'est-ce pas ?",
] * 5
ODD = ["", " ", "été ☃ 中", "the  cats", "<pad> <s> <unk>", "\ud800x", "▁▁", "ﬁ Ａ"]


def foreign(path: Path, kind: str, **options: Any) -> Path:
    """Train a SentencePiece model with the ids and options of its own defaults."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        model_type=kind,
        **{"vocab_size": 90, "hard_vocab_limit": False, "minloglevel": 2} | options,
    )
    path.write_bytes(model.getvalue())
    return path


ORIGINS: dict[str, dict[str, Any]] = {
    "default": {},
    "without bos and eos": {"bos_id": -1, "eos_id": -1},
    "other order": {"pad_id": 3, "unk_id": 2, "bos_id": 1, "eos_id": 0},
    "other names": {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 5, "pad_piece": "[PAD]", "eos_piece": "[SEP]"},
    "symbols": {"user_defined_symbols": ["<sep>", "cats"], "control_symbols": ["<mask>"]},
    "bytes": {"byte_fallback": True, "vocab_size": 400},
    "named like a special": {"user_defined_symbols": ["<pad>"]},
    "ours": {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3},
}


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
@pytest.mark.parametrize("origin", ORIGINS)
def test_a_model_of_other_origin_segments_as_before_with_our_ids(kind: str, origin: str, tmp_path: Path) -> None:
    path = foreign(tmp_path / "own.model", kind, **ORIGINS[origin])
    before = load_processor(path.read_bytes())
    tokenizer = train_tokenizer([], TokenizerConfig(type=kind, model=str(path)))
    assert tuple(tokenizer.pieces([0, 1, 2, 3])) == SPECIALS
    for text in [*TEXTS, "the cats <sep> sat", "zebra ☃", "a <mask> b"]:
        pieces = before.encode(text, out_type=str)
        assert tokenizer.segment([text])[0].pieces == pieces
        ids = tokenizer.encode(text)
        unknown = before.unk_id()
        assert [number == UNK for number in ids] == [number == unknown for number in before.encode(text)]
        if UNK not in ids:
            assert tokenizer.decode(ids) == before.decode(before.encode(text))
    assert tokenizer.decode([UNK]) == "⁇"
    assert not {0, 1, 2, 3} & set(tokenizer.encode("a b")) - {UNK}
    loaded = load_tokenizer(kind, tokenizer.to_bytes())
    assert loaded.identity == tokenizer.identity
    assert loaded.size == tokenizer.size


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
def test_the_kind_of_a_model_is_read_from_it(kind: str, tmp_path: Path) -> None:
    assert model_kind(foreign(tmp_path / "own.model", kind).read_bytes()) == kind


def test_renumbering_twice_changes_nothing(tmp_path: Path) -> None:
    once = renumber(foreign(tmp_path / "own.model", "unigram").read_bytes())
    one, two = SentencePieceTokenizer("unigram", once), SentencePieceTokenizer("unigram", renumber(once))
    assert one.identity == two.identity


def test_added_pieces_follow_the_others_and_are_used(tmp_path: Path) -> None:
    old = renumber(foreign(tmp_path / "own.model", "unigram").read_bytes())
    before, after = (SentencePieceTokenizer("unigram", each) for each in (old, add_pieces(old, [("▁tangerine", -3.0)])))
    assert after.size == before.size + 1
    assert after.pieces(range(before.size)) == before.pieces(range(before.size))
    assert after.encode("tangerine") == [before.size]
    assert after.encode(TEXTS[0]) == before.encode(TEXTS[0])


def test_bytes_are_not_added_to_a_model_without_them(tmp_path: Path) -> None:
    config = TokenizerConfig(model=str(foreign(tmp_path / "own.model", "unigram")), vocab_size=400)
    old = train_tokenizer([], config)
    new = extend_tokenizer(old, config, ["a tangerine and a tangerine"] * 20, most=50)
    added = new.pieces(range(old.size, new.size))
    assert added
    assert not [piece for piece in added if re.fullmatch("<0x[0-9A-F]{2}>", piece)]


def test_errors_of_a_model_of_other_origin(tmp_path: Path) -> None:
    path = foreign(tmp_path / "own.model", "bpe")
    expected = (
        f"a tokenizer must have the type of its model, but {path} is bpe; "
        "set tokenizer.type=bpe instead of unigram, or tokenizer.tgt_type for the target"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        train_tokenizer([], TokenizerConfig(model=str(path)))
    path.write_bytes(b"no model")
    expected = "must be a SentencePiece model, but these 8 bytes are not a SentencePiece model"
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))} {expected}$"):
        train_tokenizer([], TokenizerConfig(model=str(path)))
    with pytest.raises(
        ValueError, match=r"^the SentencePiece model .*absent can't be read: No such file or directory$"
    ):
        train_tokenizer([], TokenizerConfig(model=str(tmp_path / "absent")))


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
def test_user_defined_symbols_pass_through_whole(kind: str) -> None:
    text = "the <sep> cats<sep>sat"
    tokenizer = train_tokenizer(
        TEXTS, TokenizerConfig(type=kind, vocab_size=400, user_defined_symbols=["<sep>", "ats"])
    )
    (found,) = tokenizer.segment([text])
    assert found.pieces.count("<sep>") == 2
    assert found.pieces.count("ats") == 1
    assert [
        text[start:end] for (start, end), piece in zip(found.spans, found.pieces, strict=True) if piece == "ats"
    ] == ["ats"]
    assert tokenizer.decode(found.ids) == text
    assert tokenizer.sample([text, *TEXTS], Sampling(), seed=1) == tokenizer.segment([text, *TEXTS])
    (sampled,) = tokenizer.sample([text], Sampling(dropout=0.9, nbest=64), seed=1)
    assert sampled.pieces.count("<sep>") == 2


def test_character_coverage_decides_which_characters_are_bytes() -> None:
    texts = [*["the cats sat on the mats"] * 100, "été ☃"]
    rare = {
        coverage: train_tokenizer(texts, TokenizerConfig(vocab_size=400, character_coverage=coverage))
        for coverage in (0.98, 1.0)
    }
    assert rare[1.0].id("☃") != UNK
    assert rare[0.98].id("☃") == UNK
    default = train_tokenizer([*texts, *["☃"] * 10], TokenizerConfig(vocab_size=400))
    few = train_tokenizer([*texts, *["☃"] * 10], TokenizerConfig(vocab_size=400, character_coverage=0.98))
    assert default.id("☃") != UNK
    assert few.id("☃") == UNK


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
@pytest.mark.parametrize("byte_fallback", [True, False])
def test_byte_fallback(kind: str, byte_fallback: bool) -> None:
    tokenizer = train_tokenizer(TEXTS, TokenizerConfig(type=kind, vocab_size=400, byte_fallback=byte_fallback))
    assert (UNK in tokenizer.encode("☃")) is not byte_fallback
    assert tokenizer.decode(tokenizer.encode("a ☃")) == ("a ☃" if byte_fallback else "a ⁇")


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word"])
def test_case_folding(kind: str) -> None:
    tokenizer = train_tokenizer(TEXTS, TokenizerConfig(type=kind, vocab_size=400, normalization="nfkc_cf"))
    assert tokenizer.encode("THE CATS") == tokenizer.encode("the cats")
    assert tokenizer.decode(tokenizer.encode("THE CATS")) == "the cats"


def test_a_sample_of_the_best_segmentation_is_that_of_sentencepiece() -> None:
    tokenizer = train_tokenizer(TEXTS, TokenizerConfig(vocab_size=400))
    texts = [*TEXTS, *ODD]
    assert tokenizer.sample(texts, Sampling(nbest=1), seed=3) == tokenizer.segment(texts)


def test_segmentations_are_drawn_in_proportion_to_their_probabilities() -> None:
    tokenizer = train_tokenizer(TEXTS, TokenizerConfig(vocab_size=330))
    text, power, count = "the cats", 0.3, 4000
    processor = load_processor(tokenizer.to_bytes())
    best = [tuple(ids) for ids in processor.nbest_encode(text, nbest_size=8)]
    scores = np.array([sum(map(processor.get_score, ids)) for ids in best])
    expected = np.exp(power * scores) / np.exp(power * scores).sum()
    found = Counter(tuple(s.ids) for s in tokenizer.sample([text] * count, Sampling(nbest=8, power=power), seed=5))
    assert set(found) <= set(best)
    for ids, probability in zip(best, expected, strict=True):
        assert found[ids] / count == pytest.approx(probability, abs=4 * (probability / count) ** 0.5)


def test_the_draw_of_a_text_depends_on_the_seed_and_its_number_alone() -> None:
    tokenizer, sampling = train_tokenizer(TEXTS, TokenizerConfig(vocab_size=330)), Sampling(nbest=32)
    one, two = tokenizer.sample(TEXTS, sampling, seed=1), tokenizer.sample(TEXTS, sampling, seed=2)
    assert one == tokenizer.sample(TEXTS, sampling, seed=1) != two
    assert tokenizer.sample(["other", *TEXTS[1:]], sampling, seed=1)[1:] == one[1:]
    assert one[0] != one[3]  # of the same text
    for text, found in zip(TEXTS, one, strict=True):
        assert tokenizer.decode(found.ids) == text


def test_draws_are_the_same_in_every_process(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, TokenizerConfig(vocab_size=330))
    (tmp_path / "model").write_bytes(tokenizer.to_bytes())
    program = (
        "import json, sys; from pathlib import Path; from seq2seq.text.factory import load_tokenizer; "
        "from seq2seq.text.tokenizer import Sampling; "
        "tokenizer = load_tokenizer('unigram', Path(sys.argv[1]).read_bytes()); "
        "print(json.dumps(tokenizer.sample(json.loads(sys.argv[2]), Sampling(nbest=16), 1)))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "model"), json.dumps(TEXTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = tokenizer.sample(TEXTS, Sampling(nbest=16), 1)
    assert json.loads(done.stdout) == json.loads(json.dumps(expected))


def test_another_type_and_model_per_side() -> None:
    config = TokenizerConfig(type="bpe", tgt_type="word", shared=False, model="a.model")
    assert [(each.type, each.model) for each in tokenizer_configs(config)] == [("bpe", "a.model"), ("word", None)]
    assert len(tokenizer_configs(TokenizerConfig())) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"tgt_type": "bpe"},
            "tokenizer.tgt_type has no effect with one vocabulary; remove it, or set tokenizer.shared=false",
        ),
        (
            {"tgt_model": "x"},
            "tokenizer.tgt_model has no effect with one vocabulary; remove it, or set tokenizer.shared=false",
        ),
        (
            {"nbest": 8, "type": "bpe"},
            "tokenizer.nbest draws segmentations, of which tokenizer.type=bpe has only one; remove it, or set tokenizer.type=unigram",
        ),
        (
            {"nbest_power": 0.2},
            "tokenizer.nbest_power has no effect with tokenizer.nbest=0; remove it, or set tokenizer.nbest=64",
        ),
        (
            {"type": "word", "model": "m"},
            "tokenizer.type must be unigram, bpe or char for a SentencePiece model, but is word; change it, or remove the model m",
        ),
        (
            {"tgt_type": "word", "shared": False, "tgt_model": "m"},
            "tokenizer.tgt_type must be unigram, bpe or char for a SentencePiece model, but is word; change it, or remove the model m",
        ),
        (
            {"model": "m", "vocab_size": 9},
            "tokenizer.vocab_size has no effect with tokenizer.model=m, which is trained already; remove one of them",
        ),
        (
            {"type": "word", "byte_fallback": True},
            "tokenizer.byte_fallback has no effect with tokenizer.type=word; remove it, or set tokenizer.type=unigram",
        ),
        (
            {"user_defined_symbols": "<sep>"},
            "tokenizer.user_defined_symbols must be a list of texts without spaces, such as ['<sep>'], but is <sep>",
        ),
        ({"character_coverage": 0.5}, "tokenizer.character_coverage must be a number of at least 0.98, but is 0.5"),
        (
            {"character_coverage": 1.5},
            "tokenizer.character_coverage must be at most 1.0, because it is a share of the characters of the text, but is 1.5",
        ),
    ],
)
def test_settings_without_effect_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_tokenizer(TokenizerConfig(**settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"type": "word", "tgt_type": "bpe", "shared": False, "dropout": 0.1, "byte_fallback": True},
        {"type": "bpe", "tgt_type": "unigram", "shared": False, "dropout": 0.1, "nbest": 8, "nbest_power": 0.0},
        {"model": "m", "shared": False, "vocab_size": 9},
    ],
)
def test_settings_that_concern_one_side_are_accepted(settings: dict[str, Any]) -> None:
    check_tokenizer(TokenizerConfig(**settings))
