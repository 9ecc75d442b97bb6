"""One encoder layer over whole sentences, in one or both directions, with a backward of its own.

The same numbers as torch's layers over packed sequences, sooner on a CPU, and with recurrent dropout where one is asked
for. The second direction reads every sentence turned round within its length, so that padding always comes last and no
step needs to know of it; both directions then advance together. The gradients of all weights are one product over all
steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from seq2seq.layers.fast.cells import CELLS, Step


class Weights(NamedTuple):
    """Parameters of D directions, named as in torch's layers."""

    ih: Tensor  # (D, G*H, I)
    hh: Tensor  # (D, G*H, H)
    bias_ih: Tensor  # (D, G*H)
    bias_hh: Tensor  # (D, G*H)
    mask: Tensor | None  # (D, B, H), of recurrent dropout; constant


class Recur(torch.autograd.Function):
    """(cell, inputs (B, S, I), lengths (B,), *weights) -> values (B, S, D*H), 0 at padding; final states (B, D, W)."""

    @staticmethod
    def forward(ctx: Any, cell: str, inputs: Tensor, lengths: Tensor, *flat: Tensor | None) -> tuple[Tensor, Tensor]:
        weights = Weights(*flat)  # type: ignore[arg-type]
        (B, S, _), (D, G, H) = inputs.shape, weights.hh.shape
        step, _, apart, has_cell = CELLS[cell]
        order, back = _orders(lengths, S, D)
        read = torch.stack([inputs.flatten(0, 1).index_select(0, rows) for rows in order])  # (D, S*B, I)
        bias = weights.bias_ih if apart else weights.bias_ih + weights.bias_hh
        activations = torch.baddbmm(bias.unsqueeze(1), read, weights.ih.mT).view(D, S, B, G)
        outputs, cells = (inputs.new_zeros(D, S + 1, B, width) for width in (H, H if has_cell else 0))
        seen = outputs if weights.mask is None else torch.zeros_like(outputs)
        h = inputs.new_empty(D, S, B, G if apart else 0)
        for t in range(S):
            if weights.mask is not None:
                torch.mul(outputs[:, t], weights.mask, out=seen[:, t])
            for d in range(D):
                if apart:
                    torch.addmm(weights.bias_hh[d], seen[d, t], weights.hh[d].T, out=h[d, t])
                else:
                    activations[d, t].addmm_(seen[d, t], weights.hh[d].T)
            step(Step(activations[:, t], h[:, t], outputs[:, t], cells[:, t], outputs[:, t + 1], cells[:, t + 1]))
        rows = torch.arange(B, device=lengths.device)
        final = torch.cat((outputs[:, lengths, rows], cells[:, lengths, rows]), dim=2).transpose(0, 1)
        # what a step makes of padding may be infinite, and backward multiplies it by 0
        outputs[:, 1:].masked_fill_(_padding(lengths, S).transpose(0, 1), 0.0)
        ctx.cell, ctx.has_mask = cell, weights.mask is not None
        ctx.save_for_backward(
            lengths, order, back, read, activations, outputs, cells, h, *weights[:4], *(weights.mask,) * ctx.has_mask
        )
        values = torch.cat([outputs[d, 1:].flatten(0, 1).index_select(0, back[d]) for d in range(D)], dim=1)
        return values.view(B, S, D * H), final

    @staticmethod
    def backward(ctx: Any, d_values: Tensor, d_final: Tensor) -> tuple[Tensor | None, ...]:
        lengths, order, back, read, activations, outputs, cells, h, *flat = ctx.saved_tensors
        weights = Weights(*flat, *(() if ctx.has_mask else (None,)))
        (D, S, B), H = activations.shape[:3], outputs.shape[3]
        _, step_back, apart, _ = CELLS[ctx.cell]
        d_h_final, d_cell_final = d_final.transpose(0, 1).split((H, d_final.shape[2] - H), dim=2)
        d_values = d_values.masked_fill(_padding(lengths, S), 0.0).view(B * S, D, H)
        d_outputs = torch.stack([d_values[:, d].index_select(0, order[d]) for d in range(D)]).view(D, S, B, H)
        ends = (torch.arange(1, S + 1, device=lengths.device).unsqueeze(1) == lengths).unsqueeze(2).to(d_outputs)
        d_gates = torch.empty_like(activations)
        d_hidden_gates = torch.empty_like(activations) if apart else d_gates
        d_last, d_cell = torch.zeros_like(d_outputs[:, 0]), torch.zeros_like(cells[:, 0])
        for t in reversed(range(S)):
            d_output = (d_last + d_outputs[:, t]).addcmul_(d_h_final, ends[t])
            d_cell = torch.addcmul(d_cell, d_cell_final, ends[t])
            step = Step(activations[:, t], h[:, t], outputs[:, t], cells[:, t], outputs[:, t + 1], cells[:, t + 1])
            d_h, direct, d_cell = step_back(step, d_output, d_cell, d_gates[:, t])
            if apart:
                d_hidden_gates[:, t] = d_h
            for d in range(D):
                torch.mm(d_h[d], weights.hh[d], out=d_last[d])
            d_last = d_last if weights.mask is None else d_last * weights.mask
            d_last = d_last if direct is None else d_last + direct
        # what all steps share: one product each
        last = outputs[:, :-1] if weights.mask is None else outputs[:, :-1] * weights.mask.unsqueeze(1)
        flat_gates, flat_hidden = d_gates.flatten(1, 2), d_hidden_gates.flatten(1, 2)
        d_read = torch.bmm(flat_gates, weights.ih)
        d_inputs = sum(d_read[d].index_select(0, back[d]) for d in range(D))
        assert isinstance(d_inputs, Tensor)
        d_ih, d_hh = torch.bmm(flat_gates.mT, read), torch.bmm(flat_hidden.mT, last.flatten(1, 2))
        biases = flat_gates.sum(dim=1), flat_hidden.sum(dim=1)
        return None, d_inputs.view(B, S, -1), None, d_ih, d_hh, *biases, None


def _padding(lengths: Tensor, steps: int) -> Tensor:
    """(B, S, 1), True behind the end."""
    return (torch.arange(steps, device=lengths.device) >= lengths.unsqueeze(1)).unsqueeze(2)


def _orders(lengths: Tensor, steps: int, directions: int) -> tuple[Tensor, Tensor]:
    """Rows of (B*S) in the order (S*B) of each direction's steps, and the way back: (D, S*B), (D, B*S)."""
    rows, places = torch.arange(len(lengths), device=lengths.device), torch.arange(steps, device=lengths.device)
    turned = lengths.unsqueeze(1) - 1 - places
    turned = torch.where(turned >= 0, turned, places)  # (B, S), the same there and back
    seen = torch.stack([places.expand_as(turned), turned][:directions])
    order = (rows.unsqueeze(1) * steps + seen).transpose(1, 2)
    return order.flatten(1), (seen * len(rows) + rows.unsqueeze(1)).flatten(1)
