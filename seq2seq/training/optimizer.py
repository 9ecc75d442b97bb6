"""The optimizer, and the moving average of the weights it makes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from seq2seq.config import TrainConfig

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def make_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of that name over all parameters."""
    decay = config.weight_decay
    if decay is None:
        decay = 0.01 if config.optimizer == "adamw" else 0.0
    kind = OPTIMIZERS[config.optimizer]
    return kind(model.parameters(), lr=config.learning_rate, weight_decay=decay, fused=True)


def make_average(config: TrainConfig, model: nn.Module) -> AveragedModel | None:
    """An exponential moving average of the weights (Polyak & Juditsky 1992) that forgets the first ones sooner."""
    if not config.average:
        return None

    def step(averages: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor | int) -> None:
        decay = min(config.average, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(list(averages), list(weights), 1 - decay)

    average = AveragedModel(model, multi_avg_fn=torch.no_grad()(step))
    for module in average.modules():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()  # a copy's weights lie apart, and cuDNN would move them at every call
    return average
