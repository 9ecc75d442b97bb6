"""Advice in the error messages of the training loop: the settings to change."""

from __future__ import annotations

from pathlib import Path

from seq2seq.training.state import has_state, new_run_advice


def non_finite_advice(run: Path) -> str:
    """Advice when the loss is NaN or infinite."""
    lower = "lower train.learning_rate"
    return f"{new_run_advice(run)}, and {lower}" if has_state(run / "last") else lower


def pair_too_large(source: int, target: int) -> str:
    """Return the message about one pair of some source and target pieces that does not fit into memory."""
    return (
        f"one pair of {source} source and {target} target pieces does not fit into memory; "
        "lower data.max_source_length and data.max_target_length, or the sizes of the model"
    )
