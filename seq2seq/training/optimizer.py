"""The optimizer, and the moving average of the weights it makes."""

from __future__ import annotations

import torch
from torch import nn
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


class Average(AveragedModel):
    """An exponential moving average of the weights (Polyak & Juditsky 1992) that forgets the first ones sooner."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take in the weights of ``model``. The count of updates stays on the CPU, so that a GPU is not waited for."""
        count = int(self.n_averaged)
        decay = min(self.decay, (1 + count) / (10 + count)) if count else 0.0
        torch._foreach_lerp_(list(self.module.parameters()), list(model.parameters()), 1 - decay)
        self.n_averaged += 1


def make_average(config: TrainConfig, model: nn.Module) -> Average | None:
    """The average that the configuration asks for, if it does."""
    if not config.average:
        return None
    average = Average(model, config.average)
    for module in average.modules():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()  # a copy's weights lie apart, and cuDNN would move them at every call
    return average
