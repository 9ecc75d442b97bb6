"""The start of coverage: questions change nothing, and ``advance`` starts it exactly once."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from seq2seq.config import Config, LossConfig, ModelConfig, TrainConfig
from seq2seq.training.coverage_phase import CoveragePhase, planned_start
from seq2seq.training.state import Progress


def make_phase(start: int, *, coverage: str = "sum", **progress: int | float | None) -> CoveragePhase:
    """Return the phase of a run with loss.coverage_start=``start`` and train.patience=2."""
    config = Config(
        model=ModelConfig(coverage=coverage),
        loss=LossConfig(coverage_weight=0.5, coverage_start=start),
        train=TrainConfig(patience=2),
    )
    values = {"covered_from": planned_start(config.loss), **progress}
    parameters = [nn.Parameter(torch.zeros(2))]
    return CoveragePhase(config, progress=Progress(**values), parameters=parameters)  # type: ignore[arg-type]


@pytest.mark.parametrize("start", [-1, 0, 4])
@pytest.mark.parametrize("update", [0, 3, 4, 5])
def test_questions_change_nothing(start: int, update: int) -> None:
    phase = make_phase(start, update=update, best=3.0, without_gain=2)
    before = dataclasses.asdict(phase.progress)
    for _ in range(2):
        phase.has_started()
        phase.is_pending()
        phase.weight()
    assert dataclasses.asdict(phase.progress) == before
    assert phase.parameters[0].requires_grad


def test_coverage_starts_after_the_planned_update() -> None:
    phase = make_phase(4)
    history = []
    for update in range(7):
        phase.progress.update = update
        starts = phase.advance()
        history.append((starts, phase.has_started(), phase.is_pending(), phase.weight()))
        assert phase.parameters[0].requires_grad is phase.has_started()
    before, first, after = (False, False, True, 0.0), (True, True, True, 0.5), (False, True, False, 0.5)
    assert history == [before] * 4 + [first] + [after] * 2


def test_coverage_from_the_first_update_resets_nothing() -> None:
    phase = make_phase(0)
    assert not phase.advance()
    assert phase.has_started()
    phase.progress.update, phase.progress.best = 1, 3.0
    assert not phase.advance()
    assert phase.progress.best == 3.0


def test_the_start_resets_best_score_patience_and_plateaus() -> None:
    phase = make_phase(-1, update=8, best=3.0, best_update=4, without_gain=1, plateaus=5)
    assert not phase.advance()
    assert phase.progress.covered_from is None, "patience has not ended yet"
    phase.progress.without_gain = 2
    assert phase.is_pending()
    assert phase.advance()
    assert phase.progress == Progress(update=8, covered_from=8)


def test_a_model_without_coverage_never_starts_it() -> None:
    phase = make_phase(0, coverage="none", update=8, best=3.0, without_gain=2)
    assert not phase.is_pending()
    assert not phase.advance()
    assert phase.progress.best == 3.0
