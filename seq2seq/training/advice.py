"""Advice in the error messages of the training loop: the settings to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from seq2seq.config import TrainConfig
from seq2seq.data.batching import Batch
from seq2seq.training.state import has_state, new_run_advice


def non_finite_advice(run: Path) -> str:
    """Advice when the loss is NaN or infinite."""
    lower = "lower train.learning_rate"
    return f"{new_run_advice(run)}, and {lower}" if has_state(run / "last") else lower


@contextmanager
def advice_when_out_of_memory(config: TrainConfig, batch: Batch) -> Iterator[None]:
    """Turn an out-of-memory error into a ValueError that names the settings to change.

    A GPU raises torch.OutOfMemoryError, a CPU a RuntimeError; other errors pass unchanged.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        sentences, source, target = len(batch.src), batch.src.shape[1], batch.tgt_out.shape[1]
        raise ValueError(
            f"a batch of {sentences} sentences of up to {source} source and {target} target pieces does not fit into "
            f"memory; lower train.batch_tokens={config.batch_tokens} and raise train.accumulate={config.accumulate} by "
            "the same factor, or lower data.max_source_length and data.max_target_length"
        ) from error
