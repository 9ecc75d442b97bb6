"""What a run must remember to go on as if it had never stopped, and the files it keeps it in.

``last/state.pt`` is one file, written under a temporary name and renamed: there is always a whole one.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch

STATE = "state.pt"


@dataclass
class Progress:
    """Where a run stands."""

    update: int = 0  # updates made
    epoch: int = 0  # from 0
    position: int = 0  # batches of this epoch already used
    best: float | None = None  # of train.metric
    best_loss: float = math.inf  # which of two equal ones is the better
    best_update: int = 0
    without_gain: int = 0  # validations since the best
    plateaus: int = 0  # validations without gain in all
    covered_from: int | None = None  # updates made when coverage started or is to start; None: waits for a plateau
    nll: float = 0.0  # since the last log line, as are the next three
    coverage: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    metrics_size: int = 0  # bytes of metrics.jsonl that belong to this state


class Stateful(Protocol):
    """A model or an optimizer."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


def save_state(folder: Path, progress: Progress, parts: Mapping[str, Stateful], data: Mapping[str, str]) -> None:
    """Write everything that the next update depends on.

    Args:
        parts: what changes with every update, by name.
        data: fingerprints of the training and the validation data, so that a run does not go on with other data.
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
    """Whether there is a state to go on from."""
    return (folder / STATE).exists()


def load_state(folder: Path, parts: Mapping[str, Stateful], data: Mapping[str, str]) -> Progress:
    """Put the parts and the random generators where they were.

    Raises:
        ValueError: the training or the validation data is not what it was.
    """
    try:
        content = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, LookupError, pickle.UnpicklingError) as error:
        raise ValueError(f"{folder / STATE} is damaged; set name to start a new run") from error
    before = content["data"] if isinstance(content["data"], dict) else {"train": content["data"]}  # of an older version
    for split, what in (
        ("train", "training data or its tokenizer is not what"),
        ("valid", "validation data is not what"),
    ):
        if before.get(split, data[split]) != data[split]:
            raise ValueError(
                f"the {what} {folder.parent} was trained on until now; restore it, or set name to start a new run"
            )
    for name, part in parts.items():
        part.load_state_dict(content["parts"][name])
    torch.set_rng_state(content["cpu_rng"])
    if content["cuda_rng"] is not None and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(content["cuda_rng"])
    return Progress(**content["progress"])


def _lock(file: BinaryIO) -> bool:
    """Keep other processes from the file until this one closes it or dies; false: another one has it."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


class Metrics:
    """metrics.jsonl: one JSON object a line, flushed as it comes."""

    def __init__(self, path: Path, size: int) -> None:
        """Open it and cut off whatever was logged after the saved state.

        Raises:
            ValueError: another process has it open, so that two would write into one run.
        """
        self.file = open(path, "a+b")  # noqa: SIM115 (open for the whole run)
        if not _lock(self.file):
            self.close()
            raise ValueError(f"another process is training in {path.parent}; wait for its end, or set name")
        self.file.truncate(min(size, os.fstat(self.file.fileno()).st_size))

    def write(self, record: dict[str, Any]) -> None:
        self.file.write((json.dumps(record) + "\n").encode())
        self.file.flush()

    @property
    def size(self) -> int:
        """Bytes so far."""
        return os.fstat(self.file.fileno()).st_size

    def close(self) -> None:
        self.file.close()
