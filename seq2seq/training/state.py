"""The state that a run requires to continue with bit-equal results, and its file ``last/state.pt``.

The file is written atomically, so there is always a complete one. It is a zip file of ``torch.save`` whose comment holds
the SHA-256 of everything before the comment, because PyTorch does not check the CRCs of the zip format. Files of older
versions have no comment and are read without this check.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from seq2seq.files import make_folder, read_file, write_atomically
from seq2seq.model_dir import WEIGHTS, current_names
from seq2seq.training.processes import Processes, separate_random_numbers

STATE = "state.pt"
_COMMENT = b"sha256:"
_COMMENT_SIZE = len(_COMMENT) + 64
_ZIP_END, _ZIP_END_SIZE = b"PK\x05\x06", 22  # the last record of a zip file; its last two bytes: size of the comment


@dataclass
class Progress:
    """Counters and scores of a run. The field names are part of the file format of ``state.pt``."""

    update: int = 0  # updates made
    epoch: int = 0  # from 0
    position: int = 0  # batches of this epoch already used
    best: float | None = None  # best validation score in train.metric; None before the first validation that counts
    best_loss: float = math.inf  # validation loss of the best model; breaks ties
    best_update: int = 0
    without_gain: int = 0  # validations since the best one; limited by train.patience
    plateaus: int = 0  # number of all validations without improvement; used by the schedule "plateau"
    covered_from: int | None = None  # updates made before coverage starts; None: when train.patience is used up
    nll: float = 0.0  # this and the next three: sums since the last log line
    coverage: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    most_positions: int | None = None  # larger batches are split; None: all have fitted into memory
    metrics_size: int = 0  # bytes of metrics.jsonl that belong to this state

    def patience_has_ended(self, patience: int) -> bool:
        """Return whether there was no improvement in the last ``patience`` validations; False if ``patience`` is 0."""
        return bool(patience) and self.without_gain >= patience

    def reset_sums(self) -> None:
        """Set the sums since the last log line to zero."""
        self.nll, self.coverage, self.tokens, self.seconds = 0.0, 0.0, 0, 0.0


class Stateful(Protocol):
    """An object with a state: a model, an optimizer, a moving average, a gradient scaler."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


def save_state(
    folder: Path,
    progress: Progress,
    *,
    parts: Mapping[str, Stateful],
    data: Mapping[str, str],
    processes: Processes | None = None,
) -> None:
    """Save everything that the next update depends on.

    Args:
        parts: the objects that change with every update, by name.
        data: fingerprints of the training and the validation data; a run does not continue with other data.
        processes: of the run, one by default. The first one writes the file, with the random numbers of all.
    """
    processes = processes or Processes()
    random_states = processes.gather(_random_state())
    if not processes.is_first:
        return
    content: dict[str, Any] = {
        "progress": dataclasses.asdict(progress),
        "parts": {name: part.state_dict() for name, part in parts.items()},
        **random_states[0],
        "data": dict(data),
    }
    if len(random_states) > 1:
        content["other_rng"] = random_states[1:]
    buffer = io.BytesIO()
    torch.save(content, buffer)
    make_folder(folder)
    write_atomically(folder / STATE, _with_checksum(buffer))


def has_state(folder: Path) -> bool:
    """Return whether the folder holds a saved state."""
    return (folder / STATE).exists()


def load_state(
    folder: Path, *, parts: Mapping[str, Stateful], data: Mapping[str, str], processes: Processes | None = None
) -> Progress:
    """Restore the parts and the random number generators, and return the progress.

    Args:
        processes: of the run, one by default. The first one reads the file. A process that the saved run did not have gets
            random numbers of its own, which depend on those of the first one.

    Raises:
        ValueError: the file is damaged or does not fit the parts, or the training or validation data has changed.
    """
    path = folder / STATE
    processes = processes or Processes()
    try:
        content = processes.from_first(lambda: _read(path))
        saved = content["data"]
        if not isinstance(saved, dict):  # older versions saved the fingerprint of the training data only
            saved = {"train": saved}
        progress = _progress(content["progress"])
    except _DAMAGES as error:
        raise _damaged(path, error) from error
    for split, subject in (("train", "training data or its tokenizer"), ("valid", "validation data")):
        if saved.get(split, data[split]) != data[split]:
            raise ValueError(
                f"the {subject} must stay as it was when the run in {folder.parent} started, but it has changed; "
                f"restore it, or {new_run_advice(folder.parent)}"
            )
    try:
        for name, part in parts.items():
            state = content["parts"][name]
            part.load_state_dict(current_names(state) if name in ("model", "average") else state)
            if isinstance(part, torch.optim.Optimizer):
                _check_shapes(part)
        _restore_random_state(content, processes.rank)
    except _DAMAGES as error:
        raise _damaged(path, error) from error
    return progress


