"""Attention over the encoder's values: additive, products, several heads, local, or none; with or without coverage.

With a hierarchical encoder, any kind also attends to the sentences and re-scales its weights by theirs.

For every kind, the query is the current decoder output s_t (Luong et al. 2015, See et al. 2017). The additive energy is
that of Bahdanau et al. 2015 with this query. An attention has three steps, each a method: energies, log-weights, context.
A kind overrides the steps that it changes. Callers use ``attend``, which runs the steps, or ``log_weights`` if they need
no context. The log-weights are normalised over the real positions and finite there; copying and coverage rely on this.
An attention holds only parameters; the tensors of a sentence are in ``Memory``.

Shapes: Q is the number of queries per sentence: K hypotheses of a beam, T steps of the target, or 1 in a recurrence. The
other letters are those of ``seq2seq.layers``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seq2seq.layers import fast
from seq2seq.layers.fast.energies import additive_energies

MAX_FERTILITY = 2.0  # N of Tu et al. 2016, the value of their experiments
MIN_FERTILITY = 1e-4  # keeps coverage finite where the sigmoid underflows
MASKED = torch.finfo(torch.float32).min  # an energy or log-weight whose weight is 0
LOCAL_DEVIATION = 5.0  # standard deviation in pieces: D/2 of Luong et al. 2015 with their window D = 10


class SentenceMemory(NamedTuple):
    """The sentences of the encoded sources, Z of the one that has the most; see ``Attention.prior``."""

    keys: Tensor  # (B, Z, A) of the decoder's attention to sentences; (B, Z, 0) without attention
    copy_keys: Tensor  # (B, Z, A) of a separate copy attention, else (B, Z, 0)
    mask: Tensor  # (B, Z), True = real
    numbers: Tensor  # (B, S), the sentence of each position, a valid index into Z also at padding

    def select(self, rows: Tensor) -> SentenceMemory:
        """Return the sentences of the given sources, in the given order."""
        return SentenceMemory(*(tensor.index_select(0, rows) for tensor in self))


class Memory(NamedTuple):
    """The encoded source, constant while a sentence is decoded. A tensor that a model does not use has width 0.

    ``sentences`` is None unless the encoder has sentences. The real positions of ``mask`` include the end of sentence,
    which attention and copying can select. The mask of a search, ``Decoding.mask``, excludes it. The keys of a Transformer
    decoder have another shape, see its ``keys``.
    """

    values: Tensor  # (B, S, M)
    keys: Tensor  # (B, S, A) of the decoder's attention; A = M for dot, H for general, 0 for none
    mask: Tensor  # (B, S), True = real, the end of sentence included
    summary: Tensor  # (B, M), one vector for the whole source, see ``Encoded``
    fertility: Tensor  # (B, S), the divisor of coverage; (B, 0) without coverage
    copy_keys: Tensor  # (B, S, A) of a separate copy attention, (B, S, H) of CopyNet, else (B, S, 0)
    copy_ids: Tensor  # (B, S), target id of each source piece; V or higher for OOV pieces; (B, 0) without copying
    copy_first: Tensor  # (B, S), the first position of the source with the same copy id; (B, 0) outside of search
    sentences: SentenceMemory | None = None

    def select(self, rows: Tensor) -> Memory:
        """Return the memory of the given sources, in the given order."""
        *tensors, sentences = self
        selected: list[Any] = [tensor.index_select(0, rows) for tensor in tensors]
        return Memory(*selected, *(() if sentences is None else (sentences.select(rows),)))


def masked_log_softmax(energies: Tensor, mask: Tensor) -> Tensor:
    """Normalise energies (B, Q, S) over the real positions of mask (B, S), in fp32 or higher precision.

    Returns:
        Log-weights (B, Q, S), ``MASKED`` at padding.
    """
    energies = energies.to(torch.promote_types(energies.dtype, torch.float32))
    padding = ~mask.unsqueeze(1)
    return torch.log_softmax(energies.masked_fill(padding, MASKED), dim=-1).masked_fill(padding, MASKED)


class Attended(NamedTuple):
    """The result of an attention.

    >>> attended = make_attention("dot", query_size=8, memory_size=8)(torch.randn(2, 3, 8), torch.randn(2, 5, 8))
    >>> attended.context.shape, attended.weights.shape
    (torch.Size([2, 3, 8]), torch.Size([2, 3, 5]))
    """

    context: Tensor  # (B, Q, M)
    log_weights: Tensor  # (B, Q, S), in fp32 or higher precision; MASKED at padding

    @property
    def weights(self) -> Tensor:
        """The weights of the positions: (B, Q, S)."""
        return self.log_weights.exp()


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
    sentences: Attention | None  # the attention to sentences that re-scales the weights; set by make_attention

    def __init__(self, memory_size: int, coverage: str, coverage_size: int = 1) -> None:
        super().__init__()
        self.coverage = coverage
        self.sentences = None
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

    def sentence_keys(self, values: Tensor) -> Tensor:
        """Project the values of the sentences, once per source: (B, Z, M) -> (B, Z, A), or (B, Z, 0) without attention."""
        return values[:, :, :0] if self.sentences is None else self.sentences.keys(values)

    def prior(self, query: Tensor, sentences: SentenceMemory | None) -> Tensor | None:
        """Return the log-weight of the sentence of each position, (B, Q, S); None without attention to sentences.

        Added to the energies before the softmax, it re-scales the weights of the words, P_w, by those of the sentences, P_s
        (Nallapati et al. 2016, section 2.4)::

            P(j) = P_w(j) P_s(s(j)) / sum_k P_w(k) P_s(s(k))

        The result has full support and sums to 1. Several heads are re-scaled one by one. Sentences have no coverage.

        Args:
            query: decoder outputs s_t (B, Q, H).
            sentences: their ``keys`` are the result of ``sentence_keys``.
        """
        if self.sentences is None:
            return None
        assert sentences is not None, "the encoder has no sentences"
        no_coverage = query[:, :, :0]
        log_weights = self.sentences.log_weights(query, sentences.keys, sentences.mask, no_coverage)  # (B, Q, Z)
        return log_weights.gather(2, sentences.numbers.unsqueeze(1).expand(-1, query.shape[1], -1))

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

    def log_weights(
        self, query: Tensor, keys: Tensor, mask: Tensor, coverage: Tensor, prior: Tensor | None = None
    ) -> Tensor:
        """Return normalised log-weights (B, Q, S) in fp32 or higher precision; ``MASKED`` at padding.

        Args:
            query: decoder outputs s_t (B, Q, H).
            keys: the result of ``keys`` (B, S, A).
            mask: (B, S), True = real.
            coverage: coverage of the earlier steps (B, Q, S), or (B, Q, 0).
            prior: the result of ``prior``.
        """
        return masked_log_softmax(_add(self.energies(query, keys, coverage), prior), mask)

    def context(self, log_weights: Tensor, memory: Memory) -> Tensor:
        """Sum the values by their weights: (B, Q, S) -> (B, Q, M)."""
        return torch.bmm(log_weights.exp().to(memory.values.dtype), memory.values)

    def attend(self, query: Tensor, memory: Memory, coverage: Tensor) -> Attended:
        """Compute the context and the log-weights of queries (B, Q, H); ``coverage`` is that of ``log_weights``."""
        prior = self.prior(query, memory.sentences)
        log_weights = self.log_weights(query, memory.keys, memory.mask, coverage, prior)
        return Attended(self.context(log_weights, memory), log_weights)

    def forward(
        self,
        query: Tensor,
        values: Tensor,
        mask: Tensor | None = None,
        *,
        keys: Tensor | None = None,
        coverage: Tensor | None = None,
    ) -> Attended:
        """Attend to values without a model around it.

        Args:
            query: (B, Q, H).
            values: (B, S, M).
            mask: (B, S), True = real; None: every position is real.
            keys: the result of ``keys(values)``, to compute it once for several calls; None: it is computed.
            coverage: the sum over the earlier queries of weights / ``fertility(values)``: (B, Q, S); None: there are no
                earlier ones. An attention without coverage does not read it.
        """
        if self.sentences is not None:
            raise TypeError("an attention to sentences requires a memory; use attend")
        mask = values.new_ones(values.shape[:2], dtype=torch.bool) if mask is None else mask
        nothing = values[:, :, :0]
        if coverage is None or self.coverage == "none":
            coverage = query.new_zeros(*query.shape[:2], 0 if self.coverage == "none" else values.shape[1])
        keys = self.keys(values) if keys is None else keys
        memory = Memory(
            values=values,
            keys=keys,
            mask=mask,
            summary=nothing[:, 0],
            fertility=nothing[:, 0],
            copy_keys=nothing,
            copy_ids=nothing[:, 0],
            copy_first=nothing[:, 0],
        )
        return self.attend(query, memory, coverage)


def _add(energies: Tensor, prior: Tensor | None) -> Tensor:
    return energies if prior is None else energies + prior


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

    def forward(self, *args: Any, **kwargs: Any) -> Attended:
        """Refuse to attend without a memory, since only its summary is a context."""
        raise TypeError("attention none returns the summary of an encoder; use Encoded.summary as the context")

    def log_weights(
        self, query: Tensor, keys: Tensor, mask: Tensor, coverage: Tensor, prior: Tensor | None = None
    ) -> Tensor:
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
        queries = self.query(query)
        if keys.device.type == "cpu" and fast.enabled_without_gradients(keys.device):
            covers = self.coverage != "none"
            weight = self.coverage_weight if covers else None
            return additive_energies(queries, keys, self.energy.weight[0], coverage if covers else None, weight)
        compared = queries.unsqueeze(2) + keys.unsqueeze(1)  # (B, Q, 1, A) + (B, 1, S, A)
        if self.coverage != "none":
            compared = torch.addcmul(compared, coverage.to(keys.dtype).unsqueeze(3), self.coverage_weight)
        return F.linear(torch.tanh(compared), self.energy.weight).squeeze(3)


class MultiHead(Attention):
    """Scaled dot products in several heads (Vaswani et al. 2017, section 3.2.2) on recurrent states.

    Head i has its query, key and value projections, e_tj^i = (Q_i s_t) . (U_i h_j) / sqrt(A/heads) and its weights
    a_t^i = softmax(e_t^i). The context is the concatenation of W_i sum_j a_tj^i h_j, where W_i maps M to M/heads. The
    output projection of the paper is left out: every layer that reads the context begins with a linear map.

    The weights that copying and coverage read are the mean of the heads' weights. Like those of one head, they are above
    0 at every real position and sum to 1. Coverage is added to the energies, with one weight per head. In ``energies`` and
    ``context``, each head is a query: their tensors are (B, Q*heads, S), the heads of a query in succession.

    Args:
        heads: the number of heads; it must divide M and A.
        weights_only: whether only the weights are computed; W is then not made, since nothing would train it.
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        attention_size: int,
        coverage: str = "none",
        *,
        heads: int = 4,
        weights_only: bool = False,
    ) -> None:
        super().__init__(memory_size, coverage, heads)
        for size, name in ((attention_size, "model.attention_size"), (memory_size, "model.encoder_hidden_size")):
            if size % heads:
                raise ValueError(
                    f"model.attention=multi_head requires model.heads to divide {name}, but {heads} does not divide {size}; "
                    f"change model.heads or {name} (by default, both sizes are model.hidden_size)"
                )
        self.heads = heads
        self.query = nn.Linear(query_size, attention_size, bias=False)
        self.key = nn.Linear(memory_size, attention_size, bias=False)
        if not weights_only:
            self.value = nn.Linear(memory_size, memory_size, bias=False)
        self.scale = 1 / math.sqrt(attention_size // heads)

    def keys(self, values: Tensor) -> Tensor:
        """Compute U h_j of all heads."""
        return self.key(values)

    def energies(self, query: Tensor, keys: Tensor, coverage: Tensor) -> Tensor:
        """Compute the energies of all heads: (B, Q, H), (B, S, A), (B, Q, S) -> (B, Q*heads, S)."""
        queries = (self.query(query) * self.scale).unflatten(2, (self.heads, -1))  # (B, Q, heads, A/heads)
        energies = torch.einsum("bqha,bsha->bqhs", queries, keys.unflatten(2, (self.heads, -1)))
        if self.coverage != "none":
            energies = energies + self.coverage_weight.unsqueeze(1) * coverage.unsqueeze(2)
        return energies.flatten(1, 2)

    def log_weights(
        self, query: Tensor, keys: Tensor, mask: Tensor, coverage: Tensor, prior: Tensor | None = None
    ) -> Tensor:
        """Return the logarithm of the mean of the heads' weights; arguments and shape as for other kinds."""
        return self._mean(self._by_head(query, keys, mask, coverage, prior))

    def context(self, log_weights: Tensor, memory: Memory) -> Tensor:
        """Concatenate the contexts of the heads: (B, Q*heads, S) -> (B, Q, M)."""
        sums = super().context(log_weights, memory).unflatten(1, (-1, self.heads))  # (B, Q, heads, M)
        maps = self.value.weight.unflatten(0, (self.heads, -1))  # (heads, M/heads, M)
        return torch.einsum("bqhm,hdm->bqhd", sums, maps).flatten(2)

    def attend(self, query: Tensor, memory: Memory, coverage: Tensor) -> Attended:
        """Compute the context from the weights of every head, and return the mean of these weights."""
        by_head = self._by_head(query, memory.keys, memory.mask, coverage, self.prior(query, memory.sentences))
        return Attended(self.context(by_head, memory), self._mean(by_head))

    def _by_head(self, query: Tensor, keys: Tensor, mask: Tensor, coverage: Tensor, prior: Tensor | None) -> Tensor:
        """Return the log-weights of every head: (B, Q*heads, S)."""
        prior = None if prior is None else prior.repeat_interleave(self.heads, dim=1)
        return super().log_weights(query, keys, mask, coverage, prior)

    def _mean(self, log_weights: Tensor) -> Tensor:
        """Return the logarithm of the mean over the heads: (B, Q*heads, S) -> (B, Q, S)."""
        return log_weights.unflatten(1, (-1, self.heads)).logsumexp(dim=2) - math.log(self.heads)


class LocalPredictive(General):
    """General energies with a preference for positions near a predicted one (Luong et al. 2015, local-p, eqs. 9 and 10).

    The predicted position is p_t = S sigmoid(v . tanh(W s_t)), where S is the number of real positions of the sentence.
    A Gaussian around it, - (j - p_t)^2 / (2 sigma^2) with j counted from 0 and sigma = ``LOCAL_DEVIATION``, is added to
    the energies before the softmax. In the paper, the weights are multiplied by the Gaussian after the softmax, and only
    2D+1 positions around p_t have a weight; the result does not sum to 1. Here the weights are those products over all
    real positions, normalised: they sum to 1 and no log-weight is infinite, which copying and coverage require.
    """

    def __init__(self, query_size: int, memory_size: int, attention_size: int, coverage: str = "none") -> None:
        super().__init__(query_size, memory_size, attention_size, coverage)
        self.position_hidden = nn.Linear(query_size, query_size, bias=False)
        self.position_energy = nn.Linear(query_size, 1, bias=False)

    def positions(self, query: Tensor, mask: Tensor) -> Tensor:
        """Predict p_t for each query, in fp32 or higher precision: (B, Q, H), (B, S) -> (B, Q)."""
        energy = self.position_energy(torch.tanh(self.position_hidden(query))).squeeze(2)
        energy = energy.to(torch.promote_types(energy.dtype, torch.float32))
        return mask.sum(dim=1, keepdim=True) * torch.sigmoid(energy)

    def log_weights(
        self, query: Tensor, keys: Tensor, mask: Tensor, coverage: Tensor, prior: Tensor | None = None
    ) -> Tensor:
        """Return log-weights as for other kinds, with the Gaussian added to the energies."""
        predicted = self.positions(query, mask).unsqueeze(2)
        distance = torch.arange(mask.shape[1], device=mask.device) - predicted  # (B, Q, S)
        gaussian = -distance.square() / (2 * LOCAL_DEVIATION**2)
        return masked_log_softmax(_add(self.energies(query, keys, coverage) + gaussian, prior), mask)


ATTENTIONS: dict[str, Callable[..., Attention]] = {
    "none": NoAttention,
    "dot": Dot,
    "general": General,
    "scaled_dot": ScaledDot,
    "additive": Additive,
    "multi_head": MultiHead,
    "local_p": LocalPredictive,
}


def make_attention(
    kind: str,
    *,
    query_size: int,
    memory_size: int,
    attention_size: int | None = None,
    coverage: str = "none",
    heads: int = 4,
    weights_only: bool = False,
    sentences: bool = False,
) -> Attention:
    """Make an attention of a kind in ``ATTENTIONS``.

    >>> attention = make_attention("additive", query_size=6, memory_size=8)
    >>> query, values = torch.randn(2, 1, 6), torch.randn(2, 5, 8)
    >>> mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    >>> context, log_weights = attention(query, values, mask)
    >>> context.shape, log_weights.shape
    (torch.Size([2, 1, 8]), torch.Size([2, 1, 5]))
    >>> bool(log_weights.exp()[1, 0, 2:].any())  # padding has weight 0
    False

    Args:
        query_size: H, the width of the queries.
        memory_size: M, the width of the values.
        attention_size: A, the width of queries and keys when they are compared; default: H.
        coverage: none, sum or fertility.
        heads: the number of heads of ``multi_head``; other kinds do not read it.
        weights_only: whether only the log-weights are used, as in a separate attention for copying.
        sentences: whether the weights are re-scaled by an attention of the same kind to the sentences of the source.

    Raises:
        ValueError: the kind is unknown, or it cannot compare these widths.
    """
    if kind not in ATTENTIONS:
        raise ValueError(f"model.attention must be one of {', '.join(ATTENTIONS)}, but is {kind}")
    options = {"heads": heads, "weights_only": weights_only} if kind == "multi_head" else {}
    attention = ATTENTIONS[kind](query_size, memory_size, attention_size or query_size, coverage, **options)
    attention.kind = kind
    if sentences and attention.attends:
        attention.sentences = make_attention(
            kind,
            query_size=query_size,
            memory_size=memory_size,
            attention_size=attention_size,
            heads=heads,
            weights_only=True,
        )
    return attention
