"""Four kinds of dropout: ordinary, locked (one mask for all steps), of whole words, and of weights.

Locked dropout: Gal & Ghahramani 2016 (arXiv 1512.05287). Word dropout: Sennrich et al. 2016 (arXiv 1606.02891). Weight
drop: Merity et al. 2018 (arXiv 1708.02182). All scale the kept elements by 1/(1-p), and all are off in evaluation mode.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def make_mask(shape: tuple[int, ...], p: float, like: Tensor) -> Tensor:
    """Draw a mask with entries 0 or 1/(1-p), with the dtype and device of ``like``; p is rounded to a multiple of 2^-16.

    Each random 64-bit number gives four entries. On a CPU this is three times as fast as one uniform number per entry.
    """
    return make_masks(1, shape, p, like)[0]


def make_masks(number: int, shape: tuple[int, ...], p: float, like: Tensor) -> Tensor:
    """Draw several masks at once: (number, *shape). On a CPU they are those of as many calls of ``make_mask``."""
    count, dropped = math.prod(shape), min(round(p * 2**16), 2**16 - 1)
    bits = torch.empty(number, -(-count // 4), dtype=torch.int64, device=like.device).random_(-(2**63), None)
    entries = bits.view(torch.int16)[:, :count].view(number, *shape)
    mask = torch.empty(number, *shape, dtype=like.dtype, device=like.device)
    torch.ge(entries, dropped - 2**15, out=mask)  # ten times as fast as into a bool
    return mask.mul_(2**16 / (2**16 - dropped))


def drop(tensor: Tensor, p: float) -> Tensor:
    """Set elements to 0 with probability p, and scale the others by 1/(1-p)."""
    if tensor.is_cuda:
        return F.dropout(tensor, p)  # one kernel
    return tensor * make_mask(tuple(tensor.shape), p, tensor)


def drop_weight(weight: Tensor, p: float, training: bool) -> Tensor:
    """Drop single weights with probability p (DropConnect) in training; all uses of the result share the mask.

    >>> dropped = drop_weight(torch.ones(100, 100), 0.5, training=True)
    >>> sorted(set(dropped.flatten().tolist()))
    [0.0, 2.0]
    """
    return drop(weight, p) if training and p > 0 else weight


class SequenceDropout(nn.Module):
    """Drops elements of a (B, T, D) sequence.

    >>> dropped = SequenceDropout(0.5, locked=True)(torch.ones(2, 7, 16))
    >>> bool((dropped == dropped[:, :1]).all())  # the same elements at every step
    True

    Args:
        p: probability that an element is set to 0.
        locked: draw one (B, 1, D) mask for all time steps instead of one mask per step.
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


class WordDropout(nn.Module):
    """Drops whole vectors of a (B, T, D) sequence, independently at each position; a dropped vector is all 0.

    >>> kept = WordDropout(0.25)(torch.ones(100, 7, 16)) > 0
    >>> bool((kept.all(dim=2) == kept.any(dim=2)).all())
    True

    Args:
        p: probability that a vector is dropped.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, sequence: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return sequence
        return sequence * make_mask((*sequence.shape[:2], 1), self.p, sequence)

    def extra_repr(self) -> str:
        return f"p={self.p}"
