"""The state that a run needs to continue bit for bit, and the file that holds it, ``last/state.pt``.

The file is written under a temporary name and renamed, so there is always a complete one.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from seq2seq.model_dir import current_names

STATE = "state.pt"


@dataclass
class Progress:
    """Counters and scores of a run. The field names are part of the file format of ``state.pt``."""

    update: int = 0  # updates made
    epoch: int = 0  # from 0
    position: int = 0  # batches of this epoch already used
    best: float | None = None  # best validation score, in train.metric; None: no validation counts yet
    best_loss: float = math.inf  # validation loss of the best model; breaks ties
    best_update: int = 0
    without_gain: int = 0  # validations since the best one; limited by train.patience
    plateaus: int = 0  # all validations without improvement; the schedule "plateau" reads it
    covered_from: int | None = None  # updates made before coverage starts; None: when train.patience ends
    nll: float = 0.0  # this and the next three: sums since the last log line
    coverage: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    metrics_size: int = 0  # bytes of metrics.jsonl that belong to this state

    def patience_has_ended(self, patience: int) -> bool:
        """Return whether the last ``patience`` validations brought no improvement; False if it is 0 (never)."""
        return bool(patience) and self.without_gain >= patience

    def reset_sums(self) -> None:
        """Set the sums since the last log line to zero."""
        self.nll, self.coverage, self.tokens, self.seconds = 0.0, 0.0, 0, 0.0


class Stateful(Protocol):
    """An object with a state: a model, an optimizer, a moving average, a gradient scaler."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


def save_state(folder: Path, progress: Progress, *, parts: Mapping[str, Stateful], data: Mapping[str, str]) -> None:
    """Save everything that the next update depends on.

    Args:
        parts: the objects that change with every update, by name.
        data: fingerprints of the training and the validation data; a run does not continue with other data.
    """
    content = {
        "progress": dataclasses.asdict(progress),
        "parts": {name: part.state_dict() for name, part in parts.items()},
        "cpu_rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
        "data": dict(data),
    }
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / (STATE + ".tmp")
    torch.save(content, temporary)
    os.replace(temporary, folder / STATE)


def has_state(folder: Path) -> bool:
    """Return whether the folder holds a saved state."""
    return (folder / STATE).exists()


def load_state(folder: Path, *, parts: Mapping[str, Stateful], data: Mapping[str, str]) -> Progress:
    """Restore the parts and the random number generators, and return the progress.

    Raises:
        ValueError: the file is damaged, or the training or validation data has changed.
    """
    try:
        content = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, LookupError, pickle.UnpicklingError) as error:
        raise ValueError(f"{folder / STATE} is damaged; set name to start a new run") from error
    saved = content["data"]
    if not isinstance(saved, dict):  # older versions saved the fingerprint of the training data only
        saved = {"train": saved}
    for split, subject in (("train", "training data or its tokenizer"), ("valid", "validation data")):
        if saved.get(split, data[split]) != data[split]:
            raise ValueError(
                f"the {subject} must stay as it was when the run in {folder.parent} started, but it has changed; "
                "restore it, or set name to start a new run"
            )
    for name, part in parts.items():
        state = content["parts"][name]
        part.load_state_dict(current_names(state) if name in ("model", "average") else state)
    torch.set_rng_state(content["cpu_rng"])
    if content["cuda_rng"] is not None and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(content["cuda_rng"])
    return Progress(**content["progress"])
