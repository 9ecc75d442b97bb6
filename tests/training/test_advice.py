"""Advice in error messages: it names the settings to change, and a model to start from if there is one."""

from __future__ import annotations

from pathlib import Path

from seq2seq.training.advice import non_finite_advice
from seq2seq.training.state import Progress, save_state


def test_advice_for_a_non_finite_loss(tmp_path: Path) -> None:
    assert non_finite_advice(tmp_path) == "lower train.learning_rate", "nothing is saved yet"
    save_state(tmp_path / "last", Progress(update=3), parts={}, data={})
    assert non_finite_advice(tmp_path) == "set name to start a new run, and lower train.learning_rate"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").touch()
    assert non_finite_advice(tmp_path) == (
        "set name to start a new run, which can start from the best model of this one with "
        f"train.init_from={tmp_path}, and lower train.learning_rate"
    )
