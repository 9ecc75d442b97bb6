"""The learning rate as a function of the update number, and of the validations so far for ``plateau``."""

from __future__ import annotations

import math

from seq2seq.config import TrainConfig


def check_schedule(config: TrainConfig) -> None:
    """Refuse what cannot work.

    Raises:
        ValueError: inverse_sqrt without a warmup, a plateau factor without plateau.
    """
    if config.plateau_factor is not None and config.schedule != "plateau":
        raise ValueError(
            f"train.plateau_factor has no effect with train.schedule={config.schedule}; "
            "leave it out, or set train.schedule=plateau"
        )
    if config.schedule == "inverse_sqrt" and config.warmup == 0:
        raise ValueError(
            "train.schedule=inverse_sqrt falls from the end of the warmup on, but train.warmup is 0; set train.warmup"
        )


def learning_rate(config: TrainConfig, update: int, plateaus: int) -> float:
    """The rate of an update.

    Args:
        update: its number, from 1.
        plateaus: validations without gain so far; only ``plateau`` looks at it.
    """
    rate = config.learning_rate
    if update < config.warmup:
        return rate * update / config.warmup
    if config.schedule == "inverse_sqrt":  # Vaswani et al. 2017, eq. 3
        return rate * math.sqrt(config.warmup / update)
    if config.schedule == "plateau":
        factor = 0.5 if config.plateau_factor is None else config.plateau_factor
        return float(rate * factor**plateaus)
    return rate
