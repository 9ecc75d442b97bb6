"""Fast twin of the cells of the recurrent decoder in search, without gradients.

The weights that act on the context and on the previous h are joined, so that each layer of a step is one product. The GRU
keeps the part of h separate, which makes two. The gates are computed in place. Many hypotheses of a batch have the same
previous token, whose embedding is projected once. The weights are kept as contiguous transposes, whose products with few rows
take half the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from seq2seq.layers.fast.cells import FastCell, StepTensors

MANY_ROWS = 32  # with fewer rows, finding equal tokens takes longer than projecting all embeddings


class CellWeights(NamedTuple):
    """The parameters of one layer of cells, of any input width I."""

    ih: Tensor  # (G*H, I)
    hh: Tensor  # (G*H, H)
    bias_ih: Tensor  # (G*H,)
    bias_hh: Tensor  # (G*H,)


class FastStack:
    """One step of L layers of cells, as ``StackedCell`` computes it in evaluation mode.

    It holds copies of the weights.

    Args:
        embeddings: those of all ids (V, E).
        embedded: the weights of the first layer that act on the embedding (G*H, E).
        layers: the other weights; those of the first layer act on the context.
        residual: add its input to the output of every layer except the first.
    """

    def __init__(
        self, cell: FastCell, embeddings: Tensor, embedded: Tensor, layers: Sequence[CellWeights], *, residual: bool
    ) -> None:
        self._cell, self._embeddings, self._residual = cell, embeddings, residual
        self._embedded = embedded.t().contiguous()
        self._layers = [_transposed(weights if cell.separate else _joined(weights)) for weights in layers]

    def __call__(self, tokens: Tensor, context: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Advance by one step: (N,), (N, M), packed states (N, L, W) -> output (N, H), next packed states (N, L, W)."""
        after = torch.empty_like(hidden)
        inputs = context
        for number, weights in enumerate(self._layers):
            width = len(weights.hh)
            last, last_cell = hidden[:, number, :width], hidden[:, number, width:]
            output, cell = after[:, number, :width], after[:, number, width:]
            joined = inputs if self._cell.separate else torch.cat((inputs, last), dim=1)
            if number == 0:
                gates = self._project(tokens, weights.bias_ih).addmm_(joined, weights.ih)
            else:
                gates = torch.addmm(weights.bias_ih, joined, weights.ih)
            hidden_gates = gates[:, :0]
            if self._cell.separate:
                hidden_gates = torch.addmm(weights.bias_hh, last, weights.hh)
            self._cell.forward(StepTensors(gates, hidden_gates, last, last_cell, output, cell))
            inputs = output + inputs if self._residual and number > 0 else output
        return inputs, after

    def _project(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """Project the embeddings of tokens (N,) and add the bias: (N, G*H)."""
        if tokens.device.type != "cpu" or len(tokens) < MANY_ROWS:
            return torch.addmm(bias, F.embedding(tokens, self._embeddings), self._embedded)
        ids, rows = tokens.unique(return_inverse=True)
        return torch.addmm(bias, F.embedding(ids, self._embeddings), self._embedded).index_select(0, rows)


def _joined(weights: CellWeights) -> CellWeights:
    """Return weights whose ``ih`` acts on the input and the previous h (G*H, I+H), with the sum of the biases."""
    ih = torch.cat((weights.ih, weights.hh), dim=1)
    return CellWeights(ih, weights.hh, weights.bias_ih + weights.bias_hh, weights.bias_hh)


def _transposed(weights: CellWeights) -> CellWeights:
    """Return copies of the weights with the shapes (I, G*H) and (H, G*H)."""
    return weights._replace(ih=weights.ih.t().contiguous(), hh=weights.hh.t().contiguous())
