"""Attention over the encoder's values: additive, dot, general, scaled dot, or none; each with or without coverage.

For every kind, the query is the current decoder output s_t (Luong et al. 2015, See et al. 2017). The additive energy is
that of Bahdanau et al. 2015 with this query. An attention has three steps, each a method: energies, log-weights, context.
A kind overrides the steps that it changes. Callers use ``log_weights`` and ``context``. The log-weights are normalised
over the real positions and finite there; copying and coverage rely on this. An attention holds only parameters; the
tensors of a sentence are in ``Memory``.

Shapes: Q is the number of queries per sentence: K hypotheses of a beam, T steps of the target, or 1 in a recurrence. The
other letters are those of ``seq2seq.layers``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAX_FERTILITY = 2.0  # N of Tu et al. 2016, the value of their experiments
MIN_FERTILITY = 1e-4  # keeps coverage finite where the sigmoid underflows
MASKED = torch.finfo(torch.float32).min  # an energy or log-weight whose weight is 0


class Memory(NamedTuple):
    """The encoded source, constant while a sentence is decoded. A tensor that a model does not use has width 0.

    The real positions of ``mask`` include the end of sentence, which attention and copying can select. The mask of a
    search, ``Decoding.mask``, excludes it. The keys of a Transformer decoder have another shape, see its ``keys``.
    """

    values: Tensor  # (B, S, M)
    keys: Tensor  # (B, S, A) of the decoder's attention; A = M for dot, H for general, 0 for none
    mask: Tensor  # (B, S), True = real, the end of sentence included
    summary: Tensor  # (B, M), one vector for the whole source, see ``Encoded``
    fertility: Tensor  # (B, S), the divisor of coverage; (B, 0) without coverage
    copy_keys: Tensor  # (B, S, A) of a separate copy attention, (B, S, H) of CopyNet, else (B, S, 0)
    copy_ids: Tensor  # (B, S), target id of each source piece; V or higher for OOV pieces; (B, 0) without copying

    def select(self, sentences: Tensor) -> Memory:
        """Return the memory of the given sentences, in the given order."""
        return Memory(*(tensor.index_select(0, sentences) for tensor in self))


def masked_log_softmax(energies: Tensor, mask: Tensor) -> Tensor:
    """Normalise energies (B, Q, S) over the real positions of mask (B, S), in fp32 or higher precision.

    Returns:
        Log-weights (B, Q, S), ``MASKED`` at padding.
    """
    energies = energies.to(torch.promote_types(energies.dtype, torch.float32))
    padding = ~mask.unsqueeze(1)
    return torch.log_softmax(energies.masked_fill(padding, MASKED), dim=-1).masked_fill(padding, MASKED)


class Attention(nn.Module):
    """Base class of all kinds: coverage, weights from energies, context from weights.

    Coverage is the sum of the weights of the earlier steps (See et al. 2017, section 2.3): ``sum``, or that sum divided by
    the ``fertility`` of the position, N sigmoid(U h_j), N = 2 (Tu et al. 2016, eq. 9). The coverage weight is initialised
    with 0, so the initial model equals the model without coverage.

    Args:
        memory_size: M.
        coverage: none, sum or fertility.
        coverage_size: size of the coverage weight: 1 if coverage is added to the energies, A if it is added in the tanh.
    """

    kind = ""  # its name in ATTENTIONS; set by make_attention
    attends = True  # whether it gives weight to positions; False: all weights are 0

    def __init__(self, memory_size: int, coverage: str, coverage_size: int = 1) -> None:
        super().__init__()
        self.coverage = coverage
        if coverage != "none":
            self.coverage_weight = nn.Parameter(torch.zeros(coverage_size))
        if coverage == "fertility":
            self.fertility_energy = nn.Linear(memory_size, 1, bias=False)

    def coverage_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that only a model with coverage has."""
        return [p for name, p in self.named_parameters() if name.startswith(("coverage", "fertility"))]

    def keys(self, values: Tensor) -> Tensor:
        """Project the values, once per sentence: (B, S, M) -> (B, S, A)."""
        raise TypeError("Attention is abstract; use one of ATTENTIONS")

    def fertility(self, values: Tensor) -> Tensor:
        """Return the divisor of coverage: (B, S, M) -> (B, S), or (B, 0) without coverage."""
        if self.coverage == "none":
            return values[:, :0, 0]
        if self.coverage == "sum":
            return torch.ones_like(values[:, :, 0])
        return (MAX_FERTILITY * torch.sigmoid(self.fertility_energy(values).squeeze(2))).clamp(min=MIN_FERTILITY)

    def energies(self, query: Tensor, keys: Tensor, coverage: Tensor) -> Tensor:
        """Compare queries with keys: (B, Q, H), (B, S, A), (B, Q, S) -> (B, Q, S)."""
        raise TypeError("Attention is abstract; use one of ATTENTIONS")

    def log_weights(self, query: Tensor, keys: Tensor, mask: Tensor, coverage: Tensor) -> Tensor:
        """Return normalised log-weights (B, Q, S) in fp32 or higher precision; ``MASKED`` at padding.

        Args:
            query: decoder outputs s_t (B, Q, H).
            keys: the result of ``keys`` (B, S, A).
            mask: (B, S), True = real.
            coverage: coverage of the earlier steps (B, Q, S), or (B, Q, 0).
        """
        return masked_log_softmax(self.energies(query, keys, coverage), mask)

    def context(self, log_weights: Tensor, memory: Memory) -> Tensor:
        """Sum the values by their weights: (B, Q, S) -> (B, Q, M)."""
        return torch.bmm(log_weights.exp().to(memory.values.dtype), memory.values)


