"""Attention over the encoder's values: additive, dot, general, scaled dot, or none; each with or without coverage.

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

MAX_FERTILITY = 2.0  # N of Tu et al. 2016, the value of their experiments
MIN_FERTILITY = 1e-4  # where the sigmoid underflows, coverage would be infinite
MASKED = torch.finfo(torch.float32).min  # an energy or log-weight whose weight is 0


class Memory(NamedTuple):
    """What stays constant while a sentence is decoded. What a model does not use is 0 wide."""

    values: Tensor  # (B, S, M)
    keys: Tensor  # (B, S, A)
    mask: Tensor  # (B, S), True = real
    summary: Tensor  # (B, M), the top encoder layer's final h of each direction
    fertility: Tensor  # (B, S), how often a position is to be looked at: what coverage is divided by
    copy_keys: Tensor  # (B, S, A), of the attention for copying
    copy_ids: Tensor  # (B, S), the target id of each source piece; from V on those of the sentence's own pieces

    def select(self, rows: Tensor) -> Memory:
        """The memory of some rows, in that order."""
        return Memory(*(tensor.index_select(0, rows) for tensor in self))


def masked_log_softmax(energies: Tensor, mask: Tensor) -> Tensor:
    """Log-weights over the real positions, in fp32 at least: (B, S), (B, S) -> (B, S); ``MASKED`` elsewhere."""
    energies = energies.to(torch.promote_types(energies.dtype, torch.float32))
    return torch.log_softmax(energies.masked_fill(~mask, MASKED), dim=-1).masked_fill(~mask, MASKED)


class NoAttention(nn.Module):
    """The context is the encoder's summary at every step (Cho et al. 2014)."""

    coverage = "none"

    def __init__(self, query_size: int, memory_size: int, attention_size: int, coverage: str = "none") -> None:
        super().__init__()
        if coverage != "none":
            raise ValueError(
                f"model.coverage={coverage} needs an attention, but model.attention is none; "
                "set model.attention=additive or model.coverage=none"
            )

    def coverage_parameters(self) -> list[nn.Parameter]:
        """None."""
        return []

    def keys(self, values: Tensor) -> Tensor:
        """Nothing is compared: (B, S, M) -> (B, S, 0)."""
        return values[:, :, :0]

    def fertility(self, values: Tensor) -> Tensor:
        """Nothing is covered: (B, S, M) -> (B, 0)."""
        return values[:, :0, 0]

    def forward(self, query: Tensor, memory: Memory, coverage: Tensor) -> tuple[Tensor, Tensor]:
        """Return the summary (B, M) and log-weights of ``MASKED`` (B, S)."""
        return memory.summary, torch.full_like(memory.mask, MASKED, dtype=torch.float32)


class Attention(nn.Module):
    """What the kinds share: coverage, weights from energies, context from weights.

    Coverage is what earlier steps gave each position (See et al. 2017, section 2.3): ``sum`` of their weights, or that
    divided by the position's ``fertility`` N sigmoid(U h_j), N = 2 (Tu et al. 2016, eq. 9). Its weights start at 0, so
    a model begins as the one without coverage.

    Args:
        coverage: none, sum or fertility.
        coverage_size: width in which coverage enters; 1: it is added to the energies.
    """

    def __init__(self, memory_size: int, coverage: str, coverage_size: int = 1) -> None:
        super().__init__()
        self.coverage = coverage
        if coverage != "none":
            self.coverage_weight = nn.Parameter(torch.zeros(coverage_size))
        if coverage == "fertility":
            self.fertility_energy = nn.Linear(memory_size, 1, bias=False)

    scale = 1.0  # of the products of query and keys

    @property
    def query_weight(self) -> Tensor | None:
        """What the query is multiplied by: (A, H), or None."""
        return None

    @property
    def energy_weight(self) -> Tensor | None:
        """v of additive energies: (A,), or None for products."""
        return None

    def coverage_parameters(self) -> list[nn.Parameter]:
        """Those that act only through coverage."""
        return [p for name, p in self.named_parameters() if name.startswith(("coverage", "fertility"))]

    def keys(self, values: Tensor) -> Tensor:
        """Project the values once a sentence: (B, S, M) -> (B, S, A)."""
        raise TypeError("Attention is abstract; use one of ATTENTIONS")

    def fertility(self, values: Tensor) -> Tensor:
        """What coverage is divided by: (B, S, M) -> (B, S), or (B, 0) without coverage."""
        if self.coverage == "none":
            return values[:, :0, 0]
        if self.coverage == "sum":
            return torch.ones_like(values[:, :, 0])
        return (MAX_FERTILITY * torch.sigmoid(self.fertility_energy(values).squeeze(2))).clamp(min=MIN_FERTILITY)

    def energies(self, query: Tensor, keys: Tensor, coverage: Tensor) -> Tensor:
        """Compare: (B, H), (B, S, A), (B, S) -> (B, S)."""
        raise TypeError("Attention is abstract; use one of ATTENTIONS")

    def forward(self, query: Tensor, memory: Memory, coverage: Tensor) -> tuple[Tensor, Tensor]:
        """Look at the source.

        Args:
            query: decoder state s_t (B, H).
            coverage: of the steps before this one, (B, S), or (B, 0).

        Returns:
            context (B, M); log-weights (B, S), in fp32 at least.
        """
        log_weights = masked_log_softmax(self.energies(query, memory.keys, coverage), memory.mask)
        weights = log_weights.exp().to(memory.values.dtype)
        # (B, 1, S) @ (B, S, M) -> (B, M)
        return torch.bmm(weights.unsqueeze(1), memory.values).squeeze(1), log_weights


