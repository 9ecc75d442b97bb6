"""One step of every cell and back through it, by hand and in place: what ``fused`` and ``recurrence`` unroll.

A step turns the sums of all that enters the gates, ``x``, in place into the gates after their nonlinearities, and
writes the output. Of a cell that keeps it ``apart``, ``h`` is the last state's part, else it is in ``x`` already. Going
back writes the gradient of ``x``, and gives those of h, of the last output but for h, and of the last cell. The formulas
are those of ``cells``, differentiated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Step(NamedTuple):
    """One step: (..., H) where nothing else is said."""

    x: Tensor  # (..., G*H)
    h: Tensor  # (..., G*H) if kept apart, else empty
    last_output: Tensor
    last_cell: Tensor  # of a cell that has one, else empty
    output: Tensor
    cell: Tensor


def _lstm(step: Step) -> None:
    i, f, g, o = step.x.chunk(4, dim=-1)
    for gate in (i, f, o):
        gate.sigmoid_()
    torch.mul(f, step.last_cell, out=step.cell).addcmul_(i, g.tanh_())
    torch.tanh(step.cell, out=step.output).mul_(o)


def _gru(step: Step) -> None:
    r, z, n = step.x.chunk(3, dim=-1)
    h_r, h_z, h_n = step.h.chunk(3, dim=-1)
    r.add_(h_r).sigmoid_()
    z.add_(h_z).sigmoid_()
    n.addcmul_(r, h_n).tanh_()
    torch.addcmul(n, z, step.last_output - n, out=step.output)


def _rnn_tanh(step: Step) -> None:
    torch.tanh(step.x, out=step.output)


def _rnn_relu(step: Step) -> None:
    step.output.copy_(step.x).relu_()


def tanh_slope(squashed: Tensor, out: Tensor | None = None) -> Tensor:
    """1 - tanh^2, from the tanh, in one pass; ``out`` may be that tensor."""
    return torch.addcmul(squashed.new_ones(()), squashed, squashed, value=-1, out=out)


_Back = tuple[Tensor, Tensor | None, Tensor]  # of h, of the last output, of the last cell


def _lstm_back(step: Step, d_output: Tensor, d_cell: Tensor, d_x: Tensor) -> _Back:
    i, f, g, o = step.x.chunk(4, dim=-1)
    d_i, d_f, d_g, d_o = d_x.chunk(4, dim=-1)
    squashed = torch.tanh(step.cell)
    torch.addcmul(step.x, step.x, step.x, value=-1, out=d_x)  # the slope of a sigmoid
    tanh_slope(g, out=d_g)
    d_o.mul_(d_output).mul_(squashed)
    d_cell = torch.addcmul(d_cell, d_output * o, tanh_slope(squashed))
    d_i.mul_(d_cell).mul_(g)
    d_f.mul_(d_cell).mul_(step.last_cell)
    d_g.mul_(d_cell).mul_(i)
    return d_x, None, d_cell.mul_(f)


def _gru_back(step: Step, d_output: Tensor, d_cell: Tensor, d_x: Tensor) -> _Back:
    r, z, n = step.x.chunk(3, dim=-1)
    h_n = step.h.chunk(3, dim=-1)[2]
    d_n = d_output * (1 - z) * (1 - n * n)
    d_r = d_n * h_n * r * (1 - r)
    d_z = d_output * (step.last_output - n) * z * (1 - z)
    torch.cat((d_r, d_z, d_n), dim=-1, out=d_x)
    return torch.cat((d_r, d_z, d_n * r), dim=-1), d_output * z, d_cell


def _rnn_tanh_back(step: Step, d_output: Tensor, d_cell: Tensor, d_x: Tensor) -> _Back:
    torch.mul(d_output, 1 - step.output * step.output, out=d_x)
    return d_x, None, d_cell


def _rnn_relu_back(step: Step, d_output: Tensor, d_cell: Tensor, d_x: Tensor) -> _Back:
    torch.mul(d_output, step.output > 0, out=d_x)
    return d_x, None, d_cell


class Cell(NamedTuple):
    """What is to be known of a cell to unroll it."""

    step: Callable[[Step], None]
    back: Callable[[Step, Tensor, Tensor, Tensor], _Back]
    apart: bool = False  # the last state's part of the gates is kept apart, as ``h``
    has_cell: bool = False


CELLS = {
    "lstm": Cell(_lstm, _lstm_back, has_cell=True),
    "gru": Cell(_gru, _gru_back, apart=True),
    "rnn_tanh": Cell(_rnn_tanh, _rnn_tanh_back),
    "rnn_relu": Cell(_rnn_relu, _rnn_relu_back),
}