class NoAttention(Attention):
    """Uses the encoder's summary as the context of every step (Cho et al. 2014)."""

    attends = False

    def __init__(self, query_size: int, memory_size: int, attention_size: int, coverage: str = "none") -> None:
        super().__init__(memory_size, "none")
        if coverage != "none":
            raise ValueError(
                f"model.coverage={coverage} requires an attention, but model.attention is none; "
                "set model.attention=additive or model.coverage=none"
            )

    def keys(self, values: Tensor) -> Tensor:
        """Return no keys: (B, S, M) -> (B, S, 0)."""
        return values[:, :, :0]

    def log_weights(self, query: Tensor, keys: Tensor, mask: Tensor, coverage: Tensor) -> Tensor:
        """Return ``MASKED`` at every position, so all weights are 0."""
        shape = (*query.shape[:2], mask.shape[1])
        return torch.full(shape, MASKED, dtype=torch.float32, device=query.device)

    def context(self, log_weights: Tensor, memory: Memory) -> Tensor:
        """Return the summary for every query: (B, Q, M)."""
        return memory.summary.unsqueeze(1).expand(-1, log_weights.shape[1], -1)


class _Product(Attention):
    """Computes energies as dot products of query and keys."""

    def energies(self, query: Tensor, keys: Tensor, coverage: Tensor) -> Tensor:
        energies = torch.bmm(query, keys.transpose(1, 2))  # (B, Q, A) @ (B, A, S)
        return energies if self.coverage == "none" else energies + self.coverage_weight * coverage


class Dot(_Product):
    """s_t . h_j (Luong et al. 2015, eq. 8, dot)."""

    def __init__(self, query_size: int, memory_size: int, attention_size: int, coverage: str = "none") -> None:
        super().__init__(memory_size, coverage)
        if query_size != memory_size:
            raise ValueError(
                f"model.attention=dot requires encoder and decoder of the same width, but the decoder has width {query_size} "
                f"and the encoder {memory_size}; set model.encoder_hidden_size={query_size} or model.attention=general"
            )

    def keys(self, values: Tensor) -> Tensor:
        """Return the values."""
        return values


class General(_Product):
    """s_t W h_j (Luong et al. 2015, eq. 8, general)."""

    def __init__(self, query_size: int, memory_size: int, attention_size: int, coverage: str = "none") -> None:
        super().__init__(memory_size, coverage)
        self.key = nn.Linear(memory_size, query_size, bias=False)

    def keys(self, values: Tensor) -> Tensor:
        """Compute W h_j."""
        return self.key(values)


class ScaledDot(_Product):
    """(Q s_t) . (U h_j) / sqrt(A) (Vaswani et al. 2017, eq. 1, one head)."""

    def __init__(self, query_size: int, memory_size: int, attention_size: int, coverage: str = "none") -> None:
        super().__init__(memory_size, coverage)
        self.query = nn.Linear(query_size, attention_size, bias=False)
        self.key = nn.Linear(memory_size, attention_size, bias=False)
        self.scale = 1 / math.sqrt(attention_size)

    def keys(self, values: Tensor) -> Tensor:
        """Compute U h_j."""
        return self.key(values)

    def energies(self, query: Tensor, keys: Tensor, coverage: Tensor) -> Tensor:
        return super().energies(self.query(query) * self.scale, keys, coverage)


class Additive(Attention):
    """v . tanh(W s_t + U h_j + b + w_c cov_j) (Bahdanau et al. 2015, section A.1.2, with the query s_t; See, eq. 11)."""

    def __init__(self, query_size: int, memory_size: int, attention_size: int, coverage: str = "none") -> None:
        super().__init__(memory_size, coverage, attention_size)
        self.query = nn.Linear(query_size, attention_size, bias=False)
        self.key = nn.Linear(memory_size, attention_size)
        self.energy = nn.Linear(attention_size, 1, bias=False)

    def keys(self, values: Tensor) -> Tensor:
        """Compute U h_j + b."""
        return self.key(values)

    def energies(self, query: Tensor, keys: Tensor, coverage: Tensor) -> Tensor:
        compared = self.query(query).unsqueeze(2) + keys.unsqueeze(1)  # (B, Q, 1, A) + (B, 1, S, A)
        if self.coverage != "none":
            compared = torch.addcmul(compared, coverage.to(keys.dtype).unsqueeze(3), self.coverage_weight)
        return F.linear(torch.tanh(compared), self.energy.weight).squeeze(3)


ATTENTIONS: dict[str, Callable[[int, int, int, str], Attention]] = {
    "none": NoAttention,
    "dot": Dot,
    "general": General,
    "scaled_dot": ScaledDot,
    "additive": Additive,
}


def make_attention(
    kind: str, *, query_size: int, memory_size: int, attention_size: int, coverage: str = "none"
) -> Attention:
    """Make an attention.

    Raises:
        ValueError: the kind is unknown, or it cannot compare these widths.
    """
    if kind not in ATTENTIONS:
        raise ValueError(f"model.attention must be one of {', '.join(ATTENTIONS)}, but is {kind}")
    attention = ATTENTIONS[kind](query_size, memory_size, attention_size, coverage)
    attention.kind = kind
    return attention