class _Product(Attention):
    """Energies that are products of query and keys."""

    def energies(self, query: Tensor, keys: Tensor, coverage: Tensor) -> Tensor:
        energies = torch.bmm(keys, query.unsqueeze(2)).squeeze(2)
        return energies if self.coverage == "none" else energies + self.coverage_weight * coverage


class Dot(_Product):
    """s_t . h_j (Luong et al. 2015, eq. 8, dot)."""

    def __init__(self, query_size: int, memory_size: int, attention_size: int, coverage: str = "none") -> None:
        super().__init__(memory_size, coverage)
        if query_size != memory_size:
            raise ValueError(
                f"model.attention=dot needs states of one width, but the decoder has {query_size} and the encoder "
                f"{memory_size}; set model.encoder_hidden_size={query_size} or model.attention=general"
            )

    def keys(self, values: Tensor) -> Tensor:
        return values


class General(_Product):
    """s_t W h_j (Luong et al. 2015, eq. 8, general)."""

    def __init__(self, query_size: int, memory_size: int, attention_size: int, coverage: str = "none") -> None:
        super().__init__(memory_size, coverage)
        self.key = nn.Linear(memory_size, query_size, bias=False)

    def keys(self, values: Tensor) -> Tensor:
        return self.key(values)


class ScaledDot(_Product):
    """(Q s_t) . (U h_j) / sqrt(A) (Vaswani et al. 2017, eq. 1, one head)."""

    def __init__(self, query_size: int, memory_size: int, attention_size: int, coverage: str = "none") -> None:
        super().__init__(memory_size, coverage)
        self.query = nn.Linear(query_size, attention_size, bias=False)
        self.key = nn.Linear(memory_size, attention_size, bias=False)
        self.scale = 1 / math.sqrt(attention_size)

    @property
    def query_weight(self) -> Tensor:
        return self.query.weight

    def keys(self, values: Tensor) -> Tensor:
        return self.key(values)

    def energies(self, query: Tensor, keys: Tensor, coverage: Tensor) -> Tensor:
        return super().energies(self.query(query) * self.scale, keys, coverage)


class Additive(Attention):
    """v . tanh(W s_t + U h_j + w_c c_j) (Bahdanau et al. 2015, section A.1.2, with the current state; See, eq. 11)."""

    def __init__(self, query_size: int, memory_size: int, attention_size: int, coverage: str = "none") -> None:
        super().__init__(memory_size, coverage, attention_size)
        self.query = nn.Linear(query_size, attention_size, bias=False)
        self.key = nn.Linear(memory_size, attention_size)
        self.energy = nn.Linear(attention_size, 1, bias=False)

    @property
    def query_weight(self) -> Tensor:
        return self.query.weight

    @property
    def energy_weight(self) -> Tensor:
        return self.energy.weight[0]

    def keys(self, values: Tensor) -> Tensor:
        return self.key(values)

    def energies(self, query: Tensor, keys: Tensor, coverage: Tensor) -> Tensor:
        compared = self.query(query).unsqueeze(1) + keys  # (B, 1, A) + (B, S, A)
        if self.coverage != "none":
            compared = torch.addcmul(compared, coverage.to(keys.dtype).unsqueeze(2), self.coverage_weight)
        return F.linear(torch.tanh(compared), self.energy.weight).squeeze(2)


ATTENTIONS: dict[str, Callable[[int, int, int, str], NoAttention | Attention]] = {
    "none": NoAttention,
    "dot": Dot,
    "general": General,
    "scaled_dot": ScaledDot,
    "additive": Additive,
}


def make_attention(
    kind: str, *, query_size: int, memory_size: int, attention_size: int, coverage: str = "none"
) -> NoAttention | Attention:
    """Make the attention of that name.

    Raises:
        ValueError: no such kind, or widths that it cannot compare.
    """
    if kind not in ATTENTIONS:
        raise ValueError(f"model.attention must be one of {', '.join(ATTENTIONS)}, but is {kind}")
    return ATTENTIONS[kind](query_size, memory_size, attention_size, coverage)
