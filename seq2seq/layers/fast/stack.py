"""The recurrent layers of a decoder in the fast unroll: one step of all layers, forward and backward.

Layer l = 1..L has the input x_t^l and the output o_t^l. The other letters are those of ``layers.fast.decoder``: h_t^l and
c_t^l are the state, g_t^l the pre-activations of the gates, u_t^l the part of them that depends on h_{t-1}^l, m^l the mask of
recurrent dropout, and d_t^l the mask of dropout between layers. Step t computes, from the first layer to the last::

    x_t^1 = ctx_{t-1}        x_t^l = d_t^l * o_t^{l-1}                              (l > 1)
    u_t^l = W_h^l (m^l * h_{t-1}^l) + b^l
    g_t^1 = W_e y_t + b_e + W_x^1 x_t^1 + u_t^1                                     (GRU: g_t without u_t)
    g_t^l = W_x^l x_t^l + b_x^l + u_t^l                                             (l > 1)
    h_t^l, c_t^l = cell(g_t^l, u_t^l, h_{t-1}^l, c_{t-1}^l)
    o_t^l = h_t^l, or h_t^l + x_t^l with residual connections                       (o_t^1 = h_t^1)

The next context depends on o_t^L, and x_{t+1}^1 is the next context. Every layer is therefore inside of the loop over the
steps; only W_e y_t + b_e is computed before it, for all steps at once.

Backward goes from the last layer to the first. The decoder passes do_t^L. At the last step, the terms of step t+1 are 0::

    dh_t^l = do_t^l + m^l * (W_h^l^T du_{t+1}^l) + (path of h_t^l to h_{t+1}^l except through the gates)
    dg_t^l, du_t^l, dc_{t-1}^l from dh_t^l and dc_t^l by the backward of the cell, ``layers.fast.cells``
    dx_t^l = W_x^l^T dg_t^l, plus do_t^l with a residual connection         (du_t = dg_t except for the GRU)
    do_t^{l-1} = d_t^l * dx_t^l        dctx_{t-1} = dx_t^1

The gradients of the weights are sums over the steps, each computed as one product::

    dW_h^l = sum_t du_t^l (m^l * h_{t-1}^l)^T     db^l = sum_t du_t^l     dW_x^l = sum_t dg_t^l (x_t^l)^T     db_x^l = sum_t dg_t^l
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from seq2seq.layers.fast.cells import FastCell, StepTensors


class LayerWeights(NamedTuple):
    """Parameters and masks of one layer; I is M in the first layer and H in the others. Masks have no gradient."""

    hidden: Tensor  # (G*H, H), W_h
    bias: Tensor  # (G*H,), b
    input: Tensor  # (G*H, I), W_x; in the first layer that of the context
    input_bias: Tensor | None  # (G*H,), b_x; None in the first layer, whose projected embeddings include it
    recurrent_mask: Tensor | None  # (B, H), m
    input_mask: Tensor | None  # (T, B, H), d; None in the first layer


class LayerTensors(NamedTuple):
    """Tensors of one layer, saved for backward. The result of step t has index t+1 in outputs and cells."""

    inputs: Tensor  # (T+1, B, H+I); index t: the previous h after recurrent dropout, then x_t
    outputs: Tensor  # (T+1, B, H), h
    cells: Tensor  # (T+1, B, H), or (T+1, B, 0)
    gates: Tensor  # (T, B, G*H)
    hidden_gates: Tensor  # (T, B, G*H), u of a cell that keeps it separate, else empty

    def step(self, t: int) -> StepTensors:
        """Return the tensors of the cell at step t."""
        return StepTensors(
            self.gates[t],
            self.hidden_gates[t],
            self.outputs[t],
            self.cells[t],
            self.outputs[t + 1],
            self.cells[t + 1],
        )

    @property
    def read(self) -> Tensor:
        """The inputs x: (T+1, B, I), a view. In the first layer, index t is the context before step t."""
        return self.inputs[:, :, self.outputs.shape[2] :]


class StackForward:
    """The forward pass of L layers: their tensors, which each step fills.

    Args:
        residual: whether the input of a layer, except the first, is added to its output.
        gates: (T, B, G*H), W_e y_t + b_e; not changed.
        hidden: (B, L, W), the initial states.
        context: (B, M), the initial context. The caller writes the context of step t to ``contexts[t + 1]``.
    """

    def __init__(
        self,
        cell: FastCell,
        residual: bool,
        weights: Sequence[LayerWeights],
        *,
        gates: Tensor,
        hidden: Tensor,
        context: Tensor,
    ) -> None:
        self.cell, self.residual, self.weights = cell, residual and len(weights) > 1, weights
        self.layers = [
            _allocate(cell, layer, gates if number == 0 else None, state, steps=len(gates))
            for number, (layer, state) in enumerate(zip(weights, hidden.unbind(1), strict=True))
        ]
        self.products = [torch.cat((layer.hidden, layer.input), dim=1).T for layer in weights]
        self.contexts = self.layers[0].read  # (T+1, B, M)
        self.contexts[0] = context
        last = self.layers[-1].outputs[1:]
        self.outputs = torch.empty_like(last) if self.residual else last  # (T, B, H), o of the last layer

    def step(self, t: int) -> Tensor:
        """Advance all layers by one step; return the output of the last layer (B, H)."""
        cell = self.cell
        for number, (weights, layer) in enumerate(zip(self.weights, self.layers, strict=True)):
            if number > 0:
                self._pass_up(number - 1, t, weights.input_mask, out=layer.read[t])
            last, inputs = layer.inputs[t, :, : weights.hidden.shape[1]], layer.inputs[t]
            if weights.recurrent_mask is not None:
                torch.mul(layer.outputs[t], weights.recurrent_mask, out=last)
            if cell.separate:
                torch.addmm(weights.bias, last, weights.hidden.T, out=layer.hidden_gates[t])
                layer.gates[t].addmm_(layer.read[t], weights.input.T)
            else:
                layer.gates[t].addmm_(inputs, self.products[number])
            cell.forward(layer.step(t))
        if self.residual:
            self._pass_up(len(self.layers) - 1, t, None, out=self.outputs[t])
        return self.outputs[t]

    def _pass_up(self, number: int, t: int, mask: Tensor | None, *, out: Tensor) -> None:
        """Write the output of layer ``number`` (from 0) to ``out`` (B, H), after dropout if there is a mask."""
        layer = self.layers[number]
        if self.residual and number > 0:
            torch.add(layer.outputs[t + 1], layer.read[t], out=out)
            if mask is not None:
                out.mul_(mask[t])
        elif mask is not None:
            torch.mul(layer.outputs[t + 1], mask[t], out=out)
        else:
            out.copy_(layer.outputs[t + 1])


class StackBackward:
    """The backward pass of L layers. ``d_x`` is the gradient of the loss with respect to x."""

    def __init__(
        self, cell: FastCell, residual: bool, weights: Sequence[LayerWeights], layers: Sequence[LayerTensors]
    ) -> None:
        self.cell, self.residual, self.weights, self.layers = cell, residual, weights, layers
        self.d_gates = [torch.empty_like(layer.gates) for layer in layers]
        self.d_hidden_gates = [torch.empty_like(gates) if cell.separate else gates for gates in self.d_gates]
        self.products = [torch.cat((layer.hidden, layer.input), dim=1) for layer in weights]
        # gradients that step t+1 passes to step t
        self.d_outputs = [torch.zeros_like(layer.outputs[0]) for layer in layers]
        self.d_cells = [torch.zeros_like(layer.cells[0]) for layer in layers]

    def step(self, t: int, d_output: Tensor) -> Tensor:
        """Go back one step in all layers: gradient of the output (B, H) -> gradient of the context that it read (B, M)."""
        for number in reversed(range(len(self.layers))):
            d_input = self._layer_step(number, t, d_output)
            if number == 0:
                break
            mask = self.weights[number].input_mask
            d_input = d_input + d_output if self.residual else d_input
            d_output = d_input if mask is None else d_input * mask[t]
        return d_input

    def _layer_step(self, number: int, t: int, d_output: Tensor) -> Tensor:
        """Go back one step in one layer; return the gradient with respect to its input, without the residual (B, I)."""
        weights, d_gates = self.weights[number], self.d_gates[number][t]
        d_output = self.d_outputs[number] + d_output
        d_h, direct, self.d_cells[number] = self.cell.backward(
            self.layers[number].step(t), d_output, self.d_cells[number], d_gates
        )
        if self.cell.separate:
            self.d_hidden_gates[number][t] = d_h
            d_last, d_input = d_h @ weights.hidden, d_gates @ weights.input
        else:
            widths = (weights.hidden.shape[1], weights.input.shape[1])
            d_last, d_input = (d_gates @ self.products[number]).split(widths, dim=1)
        d_last = d_last if weights.recurrent_mask is None else d_last * weights.recurrent_mask
        self.d_outputs[number] = d_last if direct is None else d_last + direct
        return d_input

    def d_hidden(self) -> Tensor:
        """Return the gradient of the initial states after the first step: (B, L, W)."""
        pairs = zip(self.d_outputs, self.d_cells, strict=True)
        return torch.stack([torch.cat(pair, dim=1) for pair in pairs], dim=1)

    def d_weights(self) -> list[LayerWeights]:
        """Compute the gradients of the weights of each layer after the first step, as sums over the steps."""
        return [self._layer_weights(number) for number in range(len(self.layers))]

    def _layer_weights(self, number: int) -> LayerWeights:
        weights, layer = self.weights[number], self.layers[number]
        gates, hidden_gates = self.d_gates[number].flatten(0, 1), self.d_hidden_gates[number].flatten(0, 1)
        widths = (weights.hidden.shape[1], weights.input.shape[1])
        last_outputs, inputs = layer.inputs[:-1].flatten(0, 1).split(widths, dim=1)
        return LayerWeights(
            hidden=hidden_gates.T @ last_outputs,
            bias=hidden_gates.sum(dim=0),
            input=gates.T @ inputs,
            input_bias=None if weights.input_bias is None else gates.sum(dim=0),
            recurrent_mask=None,
            input_mask=None,
        )


def _allocate(
    cell: FastCell, weights: LayerWeights, gates: Tensor | None, hidden: Tensor, *, steps: int
) -> LayerTensors:
    """Return the tensors of a layer before the first step; ``hidden`` (B, W) is its state. ``gates``: of the first layer."""
    (B, W), (G, H) = hidden.shape, weights.hidden.shape
    inputs = hidden.new_empty(steps + 1, B, H + weights.input.shape[1])
    if gates is not None:
        gates = gates + (0 if cell.separate else weights.bias)
    else:
        assert weights.input_bias is not None
        bias = weights.input_bias if cell.separate else weights.input_bias + weights.bias
        gates = bias.repeat(steps, B, 1)
    layer = LayerTensors(
        inputs,
        outputs=inputs[:, :, :H] if weights.recurrent_mask is None else hidden.new_empty(steps + 1, B, H),
        cells=hidden.new_empty(steps + 1, B, W - H),
        gates=gates,
        hidden_gates=hidden.new_empty(steps, B, G if cell.separate else 0),
    )
    layer.outputs[0], layer.cells[0] = hidden[:, :H], hidden[:, H:]
    return layer
