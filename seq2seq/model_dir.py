"""A model directory: config.json, model.safetensors and the tokenizer files; self-contained and nothing executable.

``config.json`` holds plain settings only. Every file is written under a temporary name and renamed, so a reader never
sees half of one.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_file

from seq2seq.config import Config, DataConfig, ModelConfig, SearchConfig, TokenizerConfig, from_container
from seq2seq.model import Seq2Seq
from seq2seq.text.factory import load_tokenizer
from seq2seq.text.tokenizer import Tokenizer

FORMAT = 1
CONFIG = "config.json"
WEIGHTS = "model.safetensors"


class Tokenizers(NamedTuple):
    """One for each side; the same object when the vocabulary is shared."""

    src: Tokenizer
    tgt: Tokenizer


class Settings(NamedTuple):
    """What of a configuration a trained model carries with it."""

    model: ModelConfig
    tokenizer: TokenizerConfig
    search: SearchConfig
    max_source_length: int  # pieces


def settings_of(config: Config) -> Settings:
    """The part of a run's configuration that belongs to the model."""
    return Settings(config.model, config.tokenizer, config.search, config.data.max_source_length)


def build_model(settings: Settings, tokenizers: Tokenizers) -> Seq2Seq:
    """Make an untrained model."""
    return Seq2Seq(
        settings.model,
        src_size=tokenizers.src.size,
        tgt_size=tokenizers.tgt.size,
        shared=settings.tokenizer.shared,
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
    write(folder / CONFIG, (json.dumps(content, indent=2) + "\n").encode())


def save_weights(folder: Path, model: Seq2Seq) -> None:
    """Write model.safetensors; tied weights are stored once.

    Copies are written, since on a GPU the weights of a recurrent layer are parts of one storage, which safetensors refuses.
    """
    temporary = folder / (WEIGHTS + ".tmp")
    weights = {name: weight.detach().to("cpu", copy=True).contiguous() for name, weight in model.named_parameters()}
    save_file(weights, temporary)
    os.replace(temporary, folder / WEIGHTS)


def write(path: Path, content: bytes) -> None:
    """Write a whole file or none of it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def find(path: str | Path) -> Path:
    """The model directory that a path means: itself, or ``model/`` inside a run directory.

    Raises:
        ValueError: there is none.
    """
    path = Path(path).expanduser()
    for folder in (path, path / "model"):
        if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file():
            return folder
    if not path.is_dir():
        raise ValueError(f"there is no model directory {path}")
    raise ValueError(f"{path} holds no model: {CONFIG} and {WEIGHTS} stand neither in it nor in {path / 'model'}")


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
        )
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder} is not a whole model directory: {error!r}") from error
    kind = settings.tokenizer.type
    made = [_read_tokenizer(kind, folder / name) for name in _tokenizer_names(settings.tokenizer)]
    return settings, Tokenizers(made[0], made[-1])


def load(path: str | Path, device: torch.device) -> tuple[Seq2Seq, Settings, Tokenizers]:
    """Load a model ready for use (in evaluation mode) from a model or run directory."""
    folder = find(path)
    settings, tokenizers = load_settings(folder)
    model = build_model(settings, tokenizers)
    try:
        load_model(model, str(folder / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"{folder / WEIGHTS} does not fit {folder / CONFIG} or is damaged: {first}") from error
    return model.to(device).eval(), settings, tokenizers


def _read_tokenizer(kind: str, path: Path) -> Tokenizer:
    try:
        return load_tokenizer(kind, path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path.parent} is not a whole model directory: {path.name}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _tokenizer_names(config: TokenizerConfig) -> list[str]:
    """File names: one tokenizer, or source then target."""
    ending = "json" if config.type == "word" else "model"
    return [f"tokenizer.{ending}"] if config.shared else [f"tokenizer.src.{ending}", f"tokenizer.tgt.{ending}"]


def _tokenizer_files(config: TokenizerConfig, tokenizers: Tokenizers) -> dict[str, Tokenizer]:
    return dict(zip(_tokenizer_names(config), tokenizers, strict=False))
