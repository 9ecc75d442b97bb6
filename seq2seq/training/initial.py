"""The tokenizers and the model at the start of a run: new ones, or those of another model (train.init_from)."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch

from seq2seq import model_dir
from seq2seq.config import Config, ModelConfig, TrainConfig
from seq2seq.data import corpus
from seq2seq.model import Seq2Seq
from seq2seq.model_dir import Settings, Tokenizers
from seq2seq.text.factory import tokenizer_configs, train_tokenizer
from seq2seq.text.tags import check_tag
from seq2seq.training.state import has_state, new_run_advice
from seq2seq.training.vectors import set_vectors

log = logging.getLogger(__name__)

# Settings that may differ from those of train.init_from: every kind of dropout, since dropout has no parameters.
_MAY_DIFFER = {field.name for field in dataclasses.fields(ModelConfig) if "drop" in field.name}
_SIZES = {field.name for field in dataclasses.fields(ModelConfig) if field.name.endswith(("_size", "_layers"))}
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

    If the models have different sizes, only parameters of the same shape are copied; the log names the others.

    Raises:
        ValueError: the models differ in settings other than sizes, dropout and added copying or coverage, or no parameter
            has the same shape.
    """
    model = model_dir.build_model(settings, tokenizers)
    if init_from is None:
        return model
    other, other_settings, _ = model_dir.load(init_from, torch.device("cpu"))
    before = other_settings.model
    added = {name for name in _MAY_BE_ADDED if getattr(before, name) in ("none", None)}
    if {before.bridge, settings.model.bridge} == {None, "linear"}:  # older versions saved the default as linear
        added.add("bridge")
    _compare(before, settings.model, path=init_from, group="model", ignore=_MAY_DIFFER | _SIZES | added)
    own = model.state_dict()
    fitting = {
        name: weight for name, weight in other.state_dict().items() if name in own and weight.shape == own[name].shape
    }
    if not fitting:
        raise ValueError(
            f"no parameter of train.init_from={init_from} has the shape that the settings require; remove it"
        )
    missing = model.load_state_dict(fitting, strict=False).missing_keys
    left = [name for name in missing if not name.startswith(_ADDED_PARAMETERS)]
    if left:
        log.warning(
            "%d of %d parameters start at random, since train.init_from=%s has other sizes: %s",
            len(left),
            len(own),
            init_from,
            ", ".join(left),
        )
    return model


def apply_start_settings(model: Seq2Seq, config: TrainConfig, tokenizers: Tokenizers, *, continues: bool) -> list[str]:
    """Load pretrained vectors, unless the run continues, and freeze the parts of train.freeze.

    Returns:
        Lines about the vectors and about the frozen parameters.

    Raises:
        ValueError: a file of vectors does not fit, or train.freeze names no part of the model or all of it.
    """
    lines = []
    for side in ("src", "tgt"):
        path: str | None = getattr(config, f"{side}_vectors")
        if path is None or continues:
            continue
        embedding, tokenizer = getattr(model, f"{side}_embedding"), getattr(tokenizers, side)
        count = set_vectors(embedding, tokenizer, path, setting=f"train.{side}_vectors")
        lines.append(f"{count:,} of {tokenizer.size:,} {side} pieces start with the vectors of {path}")
    if config.freeze is not None:
        _freeze(model, config.freeze)
        frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
        lines.append(f"{frozen:,} parameters are frozen by train.freeze")
    return lines


def _freeze(model: Seq2Seq, parts: Any) -> None:
    """Exclude the parameters of parts from training.

    Raises:
        ValueError: a part does not exist, or nothing remains to be trained.
    """
    named = dict(model.named_parameters(remove_duplicate=False))
    known = list(dict.fromkeys(name.partition(".")[0] for name in named))
    for part in [parts] if isinstance(parts, str) else parts:
        found = [weight for name, weight in named.items() if f"{name}.".startswith(f"{part}.")]
        if not found:
            raise ValueError(f"train.freeze must name parts of the model ({', '.join(known)}), but is {part}")
        for weight in found:
            weight.requires_grad_(False)
    if not any(weight.requires_grad for weight in named.values()):
        raise ValueError("train.freeze must leave a part of the model to train, but names all of them; remove one")


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
            "set them to the values of that model (copying and coverage may be added, sizes and dropout may differ)"
        )
