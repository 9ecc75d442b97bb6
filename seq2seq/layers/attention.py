"""Attention over the encoder's values: additive, dot, general, scaled dot, or none.

One order for every kind (Luong et al. 2015, See et al. 2017): the query is the current decoder state s_t. The additive
energy is that of Bahdanau et al. 2015 in this order. Holds parameters only; what belongs to a sentence is in ``Memory``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Memory(NamedTuple):
    """What stays constant while a sentence is decoded."""

    values: Tensor  # (B, S, M)
    keys: Tensor  # (B, S, A)
    mask: Tensor  # (B, S), True = real
    summary: Tensor  # (B, M), the top encoder layer's final h of each direction

    def select(self, rows: Tensor) -> Memory:
        """The memory of some rows, in that order."""
        return Memory(*(tensor.index_select(0, rows) for tensor in self))


def masked_softmax(energies: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the real positions, in fp32: (B, S), (B, S) -> (B, S); a row without any gives zeros."""
    energies = energies.float().masked_fill(~mask, torch.finfo(torch.float32).min)
    return torch.softmax(energies, dim=-1).masked_fill(~mask, 0.0)


class NoAttention(nn.Module):
    """The context is the encoder's summary at every step (Cho et al. 2014)."""

    def __init__(self, query_size: int, memory_size: int, attention_size: int) -> None:
        super().__init__()

    def keys(self, values: Tensor) -> Tensor:
        """Nothing is compared: (B, S, M) -> (B, S, 0)."""
        return values[:, :, :0]

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return the summary (B, M) and weights of zero (B, S)."""
        return memory.summary, torch.zeros_like(memory.mask, dtype=torch.float32)


class Attention(nn.Module):
    """What the kinds share: weights from energies, context from weights."""

    def keys(self, values: Tensor) -> Tensor:
        """Project the values once a sentence: (B, S, M) -> (B, S, A)."""
        raise TypeError("Attention is abstract; use one of ATTENTIONS")

    def energies(self, query: Tensor, keys: Tensor) -> Tensor:
        """Compare: (B, H), (B, S, A) -> (B, S)."""
        raise TypeError("Attention is abstract; use one of ATTENTIONS")

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Look at the source.

        Args:
            query: decoder state s_t (B, H).

        Returns:
            context (B, M); weights (B, S), fp32, zero at padding.
        """
        weights = masked_softmax(self.energies(query, memory.keys), memory.mask)
        # (B, 1, S) @ (B, S, M) -> (B, M)
        context = torch.bmm(weights.to(memory.values.dtype).unsqueeze(1), memory.values).squeeze(1)
        return context, weights


class Dot(Attention):
    """s_t . h_j (Luong et al. 2015, eq. 8, dot)."""

    def __init__(self, query_size: int, memory_size: int, attention_size: int) -> None:
        super().__init__()
        if query_size != memory_size:
            raise ValueError(
                f"model.attention=dot needs states of one width, but the decoder has {query_size} and the encoder "
                f"{memory_size}; set model.encoder_hidden_size={query_size} or model.attention=general"
            )

    def keys(self, values: Tensor) -> Tensor:
        return values

    def energies(self, query: Tensor, keys: Tensor) -> Tensor:
        return torch.bmm(keys, query.unsqueeze(2)).squeeze(2)


class General(Dot):
    """s_t W h_j (Luong et al. 2015, eq. 8, general)."""

    def __init__(self, query_size: int, memory_size: int, attention_size: int) -> None:
        super().__init__(query_size, query_size, attention_size)
        self.key = nn.Linear(memory_size, query_size, bias=False)

    def keys(self, values: Tensor) -> Tensor:
        return self.key(values)


class ScaledDot(Dot):
    """(Q s_t) . (U h_j) / sqrt(A) (Vaswani et al. 2017, eq. 1, one head)."""

    def __init__(self, query_size: int, memory_size: int, attention_size: int) -> None:
        super().__init__(query_size, query_size, attention_size)
        self.query = nn.Linear(query_size, attention_size, bias=False)
        self.key = nn.Linear(memory_size, attention_size, bias=False)
        self.scale = 1 / math.sqrt(attention_size)

    def keys(self, values: Tensor) -> Tensor:
        return self.key(values)

    def energies(self, query: Tensor, keys: Tensor) -> Tensor:
        return super().energies(self.query(query) * self.scale, keys)


class Additive(Attention):
    """v . tanh(W s_t + U h_j) (Bahdanau et al. 2015, section A.1.2, with the current state)."""

    def __init__(self, query_size: int, memory_size: int, attention_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, attention_size, bias=False)
        self.key = nn.Linear(memory_size, attention_size)
        self.energy = nn.Linear(attention_size, 1, bias=False)

    def keys(self, values: Tensor) -> Tensor:
        return self.key(values)

    def energies(self, query: Tensor, keys: Tensor) -> Tensor:
        # (B, 1, A) + (B, S, A) -> (B, S)
        return F.linear(torch.tanh(self.query(query).unsqueeze(1) + keys), self.energy.weight).squeeze(2)


ATTENTIONS: dict[str, Callable[[int, int, int], NoAttention | Attention]] = {
    "none": NoAttention,
    "dot": Dot,
    "general": General,
    "scaled_dot": ScaledDot,
    "additive": Additive,
}


def make_attention(kind: str, *, query_size: int, memory_size: int, attention_size: int) -> NoAttention | Attention:
    """Make the attention of that name.

    Raises:
        ValueError: no such kind, or widths that it cannot compare.
    """
    if kind not in ATTENTIONS:
        raise ValueError(f"model.attention must be one of {', '.join(ATTENTIONS)}, but is {kind}")
    return ATTENTIONS[kind](query_size, memory_size, attention_size)
