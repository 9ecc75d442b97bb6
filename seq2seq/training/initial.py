"""What a run starts with: its tokenizers and its model, new ones or those of another model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from seq2seq import model_dir
from seq2seq.config import Config, ModelConfig
from seq2seq.data import corpus
from seq2seq.model import Seq2Seq
from seq2seq.model_dir import Settings, Tokenizers
from seq2seq.text.factory import train_tokenizer
from seq2seq.training.state import has_state

# What need not be as in the model that a run starts from: every dropout, which has no parameters.
_FREE = {field.name for field in dataclasses.fields(ModelConfig) if "drop" in field.name}
_ADDED = {"copy", "copy_attention", "coverage"}
_NEW = ("pointer.", "decoder.attention.coverage", "decoder.attention.fertility")  # their parameters


def find_tokenizers(config: Config, run: Path) -> Tokenizers:
    """Those of the run if it has them, of train.init_from if it is set, else new ones of the training side of the data.

    Raises:
        ValueError: train.init_from is no model, or has other tokenizers than the configuration asks for.
    """
    last = run / "last"
    if has_state(last):
        return model_dir.load_settings(last)[1]
    if config.train.init_from is not None:
        settings, tokenizers = model_dir.load_settings(model_dir.find(config.train.init_from))
        _compare(config.train.init_from, "tokenizer", settings.tokenizer, config.tokenizer, {"dropout"})
        return tokenizers
    data = config.data
    if config.tokenizer.shared:
        texts = (text for side in ("src", "tgt") for text in corpus.training_text(data, side))
        tokenizer = train_tokenizer(texts, config.tokenizer)
        return Tokenizers(tokenizer, tokenizer)
    src, tgt = (train_tokenizer(corpus.training_text(data, side), config.tokenizer) for side in ("src", "tgt"))
    return Tokenizers(src, tgt)


def initial_model(settings: Settings, tokenizers: Tokenizers, init_from: str | None) -> Seq2Seq:
    """A model with random weights, or with those of another model as far as that has them.

    Raises:
        ValueError: the other model differs in more than copying and coverage, which may be added, and dropout.
    """
    model = model_dir.build_model(settings, tokenizers)
    if init_from is None:
        return model
    other, other_settings, _ = model_dir.load(init_from, torch.device("cpu"))
    before = other_settings.model
    added = {name for name in _ADDED if getattr(before, name) in ("none", None)}
    _compare(init_from, "model", before, settings.model, _FREE | added)
    missing, unexpected = model.load_state_dict(other.state_dict(), strict=False)
    assert not unexpected and all(name.startswith(_NEW) for name in missing)  # noqa: PT018
    return model


def _compare(path: str, part: str, before: object, now: object, free: set[str]) -> None:
    """Refuse settings that are not those of the model to start from."""
    assert dataclasses.is_dataclass(now)
    differing = [
        f"{part}.{field.name} ({getattr(before, field.name)} there, {getattr(now, field.name)} here)"
        for field in dataclasses.fields(now)
        if field.name not in free and getattr(before, field.name) != getattr(now, field.name)
    ]
    if differing:
        raise ValueError(
            f"train.init_from={path} is a model of another kind: {', '.join(differing)}; set them as they are there "
            "(copying and coverage may be added, dropout may differ)"
        )
