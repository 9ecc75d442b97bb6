"""The optimizer and the moving average of the weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from seq2seq.config import TrainConfig

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def make_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Make the optimizer ``train.optimizer`` over all parameters of the model."""
    decay = config.weight_decay
    if decay is None:
        decay = 0.01 if config.optimizer == "adamw" else 0.0
    optimizer = OPTIMIZERS[config.optimizer]
    return optimizer(model.parameters(), lr=config.learning_rate, weight_decay=decay, fused=True)


class Average(AveragedModel):
    """Exponential moving average of the weights (Polyak & Juditsky 1992) with a smaller decay in the first updates.

    Update number ``n``, counted from 0, uses the decay ``min(decay, (1 + n) / (10 + n))``, so the average forgets the
    initial weights faster.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Add the weights of ``model`` to the average.

        The count of updates stays on the CPU, so this does not wait for a GPU.
        """
        count = int(self.n_averaged)
        decay = min(self.decay, (1 + count) / (10 + count)) if count else 0.0
        torch._foreach_lerp_(list(self.module.parameters()), list(model.parameters()), 1 - decay)
        self.n_averaged += 1


def make_average(config: TrainConfig, model: nn.Module) -> Average | None:
    """Make the moving average of the weights; None if train.average is 0."""
    if not config.average:
        return None
    average = Average(model, config.average)
    for module in average.modules():
        if isinstance(module, nn.RNNBase):
            # The weights of a deep copy are not contiguous; cuDNN would copy them into one block at every call.
            module.flatten_parameters()
    return average
