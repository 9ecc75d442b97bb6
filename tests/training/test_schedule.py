"""The learning rate and the weight of coverage are functions of the update's number and of the validations so far."""

from __future__ import annotations

import dataclasses

import pytest

from seq2seq.config import Config, LossConfig, ModelConfig, TrainConfig
from seq2seq.training.schedule import check_coverage, check_schedule, coverage_weight, learning_rate


def rates(config: TrainConfig, updates: range, plateaus: int = 0) -> list[float]:
    return [learning_rate(config, update, plateaus) for update in updates]


def test_constant_is_constant() -> None:
    assert set(rates(TrainConfig(learning_rate=0.25), range(1, 500), plateaus=9)) == {0.25}


@pytest.mark.parametrize("schedule", ["constant", "inverse_sqrt", "plateau"])
def test_warmup_climbs_in_equal_steps_and_ends_at_the_rate(schedule: str) -> None:
    climbing = rates(TrainConfig(learning_rate=0.8, warmup=8, schedule=schedule), range(1, 9))
    assert climbing == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


def test_inverse_sqrt_halves_when_updates_quadruple() -> None:
    config = TrainConfig(learning_rate=1.0, warmup=10, schedule="inverse_sqrt")
    for update in (10, 17, 400):
        assert learning_rate(config, 4 * update, 3) == pytest.approx(learning_rate(config, update, 0) / 2)


def test_plateau_multiplies_for_every_validation_without_gain() -> None:
    config = TrainConfig(learning_rate=1.0, schedule="plateau", plateau_factor=0.3)
    assert [learning_rate(config, 50, n) for n in range(3)] == pytest.approx([1, 0.3, 0.09])
    assert learning_rate(config, 5, 2) == learning_rate(config, 5000, 2)


def test_the_limit_of_updates_has_no_influence() -> None:  # or a resumed run with a higher limit would differ
    for schedule in ("constant", "inverse_sqrt", "plateau"):
        config = TrainConfig(schedule=schedule, warmup=5, max_updates=10)
        longer = dataclasses.replace(config, max_updates=1000, max_epochs=3)
        assert rates(config, range(1, 30)) == rates(longer, range(1, 30))


def test_inverse_sqrt_needs_a_warmup() -> None:
    with pytest.raises(ValueError, match=r"train\.schedule=inverse_sqrt .* but train\.warmup is 0; set train\.warmup"):
        check_schedule(TrainConfig(schedule="inverse_sqrt"))
    check_schedule(TrainConfig(schedule="inverse_sqrt", warmup=1))
    check_schedule(TrainConfig(schedule="plateau"))


def test_a_plateau_factor_needs_the_plateau() -> None:
    config = TrainConfig(schedule="constant", plateau_factor=0.3)
    with pytest.raises(ValueError, match=r"train.plateau_factor has no effect with train.schedule=constant"):
        check_schedule(config)


def test_the_weight_of_coverage_climbs_from_its_start() -> None:
    config = LossConfig(coverage_weight=0.8, coverage_warmup=4)
    assert [coverage_weight(config, update, 10) for update in range(8, 17)] == pytest.approx(
        [0, 0, 0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8]
    )
    assert [coverage_weight(LossConfig(coverage_weight=0.8), update, 2) for update in (1, 2, 3, 99)] == [0, 0, 0.8, 0.8]
    assert coverage_weight(config, 10**6, None) == 0, "it waits for a plateau"


@pytest.mark.parametrize(
    ("loss", "coverage", "patience", "message"),
    [
        ({"coverage_weight": 1.0}, "none", 10, r"loss.coverage_weight=1.0 has no effect with model.coverage=none"),
        ({"coverage_start": 5}, "none", 10, r"loss.coverage_start=5 has no effect with model.coverage=none"),
        (
            {"coverage_warmup": 5},
            "none",
            10,
            r"loss.coverage_warmup=5 has no effect .* model.coverage=sum or fertility",
        ),
        ({"coverage_warmup": 5}, "sum", 10, r"loss.coverage_warmup=5 has no effect with loss.coverage_weight=0; set"),
        ({"coverage_start": -1}, "sum", 0, r"loss.coverage_start=-1 waits until train.patience ends, but that is 0"),
    ],
)
def test_coverage_settings_that_cannot_act_are_refused(loss, coverage, patience, message) -> None:
    config = Config(loss=LossConfig(**loss), model=ModelConfig(coverage=coverage), train=TrainConfig(patience=patience))
    with pytest.raises(ValueError, match=message):
        check_coverage(config)


def test_coverage_settings_that_can_act_are_accepted() -> None:
    loss = LossConfig(coverage_weight=1.0, coverage_start=-1, coverage_warmup=5)
    check_coverage(Config(loss=loss, model=ModelConfig(coverage="fertility")))
    check_coverage(Config())
