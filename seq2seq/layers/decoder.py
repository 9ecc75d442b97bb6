"""The attention decoder: how it starts, one step, all steps of a known target, and the readout.

One step serves training and search. Order (See et al. 2017): s_t = cell([x_t; c_{t-1}], s_{t-1}), then s_t looks at the
source and gives c_t. The readout is never fed back, so in training it runs once over all steps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from seq2seq.layers.attention import MASKED, Additive, Attention, Dot, General, Memory, NoAttention, ScaledDot
from seq2seq.layers.cells import Prepared, StackedCell, init_inputs, uniform_
from seq2seq.layers.dropout import SequenceDropout
from seq2seq.layers.encoder import Encoded
from seq2seq.layers.fast import decoder as fused


class DecoderState(NamedTuple):
    """What changes with every token."""

    hidden: Tensor  # (B, L, W), packed
    context: Tensor  # (B, M)
    log_weights: Tensor  # (B, S), where the last step looked
    coverage: Tensor  # (B, S), where all steps until now looked; (B, 0) without coverage

    def select(self, rows: Tensor) -> DecoderState:
        """The state of some rows, in that order."""
        return DecoderState(*(tensor.index_select(0, rows) for tensor in self))


class Trace(NamedTuple):
    """All steps of a known target."""

    outputs: Tensor  # (B, T, H)
    contexts: Tensor  # (B, T, M)
    log_weights: Tensor  # (B, T, S)


class Decoder(nn.Module):
    """A stack of cells fed with the last token and the last context, and an attention.

    Args:
        stack: its input is the embedding alone; the context enters by a projection of its own, so that the embeddings
            of a known target are projected once for all steps.
        memory_size: M.
    """

    def __init__(self, stack: StackedCell, attention: NoAttention | Attention, *, memory_size: int) -> None:
        super().__init__()
        self.stack = stack
        self.attention = attention
        self.context_gates = nn.Linear(memory_size, stack.cell.gates * stack.hidden_size, bias=False)
        init_inputs(stack.cell_name, self.context_gates.weight)

    def start(self, hidden: Tensor, memory: Memory) -> DecoderState:
        """The state before the first token: no weights yet, and no context unless it is the constant summary."""
        context = memory.summary if isinstance(self.attention, NoAttention) else torch.zeros_like(memory.summary)
        log_weights = torch.full_like(memory.mask, MASKED, dtype=torch.float32)
        return DecoderState(hidden, context, log_weights, torch.zeros_like(memory.fertility))

    def step(
        self, gates: Tensor, state: DecoderState, memory: Memory, prepared: Prepared
    ) -> tuple[Tensor, DecoderState]:
        """Advance by one token.

        Args:
            gates: (B, G*H), ``stack.project`` of the token's embedding.

        Returns:
            output s_t (B, H); the next state.
        """
        gates = gates + self.context_gates(state.context)
        output, hidden = self.stack(gates, state.hidden, prepared)
        context, log_weights = self.attention(output, memory, state.coverage)
        coverage = state.coverage
        if self.attention.coverage != "none":
            coverage = coverage + log_weights.exp() / memory.fertility
        return output, DecoderState(hidden, context, log_weights, coverage)

    def unroll(self, embedded: Tensor, state: DecoderState, memory: Memory) -> Trace:
        """Take the same step for every token of a known target: embedded (B, T, E)."""
        prepared = self.stack.prepare(embedded.shape[0])
        if self.fuses:
            return self._unroll_fused(embedded, state, memory, prepared)
        return self._unroll_by_steps(embedded, state, memory, prepared)

    @property
    def fuses(self) -> bool:
        """Whether ``fused`` knows this decoder: one layer, and its attention."""
        return len(self.stack.inputs) == 1 and type(self.attention) in (Additive, Dot, General, ScaledDot)

    def _unroll_by_steps(self, embedded: Tensor, state: DecoderState, memory: Memory, prepared: Prepared) -> Trace:
        outputs, contexts, log_weights = [], [], []
        for gates in self.stack.project(embedded).unbind(dim=1):
            output, state = self.step(gates, state, memory, prepared)
            outputs.append(output)
            contexts.append(state.context)
            log_weights.append(state.log_weights)
        return Trace(torch.stack(outputs, dim=1), torch.stack(contexts, dim=1), torch.stack(log_weights, dim=1))

    def _unroll_fused(self, embedded: Tensor, state: DecoderState, memory: Memory, prepared: Prepared) -> Trace:
        attention = self.attention
        assert isinstance(attention, Attention)
        weights = fused.Weights(
            hidden=prepared.weights[0],
            bias=self.stack.bias_hh[0],
            context=self.context_gates.weight,
            query=attention.query_weight,
            energy=attention.energy_weight,
            coverage=None if attention.coverage == "none" else attention.coverage_weight,
            recurrent_mask=prepared.recurrent[0],
        )
        kind = fused.Kind(self.stack.cell_name, attention.energy_weight is not None, attention.scale)
        gates = self.stack.project(embedded.transpose(0, 1).contiguous())  # step after step, as they are read
        tensors = (gates, state.hidden[:, 0], state.context, memory.values, memory.keys)
        with torch.autocast(embedded.device.type, enabled=False):  # steps are too small to gain by half precision
            gates, hidden, context, values, keys = (tensor.to(weights.hidden.dtype) for tensor in tensors)
            fertility = memory.fertility.to(weights.hidden.dtype)
            traced = fused.Unroll.apply(kind, gates, hidden, context, values, keys, memory.mask, fertility, *weights)
        return Trace(*traced)


class Readout(nn.Module):
    """Logits from s_t and c_t: V' (V [s_t; c_t] + b) + b' (See et al. 2017, eq. 4).

    Args:
        embedding_size: E, the width before the output layer, so that its weights can be the embeddings.
        banned: ids that are never produced; their logits are set so low that their probability is 0.
    """

    def __init__(
        self,
        *,
        output_size: int,
        memory_size: int,
        embedding_size: int,
        vocab_size: int,
        banned: tuple[int, ...],
        dropout: float = 0.0,
        locked: bool = False,
    ) -> None:
        super().__init__()
        self.hidden = nn.Linear(output_size + memory_size, embedding_size)
        self.dropout = SequenceDropout(dropout, locked=locked)
        self.logits = nn.Linear(embedding_size, vocab_size)
        nn.init.xavier_uniform_(self.hidden.weight)
        nn.init.zeros_(self.hidden.bias)
        uniform_(self.logits.weight, 1 / math.sqrt(embedding_size))
        nn.init.zeros_(self.logits.bias)
        self.banned: Tensor
        self.register_buffer("banned", torch.tensor(banned), persistent=False)

    def features(self, outputs: Tensor, contexts: Tensor) -> Tensor:
        """(B, T, H), (B, T, M) -> (B, T, E), what the output layer sees."""
        return self.dropout(self.hidden(torch.cat((outputs, contexts), dim=-1)))

    def forward(self, features: Tensor) -> Tensor:
        """(..., E) -> (..., V)."""
        logits: Tensor = self.logits(features)
        return logits.index_fill_(-1, self.banned, max(-1e9, torch.finfo(logits.dtype).min))


class Bridge(nn.Module):
    """How the encoder starts the decoder; depths and widths may differ.

    ``linear``: h = tanh(W h_backward_1) of the top encoder layer (Bahdanau et al. 2015, section A.2.2; the forward
    state of a unidirectional encoder). ``mean``: the same from the mean of the values (Sennrich et al. 2017, Nematus).
    ``last``: layer l takes the final states of encoder layer l, or of the top one, both directions side by side.
    ``zero``: nothing is handed on. The LSTM's cell is handed on by a map of its own, without tanh since it is unbounded.
    """

    def __init__(
        self, kind: str, *, stack: StackedCell, num_layers: int, memory_size: int, direction_size: int, parts: int
    ) -> None:
        super().__init__()
        if kind not in ("linear", "last", "mean", "zero"):
            raise ValueError(f"model.bridge must be one of linear, last, mean, zero, but is {kind}")
        if kind == "last" and memory_size != stack.hidden_size:
            raise ValueError(
                f"model.bridge=last hands states on as they are, but the encoder is {memory_size} wide and the decoder "
                f"{stack.hidden_size}; set model.encoder_hidden_size={stack.hidden_size} or model.bridge=linear"
            )
        self.kind = kind
        self.num_layers = num_layers
        self.hidden_size = stack.hidden_size
        self.parts = parts
        size = {"linear": direction_size, "mean": memory_size}.get(kind)
        maps = [nn.Linear(size, num_layers * stack.hidden_size) for _ in range(parts) if size]
        self.maps = nn.ModuleList(maps)
        for linear in maps:
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, encoded: Encoded) -> Tensor:
        """The decoder's first packed state (B, L, W)."""
        rows = encoded.values.shape[0]
        if self.kind == "zero":
            return encoded.values.new_zeros(rows, self.num_layers, self.hidden_size * self.parts)
        if self.kind == "last":
            layers = [min(layer, encoded.final.shape[1] - 1) for layer in range(self.num_layers)]
            final = torch.stack([encoded.final[:, layer] for layer in layers], dim=1)  # (B, L, D, W)
            # (B, L, D, P, H/D) -> (B, L, P, D, H/D): h of both directions, then c of both
            return final.unflatten(3, (self.parts, -1)).transpose(2, 3).flatten(2)
        if self.kind == "mean":
            real = encoded.mask.unsqueeze(2)
            mean = (encoded.values * real).sum(dim=1) / real.sum(dim=1)
            sources = [mean] * self.parts
        else:
            sources = list(encoded.final[:, -1, -1].chunk(self.parts, dim=-1))
        h, *c = [
            linear(source).unflatten(1, (self.num_layers, self.hidden_size))
            for linear, source in zip(self.maps, sources, strict=True)
        ]
        return torch.cat((torch.tanh(h), *c), dim=-1)
