"""One time step of the recurrent cells, and a stack of them over a packed (B, L, W) state.

The gates are ordered as in torch's layers (LSTM: i f g o; GRU: r z n), so weights can be exchanged with ``nn.LSTM``,
``nn.GRU`` and ``nn.RNN``. A step takes the projected input and adds the part that depends on the previous state. A
caller can therefore project known inputs for all time steps at once. With layer normalisation, the projections have no
bias until they are normalised, and a step is that of ``CellNorm``.

Letters: G gates per unit (LSTM 4, GRU 3, RNN 1), I input width, D directions; the others are those of ``seq2seq.layers``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seq2seq.layers.dropout import drop, drop_weight, make_mask, make_masks
from seq2seq.layers.fast.cells import FAST_CELLS, FastCell

Parts = tuple[Tensor, ...]  # the parts of a packed state: (h,), or (h, c) for the LSTM; each (B, H)


def _lstm(gates: Tensor, hidden: Tensor, state: Parts, norm: Callable[[Tensor], Tensor] | None = None) -> Parts:
    i, f, g, o = (gates + hidden).chunk(4, dim=-1)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c if norm is None else norm(c)), c


def _gru(gates: Tensor, hidden: Tensor, state: Parts) -> Parts:
    r_x, z_x, n_x = gates.chunk(3, dim=-1)
    r_h, z_h, n_h = hidden.chunk(3, dim=-1)
    n = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
    return (n + torch.sigmoid(z_x + z_h) * (state[0] - n),)


def _rnn_tanh(gates: Tensor, hidden: Tensor, state: Parts) -> Parts:
    return (torch.tanh(gates + hidden),)


def _rnn_relu(gates: Tensor, hidden: Tensor, state: Parts) -> Parts:
    return (torch.relu(gates + hidden),)


class Cell(NamedTuple):
    """A kind of recurrent cell.

    ``step(gates, hidden, state)`` returns the parts of the next state. Its arguments are the projected input (B, G*H), the
    projected previous h, after recurrent dropout (B, G*H), and the parts of the previous state (each (B, H)).
    """

    step: Callable[..., Parts]
    gates: int  # G
    parts: int  # W / H
    layer: Callable[..., nn.RNNBase] | None = None  # torch's layer with the same formula; None: torch has none
    fast: FastCell | None = None  # the fast twin; None: layers of this cell run step by step
    normed: tuple[int, ...] = ()  # gates that layer normalisation normalises together; (): the sum of both projections


CELLS = {
    "rnn_tanh": Cell(_rnn_tanh, 1, 1, partial(nn.RNN, nonlinearity="tanh"), FAST_CELLS["rnn_tanh"]),
    "rnn_relu": Cell(_rnn_relu, 1, 1, partial(nn.RNN, nonlinearity="relu"), FAST_CELLS["rnn_relu"]),
    "gru": Cell(_gru, 3, 1, nn.GRU, FAST_CELLS["gru"], (2, 1)),
    "lstm": Cell(_lstm, 4, 2, nn.LSTM, FAST_CELLS["lstm"], (4,)),
}


class RecurrentWeights(NamedTuple):
    """Parameters of D directions, named as in torch's layers."""

    ih: Tensor  # (D, G*H, I)
    hh: Tensor  # (D, G*H, H)
    bias_ih: Tensor  # (D, G*H)
    bias_hh: Tensor  # (D, G*H)
    mask: Tensor | None  # (D, B, H), mask of recurrent dropout; has no gradient


