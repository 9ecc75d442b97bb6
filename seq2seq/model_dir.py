"""A model directory: config.json, model.safetensors and the tokenizer files.

It is self-contained and holds nothing executable; ``config.json`` holds plain settings only. Every file is written under a
temporary name and renamed, so a reader never finds half of one.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from seq2seq.config import Config, DataConfig, ModelConfig, SearchConfig, TokenizerConfig, from_container
from seq2seq.data.limits import LengthLimit
from seq2seq.model import Seq2Seq
from seq2seq.text.factory import load_tokenizer
from seq2seq.text.tokenizer import Tokenizer

FORMAT = 1
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
RENAMED_PARAMETERS = {"bridge.": "decoder.bridge."}  # names in models of version 0.1.0, and names today


class Tokenizers(NamedTuple):
    """The tokenizers of source and target; the same object if the vocabulary is shared."""

    src: Tokenizer
    tgt: Tokenizer


class Settings(NamedTuple):
    """The settings that are saved with a trained model."""

    model: ModelConfig
    tokenizer: TokenizerConfig
    search: SearchConfig
    max_source_length: int  # pieces
    length_limit: LengthLimit | None = None  # of translations, learned in training; None in models of older versions


def settings_of(config: Config, length_limit: LengthLimit | None = None) -> Settings:
    """Return the settings of a run that are saved with its model."""
    return Settings(config.model, config.tokenizer, config.search, config.data.max_source_length, length_limit)


def build_model(settings: Settings, tokenizers: Tokenizers) -> Seq2Seq:
    """Make an untrained model."""
    return Seq2Seq(
        settings.model,
        src_size=tokenizers.src.size,
        tgt_size=tokenizers.tgt.size,
        shared=settings.tokenizer.shared,
        max_source_length=settings.max_source_length,
    )


def save_settings(folder: Path, settings: Settings, tokenizers: Tokenizers) -> None:
    """Write config.json and the tokenizers."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tokenizer in _tokenizer_files(settings.tokenizer, tokenizers).items():
        write(folder / name, tokenizer.to_bytes())
    content = {
        "format": FORMAT,
        "model": dataclasses.asdict(settings.model),
        "tokenizer": dataclasses.asdict(settings.tokenizer),
        "search": dataclasses.asdict(settings.search),
        "data": {"max_source_length": settings.max_source_length},
    }
    if settings.length_limit is not None:
        content["length_limit"] = dataclasses.asdict(settings.length_limit)
    write(folder / CONFIG, (json.dumps(content, indent=2) + "\n").encode())


def save_weights(folder: Path, model: Seq2Seq) -> None:
    """Write model.safetensors; tied weights are stored once.

    Copies are written, because on a GPU the weights of a recurrent layer share one storage, which safetensors refuses.
    """
    temporary = folder / (WEIGHTS + ".tmp")
    weights = {name: weight.detach().to("cpu", copy=True).contiguous() for name, weight in model.named_parameters()}
    save_file(weights, temporary)
    os.replace(temporary, folder / WEIGHTS)


def write(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def find(path: str | Path) -> Path:
    """Return the model directory at a path: the path itself, or ``model/`` inside a run directory.

    Raises:
        ValueError: there is no model directory.
    """
    path = Path(path).expanduser()
    for folder in (path, path / "model"):
        if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file():
            return folder
    if not path.is_dir():
        raise ValueError(f"there is no model directory {path}")
    raise ValueError(f"{path} holds no model: {CONFIG} and {WEIGHTS} are neither in it nor in {path / 'model'}")


def load_settings(folder: Path) -> tuple[Settings, Tokenizers]:
    """Read config.json and the tokenizers.

    Raises:
        ValueError: a file is missing or damaged, or of a newer format.
    """
    try:
        content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if content["format"] > FORMAT:
            raise ValueError(f"{folder / CONFIG} has format {content['format']}, newer than {FORMAT}; update seq2seq")
        settings = Settings(
            from_container(ModelConfig, content["model"], "model."),
            from_container(TokenizerConfig, content["tokenizer"], "tokenizer."),
            from_container(SearchConfig, content["search"], "search."),
            from_container(DataConfig, content["data"], "data.").max_source_length,
            LengthLimit.from_dict(content["length_limit"]) if "length_limit" in content else None,
        )
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder} is not a complete model directory: {error!r}") from error
    kind = settings.tokenizer.type
    made = [_read_tokenizer(kind, folder / name) for name in _tokenizer_names(settings.tokenizer)]
    return settings, Tokenizers(made[0], made[-1])


