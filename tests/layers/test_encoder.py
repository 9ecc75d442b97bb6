"""The encoder: padding, the final state, the three ways to run it, residual connections and dropout."""

from __future__ import annotations

import itertools
import re
from contextlib import nullcontext
from typing import NamedTuple

import pytest
import torch

from seq2seq.layers import encoder as encoder_module
from seq2seq.layers.cells import CELLS, StackedCell
from seq2seq.layers.encoder import Encoded, RecurrentEncoder
from seq2seq.layers.fast import plain_layers

E, M = 5, 8


class Lengths(NamedTuple):
    """A source with lengths only."""

    src_lengths: torch.Tensor


LENGTHS = torch.tensor([3, 6, 1, 4])
SOURCE = Lengths(LENGTHS)
B, S = 4, 6
SHAPES = [pytest.param(*shape, id=f"{shape[0]}-{shape[1]}-{'bi' if shape[2] else 'uni'}")
          for shape in itertools.product(CELLS, (1, 2), (True, False))]  # fmt: skip
EVERY_SHAPE = pytest.mark.parametrize(("cell", "num_layers", "bidirectional"), SHAPES)
SHAPE_OF_TORCH = pytest.mark.parametrize(
    ("cell", "num_layers", "bidirectional"), [shape for shape in SHAPES if CELLS[shape.values[0]].layer is not None]
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def make(cell: str = "gru", num_layers: int = 2, bidirectional: bool = True, **options) -> RecurrentEncoder:
    encoder = RecurrentEncoder(
        cell, input_size=E, hidden_size=M, num_layers=num_layers, bidirectional=bidirectional, **options
    )
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "bias" in name:
                parameter.uniform_(-0.5, 0.5)
    return encoder


def close(a: Encoded, b: Encoded, rows: slice = slice(None)) -> None:
    steps = min(a.values.shape[1], b.values.shape[1])
    torch.testing.assert_close(a.values[rows, :steps], b.values[rows, :steps], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(a.final[rows], b.final[rows], rtol=1e-5, atol=1e-6)


@EVERY_SHAPE
def test_padding_changes_nothing(cell, num_layers, bidirectional):
    encoder = make(cell, num_layers, bidirectional).eval()
    embedded = torch.randn(B, S, E)
    encoded = encoder(embedded, SOURCE)
    assert encoded.mask.tolist() == [[t < length for t in range(S)] for length in LENGTHS.tolist()]
    other = torch.where(encoded.mask.unsqueeze(2), embedded, torch.full_like(embedded, 1e4))
    again = encoder(other, SOURCE)
    assert torch.equal(again.values, encoded.values)
    assert torch.equal(again.final, encoded.final)
    longer = encoder(torch.cat((embedded, torch.randn(B, 3, E)), dim=1), SOURCE)
    assert longer.values.shape == (B, S + 3, M)
    close(encoded, longer)
    assert not longer.values[~longer.mask].any()


@SHAPE_OF_TORCH
def test_each_sentence_equals_torchs_layer_without_padding_in_values_and_final_state(cell, num_layers, bidirectional):
    encoder = make(cell, num_layers, bidirectional).eval()
    embedded = torch.randn(B, S, E)
    encoded = encoder(embedded, SOURCE)
    assert encoded.final.shape == (B, num_layers, 1 + bidirectional, encoder.direction_size * CELLS[cell].parts)
    for row, length in enumerate(LENGTHS.tolist()):
        values = embedded[row : row + 1, :length]
        for number, layer in enumerate(encoder.layers):  # torch's layers, without padding
            values, state = layer(values)
            state = torch.cat(state, dim=-1) if isinstance(state, tuple) else state
            torch.testing.assert_close(encoded.final[row, number], state[:, 0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(encoded.values[row, :length], values[0], rtol=1e-6, atol=1e-6)
        # h of the top layer: forward after the last real step, backward after the first step
        width = encoder.direction_size
        torch.testing.assert_close(encoded.final[row, -1, 0, :width], encoded.values[row, length - 1, :width])
        if bidirectional:
            torch.testing.assert_close(encoded.final[row, -1, 1, :width], encoded.values[row, 0, width:])


@EVERY_SHAPE
@pytest.mark.parametrize("recurrent_dropout", [0.0, 0.5])
@pytest.mark.parametrize("way", ["torch", "plain"])
def test_the_ways_to_run_a_layer_agree(cell, num_layers, bidirectional, recurrent_dropout, way, monkeypatch):
    if way == "torch" and CELLS[cell].layer is None:
        pytest.skip("torch has no layer of this cell")
    fast_twin = make(cell, num_layers, bidirectional, recurrent_dropout=recurrent_dropout)
    other = make(cell, num_layers, bidirectional, recurrent_dropout=recurrent_dropout)
    other.load_state_dict(fast_twin.state_dict())
    monkeypatch.setattr(encoder_module, "make_mask", lambda shape, p, like: torch.ones(shape))
    if way == "torch":
        monkeypatch.setattr(other, "_run", lambda number, *rest: other._run_torch(other.layers[number], *rest))
    embedded = torch.randn(B, S, E)
    outcomes = []
    for encoder in (fast_twin, other):
        inputs = embedded.clone().requires_grad_()
        with plain_layers() if encoder is other else nullcontext():
            encoded = encoder(inputs, SOURCE)
        weights = torch.linspace(-1, 1, encoded.values.numel()).view_as(encoded.values)
        ((encoded.values * weights).sum() + encoded.final.square().sum()).backward()
        outcomes.append((encoded, inputs.grad, dict(encoder.named_parameters())))
    (a, a_inputs, a_parameters), (b, b_inputs, b_parameters) = outcomes
    close(a, b)
    torch.testing.assert_close(a_inputs, b_inputs, rtol=1e-4, atol=1e-5)
    for name in a_parameters:
        torch.testing.assert_close(a_parameters[name].grad, b_parameters[name].grad, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_that_torch_does_not_have_runs_with_weights_of_the_same_names(cell, bidirectional, monkeypatch):
    options = {"input_size": E, "hidden_size": M, "num_layers": 2, "bidirectional": bidirectional}
    expected = RecurrentEncoder(cell, **options)
    monkeypatch.setitem(CELLS, cell, CELLS[cell]._replace(layer=None, fast=None))
    encoder = RecurrentEncoder(cell, **options)
    assert not any(isinstance(module, torch.nn.RNNBase) for module in encoder.modules())
    encoder.load_state_dict(expected.state_dict())
    embedded = torch.randn(len(LENGTHS), int(LENGTHS.max()), E)
    close(encoder(embedded, SOURCE), expected(embedded, SOURCE))


def test_states_that_overflow_over_padding_leave_gradients_finite():
    encoder = make("rnn_relu", 1, False)
    (layer,) = encoder.layers
    with torch.no_grad():
        layer.weight_hh_l0.copy_(1.6 * torch.eye(M))
        layer.bias_hh_l0.fill_(0.05)
        layer.weight_ih_l0.zero_()
        layer.weight_ih_l0[:, 0] = -1.0
    embedded = torch.zeros(2, 257, E)
    embedded[1, :, 0] = 9.0  # the outputs of the longer one are 0, and those of the padding of the other overflow
    encoder(embedded, Lengths(torch.tensor([3, 257]))).values.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


@EVERY_SHAPE
@pytest.mark.parametrize("recurrent_dropout", [0.0, 0.5])
def test_gradcheck_of_the_fast_backward(cell, num_layers, bidirectional, recurrent_dropout):
    encoder = make(cell, num_layers, bidirectional, recurrent_dropout=recurrent_dropout).double()
    embedded = torch.randn(B, S, E, dtype=torch.float64, requires_grad=True)

    def read(embedded: torch.Tensor, *parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(2)  # the same masks in each call
        names = [name for name, _ in encoder.named_parameters()]
        encoded = torch.func.functional_call(encoder, dict(zip(names, parameters, strict=True)), (embedded, SOURCE))
        return encoded.values, encoded.final

    assert torch.autograd.gradcheck(read, (embedded, *encoder.parameters()), fast_mode=True)


def test_recurrent_dropout_draws_one_mask_per_batch_layer_and_direction(monkeypatch):
    drawn = []

    def spy(*arguments):
        drawn.append(original(*arguments))
        return drawn[-1]

    original = encoder_module.make_mask
    monkeypatch.setattr(encoder_module, "make_mask", spy)
    encoder = make("lstm", recurrent_dropout=0.5)
    encoder(torch.randn(B, S, E), SOURCE)
    assert [tuple(mask.shape) for mask in drawn] == [(B, M // 2)] * 4  # not one mask per step
    assert any(not torch.equal(drawn[0][0], drawn[0][row]) for row in range(1, B))
    drawn.clear()
    encoder.eval()(torch.randn(B, S, E), SOURCE)
    assert not drawn


@pytest.mark.parametrize("cell", CELLS)
def test_the_recurrent_mask_is_the_same_at_every_step(cell, monkeypatch):
    mask = (torch.rand(B, M) > 0.5) * 2.0
    monkeypatch.setattr(encoder_module, "make_mask", lambda shape, p, like: mask)
    encoder = make(cell, 1, False, recurrent_dropout=0.5)
    embedded, lengths = torch.randn(B, S, E), torch.full((B,), S)
    values = encoder(embedded, Lengths(lengths)).values
    (layer,) = encoder.layers
    parts = tuple(torch.zeros(B, M) for _ in range(encoder.cell.parts))
    for t in range(S):
        gates = torch.nn.functional.linear(embedded[:, t], layer.weight_ih_l0, layer.bias_ih_l0)
        hidden = torch.nn.functional.linear(parts[0] * mask, layer.weight_hh_l0, layer.bias_hh_l0)
        parts = encoder.cell.step(gates, hidden, parts)
        torch.testing.assert_close(values[:, t], parts[0])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "options",
    [
        {"dropout": 0.5},
        {"dropout": 0.5, "locked": True},
        {"recurrent_dropout": 0.5},
        {"weight_drop": 0.5},
        {"weight_drop": 0.5, "recurrent_dropout": 1e-9},
    ],
    ids=["ordinary", "locked", "recurrent", "weight", "weight_in_the_loop"],
)
def test_dropout_is_active_only_in_training(cell, options):
    dropping, plain = make(cell, **options), make(cell)
    plain.load_state_dict(dropping.state_dict())
    embedded = torch.randn(B, S, E)
    expected = plain(embedded, SOURCE)
    first, second = dropping(embedded, SOURCE), dropping(embedded, SOURCE)
    assert not torch.allclose(first.values, expected.values)
    assert not torch.allclose(first.values, second.values)
    assert not first.values[~first.mask].any()
    assert torch.equal(dropping.eval()(embedded, SOURCE).values, expected.values)


@pytest.mark.parametrize("cell", CELLS)
def test_weight_drop_masks_each_h_to_h_matrix_once_and_its_gradient_agrees(cell, monkeypatch):
    masks = []

    def drop(weight, p, training):
        masks.append((torch.rand_like(weight) > p) / (1 - p))
        return weight * masks[-1]

    monkeypatch.setattr(encoder_module, "drop_weight", drop)
    encoder, plain = make(cell, 1, weight_drop=0.5), make(cell, 1)
    embedded = torch.randn(B, S, E)
    encoded = encoder(embedded, SOURCE)
    assert len(masks) == 2  # one per direction
    plain.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        plain.layers[0].weight_hh_l0 *= masks[0]
        plain.layers[0].weight_hh_l0_reverse *= masks[1]
    expected = plain(embedded, SOURCE)
    close(encoded, expected)
    encoded.values.square().sum().backward()
    expected.values.square().sum().backward()
    for suffix, mask in zip(("", "_reverse"), masks[:2], strict=True):
        mine = getattr(encoder.layers[0], f"weight_hh_l0{suffix}").grad
        theirs = getattr(plain.layers[0], f"weight_hh_l0{suffix}").grad
        torch.testing.assert_close(mine, theirs * mask, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("recurrent_dropout", [0.0, 0.5])
def test_residual_adds_the_layer_below_to_every_layer_except_the_first(bidirectional, recurrent_dropout, monkeypatch):
    monkeypatch.setattr(encoder_module, "make_mask", lambda shape, p, like: torch.ones(shape))
    options = {"bidirectional": bidirectional, "recurrent_dropout": recurrent_dropout}
    residual, plain = make("gru", 2, residual=True, **options), make("gru", 2, **options)
    lower = make("gru", 1, **options)
    plain.load_state_dict(residual.state_dict())
    lower.load_state_dict({name: residual.state_dict()[name] for name in lower.state_dict()})
    embedded = torch.randn(B, S, E)
    summed = residual(embedded, SOURCE)
    expected = plain(embedded, SOURCE).values + lower(embedded, SOURCE).values
    torch.testing.assert_close(summed.values, expected)
    assert not summed.values[~summed.mask].any()


def test_an_odd_width_of_two_directions_is_refused():
    message = (
        "model.encoder_hidden_size is the width of both directions together and must be even, but is 7; "
        "set an even number or model.bidirectional=false"
    )
    with pytest.raises(ValueError, match=message):
        RecurrentEncoder("gru", input_size=E, hidden_size=7, num_layers=1)
    assert RecurrentEncoder("gru", input_size=E, hidden_size=7, num_layers=1, bidirectional=False).direction_size == 7


def test_an_unknown_cell_is_refused_with_the_list():
    message = f"model.cell must be one of {', '.join(CELLS)}, but is elman"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make("elman")


# Layer normalisation


@EVERY_SHAPE
def test_a_normalised_encoder_equals_normalised_step_cells(cell, num_layers, bidirectional):
    """The cells are compared with a naive reference in ``test_cells``; here each sentence runs alone, without padding."""
    encoder = make(cell, num_layers, bidirectional, layer_norm=True).double()
    for parameter in encoder.norms.parameters():
        torch.nn.init.uniform_(parameter, 0.5, 1.5)
    embedded = torch.randn(B, S, E, dtype=torch.float64, requires_grad=True)
    encoded = encoder(embedded, SOURCE)
    values, final = torch.zeros(B, S, M).double(), torch.zeros_like(encoded.final)
    for b, length in enumerate(LENGTHS.tolist()):
        below = embedded[b : b + 1, :length]
        for number, layer in enumerate(encoder.layers):
            sides = []
            for d, suffix in enumerate(("", "_reverse")[: 1 + bidirectional]):
                stack = StackedCell(cell, input_size=below.shape[2], hidden_size=encoder.direction_size, num_layers=1,
                                    layer_norm=True)  # fmt: skip
                names = {"inputs.0.weight": "weight_ih", "inputs.0.bias": "bias_ih", "weight_hh.0": "weight_hh",
                         "bias_hh.0": "bias_hh"}  # fmt: skip
                weights = {mine: getattr(layer, f"{name}_l0{suffix}") for mine, name in names.items()}
                weights |= {
                    f"norms.0.{name}": p
                    for name, p in encoder.norms[number * (1 + bidirectional) + d].named_parameters()
                }
                outputs, hidden = [], torch.zeros(1, 1, stack.state_size).double()
                order = range(length) if d == 0 else reversed(range(length))
                for t in order:
                    output, hidden = torch.func.functional_call(
                        StepOf(stack), {f"stack.{name}": p for name, p in weights.items()}, (below[:, t], hidden)
                    )
                    outputs.append(output)
                sides.append(torch.stack(outputs[:: 1 if d == 0 else -1], dim=1))
                final[b, number, d] = hidden[0, 0]
            below = torch.cat(sides, dim=2)
        values[b, :length] = below[0]
    torch.testing.assert_close(encoded.values, values, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(encoded.final, final, rtol=1e-10, atol=1e-12)
    wanted = [embedded, *encoder.parameters()]
    factor = torch.randn(B, S, M, dtype=torch.float64)
    mine = torch.autograd.grad((encoded.values * factor).sum() + encoded.final.square().sum(), wanted)
    theirs = torch.autograd.grad((values * factor).sum() + final.square().sum(), wanted)
    for one, other in zip(mine, theirs, strict=True):
        assert other.abs().sum() > 0
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


class StepOf(torch.nn.Module):
    """One step of a stack of cells from its unprojected input."""

    def __init__(self, stack: StackedCell) -> None:
        super().__init__()
        self.stack = stack

    def forward(self, inputs: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.stack(self.stack.project(inputs), hidden, self.stack.prepare(len(inputs)))


@pytest.mark.parametrize("name", ["_run_torch", "FastRecurrence"])
def test_a_normalised_encoder_uses_neither_torchs_layer_nor_the_fast_twin(name, monkeypatch):
    encoder = make(layer_norm=True)
    monkeypatch.setattr(encoder if name == "_run_torch" else encoder_module, name, None)
    assert encoder(torch.randn(B, S, E), SOURCE).values.isfinite().all()


@pytest.mark.parametrize("cell", CELLS)
def test_layer_normalisation_changes_no_other_name_or_initial_weight(cell):
    states = []
    for layer_norm in (False, True):
        torch.manual_seed(3)
        encoder = RecurrentEncoder(cell, input_size=E, hidden_size=M, num_layers=2, layer_norm=layer_norm)
        states.append(encoder.state_dict())
    assert {name for name in states[1] if not name.startswith("norms.")} == states[0].keys() < states[1].keys()
    assert all(torch.equal(states[1][name], value) for name, value in states[0].items())


@pytest.mark.parametrize("lengths", [[5, 3, 1], [2, 5, 5], [5, 5, 5]], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_an_encoder_without_gradients_gives_the_values_of_one_with_gradients(cell, lengths):
    """Torch's layers run without gradients, the fast twin with them."""
    torch.manual_seed(1)
    encoder = RecurrentEncoder(cell, input_size=6, hidden_size=8, num_layers=2).double().eval()
    embedded = torch.randn(3, 5, 6, dtype=torch.float64)
    expected = encoder(embedded, torch.tensor(lengths))
    with torch.no_grad():
        found = encoder(embedded, torch.tensor(lengths))
    for one, other in zip(found[:4], expected[:4], strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=1e-10, atol=1e-10)
