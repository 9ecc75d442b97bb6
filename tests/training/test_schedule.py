"""Schedules: the learning rate and the coverage weight depend on the update number and the validations so far."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from seq2seq.config import Config, LossConfig, ModelConfig, TrainConfig
from seq2seq.training.schedule import check_coverage, check_schedule, coverage_weight, learning_rate


def rates(config: TrainConfig, updates: range, plateaus: int = 0) -> list[float]:
    return [learning_rate(config, update, plateaus) for update in updates]


def test_constant_is_constant() -> None:
    assert set(rates(TrainConfig(learning_rate=0.25), range(1, 500), plateaus=9)) == {0.25}


@pytest.mark.parametrize("schedule", ["constant", "inverse_sqrt", "cosine", "plateau"])
def test_warmup_climbs_in_equal_steps_and_ends_at_the_rate(schedule: str) -> None:
    climbing = rates(TrainConfig(learning_rate=0.8, warmup=8, schedule=schedule), range(1, 9))
    assert climbing == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


def test_inverse_sqrt_halves_when_updates_quadruple() -> None:
    config = TrainConfig(learning_rate=1.0, warmup=10, schedule="inverse_sqrt")
    for update in (10, 17, 400):
        assert learning_rate(config, 4 * update, 3) == pytest.approx(learning_rate(config, update, 0) / 2)


def test_plateau_multiplies_by_its_factor_at_every_validation_without_improvement() -> None:
    config = TrainConfig(learning_rate=1.0, schedule="plateau", plateau_factor=0.3)
    assert [learning_rate(config, 50, n) for n in range(3)] == pytest.approx([1, 0.3, 0.09])
    assert learning_rate(config, 5, 2) == learning_rate(config, 5000, 2)


def test_the_limit_of_updates_has_no_influence() -> None:  # otherwise a resumed run with a higher limit would differ
    for schedule in ("constant", "inverse_sqrt", "plateau"):
        config = TrainConfig(schedule=schedule, warmup=5, max_updates=10)
        longer = dataclasses.replace(config, max_updates=1000, max_epochs=3)
        assert rates(config, range(1, 30)) == rates(longer, range(1, 30))


def test_cosine_falls_from_the_rate_to_zero_at_the_last_update() -> None:
    config = TrainConfig(learning_rate=0.8, warmup=10, max_updates=110, schedule="cosine")
    expected = [0.8, 0.4 * (1 + 0.5**0.5), 0.4, 0.4 * (1 - 0.5**0.5), 0.0, 0.0]
    assert [learning_rate(config, update, 0) for update in (10, 35, 60, 85, 110, 200)] == pytest.approx(expected)
    falling = rates(config, range(10, 111))
    assert falling == sorted(falling, reverse=True)


def test_cosine_requires_updates_after_the_warmup() -> None:
    message = (
        "train.schedule=cosine lowers the learning rate between train.warmup=10 and train.max_updates=10, "
        "which must be higher; change one of them"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_schedule(TrainConfig(schedule="cosine", warmup=10, max_updates=10))


def test_inverse_sqrt_requires_a_warmup() -> None:
    message = (
        "train.schedule=inverse_sqrt lowers the learning rate after the warmup, but train.warmup is 0; "
        "set train.warmup above 0"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_schedule(TrainConfig(schedule="inverse_sqrt"))
    check_schedule(TrainConfig(schedule="inverse_sqrt", warmup=1))
    check_schedule(TrainConfig(schedule="plateau"))


def test_a_plateau_factor_requires_the_plateau_schedule() -> None:
    config = TrainConfig(schedule="constant", plateau_factor=0.3)
    message = (
        "train.plateau_factor has no effect with train.schedule=constant; remove it, or set train.schedule=plateau"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_schedule(config)


def test_the_weight_of_coverage_climbs_from_its_start() -> None:
    config = LossConfig(coverage_weight=0.8, coverage_warmup=4)
    assert [coverage_weight(config, update, 10) for update in range(8, 17)] == pytest.approx(
        [0, 0, 0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8]
    )
    assert [coverage_weight(LossConfig(coverage_weight=0.8), update, 2) for update in (1, 2, 3, 99)] == [0, 0, 0.8, 0.8]
    assert coverage_weight(config, 10**6, None) == 0, "the start is not decided yet"


WITHOUT_COVERAGE = " has no effect with model.coverage=none; remove it, or set model.coverage=sum or fertility"


@pytest.mark.parametrize(
    ("loss", "coverage", "patience", "message"),
    [
        ({"coverage_weight": 1.0}, "none", 10, "loss.coverage_weight=1.0" + WITHOUT_COVERAGE),
        ({"coverage_start": 5}, "none", 10, "loss.coverage_start=5" + WITHOUT_COVERAGE),
        ({"coverage_warmup": 5}, "none", 10, "loss.coverage_warmup=5" + WITHOUT_COVERAGE),
        (
            {"coverage_warmup": 5},
            "sum",
            10,
            "loss.coverage_warmup=5 has no effect with loss.coverage_weight=0; "
            "set loss.coverage_weight above 0 (See et al. 2017 use 1)",
        ),
        (
            {"coverage_start": -1},
            "sum",
            0,
            "loss.coverage_start=-1 starts coverage when train.patience is used up, but train.patience=0 means no limit; "
            "set train.patience above 0, or loss.coverage_start to a number of updates",
        ),
    ],
)
def test_coverage_settings_without_effect_are_refused(
    loss: dict[str, Any], coverage: str, patience: int, message: str
) -> None:
    config = Config(loss=LossConfig(**loss), model=ModelConfig(coverage=coverage), train=TrainConfig(patience=patience))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_coverage(config)


def test_coverage_settings_with_an_effect_are_accepted() -> None:
    loss = LossConfig(coverage_weight=1.0, coverage_start=-1, coverage_warmup=5)
    check_coverage(Config(loss=loss, model=ModelConfig(coverage="fertility")))
    check_coverage(Config())
