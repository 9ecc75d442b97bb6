"""Schedules over the update number: the learning rate and the weight of the coverage loss."""

from __future__ import annotations

import math

from seq2seq.config import Config, LossConfig, TrainConfig


def check_schedule(config: TrainConfig) -> None:
    """Check the settings of the learning rate.

    Raises:
        ValueError: inverse_sqrt without a warmup, cosine with a warmup that takes all updates, or a plateau factor without
            the schedule plateau.
    """
    if config.plateau_factor is not None and config.schedule != "plateau":
        raise ValueError(
            f"train.plateau_factor has no effect with train.schedule={config.schedule}; "
            "remove it, or set train.schedule=plateau"
        )
    if config.schedule == "inverse_sqrt" and config.warmup == 0:
        raise ValueError(
            "train.schedule=inverse_sqrt lowers the learning rate after the warmup, but train.warmup is 0; "
            "set train.warmup above 0"
        )
    if config.schedule == "cosine" and config.warmup >= config.max_updates:
        raise ValueError(
            f"train.schedule=cosine lowers the learning rate between train.warmup={config.warmup} and "
            f"train.max_updates={config.max_updates}, which must be higher; change one of them"
        )


def learning_rate(config: TrainConfig, update: int, plateaus: int) -> float:
    """Return the learning rate of an update.

    Args:
        update: number of the update, from 1.
        plateaus: number of validations without improvement so far; only the schedule ``plateau`` uses it.
    """
    rate = config.learning_rate
    if update < config.warmup:
        return rate * update / config.warmup
    if config.schedule == "inverse_sqrt":  # Vaswani et al. 2017, eq. 3
        return rate * math.sqrt(config.warmup / update)
    if config.schedule == "cosine":  # Loshchilov & Hutter 2017, eq. 5, without restarts
        share = (update - config.warmup) / (config.max_updates - config.warmup)
        return rate * (1 + math.cos(math.pi * min(share, 1.0))) / 2
    if config.schedule == "plateau":
        factor = 0.5 if config.plateau_factor is None else config.plateau_factor
        return float(rate * factor**plateaus)
    return rate


def check_coverage(config: Config) -> None:
    """Check that the settings of the coverage loss have an effect.

    Raises:
        ValueError: they are set without coverage, a warmup is set without a weight, or coverage starts when
            train.patience is used up, but there is no patience.
    """
    loss = config.loss
    for name in ("coverage_weight", "coverage_start", "coverage_warmup"):
        if getattr(loss, name) and config.model.coverage == "none":
            raise ValueError(
                f"loss.{name}={getattr(loss, name)} has no effect with model.coverage=none; "
                "remove it, or set model.coverage=sum or fertility"
            )
    if loss.coverage_warmup and not loss.coverage_weight:
        raise ValueError(
            f"loss.coverage_warmup={loss.coverage_warmup} has no effect with loss.coverage_weight=0; "
            "set loss.coverage_weight above 0 (See et al. 2017 use 1)"
        )
    if loss.coverage_start < 0 and not config.train.patience:
        raise ValueError(
            "loss.coverage_start=-1 starts coverage when train.patience is used up, but train.patience=0 means no limit; "
            "set train.patience above 0, or loss.coverage_start to a number of updates"
        )


def coverage_weight(config: LossConfig, update: int, start: int | None) -> float:
    """Return the weight of the coverage loss in an update.

    Args:
        update: number of the update, from 1.
        start: updates before coverage starts; None if this is not decided yet.
    """
    if start is None or update <= start:
        return 0.0
    if not config.coverage_warmup:
        return config.coverage_weight
    return config.coverage_weight * min(1.0, (update - start) / config.coverage_warmup)