def _random_state() -> dict[str, Tensor | None]:
    """Return the states of the random number generators of this process."""
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    return {"cpu_rng": torch.get_rng_state(), "cuda_rng": cuda}


def _restore_random_state(content: Mapping[str, Any], rank: int) -> None:
    """Restore the generators of this process, or seed them if the saved run had fewer processes."""
    states = [content, *content.get("other_rng", [])]
    state = states[rank] if rank < len(states) else content
    torch.set_rng_state(state["cpu_rng"])
    if state["cuda_rng"] is not None and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(state["cuda_rng"])
    if rank >= len(states):
        separate_random_numbers(rank)


def new_run_advice(run: Path) -> str:
    """Advice when a run cannot be continued: start a new one, from the best model of this one if it has one."""
    has_model = (run / "model" / WEIGHTS).is_file()
    model = f", which can start from the best model of this one with train.init_from={run}" if has_model else ""
    return f"set name to start a new run{model}"


# The errors of PyTorch and Python for a file that is no state, or the state of other parts.
_DAMAGES = (RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError, pickle.UnpicklingError)


def _damaged(path: Path, error: Exception) -> ValueError:
    if isinstance(error, KeyError):
        reason = f"{error} is missing"
    else:
        reason = next((line.strip(" .") for line in str(error).splitlines() if line.strip()), "it is not complete")
    return ValueError(f"{path} is damaged or does not fit the run ({reason}); {new_run_advice(path.parent.parent)}")


def _with_checksum(buffer: io.BytesIO) -> memoryview:
    """Add the checksum as the comment of a zip file, in place."""
    content = buffer.getbuffer()
    comment = _COMMENT + hashlib.sha256(content).hexdigest().encode()
    content[-2:] = _COMMENT_SIZE.to_bytes(2, "little")
    content.release()
    buffer.seek(0, io.SEEK_END)
    buffer.write(comment)
    return buffer.getbuffer()


def _read(path: Path) -> dict[str, Any]:
    """Read a state file and check its checksum.

    Raises:
        ValueError: the checksum differs, PyTorch cannot read the file, or it is not a regular file.
    """
    file = bytearray(read_file(path))
    end, comment = file[-_COMMENT_SIZE - _ZIP_END_SIZE : -_COMMENT_SIZE], file[-_COMMENT_SIZE:]
    if comment.startswith(_COMMENT) and end.startswith(_ZIP_END):
        if end[-2:] != _COMMENT_SIZE.to_bytes(2, "little"):
            raise ValueError("its checksum is wrong")
        del file[-_COMMENT_SIZE:]
        file[-2:] = b"\0\0"
        if hashlib.sha256(file).hexdigest().encode() != comment.removeprefix(_COMMENT):
            raise ValueError("its checksum is wrong")
    elif not (file[-_ZIP_END_SIZE:].startswith(_ZIP_END) and file.endswith(b"\0\0")):  # an older version
        raise ValueError("it is no complete zip file")
    try:
        content = torch.load(io.BytesIO(file), map_location="cpu", weights_only=True)
    except _DAMAGES as error:  # its message may advise to allow the file to run code
        raise ValueError("PyTorch cannot read it") from error
    if not isinstance(content, dict):
        raise ValueError("it does not hold the state of a run")
    return content


def _progress(values: Any) -> Progress:
    """Make the progress from its saved fields.

    Raises:
        ValueError: a field is unknown or is not a number.
    """
    if not isinstance(values, dict) or not values.keys() >= {"update", "epoch", "position"}:
        raise ValueError("progress does not hold the counters of a run")
    fields = {field.name: field.default for field in dataclasses.fields(Progress)}
    for name, value in values.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        optional = value is None and fields.get(name, 0) is None
        real = isinstance(fields.get(name), float) or name == "best"
        if name not in fields or not (number or optional) or (isinstance(value, float) and not real):
            raise ValueError(f"progress.{name} must not be {value}")
    return Progress(**values)


def _check_shapes(optimizer: torch.optim.Optimizer) -> None:
    """Check that the state of every parameter has its shape; PyTorch does not check this.

    Raises:
        ValueError: a shape differs.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
                raise ValueError(
                    f"{name} of a parameter of shape {list(parameter.shape)} has shape {list(value.shape)}"
                )
