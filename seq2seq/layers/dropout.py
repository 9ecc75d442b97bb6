"""Three dropouts: ordinary, locked (one mask over time), and on weights.

Locked: Gal & Ghahramani 2016 (arXiv 1512.05287). Weight drop: Merity et al. 2018 (arXiv 1708.02182). All of them scale
what they keep by 1/(1-p), and none acts in evaluation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def locked_mask(rows: int, width: int, p: float, like: Tensor) -> Tensor:
    """Draw one mask a sentence: (rows, width), entries 0 or 1/(1-p), in the type and on the device of ``like``."""
    return torch.empty(rows, width, dtype=like.dtype, device=like.device).bernoulli_(1 - p).div_(1 - p)


def drop_weight(weight: Tensor, p: float, training: bool) -> Tensor:
    """DropConnect: zero single weights with probability p; one mask for whatever uses the result."""
    return F.dropout(weight, p, training)


class SequenceDropout(nn.Module):
    """Dropout on a (B, T, D) sequence.

    Args:
        p: probability that an element is zeroed.
        locked: draw one (B, 1, D) mask for all time steps instead of a new one at each.
    """

    def __init__(self, p: float, *, locked: bool = False) -> None:
        super().__init__()
        self.p = p
        self.locked = locked

    def forward(self, sequence: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return sequence
        if not self.locked:
            return F.dropout(sequence, self.p)
        mask = locked_mask(sequence.shape[0], sequence.shape[2], self.p, sequence)
        return sequence * mask.unsqueeze(1)

    def extra_repr(self) -> str:
        return f"p={self.p}, locked={self.locked}"
