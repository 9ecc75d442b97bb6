"""Fast twin of the cells of the recurrent decoder in search, without gradients.

The weights that act on the embedding, the context and the previous h are joined once per search, so that each layer of a
step is one product. The GRU keeps the part of h separate, which makes two. The gates are computed in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from seq2seq.layers.fast.cells import FastCell, StepTensors


class CellWeights(NamedTuple):
    """The parameters of one layer of cells, of any input width I."""

    ih: Tensor  # (G*H, I)
    hh: Tensor  # (G*H, H)
    bias_ih: Tensor  # (G*H,)
    bias_hh: Tensor  # (G*H,)


class FastStack:
    """One step of L layers of cells, as ``StackedCell`` computes it in evaluation mode.

    Args:
        layers: their weights; those of the first layer act on the embedding and the context, in this order.
        residual: add its input to the output of every layer except the first.
    """

    def __init__(self, cell: FastCell, layers: Sequence[CellWeights], *, residual: bool) -> None:
        self._cell, self._residual = cell, residual
        self._layers = layers if cell.separate else [_joined(weights) for weights in layers]

    def __call__(self, embedded: Tensor, context: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Advance by one step: (N, E), (N, M), packed states (N, L, W) -> output (N, H), next packed states (N, L, W)."""
        after = torch.empty_like(hidden)
        inputs: tuple[Tensor, ...] = (embedded, context)
        for number, weights in enumerate(self._layers):
            width = weights.hh.shape[1]
            last, last_cell = hidden[:, number, :width], hidden[:, number, width:]
            output, cell = after[:, number, :width], after[:, number, width:]
            if self._cell.separate:
                gates = F.linear(torch.cat(inputs, dim=1), weights.ih, weights.bias_ih)
                hidden_gates = F.linear(last, weights.hh, weights.bias_hh)
            else:
                gates = F.linear(torch.cat((*inputs, last), dim=1), weights.ih, weights.bias_ih)
                hidden_gates = gates[:, :0]
            self._cell.forward(StepTensors(gates, hidden_gates, last, last_cell, output, cell))
            inputs = (output + inputs[0] if self._residual and number > 0 else output,)
        return inputs[0], after


def _joined(weights: CellWeights) -> CellWeights:
    """Return weights whose ``ih`` acts on the input and the previous h (G*H, I+H), with the sum of the biases."""
    ih = torch.cat((weights.ih, weights.hh), dim=1)
    return CellWeights(ih, weights.hh, weights.bias_ih + weights.bias_hh, weights.bias_hh)
