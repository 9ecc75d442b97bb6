"""Small training runs on a toy task, copying digits, and comparisons of their run directories."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seq2seq.config import Config, from_container

TIMING = ("tokens_per_second", "peak_memory")
TOY: dict[str, Any] = {
    "tokenizer.type": "word",
    "tokenizer.vocab_size": 14,
    "model.cell": "gru",
    "model.embedding_size": 16,
    "model.hidden_size": 16,
    "model.dropout": 0.0,
    "loss.label_smoothing": 0.0,
    "train.max_updates": 4,
    "train.batch_tokens": 64,
    "train.learning_rate": 0.01,
    "train.valid_every": 100,
    "train.log_every": 1,
    "train.device": "cpu",
    "train.threads": 1,
    "data.valid_lines": 4,
    "search.beam_size": 1,
    "search.max_length_extra": 2,
}
EVERYTHING: dict[str, Any] = {  # every feature with a state: random numbers, averages, counters, schedules
    "model.cell": "lstm",
    "model.dropout": 0.2,
    "model.dropout_kind": "locked",
    "model.recurrent_dropout": 0.2,
    "model.weight_drop": 0.2,
    "loss.label_smoothing": 0.1,
    "train.accumulate": 2,
    "train.warmup": 3,
    "train.schedule": "plateau",
    "train.average": 0.9,
    "train.valid_every": 3,
    "train.log_every": 4,
    "train.max_updates": 12,
    "train.metric": "chrf",
}


def write_corpus(folder: Path, *, pairs: int, longest: int = 6) -> None:
    """Write train, valid and test files; source and target are the same digits.

    The training files start with a blank pair, so that line numbers and row numbers differ.
    """
    numbers = random.Random(1)
    for split, count in (("train", pairs), ("valid", 8), ("test", 5)):
        lines = [" ".join(str(numbers.randrange(10)) for _ in range(numbers.randint(2, longest))) for _ in range(count)]
        text = "".join(line + "\n" for line in lines)
        for side in ("src", "tgt"):
            (folder / f"{split}.{side}").write_text(("\n" if split == "train" else "") + text)


def config_of(folder: Path, run: str = "run", /, **changes: Any) -> Config:
    """Return the configuration of the toy task with some changes; ``__`` stands for the dot of a key."""
    values: dict[str, Any] = {"name": "toy", "run_dir": str(folder / run)}
    files = {f"data.{split}.{side}": f"{split}.{side}" for split in ("train", "valid") for side in ("src", "tgt")}
    flat = {"data.root": str(folder), **files, **TOY} | {key.replace("__", "."): v for key, v in changes.items()}
    for key, value in flat.items():
        *sections, name = key.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    config: Config = from_container(Config, values)
    return config


def everything(folder: Path, run: str, **changes: Any) -> Config:
    """Return the configuration of the toy task with ``EVERYTHING`` and some changes."""
    return config_of(folder, run, **{**EVERYTHING, **changes})


def state_of(config: Config) -> dict[str, Any]:
    """Load the saved state of a run, without the fields that depend on time."""
    content: dict[str, Any] = torch.load(Path(config.run_dir) / "last" / "state.pt", weights_only=True)
    for field in ("metrics_size", "seconds"):
        del content["progress"][field]
    return content


def weights_of(config: Config) -> dict[str, Tensor]:
    """Load the weights of the last update, not averaged."""
    weights: dict[str, Tensor] = state_of(config)["parts"]["model"]
    return weights


def metrics_of(config: Config) -> list[dict[str, Any]]:
    """Load metrics.jsonl, without the fields that depend on time."""
    lines = (Path(config.run_dir) / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMING} for line in lines]


def saved_model(config: Config) -> dict[str, bytes]:
    """Read the files of the best model."""
    return {path.name: path.read_bytes() for path in (Path(config.run_dir) / "model").iterdir()}


def same(one: Any, two: Any) -> bool:
    """Return whether two nested values are equal bit for bit."""
    if isinstance(one, Tensor):
        return isinstance(two, Tensor) and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


def assert_same_run(one: Config, two: Config) -> None:
    """Compare states, logs and best models of two runs bit for bit."""
    first, second = state_of(one), state_of(two)
    assert first.keys() == second.keys()
    for key in first:
        assert same(first[key], second[key]), f"{key} differs"
    assert metrics_of(one) == metrics_of(two)
    assert saved_model(one) == saved_model(two)
