"""In-place versions of the recurrent cells: one step, and the same step backward.

The formulas are those of ``seq2seq.layers.cells``. A step receives x, the sum of everything that enters the gates, and
overwrites it with the gates after their nonlinearities. With a' for the pre-activation of a gate a, and dX for the
gradient of the loss with respect to X, the chain rule gives, for

LSTM: c = f * c_last + i * g, h = o * tanh(c), with i, f, o = sigmoid and g = tanh of their pre-activations::

    do' = dh * tanh(c) * o(1-o)        dc += dh * o * (1 - tanh(c)^2)
    di' = dc * g * i(1-i)    df' = dc * c_last * f(1-f)    dg' = dc * i * (1-g^2)    dc_last = dc * f

GRU: n = tanh(n_x + r * n_h), h = n + z * (h_last - n), where n_h is the last state's part of the candidate::

    dn' = dh * (1-z) * (1-n^2)    dr' = dn' * n_h * r(1-r)    dz' = dh * (h_last - n) * z(1-z)    dn_h = dn' * r
    dh_last = dh * z, in addition to what flows through the gates

rnn_tanh: dx = dh * (1-h^2).  rnn_relu: dx = dh where h > 0, else 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class StepTensors(NamedTuple):
    """Inputs and outputs of one step; (..., H) unless a shape is given."""

    gates: Tensor  # (..., G*H), before the step the sums x, after it the gates
    hidden_gates: Tensor  # (..., G*H), the last state's part of x where the cell keeps it separate, else empty
    last_output: Tensor
    last_cell: Tensor  # c of the LSTM, else empty
    output: Tensor  # written by the step
    cell: Tensor  # written by the step


class StepGradients(NamedTuple):
    """Gradients that leave one step backward."""

    hidden_gates: Tensor  # (..., G*H), with respect to the last state's part of x
    last_output: Tensor | None  # (..., H), except through the gates; None: there is no other path
    last_cell: Tensor  # (..., H), or empty


class FastCell(NamedTuple):
    """The in-place twin of a cell.

    ``forward(tensors)`` computes ``output``, ``cell`` and the gates in place. ``backward(tensors, d_output, d_cell,
    d_gates)`` writes the gradient with respect to x into ``d_gates``.
    """

    forward: Callable[[StepTensors], None]
    backward: Callable[[StepTensors, Tensor, Tensor, Tensor], StepGradients]
    separate: bool = False  # the last state's part of x is kept separate, as ``hidden_gates``
    has_cell: bool = False  # the state holds c beside h


def _lstm(step: StepTensors) -> None:
    i, f, g, o = step.gates.chunk(4, dim=-1)
    for gate in (i, f, o):
        gate.sigmoid_()
    torch.mul(f, step.last_cell, out=step.cell).addcmul_(i, g.tanh_())
    torch.tanh(step.cell, out=step.output).mul_(o)


def _gru(step: StepTensors) -> None:
    r, z, n = step.gates.chunk(3, dim=-1)
    r_h, z_h, n_h = step.hidden_gates.chunk(3, dim=-1)
    r.add_(r_h).sigmoid_()
    z.add_(z_h).sigmoid_()
    n.addcmul_(r, n_h).tanh_()
    torch.addcmul(n, z, step.last_output - n, out=step.output)


def _rnn_tanh(step: StepTensors) -> None:
    torch.tanh(step.gates, out=step.output)


def _rnn_relu(step: StepTensors) -> None:
    step.output.copy_(step.gates).relu_()


def tanh_slope(activation: Tensor, out: Tensor | None = None) -> Tensor:
    """Compute 1 - a^2, the derivative of a = tanh(x), in one pass; ``out`` may be ``activation`` itself."""
    return torch.addcmul(activation.new_ones(()), activation, activation, value=-1, out=out)


def _lstm_backward(step: StepTensors, d_output: Tensor, d_cell: Tensor, d_gates: Tensor) -> StepGradients:
    i, f, g, o = step.gates.chunk(4, dim=-1)
    d_i, d_f, d_g, d_o = d_gates.chunk(4, dim=-1)
    tanh_c = torch.tanh(step.cell)
    torch.addcmul(step.gates, step.gates, step.gates, value=-1, out=d_gates)  # the derivative of the sigmoid
    tanh_slope(g, out=d_g)
    d_o.mul_(d_output).mul_(tanh_c)
    d_cell = torch.addcmul(d_cell, d_output * o, tanh_slope(tanh_c))
    d_i.mul_(d_cell).mul_(g)
    d_f.mul_(d_cell).mul_(step.last_cell)
    d_g.mul_(d_cell).mul_(i)
    return StepGradients(d_gates, None, d_cell.mul_(f))


def _gru_backward(step: StepTensors, d_output: Tensor, d_cell: Tensor, d_gates: Tensor) -> StepGradients:
    r, z, n = step.gates.chunk(3, dim=-1)
    n_h = step.hidden_gates.chunk(3, dim=-1)[2]
    d_n = d_output * (1 - z) * (1 - n * n)
    d_r = d_n * n_h * r * (1 - r)
    d_z = d_output * (step.last_output - n) * z * (1 - z)
    torch.cat((d_r, d_z, d_n), dim=-1, out=d_gates)
    return StepGradients(torch.cat((d_r, d_z, d_n * r), dim=-1), d_output * z, d_cell)


def _rnn_tanh_backward(step: StepTensors, d_output: Tensor, d_cell: Tensor, d_gates: Tensor) -> StepGradients:
    torch.mul(d_output, 1 - step.output * step.output, out=d_gates)
    return StepGradients(d_gates, None, d_cell)


def _rnn_relu_backward(step: StepTensors, d_output: Tensor, d_cell: Tensor, d_gates: Tensor) -> StepGradients:
    torch.mul(d_output, step.output > 0, out=d_gates)
    return StepGradients(d_gates, None, d_cell)


FAST_CELLS = {
    "lstm": FastCell(_lstm, _lstm_backward, has_cell=True),
    "gru": FastCell(_gru, _gru_backward, separate=True),
    "rnn_tanh": FastCell(_rnn_tanh, _rnn_tanh_backward),
    "rnn_relu": FastCell(_rnn_relu, _rnn_relu_backward),
}