def find_cell(name: str) -> Cell:
    """Look up a cell by its name.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in CELLS:
        raise ValueError(f"model.cell must be one of {', '.join(CELLS)}, but is {name}")
    return CELLS[name]


class ParameterLayer(nn.Module):
    """The parameters of one layer of a cell that torch has no layer of, named as in torch's layers.

    Args:
        gates: G.
        input_size: I.
        hidden_size: H, the width of one direction.
    """

    def __init__(self, gates: int, input_size: int, hidden_size: int, *, bidirectional: bool) -> None:
        super().__init__()
        width = gates * hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (width, input_size), "weight_hh": (width, hidden_size)}
        shapes |= {"bias_ih": (width,), "bias_hh": (width,)}
        for suffix in ("", "_reverse")[: 2 if bidirectional else 1]:
            for name, shape in shapes.items():
                self.register_parameter(f"{name}_l0{suffix}", nn.Parameter(torch.empty(shape)))


def make_layer(cell: Cell, input_size: int, hidden_size: int, *, bidirectional: bool) -> nn.Module:
    """Make the parameters of one layer: torch's layer, or ``ParameterLayer`` if torch has none."""
    if cell.layer is None:
        return ParameterLayer(cell.gates, input_size, hidden_size, bidirectional=bidirectional)
    return cell.layer(input_size, hidden_size, batch_first=True, bidirectional=bidirectional)


def init_recurrent(name: str, weight_ih: Tensor, weight_hh: Tensor, biases: Sequence[Tensor]) -> None:
    """Initialise the weights of one layer in place.

    Gated cells: uniform in [-0.1, 0.1] (Luong et al. 2015). On Multi30k (``experiment=multi30k_small``, two seeds) this
    gives a validation loss per token of 3.3 after 500 updates; Glorot and orthogonal weights give 3.6, with and without
    an initially open forget gate. In cells without gates, only the weights carry a gradient over many steps: they are
    initialised with Glorot (Glorot & Bengio 2010, input) and orthogonal weights (Saxe et al. 2014, h-to-h), and with the
    identity for ReLU (Le et al. 2015, h-to-h).
    """
    init_inputs(name, weight_ih)
    if find_cell(name).gates > 1:
        for tensor in (weight_hh, *biases):
            nn.init.uniform_(tensor, -0.1, 0.1)
        return
    nn.init.eye_(weight_hh) if name == "rnn_relu" else nn.init.orthogonal_(weight_hh)
    for bias in biases:
        nn.init.zeros_(bias)


def init_inputs(name: str, weight: Tensor) -> None:
    """Initialise a weight that maps an input to the gates, in place; see ``init_recurrent``."""
    nn.init.uniform_(weight, -0.1, 0.1) if find_cell(name).gates > 1 else nn.init.xavier_uniform_(weight)


class CellNorm(nn.Module):
    """Layer normalisation inside one cell (Ba, Kiros & Hinton 2016, arXiv 1607.06450).

    LN(x; g) = g * (x - mean(x)) / sqrt(var(x) + 1e-5), with a learned gain g that is 1 at first. The biases b_ih and b_hh
    of the cell are those of the paper, added after the normalisation. The paper has separate biases of the LSTM's
    projections and of their sum, which are one function of b_ih + b_hh.

    - LSTM (eqs. 20 to 22): all gates are LN(W_ih x; g_ih) + b_ih + LN(W_hh h; g_hh) + b_hh, each over all 4H
      pre-activations, and h = o * tanh(LN(c; g_c) + b_c). The cell state that is handed on is c, not normalised.
    - GRU (supplement, eqs. 27 to 29): the same for r and z together (2H) and, separately, for the two parts of n (H).
    - Without gates (eq. 4): h = f(LN(W_ih x + W_hh h; g) + b_ih + b_hh).
    """

    def __init__(self, cell: str, hidden_size: int) -> None:
        super().__init__()
        self.cell = find_cell(cell)
        self.hidden_size = hidden_size
        width = self.cell.gates * hidden_size
        self.gain_ih = nn.Parameter(torch.ones(width))
        if self.cell.normed:
            self.gain_hh = nn.Parameter(torch.ones(width))
        if self.cell.parts > 1:
            self.state = nn.LayerNorm(hidden_size)

    def step(self, gates: Tensor, hidden: Tensor, state: Parts, bias_ih: Tensor, bias_hh: Tensor) -> Parts:
        """Return the parts of the next state; ``gates`` and ``hidden`` (B, G*H) are the projections without bias."""
        if not self.cell.normed:
            gates, hidden = self._normalise(gates + hidden, self.gain_ih) + bias_ih, bias_hh
        else:
            gates = self._normalise(gates, self.gain_ih) + bias_ih
            hidden = self._normalise(hidden, self.gain_hh) + bias_hh
        if self.cell.parts > 1:
            return self.cell.step(gates, hidden, state, self.state)
        return self.cell.step(gates, hidden, state)

    def _normalise(self, projected: Tensor, gain: Tensor) -> Tensor:
        """Normalise the gates of each group together: (B, G*H) -> (B, G*H)."""
        widths = [count * self.hidden_size for count in self.cell.normed or (1,)]
        groups = zip(projected.split(widths, dim=-1), gain.split(widths), strict=True)
        return torch.cat([F.layer_norm(part, part.shape[-1:], weight) for part, weight in groups], dim=-1)


