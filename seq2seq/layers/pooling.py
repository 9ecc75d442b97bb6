"""Pooling: one vector for a sequence."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from seq2seq.layers.attention import masked_log_softmax


class AttentionPool(nn.Module):
    """Averages values by weights that a learned query gives them (Yang et al. 2016, eqs. 5 to 7).

    The weight of a real position is softmax_j(q . tanh(W h_j + b)); padding has weight 0.

    >>> pool = AttentionPool(8)
    >>> values, mask = torch.randn(2, 5, 8), torch.tensor([[True] * 5, [True, True, False, False, False]])
    >>> pool(values, mask).shape
    torch.Size([2, 8])
    >>> weights = pool.weights(values, mask)
    >>> bool(weights[1, 2:].any()), round(weights[1].sum().item(), 4)
    (False, 1.0)

    Args:
        memory_size: M, the width of the values.
        attention_size: A, the width of the query; default: M.
    """

    def __init__(self, memory_size: int, attention_size: int | None = None) -> None:
        super().__init__()
        attention_size = memory_size if attention_size is None else attention_size
        self.key = nn.Linear(memory_size, attention_size)
        self.query = nn.Parameter(torch.empty(attention_size).uniform_(-1, 1) / math.sqrt(attention_size))

    def weights(self, values: Tensor, mask: Tensor) -> Tensor:
        """Compute the weights of the positions, in fp32 or higher precision: (B, S, M), (B, S) -> (B, S)."""
        energies = torch.tanh(self.key(values)) @ self.query
        return masked_log_softmax(energies.unsqueeze(1), mask).squeeze(1).exp()

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Pool the values of the real positions: (B, S, M), mask (B, S), True = real -> (B, M).

        The result of a row without a real position is 0.
        """
        weights = self.weights(values, mask).to(values.dtype)
        return torch.bmm(weights.unsqueeze(1), values).squeeze(1)
