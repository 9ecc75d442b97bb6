"""Runs with tokenizers of other origin, another type on each side, and unigram segmentations drawn in each epoch."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from small_runs import EVERYTHING, assert_same_run, config_of, everything, same, weights_of

from seq2seq.model_dir import load_settings
from seq2seq.text.tokenizer import SPECIALS
from seq2seq.training.train import train
from seq2seq.translator import Translator

UNIGRAM: dict[str, Any] = {"tokenizer.type": "unigram", "tokenizer.vocab_size": 330}


@pytest.fixture
def spelled(folder: Path) -> Path:
    """Write some digits as words, so that they have several segmentations."""
    for path in folder.glob("*.*"):
        path.write_text(path.read_text().replace("1", "one").replace("2", "two").replace("3", "three"))
    return folder


def test_exact_resume_with_drawn_unigram_segmentations(spelled: Path) -> None:
    drawing = {"tokenizer__nbest": 16, "tokenizer__nbest_power": 0.2}
    unbroken, broken = (everything(spelled, run, **UNIGRAM, **drawing) for run in ("unbroken", "broken"))
    train(unbroken)
    broken.train.max_updates = 5
    train(broken)
    broken.train.max_updates = unbroken.train.max_updates
    train(broken)
    assert_same_run(unbroken, broken)
    for number, changes in enumerate(({}, {"tokenizer__nbest": 16})):
        other = config_of(spelled, f"other{number}", **EVERYTHING, **UNIGRAM, **changes)
        train(other)
        assert not same(weights_of(unbroken), weights_of(other)), changes


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_model_of_other_origin_is_trained_with_and_saved(spelled: Path, kind: str) -> None:
    own = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter((spelled / "train.src").read_text().splitlines()),
        model_writer=own,
        model_type=kind,
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (spelled / "own.model").write_bytes(own.getvalue())
    config = config_of(
        spelled,
        tokenizer__type=kind,
        tokenizer__vocab_size=8000,
        tokenizer__model=str(spelled / "own.model"),
        tokenizer__shared=False,
        tokenizer__tgt_type="word",
    )
    train(config)
    (spelled / "own.model").unlink()
    _, tokenizers = load_settings(Path(config.run_dir) / "model")
    assert tokenizers.src.pieces(range(4)) == list(SPECIALS)
    processor = sentencepiece.SentencePieceProcessor(model_proto=own.getvalue())
    assert tokenizers.src.segment(["one 4 two"])[0].pieces == processor.encode("one 4 two", out_type=str)
    assert tokenizers.tgt.segment(["one 4 two"])[0].pieces == ["one", "4", "two"]
    assert isinstance(Translator.load(config.run_dir, device="cpu").translate(["one 4"])[0], str)
    second = config_of(
        spelled,
        "second",
        train__init_from=config.run_dir,
        tokenizer__type=kind,
        tokenizer__vocab_size=8000,
        tokenizer__shared=False,
        tokenizer__tgt_type="word",
    )
    train(second)
    _, again = load_settings(Path(second.run_dir) / "model")
    assert again.src.identity == tokenizers.src.identity
