"""The recurrent encoder: uni- or bidirectional layers over sentences of different lengths.

On a GPU torch's own layers (cuDNN) run it, over packed sequences. On a CPU ``recurrence`` does, which is sooner there,
and wherever recurrent dropout masks h between the steps of a sentence. Imports nothing of the decoder: how a summary
starts it is the bridge's matter.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seq2seq.layers.cells import find_cell, init_recurrent
from seq2seq.layers.dropout import SequenceDropout, drop_weight, make_mask
from seq2seq.layers.fast.encoder import Recur, Weights


class Encoded(NamedTuple):
    """What the encoder knows of a batch."""

    values: Tensor  # (B, S, M)
    mask: Tensor  # (B, S), True = real
    final: Tensor  # (B, L, D, W), the packed state after the last real step of each of D directions


class Encoder(nn.Module):
    """L recurrent layers, each over the one below.

    Args:
        hidden_size: M, of both directions together.
        dropout: between layers.
        residual: add a layer's input to its output where the widths agree and it is not the first.
    """

    def __init__(
        self,
        cell: str,
        *,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bidirectional: bool = True,
        dropout: float = 0.0,
        locked: bool = False,
        recurrent_dropout: float = 0.0,
        weight_drop: float = 0.0,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.cell_name = cell
        self.cell = find_cell(cell)
        self.directions = 2 if bidirectional else 1
        if hidden_size % self.directions:
            raise ValueError(
                f"model.encoder_hidden_size counts both directions and must be even, but is {hidden_size}; "
                "change it or set model.bidirectional=false"
            )
        self.hidden_size = hidden_size
        self.direction_size = hidden_size // self.directions
        self.recurrent_dropout = recurrent_dropout
        self.weight_drop = weight_drop
        self.residual = residual
        self.dropout = SequenceDropout(dropout, locked=locked)
        self.layers = nn.ModuleList(
            self.cell.layer(
                input_size if layer == 0 else hidden_size,
                self.direction_size,
                batch_first=True,
                bidirectional=bidirectional,
            )
            for layer in range(num_layers)
        )
        for layer in self.layers:
            for direction in self._suffixes:
                names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                weight_ih, weight_hh, *biases = (getattr(layer, f"{name}_l0{direction}") for name in names)
                init_recurrent(cell, weight_ih, weight_hh, biases)

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return ("", "_reverse")[: self.directions]

    def forward(self, embedded: Tensor, lengths: Tensor) -> Encoded:
        """Read the source.

        Args:
            embedded: (B, S, E).
            lengths: (B,) real positions of each row, at least 1, on the CPU.
        """
        positions = torch.arange(embedded.shape[1], device=embedded.device)
        mask = positions < lengths.to(embedded.device, non_blocking=True).unsqueeze(1)
        values = embedded
        final = []
        dropping = self.training and self.recurrent_dropout > 0
        by_hand = dropping or not embedded.is_cuda
        for number, layer in enumerate(self.layers):
            below = self.dropout(values) if number > 0 else values
            values, state = (self._by_hand if by_hand else self._by_torch)(layer, below, lengths)
            if self.residual and number > 0:
                values = values + below * mask.unsqueeze(2)
            final.append(state)
        return Encoded(values, mask, torch.stack(final, dim=1))

    def _by_torch(self, layer: nn.Module, sequence: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Run one layer: (B, S, I) -> (B, S, M) with zeros at padding, and the final state (B, D, W)."""
        is_sorted = bool((lengths[1:] <= lengths[:-1]).all())  # else rows are moved, which a GPU would wait for
        dropped = {}
        if self.training and self.weight_drop > 0:
            names = [f"weight_hh_l0{suffix}" for suffix in self._suffixes]
            dropped = {name: drop_weight(getattr(layer, name), self.weight_drop, True) for name in names}
        with torch.autocast(sequence.device.type, enabled=False):  # it would make cuDNN's layers fp16, in bf16 too
            sequence = sequence.to(next(layer.parameters()).dtype)
            packed = pack_padded_sequence(sequence, lengths, batch_first=True, enforce_sorted=is_sorted)
            output, state = torch.func.functional_call(layer, dropped, (packed,)) if dropped else layer(packed)
        state = torch.cat(state, dim=-1) if isinstance(state, tuple) else state  # (D, B, W)
        values, _ = pad_packed_sequence(output, batch_first=True, total_length=sequence.shape[1])
        return values, state.transpose(0, 1)

    def _by_hand(self, layer: nn.Module, sequence: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The same, with one recurrent dropout mask a sentence where there is one."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ih, hh, bias_ih, bias_hh = (
            torch.stack([getattr(layer, f"{name}_l0{suffix}") for suffix in self._suffixes]) for name in names
        )
        hh = torch.stack([drop_weight(weight, self.weight_drop, self.training) for weight in hh])
        mask = None
        if self.training and self.recurrent_dropout > 0:
            shape = (sequence.shape[0], self.direction_size)
            mask = torch.stack([make_mask(shape, self.recurrent_dropout, ih) for _ in self._suffixes])
        with torch.autocast(sequence.device.type, enabled=False):
            weights = Weights(ih, hh, bias_ih, bias_hh, mask)
            traced = Recur.apply(
                self.cell_name, sequence.to(ih.dtype), lengths.to(sequence.device, non_blocking=True), *weights
            )
        values, final = traced
        return values, final
