"""The tokenizers and the model at the start of a run: new ones, or those of another model (train.init_from)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from seq2seq import model_dir
from seq2seq.config import Config, ModelConfig
from seq2seq.data import corpus
from seq2seq.model import Seq2Seq
from seq2seq.model_dir import Settings, Tokenizers
from seq2seq.text.factory import tokenizer_configs, train_tokenizer
from seq2seq.text.tags import check_tag
from seq2seq.training.state import has_state, new_run_advice

# Settings that may differ from those of train.init_from: every kind of dropout, since dropout has no parameters.
_MAY_DIFFER = {field.name for field in dataclasses.fields(ModelConfig) if "drop" in field.name}
_MAY_BE_ADDED = {"copy", "copy_attention", "coverage"}
_ADDED_PARAMETERS = ("pointer.", "decoder.attention.coverage", "decoder.attention.fertility")  # prefixes


def find_tokenizers(config: Config, run: Path) -> Tokenizers:
    """Load the tokenizers of the run or of train.init_from, or train new ones on the training data.

    A run that has saved its state uses its saved tokenizers.

    Raises:
        ValueError: train.init_from is not a model, its tokenizer settings differ from the configuration, or it lacks a tag
            of the training data.
    """
    tags = corpus.training_tags(config.data)
    last = run / "last"
    if has_state(last):
        return model_dir.load_settings(last, restore=f"restore it, or {new_run_advice(run)}")[1]
    if config.train.init_from is not None:
        settings, tokenizers = model_dir.load_settings(model_dir.find(config.train.init_from))
        ignore = {"dropout", "nbest", "nbest_power"}
        ignore |= {name for name in ("model", "tgt_model") if getattr(config.tokenizer, name) is None}
        _compare(settings.tokenizer, config.tokenizer, path=config.train.init_from, group="tokenizer", ignore=ignore)
        for tag in tags:
            check_tag(
                tag, tokenizers.src.tags, setting=f"with train.init_from={config.train.init_from}, data.train.tag"
            )
        return tokenizers
    configs = tokenizer_configs(config.tokenizer)
    sides = [("src", "tgt")] if len(configs) == 1 else [("src",), ("tgt",)]
    made = [
        train_tokenizer((text for side in each for text in corpus.training_text(config.data, side)), settings)
        for each, settings in zip(sides, configs, strict=True)
    ]
    return model_dir.with_tags(Tokenizers(made[0], made[-1]), tags)


def initial_model(settings: Settings, tokenizers: Tokenizers, init_from: str | None) -> Seq2Seq:
    """Build the model with random weights; with ``init_from``, copy the weights that the other model has.

    Raises:
        ValueError: the models differ in settings other than dropout and added copying or coverage.
    """
    model = model_dir.build_model(settings, tokenizers)
    if init_from is None:
        return model
    other, other_settings, _ = model_dir.load(init_from, torch.device("cpu"))
    before = other_settings.model
    added = {name for name in _MAY_BE_ADDED if getattr(before, name) in ("none", None)}
    if {before.bridge, settings.model.bridge} == {None, "linear"}:  # older versions saved the default as linear
        added.add("bridge")
    _compare(before, settings.model, path=init_from, group="model", ignore=_MAY_DIFFER | added)
    missing, unexpected = model.load_state_dict(other.state_dict(), strict=False)
    assert not unexpected and all(name.startswith(_ADDED_PARAMETERS) for name in missing)  # noqa: PT018
    return model


def _compare(before: object, now: object, *, path: str, group: str, ignore: set[str]) -> None:
    """Refuse settings that differ from those of the model to start from."""
    assert dataclasses.is_dataclass(now)
    differing = [
        f"{group}.{field.name} ({getattr(before, field.name)} there, {getattr(now, field.name)} here)"
        for field in dataclasses.fields(now)
        if field.name not in ignore and getattr(before, field.name) != getattr(now, field.name)
    ]
    if differing:
        raise ValueError(
            f"the settings must be those of train.init_from={path}, but these differ: {', '.join(differing)}; "
            "set them to the values of that model (copying and coverage may be added, dropout may differ)"
        )
