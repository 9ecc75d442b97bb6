"""Fast twin of one encoder layer, in one or both directions.

It gives the same results as torch's layers on packed sequences, faster on a CPU, and supports recurrent dropout. The second
direction reads each sentence reversed within its length. Padding is therefore at the end in both directions, no step
checks for it, and one loop advances both directions.

Notation: y_t is the input of the layer, h_t its output and m the mask of recurrent dropout. g_t are the pre-activations of
the gates, and u_t is the part of them that depends on h_{t-1}, which the GRU keeps separate::

    u_t = W_hh (m * h_{t-1}) + b_hh        g_t = W_ih y_t + b_ih + u_t      (GRU: g_t without u_t)

The backward of the cell (``layers.fast.cells``) gives dg_t and du_t from dh_t, where dX is the gradient of the loss with
respect to X; du_t = dg_t except for the GRU. outer(h_t) is the gradient from the values and the final state::

    dh_t = outer(h_t) + m * (W_hh^T du_{t+1}) + (path of h_t to h_{t+1} except through the gates)        dy_t = W_ih^T dg_t
    dW_ih = sum_t dg_t y_t^T      db_ih = sum_t dg_t      dW_hh = sum_t du_t (m * h_{t-1})^T      db_hh = sum_t du_t

Each gradient of a weight is one product over all steps, instead of one product per step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seq2seq.layers.cells import RecurrentWeights
from seq2seq.layers.fast.cells import FastCell, StepTensors


class FastRecurrence(torch.autograd.Function):
    """Runs one layer.

    (cell, inputs (B, S, I), lengths (B,), *weights) -> values (B, S, D*H), 0 at padding; final states (B, D, W).
    """

    @staticmethod
    def forward(
        ctx: Any, cell: FastCell, inputs: Tensor, lengths: Tensor, *flat: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        weights = RecurrentWeights(*flat)  # type: ignore[arg-type]
        (B, S, _), (D, G, H) = inputs.shape, weights.hh.shape
        order, inverse = _orders(lengths, S, D)
        read = torch.stack([inputs.flatten(0, 1).index_select(0, rows) for rows in order])  # (D, S*B, I)
        bias = weights.bias_ih if cell.separate else weights.bias_ih + weights.bias_hh
        gates = torch.baddbmm(bias.unsqueeze(1), read, weights.ih.mT).view(D, S, B, G)
        outputs, cells = (inputs.new_zeros(D, S + 1, B, width) for width in (H, H if cell.has_cell else 0))
        dropped = outputs if weights.mask is None else torch.zeros_like(outputs)
        hidden_gates = inputs.new_empty(D, S, B, G if cell.separate else 0)
        for t in range(S):
            if weights.mask is not None:
                torch.mul(outputs[:, t], weights.mask, out=dropped[:, t])
            for d in range(D):
                if cell.separate:
                    torch.addmm(weights.bias_hh[d], dropped[d, t], weights.hh[d].T, out=hidden_gates[d, t])
                else:
                    gates[d, t].addmm_(dropped[d, t], weights.hh[d].T)
            cell.forward(_step(t, gates, hidden_gates, outputs, cells))
        rows = torch.arange(B, device=lengths.device)
        final = torch.cat((outputs[:, lengths, rows], cells[:, lengths, rows]), dim=2).transpose(0, 1)
        # outputs of padded steps can be infinite, and backward multiplies them by 0
        outputs[:, 1:].masked_fill_(_padding(lengths, S).transpose(0, 1), 0.0)
        ctx.cell, ctx.has_mask = cell, weights.mask is not None
        ctx.save_for_backward(
            *(lengths, order, inverse, read, gates, outputs, cells, hidden_gates),
            *(weights[:4] + (weights.mask,) * ctx.has_mask),
        )
        values = torch.cat([outputs[d, 1:].flatten(0, 1).index_select(0, inverse[d]) for d in range(D)], dim=1)
        return values.view(B, S, D * H), final

    @staticmethod
    def backward(ctx: Any, d_values: Tensor, d_final: Tensor) -> tuple[Tensor | None, ...]:
        lengths, order, inverse, read, gates, outputs, cells, hidden_gates, *flat = ctx.saved_tensors
        weights = RecurrentWeights(*flat, *(() if ctx.has_mask else (None,)))
        (D, S, B), H, cell = gates.shape[:3], outputs.shape[3], ctx.cell
        d_h_final, d_cell_final = d_final.transpose(0, 1).split((H, d_final.shape[2] - H), dim=2)
        d_values = d_values.masked_fill(_padding(lengths, S), 0.0).view(B * S, D, H)
        d_outputs = torch.stack([d_values[:, d].index_select(0, order[d]) for d in range(D)]).view(D, S, B, H)
        ends = (torch.arange(1, S + 1, device=lengths.device).unsqueeze(1) == lengths).unsqueeze(2).to(d_outputs)
        d_gates = torch.empty_like(gates)
        d_hidden_gates = torch.empty_like(gates) if cell.separate else d_gates
        d_last, d_cell = torch.zeros_like(d_outputs[:, 0]), torch.zeros_like(cells[:, 0])
        for t in reversed(range(S)):
            d_output = (d_last + d_outputs[:, t]).addcmul_(d_h_final, ends[t])
            d_cell = torch.addcmul(d_cell, d_cell_final, ends[t])
            step = _step(t, gates, hidden_gates, outputs, cells)
            d_h, direct, d_cell = cell.backward(step, d_output, d_cell, d_gates[:, t])
            if cell.separate:
                d_hidden_gates[:, t] = d_h
            for d in range(D):
                torch.mm(d_h[d], weights.hh[d], out=d_last[d])
            d_last = d_last if weights.mask is None else d_last * weights.mask
            d_last = d_last if direct is None else d_last + direct
        # for each weight, one product over all steps
        last = outputs[:, :-1] if weights.mask is None else outputs[:, :-1] * weights.mask.unsqueeze(1)
        flat_gates, flat_hidden = d_gates.flatten(1, 2), d_hidden_gates.flatten(1, 2)
        d_read = torch.bmm(flat_gates, weights.ih)
        d_inputs = sum(d_read[d].index_select(0, inverse[d]) for d in range(D))
        assert isinstance(d_inputs, Tensor)
        d_ih, d_hh = torch.bmm(flat_gates.mT, read), torch.bmm(flat_hidden.mT, last.flatten(1, 2))
        biases = flat_gates.sum(dim=1), flat_hidden.sum(dim=1)
        return None, d_inputs.view(B, S, -1), None, d_ih, d_hh, *biases, None


def _step(t: int, gates: Tensor, hidden_gates: Tensor, outputs: Tensor, cells: Tensor) -> StepTensors:
    """Select step t of all directions: (D, B, ...)."""
    return StepTensors(gates[:, t], hidden_gates[:, t], outputs[:, t], cells[:, t], outputs[:, t + 1], cells[:, t + 1])


def _padding(lengths: Tensor, steps: int) -> Tensor:
    """Return (B, S, 1), True at padding."""
    return (torch.arange(steps, device=lengths.device) >= lengths.unsqueeze(1)).unsqueeze(2)


def _orders(lengths: Tensor, steps: int, directions: int) -> tuple[Tensor, Tensor]:
    """Return the order (D, S*B) in which each direction reads the rows of (B*S), step first, and its inverse (D, B*S)."""
    rows, positions = torch.arange(len(lengths), device=lengths.device), torch.arange(steps, device=lengths.device)
    reverse = lengths.unsqueeze(1) - 1 - positions
    reverse = torch.where(reverse >= 0, reverse, positions)  # (B, S), its own inverse
    read = torch.stack([positions.expand_as(reverse), reverse][:directions])
    order = (rows.unsqueeze(1) * steps + read).transpose(1, 2)
    return order.flatten(1), (read * len(rows) + rows.unsqueeze(1)).flatten(1)