class StepConstants(NamedTuple):
    """The weights after weight drop and the dropout masks of a batch."""

    weights: list[Tensor]  # per layer, (G*H, H)
    recurrent: list[Tensor | None]  # per layer, (B, H): mask of h before the h-to-h product
    between: list[Tensor | None]  # per layer, (B, H), or (T, B, H) of T steps: mask of the input from the layer below

    def at(self, t: int) -> StepConstants:
        """Return the constants of step t, if they were prepared for T steps."""
        return self._replace(between=[None if mask is None else mask[t] for mask in self.between])


class StackedCell(nn.Module):
    """Applies one time step of L layers of a cell: rnn_tanh, rnn_relu, gru or lstm.

    >>> stack = StackedCell("lstm", input_size=8, hidden_size=16, num_layers=2)
    >>> hidden = stack.start(3)
    >>> for x in torch.randn(5, 3, 8):  # five steps of three sequences
    ...     output, hidden = stack.step(x, hidden)
    >>> output.shape, hidden.shape  # the packed state of an LSTM holds h, then c
    (torch.Size([3, 16]), torch.Size([3, 2, 32]))

    ``step`` does everything in one call. A loop over a known sequence is faster with its parts: ``project`` all steps at
    once, ``prepare`` once, and call the module at each step.

    Args:
        dropout: probability of dropout between layers; with ``locked``, one mask per sentence instead of one per step.
        recurrent_dropout: probability of dropout of h before the h-to-h product, with one mask per sentence.
        weight_drop: probability of dropout of the h-to-h weights, with one mask per batch.
        residual: add its input to the output of every layer except the first (Wu et al. 2016, section 3.1).
        layer_norm: normalise inside the cells, see ``CellNorm``.
    """

    def __init__(
        self,
        cell: str,
        *,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
        locked: bool = False,
        recurrent_dropout: float = 0.0,
        weight_drop: float = 0.0,
        residual: bool = False,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.cell_name = cell
        self.cell = find_cell(cell)
        self.hidden_size = hidden_size
        self.state_size = hidden_size * self.cell.parts
        self.dropout = dropout
        self.locked = locked
        self.recurrent_dropout = recurrent_dropout
        self.weight_drop = weight_drop
        self.residual = residual
        gates = self.cell.gates * hidden_size
        inputs = [nn.Linear(input_size if layer == 0 else hidden_size, gates) for layer in range(num_layers)]
        self.inputs = nn.ModuleList(inputs)
        self.weight_hh = nn.ParameterList(nn.Parameter(torch.empty(gates, hidden_size)) for _ in range(num_layers))
        self.bias_hh = nn.ParameterList(nn.Parameter(torch.zeros(gates)) for _ in range(num_layers))
        for linear, weight, bias in zip(inputs, self.weight_hh, self.bias_hh, strict=True):
            init_recurrent(cell, linear.weight, weight, [linear.bias, bias])
        self.norms = nn.ModuleList(CellNorm(cell, hidden_size) for _ in range(num_layers if layer_norm else 0))

    @property
    def has_fast_twin(self) -> bool:
        """Whether ``layers.fast`` has a twin of these cells: it has none with layer normalisation."""
        return self.cell.fast is not None and not self.norms

    def project(self, inputs: Tensor, layer: int = 0) -> Tensor:
        """Project inputs to the gates of a layer: (..., input_size) -> (..., G*H); without bias if it is normalised."""
        linear = self.inputs[layer]
        assert isinstance(linear, nn.Linear)
        return F.linear(inputs, linear.weight) if self.norms else linear(inputs)

    def prepare(self, rows: int, *, steps: int | None = None) -> StepConstants:
        """Draw the masks of one batch of ``rows`` sequences; in evaluation mode there are none.

        Args:
            steps: T, to draw the masks between layers for all steps at once; step t then takes ``at(t)`` of the result.
                None: a step with ordinary dropout draws its own mask between layers.
        """
        layers = range(len(self.inputs))
        weights = [drop_weight(weight, self.weight_drop, self.training) for weight in self.weight_hh]
        recurrent: list[Tensor | None] = [None for _ in layers]
        between: list[Tensor | None] = [None for _ in layers]
        shape = (rows, self.hidden_size)
        if self.training and self.recurrent_dropout > 0:
            recurrent = [make_mask(shape, self.recurrent_dropout, weights[0]) for _ in layers]
        if self.training and self.dropout > 0 and self.locked:
            masks = make_masks(len(layers), shape, self.dropout, weights[0])  # the first one is not used
            between[1:] = [mask if steps is None else mask.expand(steps, *shape) for mask in masks[1:]]
        elif self.training and self.dropout > 0 and steps is not None:
            masks = make_masks(steps * (len(layers) - 1), shape, self.dropout, weights[0])  # step by step
            between[1:] = masks.view(steps, len(layers) - 1, *shape).unbind(dim=1)
        return StepConstants(weights, recurrent, between)

    def start(self, rows: int) -> Tensor:
        """Return the state before the first step, which is 0: (B, L, W)."""
        return self.weight_hh[0].new_zeros(rows, len(self.inputs), self.state_size)

    def step(self, inputs: Tensor, hidden: Tensor, constants: StepConstants | None = None) -> tuple[Tensor, Tensor]:
        """Advance all layers by one step: inputs (B, input_size), packed states (B, L, W).

        Args:
            constants: the result of ``prepare``, so that all steps share its dropout masks; None: masks of this step.

        Returns:
            Output of the top layer (B, H); next packed states (B, L, W).
        """
        constants = self.prepare(len(inputs)) if constants is None else constants
        return self(self.project(inputs), hidden, constants)

    def forward(self, gates: Tensor, hidden: Tensor, constants: StepConstants) -> tuple[Tensor, Tensor]:
        """Advance all layers by one step.

        Args:
            gates: (B, G*H), the result of ``project``, plus any other input of the first layer.
            hidden: (B, L, W), previous packed states.

        Returns:
            Output of the top layer (B, H); next packed states (B, L, W).
        """
        states = []
        output = gates
        for layer, state in enumerate(hidden.unbind(dim=1)):
            if layer > 0:
                below = self._drop_between(output, constants.between[layer])
                gates = self.project(below, layer)
            parts = state.split(self.hidden_size, dim=-1)
            mask = constants.recurrent[layer]
            masked = parts[0] if mask is None else parts[0] * mask
            parts = self._advance(layer, gates, masked, parts, constants.weights[layer])
            states.append(torch.cat(parts, dim=-1))
            output = parts[0] + below if self.residual and layer > 0 else parts[0]
        return output, torch.stack(states, dim=1)

    def _advance(self, layer: int, gates: Tensor, masked: Tensor, parts: Parts, weight: Tensor) -> Parts:
        """Advance one layer; ``masked`` is the previous h after recurrent dropout (B, H)."""
        if not self.norms:
            return self.cell.step(gates, F.linear(masked, weight, self.bias_hh[layer]), parts)
        linear, norm = self.inputs[layer], self.norms[layer]
        assert isinstance(linear, nn.Linear)
        assert isinstance(norm, CellNorm)
        return norm.step(gates, F.linear(masked, weight), parts, linear.bias, self.bias_hh[layer])

    def _drop_between(self, output: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:
            return output * mask
        return drop(output, self.dropout) if self.training and self.dropout > 0 and not self.locked else output


def uniform_(weight: Tensor, std: float) -> Tensor:
    """Fill in place with uniform values of mean 0 and standard deviation ``std``."""
    bound = math.sqrt(3) * std
    with torch.no_grad():
        return weight.uniform_(-bound, bound)
