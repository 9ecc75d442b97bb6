"""The recurrent attention decoder: its first state, one step, and all steps of a known target.

``step`` in search and ``unroll`` in training compute the same. Order (See et al. 2017): s_t = cell([x_t; c_{t-1}], s_{t-1}), then s_t attends
to the source and gives c_t. The readout is never fed back, so in training it runs once over all steps.

In search K hypotheses of a sentence share its memory: the N = B*K rows of a state belong to the B sentences of the memory
in order, K each.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from seq2seq.layers import fast
from seq2seq.layers.attention import MASKED, Attention, Memory
from seq2seq.layers.cells import StackedCell, StepConstants, init_inputs
from seq2seq.layers.encoder import Encoded
from seq2seq.layers.fast.decoder import FAST_ATTENTIONS, FastUnroll, UnrollOptions, UnrollWeights


class DecoderState(NamedTuple):
    """The state after a token; batch first."""

    hidden: Tensor  # (N, L, W), packed
    context: Tensor  # (N, M)
    log_weights: Tensor  # (N, S), attention of the last step
    coverage: Tensor  # (N, S), of all steps so far; (N, 0) without coverage

    def select(self, rows: Tensor) -> DecoderState:
        """Return the state of some rows, in that order."""
        return DecoderState(*(tensor.index_select(0, rows) for tensor in self))


class Unrolled(NamedTuple):
    """All steps of a known target."""

    outputs: Tensor  # (B, T, H)
    contexts: Tensor  # (B, T, M)
    log_weights: Tensor  # (B, T, S)


class RecurrentDecoder(nn.Module):
    """A stack of cells whose input is the last token and the last context, and an attention.

    Args:
        bridge: maps ``Encoded`` to the first packed state.
        stack: its input is the embedding alone; the context enters by a projection of its own, so that the embeddings
            of a known target are projected once for all steps.
        memory_size: M.
    """

    def __init__(self, bridge: nn.Module, stack: StackedCell, attention: Attention, *, memory_size: int) -> None:
        super().__init__()
        self.bridge = bridge
        self.stack = stack
        self.attention = attention
        self.context_gates = nn.Linear(memory_size, stack.cell.gates * stack.hidden_size, bias=False)
        init_inputs(stack.cell_name, self.context_gates.weight)

    def start(self, encoded: Encoded, memory: Memory) -> DecoderState:
        """Return the state before the first token. The context is zero, or the constant summary without attention."""
        context = torch.zeros_like(memory.summary) if self.attention.attends else memory.summary
        log_weights = torch.full_like(memory.mask, MASKED, dtype=torch.float32)
        return DecoderState(self.bridge(encoded), context, log_weights, torch.zeros_like(memory.fertility))

    def step(self, embedded: Tensor, state: DecoderState, memory: Memory) -> tuple[Tensor, DecoderState]:
        """Advance by one token: embeddings (N, E) -> outputs s_t (N, H) and the next state."""
        gates = self.stack.project(embedded)
        return self._advance(gates, state, memory, self.stack.prepare(len(embedded)))

    def unroll(self, embedded: Tensor, state: DecoderState, memory: Memory) -> Unrolled:
        """Advance over all tokens of a known target: (B, T, E)."""
        constants = self.stack.prepare(embedded.shape[0])
        if self.has_fast_twin and fast.enabled():
            return self._unroll_fast(embedded, state, memory, constants)
        outputs, contexts, log_weights = [], [], []
        for gates in self.stack.project(embedded).unbind(dim=1):
            output, state = self._advance(gates, state, memory, constants)
            outputs.append(output)
            contexts.append(state.context)
            log_weights.append(state.log_weights)
        return Unrolled(torch.stack(outputs, dim=1), torch.stack(contexts, dim=1), torch.stack(log_weights, dim=1))

    @property
    def has_fast_twin(self) -> bool:
        """Whether ``layers.fast`` can unroll this decoder: one layer, and twins of its cell and attention."""
        return (
            len(self.stack.inputs) == 1 and self.stack.cell.fast is not None and self.attention.kind in FAST_ATTENTIONS
        )

    def _advance(
        self, gates: Tensor, state: DecoderState, memory: Memory, constants: StepConstants
    ) -> tuple[Tensor, DecoderState]:
        """Advance by one token, whose embedding is projected to gates (N, G*H)."""
        gates = gates + self.context_gates(state.context)
        output, hidden = self.stack(gates, state.hidden, constants)
        queries = (len(memory.mask), -1)  # (N, ...) -> (B, K, ...)
        coverage = state.coverage.unflatten(0, queries)
        log_weights = self.attention.log_weights(output.unflatten(0, queries), memory.keys, memory.mask, coverage)
        context = self.attention.context(log_weights, memory)
        if self.attention.coverage != "none":
            coverage = coverage + log_weights.exp() / memory.fertility.unsqueeze(1)
        return output, DecoderState(hidden, context.flatten(0, 1), log_weights.flatten(0, 1), coverage.flatten(0, 1))

    def _unroll_fast(self, embedded: Tensor, state: DecoderState, memory: Memory, constants: StepConstants) -> Unrolled:
        cell = self.stack.cell.fast
        assert cell is not None
        attention = FAST_ATTENTIONS[self.attention.kind](self.attention)
        weights = UnrollWeights(
            hidden=constants.weights[0],
            bias=self.stack.bias_hh[0],
            context=self.context_gates.weight,
            query=attention.query,
            energy=attention.energy,
            coverage=None if self.attention.coverage == "none" else self.attention.coverage_weight,
            recurrent_mask=constants.recurrent[0],
        )
        options = UnrollOptions(cell, attention.energy is not None, attention.scale)
        gates = self.stack.project(embedded.transpose(0, 1).contiguous())  # (T, B, G*H), in the order of the steps
        tensors = (gates, state.hidden[:, 0], state.context, memory.values, memory.keys)
        with torch.autocast(embedded.device.type, enabled=False):  # steps are too small to gain by half precision
            gates, hidden, context, values, keys = (tensor.to(weights.hidden.dtype) for tensor in tensors)
            fertility = memory.fertility.to(weights.hidden.dtype)
            unrolled = FastUnroll.apply(options, gates, hidden, context, values, keys, memory.mask, fertility, *weights)
        return Unrolled(*unrolled)
