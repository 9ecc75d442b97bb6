"""Functions for tests of untrained models."""

from __future__ import annotations

import torch
from torch import nn


def spread(model: nn.Module, factor: float = 4.0) -> None:
    """Move the weights away from 0, so that different sources have different translations."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= factor
