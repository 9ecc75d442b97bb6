"""Advice in error messages: it names the settings to change, and a model to start from if there is one."""

from __future__ import annotations

from pathlib import Path

from seq2seq.training.advice import non_finite_advice
from seq2seq.training.state import Progress, save_state


def test_advice_for_a_non_finite_loss(tmp_path: Path) -> None:
    assert non_finite_advice(tmp_path, Progress(update=3)) == "lower train.learning_rate", "nothing is saved yet"
    save_state(tmp_path / "last", Progress(update=3), parts={}, data={})
    assert (
        non_finite_advice(tmp_path, Progress(update=5)) == "set name to start a new run, and lower train.learning_rate"
    )
    assert non_finite_advice(tmp_path, Progress(update=5000, best=1.0, best_update=3000)) == (
        f"set name to start a new run from the best model of this one (update 3,000) with train.init_from={tmp_path}, "
        "and lower train.learning_rate"
    )