def load(path: str | Path, device: torch.device) -> tuple[Seq2Seq, Settings, Tokenizers]:
    """Load a model in evaluation mode, with its settings and tokenizers, from a model or run directory.

    Raises:
        ValueError: there is no model, or a file is missing, damaged or does not fit the others.
    """
    folder = find(path)
    settings, tokenizers = load_settings(folder)
    try:
        weights = current_names(load_file(folder / WEIGHTS))
        _check_shapes(settings, tokenizers, weights)
        model = build_model(settings, tokenizers)
        _load_weights(model, weights)
    except (SafetensorError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"{folder / WEIGHTS} does not fit {folder / CONFIG} or is damaged: {first}") from error
    return model.to(device).eval(), settings, tokenizers


def current_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of a model that an older version saved; of a moved average too, whose names are prefixed."""
    current = {}
    for name, weight in weights.items():
        prefix = "module." if name.startswith("module.") else ""
        renamed = name.removeprefix(prefix)
        for old, new in RENAMED_PARAMETERS.items():
            if renamed.startswith(old):
                renamed = new + renamed.removeprefix(old)
        current[prefix + renamed] = weight
    return current


def _check_shapes(settings: Settings, tokenizers: Tokenizers, weights: Mapping[str, Tensor]) -> None:
    """Compare the shapes of the weights with those that the settings ask for, before any memory is allocated.

    Raises:
        RuntimeError: a shape differs, or is too large for any machine.
    """
    try:
        with torch.device("meta"):
            expected = build_model(settings, tokenizers).state_dict()
    except (OverflowError, TypeError) as error:  # torch reads a size as 64 bits
        raise RuntimeError(f"a size in {CONFIG} is too large") from error
    for name, weight in weights.items():
        if name in expected and weight.shape != expected[name].shape:
            shapes = f"{tuple(weight.shape)}, but {CONFIG} asks for {tuple(expected[name].shape)}"
            raise RuntimeError(f"{name} has shape {shapes}")


def _load_weights(model: Seq2Seq, weights: Mapping[str, Tensor]) -> None:
    """Load parameters by name; tied ones need only one of their names.

    Raises:
        RuntimeError: names or shapes that do not fit, or numbers that are not finite.
    """
    for name, weight in weights.items():
        if not weight.is_floating_point():
            raise RuntimeError(f"{name} must hold floating-point numbers, but holds {weight.dtype}")
        if not weight.isfinite().all():
            raise RuntimeError(f"{name} must hold finite numbers, but holds NaN or infinity")
    missing, unexpected = model.load_state_dict(weights, strict=False)
    state = model.state_dict()
    loaded = {state[name].data_ptr() for name in weights if name in state}
    absent = [name for name in missing if state[name].data_ptr() not in loaded]
    if absent or unexpected:
        raise RuntimeError(f"missing {', '.join(absent) or 'nothing'}, unexpected {', '.join(unexpected) or 'nothing'}")


def _read_tokenizer(kind: str, path: Path) -> Tokenizer:
    try:
        return load_tokenizer(kind, path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path.parent} is not a complete model directory: {path.name}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _tokenizer_names(config: TokenizerConfig) -> list[str]:
    """File names: one tokenizer, or source then target."""
    ending = "json" if config.type == "word" else "model"
    return [f"tokenizer.{ending}"] if config.shared else [f"tokenizer.src.{ending}", f"tokenizer.tgt.{ending}"]


def _tokenizer_files(config: TokenizerConfig, tokenizers: Tokenizers) -> dict[str, Tokenizer]:
    return dict(zip(_tokenizer_names(config), tokenizers, strict=False))
