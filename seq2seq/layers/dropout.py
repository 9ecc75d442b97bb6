"""Three dropouts: ordinary, locked (one mask over time), and on weights.

Locked: Gal & Ghahramani 2016 (arXiv 1512.05287). Weight drop: Merity et al. 2018 (arXiv 1708.02182). All of them scale
what they keep by 1/(1-p), and none acts in evaluation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def make_mask(shape: tuple[int, ...], p: float, like: Tensor) -> Tensor:
    """Draw a mask: entries 0 or 1/(1-p), in the type and on the device of ``like``.

    A CPU draws uniform numbers four times as fast as Bernoulli's.
    """
    return torch.rand(shape, device=like.device).lt_(1 - p).to(like.dtype).mul_(1 / (1 - p))


def drop(tensor: Tensor, p: float) -> Tensor:
    """Zero elements with probability p."""
    if tensor.is_cuda:
        return F.dropout(tensor, p)  # one kernel
    return tensor * make_mask(tuple(tensor.shape), p, tensor)


def drop_weight(weight: Tensor, p: float, training: bool) -> Tensor:
    """DropConnect: zero single weights with probability p; one mask for whatever uses the result."""
    return drop(weight, p) if training and p > 0 else weight


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
            return drop(sequence, self.p)
        return sequence * make_mask((sequence.shape[0], 1, sequence.shape[2]), self.p, sequence)

    def extra_repr(self) -> str:
        return f"p={self.p}, locked={self.locked}"
