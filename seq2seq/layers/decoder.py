"""The interface of decoders, and the recurrent attention decoder: initial state, one step, teacher-forced unroll.

``step`` (search) and ``unroll`` (training) give the same results. Each step computes s_t = cell([x_t; c_{t-1}], s_{t-1});
then s_t attends to the source, which gives the context c_t (See et al. 2017). The readout is not fed back, so training
applies it once to all steps.

In search, the K hypotheses of a sentence share its memory. The N = B*K rows of a state are ordered by sentence: the first
K rows belong to the first sentence, and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seq2seq.layers import fast
from seq2seq.layers.attention import MASKED, Attention, Memory
from seq2seq.layers.cells import StackedCell, StepConstants, init_inputs
from seq2seq.layers.encoder import Encoded
from seq2seq.layers.fast.decoder import FAST_ATTENTIONS, AttentionWeights, FastUnroll, UnrollOptions
from seq2seq.layers.fast.prepared import Prepared
from seq2seq.layers.fast.stack import LayerWeights
from seq2seq.layers.fast.step import CellWeights, FastStack


class DecoderState(Protocol):
    """The state of N hypotheses after a step: a value of tensors, batch first."""

    @property
    def context(self) -> Tensor:
        """The context c_t of the step: (N, C)."""

    @property
    def log_weights(self) -> Tensor:
        """The attention log-weights of the step: (N, S)."""

    def select(self: State, rows: Tensor) -> State:
        """Return the state of the given rows, in the given order."""


State = TypeVar("State", bound=DecoderState)
StepOfDecoder = Callable[[Tensor, State, Memory], tuple[Tensor, State]]  # see ``Decoder.search_step``


def step_of_tokens(step: StepOfDecoder[State], embeddings: Tensor) -> StepOfDecoder[State]:
    """Return a step that takes tokens (N,), given one that takes their embeddings (N, E); see ``Decoder.search_step``."""
    return lambda tokens, state, memory: step(F.embedding(tokens, embeddings), state, memory)


class Unrolled(NamedTuple):
    """The results of the teacher-forced unroll."""

    outputs: Tensor  # (B, T, H), s_t
    contexts: Tensor  # (B, T, C), c_t
    log_weights: Tensor  # (B, T, S)


class Decoder(Protocol[State]):
    """The interface of a decoder. Search passes its states on without reading them, except ``log_weights``."""

    @property
    def context_size(self) -> int:
        """C, the width of the contexts: M, or 0 if the outputs s_t include what was read from the source."""

    @property
    def attends(self) -> bool:
        """Whether it has attention weights."""

    @property
    def coverage(self) -> str:
        """The kind of coverage: none, sum or fertility."""

    @property
    def unrolls_by_steps(self) -> bool:
        """Whether ``unroll`` computes the steps one after the other, in plain layers, which is slow."""

    def coverage_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that only a model with coverage has."""

    def keys(self, values: Tensor) -> Tensor:
        """Compute ``Memory.keys``, once per sentence, from the encoder's values (B, S, M)."""

    def sentence_keys(self, values: Tensor) -> Tensor:
        """Compute ``SentenceMemory.keys`` from the values of the sentences (B, Z, M), of an encoder that has them."""

    def fertility(self, values: Tensor) -> Tensor:
        """Compute ``Memory.fertility`` from the encoder's values (B, S, M)."""

    def start(self, encoded: Encoded, memory: Memory) -> State:
        """Return the initial state of B sentences."""

    def step(self, embedded: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        """Advance by one step: embeddings of the previous tokens (N, E) -> outputs s_t (N, H) and the next state."""

    def search_step(self, embeddings: Tensor) -> StepOfDecoder[State]:
        """Return a function for the steps of one search, during which the weights must not change.

        It takes the previous tokens (N,) instead of their embeddings, and otherwise is ``step``.

        Args:
            embeddings: those of all ids (V, E).
        """

    def unroll(self, embedded: Tensor, state: State, memory: Memory) -> Unrolled:
        """Run the teacher-forced unroll over the embedded input tokens (B, T, E)."""


class RecurrentState(NamedTuple):
    """The state of the recurrent decoder after a step."""

    hidden: Tensor  # (N, L, W), packed
    context: Tensor  # (N, M)
    log_weights: Tensor  # (N, S), attention log-weights of the step
    coverage: Tensor  # (N, S), coverage including the step; (N, 0) without coverage

    def select(self, rows: Tensor) -> RecurrentState:
        """Return the state of the given rows, in the given order."""
        return RecurrentState(*(tensor.index_select(0, rows) for tensor in self))


class RecurrentDecoder(nn.Module):
    """A stack of cells, whose input is the previous token and the previous context, and an attention.

    Args:
        bridge: maps ``Encoded`` to the initial packed state.
        stack: the cells. Its input is only the embedding; the context has a separate projection, so that the embeddings
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
        self.context_size = memory_size
        self._prepared = Prepared()

    @property
    def attends(self) -> bool:
        """Whether the attention gives weight to positions."""
        return self.attention.attends

    @property
    def coverage(self) -> str:
        """The kind of coverage of the attention."""
        return self.attention.coverage

    @property
    def unrolls_by_steps(self) -> bool:
        """Whether there is no fast twin."""
        return not self.has_fast_twin

    def coverage_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the attention that only a model with coverage has."""
        return self.attention.coverage_parameters()

    def keys(self, values: Tensor) -> Tensor:
        """Project the values to the keys of the attention: (B, S, M) -> (B, S, A)."""
        return self.attention.keys(values)

    def sentence_keys(self, values: Tensor) -> Tensor:
        """Project the values of the sentences: (B, Z, M) -> (B, Z, A)."""
        return self.attention.sentence_keys(values)

    def fertility(self, values: Tensor) -> Tensor:
        """Return the divisor of coverage: (B, S, M) -> (B, S), or (B, 0) without coverage."""
        return self.attention.fertility(values)

    def start(self, encoded: Encoded, memory: Memory) -> RecurrentState:
        """Return the initial state. Its context is zero; without attention, it is the summary."""
        context = torch.zeros_like(memory.summary) if self.attention.attends else memory.summary
        log_weights = torch.full_like(memory.mask, MASKED, dtype=torch.float32)
        return RecurrentState(self.bridge(encoded), context, log_weights, torch.zeros_like(memory.fertility))

    def step(self, embedded: Tensor, state: RecurrentState, memory: Memory) -> tuple[Tensor, RecurrentState]:
        """Advance by one step: embeddings of the previous tokens (N, E) -> outputs s_t (N, H) and the next state."""
        gates = self.stack.project(embedded)
        return self._advance(gates, state, memory, self.stack.prepare(len(embedded)))

    def search_step(self, embeddings: Tensor) -> StepOfDecoder[RecurrentState]:
        """See ``Decoder.search_step``. The step is fast in evaluation mode without gradients, if the cells have a twin."""
        plain, device = step_of_tokens(self.step, embeddings), embeddings.device
        if self.training or not self.stack.has_fast_twin or not fast.enabled_without_gradients(device):
            return plain
        parameters = (*self.stack.parameters(), self.context_gates.weight, embeddings)
        stack = self._prepared.get("stack", parameters, lambda: self._fast_stack(embeddings))

        def step(tokens: Tensor, state: RecurrentState, memory: Memory) -> tuple[Tensor, RecurrentState]:
            if not fast.enabled_without_gradients(device):
                return plain(tokens, state, memory)
            output, hidden = stack(tokens, state.context, state.hidden)
            return self._attend(output, hidden, state, memory)

        return step

    def unroll(self, embedded: Tensor, state: RecurrentState, memory: Memory) -> Unrolled:
        """Run the teacher-forced unroll over the embedded input tokens (B, T, E)."""
        constants = self.stack.prepare(embedded.shape[0], steps=embedded.shape[1])
        if self.has_fast_twin and fast.enabled():
            return self._unroll_fast(embedded, state, memory, constants)
        outputs, contexts, log_weights = [], [], []
        for t, gates in enumerate(self.stack.project(embedded).unbind(dim=1)):
            output, state = self._advance(gates, state, memory, constants.at(t))
            outputs.append(output)
            contexts.append(state.context)
            log_weights.append(state.log_weights)
        return Unrolled(torch.stack(outputs, dim=1), torch.stack(contexts, dim=1), torch.stack(log_weights, dim=1))

    @property
    def has_fast_twin(self) -> bool:
        """Whether ``layers.fast`` can unroll this decoder.

        It can if its cell and its attention have twins, and it does not attend to sentences.
        """
        has_fast_attention = self.attention.kind in FAST_ATTENTIONS and self.attention.sentences is None
        return self.stack.has_fast_twin and has_fast_attention

    def _advance(
        self, gates: Tensor, state: RecurrentState, memory: Memory, constants: StepConstants
    ) -> tuple[Tensor, RecurrentState]:
        """Advance by one step; ``gates`` (N, G*H) are the projected embeddings."""
        gates = gates + self.context_gates(state.context)
        output, hidden = self.stack(gates, state.hidden, constants)
        return self._attend(output, hidden, state, memory)

    def _attend(
        self, output: Tensor, hidden: Tensor, state: RecurrentState, memory: Memory
    ) -> tuple[Tensor, RecurrentState]:
        """Attend with the outputs s_t (N, H); ``hidden`` is the next packed state, ``state`` the previous one."""
        per_sentence = (len(memory.mask), -1)  # (N, ...) -> (B, K, ...)
        coverage = state.coverage.unflatten(0, per_sentence)
        context, log_weights = self.attention.attend(output.unflatten(0, per_sentence), memory, coverage)
        if self.attention.coverage != "none":
            coverage = coverage + log_weights.exp() / memory.fertility.unsqueeze(1)
        return output, RecurrentState(hidden, context.flatten(0, 1), log_weights.flatten(0, 1), coverage.flatten(0, 1))

    def _fast_stack(self, embeddings: Tensor) -> FastStack:
        stack, cell = self.stack, self.stack.cell.fast
        assert cell is not None
        layers: list[CellWeights] = []
        for linear, hh, bias_hh in zip(stack.inputs, stack.weight_hh, stack.bias_hh, strict=True):
            assert isinstance(linear, nn.Linear)
            layers.append(CellWeights(linear.weight, hh, linear.bias, bias_hh))
        embedded = layers[0].ih
        layers[0] = layers[0]._replace(ih=self.context_gates.weight)
        return FastStack(cell, embeddings, embedded, layers, residual=stack.residual)

    def _unroll_fast(
        self, embedded: Tensor, state: RecurrentState, memory: Memory, constants: StepConstants
    ) -> Unrolled:
        cell = self.stack.cell.fast
        assert cell is not None
        attention = FAST_ATTENTIONS[self.attention.kind](self.attention)
        weights = AttentionWeights(
            query=attention.query,
            energy=attention.energy,
            coverage=None if self.attention.coverage == "none" else self.attention.coverage_weight,
        )
        layers = [self._layer_weights(number, constants) for number in range(len(self.stack.inputs))]
        options = UnrollOptions(cell, self.stack.residual, attention.energy is not None, attention.scale)
        gates = self.stack.project(embedded.transpose(0, 1).contiguous())  # (T, B, G*H), step first
        tensors = (gates, state.hidden, state.context, memory.values, memory.keys, memory.fertility)
        with torch.autocast(
            embedded.device.type, enabled=False
        ):  # half precision does not make such small steps faster
            dtype = layers[0].hidden.dtype
            gates, hidden, context, values, keys, fertility = (tensor.to(dtype) for tensor in tensors)
            memory_tensors = (values, keys, memory.mask, fertility)
            flat = (*weights, *chain.from_iterable(layers))
            unrolled = FastUnroll.apply(options, gates, hidden, context, *memory_tensors, *flat)
        return Unrolled(*unrolled)

    def _layer_weights(self, number: int, constants: StepConstants) -> LayerWeights:
        """Return the parameters and masks of a layer; the input of the first one is the context."""
        linear = self.context_gates if number == 0 else self.stack.inputs[number]
        assert isinstance(linear, nn.Linear)
        return LayerWeights(
            hidden=constants.weights[number],
            bias=self.stack.bias_hh[number],
            input=linear.weight,
            input_bias=linear.bias,
            recurrent_mask=constants.recurrent[number],
            input_mask=constants.between[number],
        )
