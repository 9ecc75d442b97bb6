"""In-place versions of the recurrent cells: one step forward and one step backward.

The formulas are those of ``seq2seq.layers.cells``. A step takes the pre-activations of the gates and replaces them by the
gates, in place. The GRU keeps two parts of its pre-activations separate: that of the input and that of the previous h.

Notation: c_p and h_p are the previous c and h; a' is the pre-activation of a gate a; dX is the gradient of the loss with
respect to X, with dh and dc those that enter the step from above and from the next step. The chain rule gives

LSTM: c = f * c_p + i * g, h = o * tanh(c), with i, f, o = sigmoid and g = tanh of their pre-activations::

    do' = dh * tanh(c) * o(1-o)        dc += dh * o * (1 - tanh(c)^2)
    di' = dc * g * i(1-i)    df' = dc * c_p * f(1-f)    dg' = dc * i * (1-g^2)    dc_p = dc * f

The code computes the products that these formulas share, such as dh * o * tanh(c), once.

GRU: r, z = sigmoid of r', z', n = tanh(n'), n' = n_x + r * n_h, h = n + z * (h_p - n), where n_x is the input's part of the
candidate and n_h that of h_p::

    dn' = dh * (1-z) * (1-n^2)    dr' = dn' * n_h * r(1-r)    dz' = dh * (h_p - n) * z(1-z)
    dn_x = dn'    dn_h = dn' * r    dh_p = dh * z, plus the gradient through r', z' and n_h

rnn_tanh: h = tanh(h'), dh' = dh * (1-h^2).  rnn_relu: h = max(h', 0), dh' = dh where h > 0, else 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class StepTensors(NamedTuple):
    """Inputs and outputs of one step; (..., H) unless a shape is given."""

    gates: Tensor  # (..., G*H), pre-activations before the step, gates after it
    hidden_gates: Tensor  # (..., G*H), the part of the previous h if the cell keeps it separate, else empty
    last_output: Tensor  # the previous h
    last_cell: Tensor  # the previous c of the LSTM, else empty
    output: Tensor  # h, written by the step
    cell: Tensor  # c, written by the step


class StepGradients(NamedTuple):
    """Gradients that one step of the backward pass returns."""

    hidden_gates: Tensor  # (..., G*H), with respect to the part of the pre-activations that depends on the previous h
    last_output: Tensor | None  # (..., H), with respect to the previous h, without the path through the gates; None: 0
    last_cell: Tensor  # (..., H), with respect to the previous c, or empty


class FastCell(NamedTuple):
    """The in-place twin of a cell.

    ``forward(tensors)`` computes ``output``, ``cell`` and the gates in place. ``backward(tensors, d_output, d_cell,
    d_gates)`` writes the gradient with respect to the pre-activations into ``d_gates``; of a cell that keeps two parts
    separate, the gradient with respect to the part of the input.
    """

    forward: Callable[[StepTensors], None]
    backward: Callable[[StepTensors, Tensor, Tensor, Tensor], StepGradients]
    separate: bool = False  # whether the part of the previous h is kept separate, in ``hidden_gates``
    has_cell: bool = False  # whether the state has c in addition to h


def _tanh(x: Tensor, *, out: Tensor) -> Tensor:
    """Compute tanh(x) in ``out``, which may be ``x``.

    On a CPU, as 2 sigmoid(2x) - 1, since torch's sigmoid is several times as fast as its tanh. The absolute error of the
    result is that of rounding numbers near 1.
    """
    if x.device.type != "cpu":
        return torch.tanh(x, out=out)
    return torch.mul(x, 2, out=out).sigmoid_().mul_(2).sub_(1)


def _lstm(step: StepTensors) -> None:
    i, f, g, o = step.gates.chunk(4, dim=-1)
    g.mul_(2)
    step.gates.sigmoid_()
    g.mul_(2).sub_(1)  # as in _tanh
    torch.mul(f, step.last_cell, out=step.cell).addcmul_(i, g)
    _tanh(step.cell, out=step.output).mul_(o)


def _gru(step: StepTensors) -> None:
    r, z, n = step.gates.chunk(3, dim=-1)
    r_h, z_h, n_h = step.hidden_gates.chunk(3, dim=-1)
    r.add_(r_h).sigmoid_()
    z.add_(z_h).sigmoid_()
    _tanh(n.addcmul_(r, n_h), out=n)
    torch.addcmul(n, z, step.last_output - n, out=step.output)


def _rnn_tanh(step: StepTensors) -> None:
    _tanh(step.gates, out=step.output)


def _rnn_relu(step: StepTensors) -> None:
    step.output.copy_(step.gates).relu_()


def _lstm_backward(step: StepTensors, d_output: Tensor, d_cell: Tensor, d_gates: Tensor) -> StepGradients:
    i, f, g, o = step.gates.chunk(4, dim=-1)
    d_i, d_f, d_g, d_o = d_gates.chunk(4, dim=-1)
    tanh_c = _tanh(step.cell, out=torch.empty_like(step.cell))
    torch.addcmul(step.gates, step.gates, step.gates, value=-1, out=d_gates)  # the derivative of the sigmoid
    through_o = d_output * tanh_c
    d_o.mul_(through_o)
    torch.sub(d_output, through_o.mul_(tanh_c), out=through_o)  # dh * (1 - tanh(c)^2)
    d_cell = torch.addcmul(d_cell, through_o, o)
    torch.mul(d_cell, i, out=d_g)
    d_g.addcmul_(d_g * g, g, value=-1)
    d_i.mul_(d_cell).mul_(g)
    d_f.mul_(d_cell).mul_(step.last_cell)
    return StepGradients(d_gates, None, d_cell.mul_(f))


def _gru_backward(step: StepTensors, d_output: Tensor, d_cell: Tensor, d_gates: Tensor) -> StepGradients:
    r, z, n = step.gates.chunk(3, dim=-1)
    d_r, d_z, d_n = d_gates.chunk(3, dim=-1)
    n_h = step.hidden_gates.chunk(3, dim=-1)[2]
    direct = d_output * z
    into_n = d_output - direct  # dh * (1-z)
    torch.addcmul(into_n, into_n * n, n, value=-1, out=d_n)
    d_n_h = d_n * r
    _times_rest(d_n_h * n_h, r, out=d_r)
    _times_rest((step.last_output - n).mul_(direct), z, out=d_z)
    return StepGradients(torch.cat((d_r, d_z, d_n_h), dim=-1), direct, d_cell)


def _times_rest(gradient: Tensor, gate: Tensor, *, out: Tensor) -> None:
    """Compute gradient * (1 - gate), where the gradient has the gate as a factor: the slope of the sigmoid is a * (1 - a)."""
    torch.addcmul(gradient, gradient, gate, value=-1, out=out)


def _rnn_tanh_backward(step: StepTensors, d_output: Tensor, d_cell: Tensor, d_gates: Tensor) -> StepGradients:
    torch.addcmul(d_output, d_output * step.output, step.output, value=-1, out=d_gates)
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
