"""The recurrent encoder: unidirectional or bidirectional layers over sources of different lengths.

Each layer runs in one of three ways with the same results. Torch's layer, if torch has the cell, runs on a GPU, and on a CPU
without gradients, except with recurrent dropout and layer normalisation, which torch's layer does not have. Otherwise the
fast twin ``layers.fast.encoder`` runs, which on a CPU is faster than torch's layer with its backward. A cell without a twin
and a layer with layer normalisation run step by step.

Letters: D directions, I input width of a layer; in a layer, H = M/D is the width of one direction. The others are those of
``seq2seq.layers``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.backends import cudnn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seq2seq.layers import fast
from seq2seq.layers.cells import CellNorm, Parts, RecurrentWeights, find_cell, init_recurrent, make_layer
from seq2seq.layers.dropout import SequenceDropout, drop_weight, make_mask
from seq2seq.layers.fast.encoder import FastRecurrence


class Source(Protocol):
    """The part of a batch that an encoder reads in addition to the embedded pieces."""

    @property
    def src_lengths(self) -> Tensor:
        """The number of real positions of each row, at least 1: (B,), on the CPU."""

    @property
    def segments(self) -> Tensor:
        """The number of the sentence of each position: (B, S), on the CPU; only an encoder of sentences reads it."""


class EncodedSentences(NamedTuple):
    """The sentences of the sources, Z of the one that has the most; see ``hierarchical``."""

    values: Tensor  # (B, Z, M)
    mask: Tensor  # (B, Z), True = real
    numbers: Tensor  # (B, S), the sentence of each position, a valid index into Z also at padding


class Encoded(NamedTuple):
    """The output of an encoder.

    >>> encoded = RecurrentEncoder("gru", input_size=4, hidden_size=6)(torch.randn(2, 5, 4), torch.tensor([5, 3]))
    >>> encoded.mask[1].tolist()
    [True, True, True, False, False]
    >>> encoded.summary.shape  # the last output of each direction
    torch.Size([2, 6])
    """

    values: Tensor  # (B, S, M)
    mask: Tensor  # (B, S), True = real
    summary: Tensor  # (B, M), one vector for the whole source
    final: Tensor | None  # (B, L, D, W), packed states after the last real step; None: not recurrent
    sentences: EncodedSentences | None = None  # of an encoder with ``has_sentences``


class Encoder(Protocol):
    """The interface of an encoder."""

    @property
    def hidden_size(self) -> int:
        """M, the width of the values."""

    @property
    def direction_size(self) -> int | None:
        """M/D, the width of one direction; None if the encoder is not recurrent and has no final states."""

    @property
    def has_sentences(self) -> bool:
        """Whether it returns ``Encoded.sentences``, which the attention then reads too."""

    def __call__(self, embedded: Tensor, source: Source) -> Encoded:
        """Encode embedded pieces (B, S, E); ``source`` has their lengths."""


class RecurrentEncoder(nn.Module):
    """Applies L recurrent layers to whole sequences, each layer to the values of the one below, in one or both directions.

    >>> encoder = RecurrentEncoder("lstm", input_size=4, hidden_size=6, num_layers=2)
    >>> encoded = encoder(torch.randn(2, 5, 4), torch.tensor([5, 3]))  # two sequences of 5 and 3 steps
    >>> encoded.values.shape, bool(encoded.values[1, 3:].any())  # 0 at padding
    (torch.Size([2, 5, 6]), False)
    >>> encoded.final.shape  # layers, directions, and the 3 units of h and of c
    torch.Size([2, 2, 2, 6])

    Args:
        cell: rnn_tanh, rnn_relu, gru or lstm.
        input_size: E.
        hidden_size: M, the width of both directions together.
        dropout: probability of dropout between layers; with ``locked``, one mask per sentence instead of one per step.
        recurrent_dropout: probability of dropout of h between steps, with one mask per sentence, layer and direction.
        weight_drop: probability of dropout of the h-to-h weights, with one mask per batch.
        residual: add its input to the output of every layer except the first.
        layer_norm: normalise inside the cells, see ``CellNorm``.
    """

    has_sentences = False

    def __init__(
        self,
        cell: str,
        *,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.0,
        locked: bool = False,
        recurrent_dropout: float = 0.0,
        weight_drop: float = 0.0,
        residual: bool = False,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.cell = find_cell(cell)
        self.directions = 2 if bidirectional else 1
        if hidden_size % self.directions:
            raise ValueError(
                f"model.encoder_hidden_size is the width of both directions together and must be even, but is {hidden_size}; "
                "set an even number or model.bidirectional=false"
            )
        self.hidden_size = hidden_size
        self.direction_size = hidden_size // self.directions
        self.recurrent_dropout = recurrent_dropout
        self.weight_drop = weight_drop
        self.residual = residual
        self.dropout = SequenceDropout(dropout, locked=locked)
        self.layers = nn.ModuleList(
            make_layer(
                self.cell,
                input_size if layer == 0 else hidden_size,
                self.direction_size,
                bidirectional=bidirectional,
            )
            for layer in range(num_layers)
        )
        for layer in self.layers:
            for direction in self._suffixes:
                names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                weight_ih, weight_hh, *biases = (getattr(layer, f"{name}_l0{direction}") for name in names)
                init_recurrent(cell, weight_ih, weight_hh, biases)
        norms = num_layers * self.directions if layer_norm else 0
        self.norms = nn.ModuleList(
            CellNorm(cell, self.direction_size) for _ in range(norms)
        )  # direction after direction

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return ("", "_reverse")[: self.directions]

    def forward(self, embedded: Tensor, source: Source | Tensor | None = None) -> Encoded:
        """Encode embedded pieces (B, S, E).

        Args:
            source: a batch with the lengths, or the lengths themselves (B,), each at least 1; None: all steps are real.
        """
        lengths = _lengths(embedded, source)
        positions = torch.arange(embedded.shape[1], device=embedded.device)
        mask = positions < lengths.to(embedded.device, non_blocking=True).unsqueeze(1)
        values = embedded
        states = []
        for number in range(len(self.layers)):
            below = self.dropout(values) if number > 0 else values
            values, state = self._run(number, below, lengths)
            if self.residual and number > 0:
                values = values + below * mask.unsqueeze(2)
            states.append(state)
        final = torch.stack(states, dim=1)
        summary = final[:, -1, :, : self.direction_size].flatten(1)  # (B, D, M/D) -> (B, M)
        return Encoded(values, mask, summary, final)

    def _run(self, number: int, sequence: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Run one layer: (B, S, I) -> values (B, S, M), 0 at padding, and the final states (B, D, W)."""
        layer = self.layers[number]
        if self._uses_torch(sequence):
            return self._run_torch(layer, sequence, lengths)
        weights = self._weights(layer, len(sequence))
        with torch.autocast(sequence.device.type, enabled=False):
            sequence, lengths = sequence.to(weights.ih.dtype), lengths.to(sequence.device, non_blocking=True)
            if self.cell.fast is None or self.norms or not fast.enabled():
                return self._run_steps(sequence, lengths, weights, number)
            values, final = FastRecurrence.apply(self.cell.fast, sequence, lengths, *weights)
            return values, final

    def _uses_torch(self, sequence: Tensor) -> bool:
        """Whether torch's layer is the fastest one: on a GPU, and on a CPU without gradients."""
        if self.cell.layer is None or self.norms or (self.training and self.recurrent_dropout > 0):
            return False
        return sequence.is_cuda or (fast.enabled() and not torch.is_grad_enabled())

    def _run_torch(self, layer: nn.Module, sequence: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Run torch's layer on a packed sequence."""
        is_sorted = bool(
            (lengths[1:] <= lengths[:-1]).all()
        )  # otherwise torch sorts the rows, which synchronises a GPU
        dropped = {}
        if self.training and self.weight_drop > 0:
            names = [f"weight_hh_l0{suffix}" for suffix in self._suffixes]
            dropped = {name: drop_weight(getattr(layer, name), self.weight_drop, True) for name in names}
        # autocast runs cuDNN's layers in fp16, also if it is set to bf16
        with torch.autocast(sequence.device.type, enabled=False), nullcontext() if self.training else _without_tf32():
            inputs: Any = sequence.to(next(layer.parameters()).dtype)
            is_padded = bool((lengths < sequence.shape[1]).any())
            if is_padded:
                inputs = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=is_sorted)
            values, state = torch.func.functional_call(layer, dropped, (inputs,)) if dropped else layer(inputs)
        state = torch.cat(state, dim=-1) if isinstance(state, tuple) else state  # (D, B, W)
        if is_padded:
            values, _ = pad_packed_sequence(values, batch_first=True, total_length=sequence.shape[1])
        return values, state.transpose(0, 1)

    def _weights(self, layer: nn.Module, rows: int) -> RecurrentWeights:
        """Stack the parameters of the directions, and draw the masks of weight drop and recurrent dropout."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ih, hh, bias_ih, bias_hh = (
            torch.stack([getattr(layer, f"{name}_l0{suffix}") for suffix in self._suffixes]) for name in names
        )
        hh = torch.stack([drop_weight(weight, self.weight_drop, self.training) for weight in hh])
        mask = None
        if self.training and self.recurrent_dropout > 0:
            shape = (rows, self.direction_size)
            mask = torch.stack([make_mask(shape, self.recurrent_dropout, ih) for _ in self._suffixes])
        return RecurrentWeights(ih, hh, bias_ih, bias_hh, mask)

    def _run_steps(
        self, sequence: Tensor, lengths: Tensor, weights: RecurrentWeights, number: int
    ) -> tuple[Tensor, Tensor]:
        """Run each direction of layer ``number`` step by step; padded steps do not change the state."""
        B, S, _ = sequence.shape
        values, final = [], []
        for d in range(self.directions):
            bias = None if self.norms else weights.bias_ih[d]
            gates = nn.functional.linear(sequence, weights.ih[d], bias)  # (B, S, G*H)
            state = sequence.new_zeros(B, self.direction_size * self.cell.parts)
            outputs = [state[:, : self.direction_size]] * S
            for t in reversed(range(S)) if d else range(S):
                parts = state.split(self.direction_size, dim=1)
                masked = parts[0] if weights.mask is None else parts[0] * weights.mask[d]
                parts = self._advance(number, d, gates[:, t], masked, parts, weights)
                real = (t < lengths).unsqueeze(1)
                state = torch.where(real, torch.cat(parts, dim=1), state)
                outputs[t] = parts[0].masked_fill(~real, 0.0)
            values.append(torch.stack(outputs, dim=1))
            final.append(state)
        return torch.cat(values, dim=2), torch.stack(final, dim=1)

    def _advance(
        self, number: int, d: int, gates: Tensor, masked: Tensor, parts: Parts, weights: RecurrentWeights
    ) -> Parts:
        """Advance direction d of a layer; ``masked`` is the previous h after recurrent dropout (B, H)."""
        if not self.norms:
            return self.cell.step(gates, nn.functional.linear(masked, weights.hh[d], weights.bias_hh[d]), parts)
        norm = self.norms[number * self.directions + d]
        assert isinstance(norm, CellNorm)
        hidden = nn.functional.linear(masked, weights.hh[d])
        return norm.step(gates, hidden, parts, weights.bias_ih[d], weights.bias_hh[d])


def _lengths(embedded: Tensor, source: Source | Tensor | None) -> Tensor:
    """Return the number of real steps of each row: (B,), on the CPU."""
    if source is None:
        return torch.full((len(embedded),), embedded.shape[1])
    return source.cpu() if isinstance(source, Tensor) else source.src_lengths


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Let cuDNN's layers compute in fp32; by default, torch lets them use TF32, whose error is about 1e-3."""
    before = cudnn.allow_tf32
    cudnn.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32 = before
