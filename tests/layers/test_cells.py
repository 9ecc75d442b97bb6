"""The step cells: values and gradients equal those of torch's layers; residual connections; the three dropouts."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from seq2seq.layers import cells
from seq2seq.layers.cells import CELLS, StackedCell, find_cell, uniform_

B, T, E, H = 3, 5, 4, 6
EVERY_CELL = pytest.mark.parametrize("cell", CELLS)
CELL_OF_TORCH = pytest.mark.parametrize("cell", [name for name, cell in CELLS.items() if cell.layer is not None])
LAYERS = pytest.mark.parametrize("num_layers", [1, 2])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def make(cell: str, num_layers: int = 2, **options) -> StackedCell:
    stack = StackedCell(cell, input_size=E, hidden_size=H, num_layers=num_layers, **options)
    for bias in stack.bias_hh:
        nn.init.uniform_(bias, -0.5, 0.5)  # with zeros, the test could not see where the GRU adds it
    return stack


def run(stack: StackedCell, inputs: torch.Tensor, hidden: torch.Tensor | None = None, prepared=None):
    """Run all steps; return outputs (B, T, H) and the final state (B, L, W)."""
    rows = inputs.shape[0]
    hidden = torch.zeros(rows, len(stack.inputs), stack.state_size) if hidden is None else hidden
    prepared = prepared or stack.prepare(rows)
    outputs = []
    for gates in stack.project(inputs).unbind(dim=1):
        output, hidden = stack(gates, hidden, prepared)
        outputs.append(output)
    return torch.stack(outputs, dim=1), hidden


def torch_layer(cell: str, stack: StackedCell) -> nn.RNNBase:
    """Return torch's layer with the weights of a stack."""
    layer = find_cell(cell).layer(E, H, num_layers=len(stack.inputs), batch_first=True)
    with torch.no_grad():
        for number, linear in enumerate(stack.inputs):
            getattr(layer, f"weight_ih_l{number}").copy_(linear.weight)
            getattr(layer, f"bias_ih_l{number}").copy_(linear.bias)
            getattr(layer, f"weight_hh_l{number}").copy_(stack.weight_hh[number])
            getattr(layer, f"bias_hh_l{number}").copy_(stack.bias_hh[number])
    return layer


def parameters(stack: StackedCell) -> dict[str, torch.Tensor]:
    """Return the parameters under the names of torch's layer."""
    named = {}
    for number, linear in enumerate(stack.inputs):
        named[f"weight_ih_l{number}"] = linear.weight
        named[f"bias_ih_l{number}"] = linear.bias
        named[f"weight_hh_l{number}"] = stack.weight_hh[number]
        named[f"bias_hh_l{number}"] = stack.bias_hh[number]
    return named


@CELL_OF_TORCH
@LAYERS
def test_values_and_gradients_equal_those_of_the_torch_layer(cell, num_layers):
    stack = make(cell, num_layers)
    layer = torch_layer(cell, stack)
    start = 0.5 * torch.randn(B, num_layers, stack.state_size)
    mine, theirs = (torch.randn(B, T, E, generator=torch.Generator().manual_seed(2)) for _ in range(2))
    mine.requires_grad_()
    theirs.requires_grad_()
    parts = [part.transpose(0, 1).contiguous() for part in start.split(H, dim=-1)]
    expected, last = layer(theirs, tuple(parts) if len(parts) > 1 else parts[0])
    last = torch.cat(last, dim=-1) if isinstance(last, tuple) else last
    outputs, hidden = run(stack, mine, start)
    torch.testing.assert_close(outputs, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(hidden, last.transpose(0, 1), rtol=1e-5, atol=1e-6)

    weights = torch.randn(B, T, H)
    ((outputs * weights).sum() + hidden.sum()).backward()
    ((expected * weights).sum() + last.sum()).backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    for name, parameter in parameters(stack).items():
        torch.testing.assert_close(parameter.grad, getattr(layer, name).grad, rtol=1e-4, atol=1e-5, msg=name)


@EVERY_CELL
def test_a_row_does_not_depend_on_other_rows(cell):
    stack = make(cell)
    inputs = torch.randn(B, T, E)
    together, _ = run(stack, inputs)
    torch.testing.assert_close(together[1:2], run(stack, inputs[1:2])[0])


@EVERY_CELL
def test_residual_adds_the_input_of_the_upper_layer_to_its_output(cell):
    plain, residual = make(cell), make(cell, residual=True)
    residual.load_state_dict(plain.state_dict())
    inputs = torch.randn(B, 1, E)
    upper, state = run(plain, inputs)
    lower = state[:, 0, :H]
    output, residual_state = run(residual, inputs)
    torch.testing.assert_close(output[:, 0], upper[:, 0] + lower)
    torch.testing.assert_close(residual_state, state)  # the state of the next step does not include it


@EVERY_CELL
@pytest.mark.parametrize(
    "options",
    [
        {"recurrent_dropout": 0.5},
        {"weight_drop": 0.5},
        {"dropout": 0.5},
        {"dropout": 0.5, "locked": True},
    ],
    ids=["recurrent", "weight", "between", "between_locked"],
)
def test_dropout_is_active_only_in_training(cell, options):
    dropping, plain = make(cell, **options), make(cell)
    plain.load_state_dict(dropping.state_dict())
    inputs, start = torch.randn(B, T, E), torch.randn(B, 2, plain.state_size)
    expected, _ = run(plain, inputs, start)
    assert not torch.allclose(run(dropping, inputs, start)[0], expected)
    assert torch.equal(run(dropping.eval(), inputs, start)[0], expected)


def test_masks_differ_between_sentences_layers_and_batches():
    prepared = make("lstm", num_layers=3, recurrent_dropout=0.5, dropout=0.5, locked=True).prepare(2)
    assert prepared.between[0] is None  # the input of the first layer is not dropped here
    for first, second in (prepared.recurrent[:2], prepared.between[1:]):
        assert first.shape == second.shape == (2, H)
        assert not torch.equal(first, second)
    wide = StackedCell("gru", input_size=E, hidden_size=64, num_layers=1, recurrent_dropout=0.5)
    mask, later = wide.prepare(2).recurrent[0], wide.prepare(2).recurrent[0]
    assert not torch.equal(mask[0], mask[1])
    assert not torch.equal(mask, later)


@EVERY_CELL
def test_recurrent_dropout_uses_one_mask_for_all_steps_and_masks_only_h(cell):
    stack = make(cell, 1, recurrent_dropout=0.5)
    inputs = torch.randn(B, T, E)
    prepared = stack.prepare(B)
    mask = prepared.recurrent[0]
    assert (mask == 0).any()
    outputs, _ = run(stack, inputs, prepared=prepared)
    # by hand: only the part of the state that is multiplied with the h-to-h weights is masked
    parts = tuple(torch.zeros(B, H) for _ in range(stack.cell.parts))
    for t in range(T):
        gates = stack.project(inputs[:, t])
        hidden = nn.functional.linear(parts[0] * mask, stack.weight_hh[0], stack.bias_hh[0])
        parts = stack.cell.step(gates, hidden, parts)
        torch.testing.assert_close(outputs[:, t], parts[0])


def test_locked_dropout_between_layers_drops_the_same_units_at_every_step():
    stack = make("rnn_tanh", dropout=0.5, locked=True)
    inputs = torch.randn(B, T, E, requires_grad=True)
    seen = []
    stack.inputs[1].register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0] == 0))
    run(stack, inputs)
    assert seen[0].any()
    assert len(seen) == T
    assert all(torch.equal(zeros, seen[0]) for zeros in seen)
    assert not torch.equal(seen[0][0], seen[0][1])


def test_ordinary_dropout_between_layers_changes_from_step_to_step():
    stack = make("rnn_tanh", dropout=0.5)
    seen = []
    stack.inputs[1].register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0] == 0))
    run(stack, torch.randn(B, T, E))
    assert any(not torch.equal(zeros, seen[0]) for zeros in seen)


@pytest.mark.parametrize("locked", [False, True])
def test_prepared_steps_have_masks_of_their_own_unless_they_are_locked(locked: bool) -> None:
    stack = make("gru", num_layers=3, dropout=0.5, locked=locked)
    prepared = stack.prepare(B, steps=T)
    assert [mask is None for mask in prepared.between] == [True, False, False]
    for number in (1, 2):
        masks = [prepared.at(t).between[number] for t in range(T)]
        assert all(mask.shape == (B, H) for mask in masks)
        assert all(torch.equal(mask, masks[0]) for mask in masks) == locked
        assert {value for mask in masks for value in mask.unique().tolist()} == {0.0, 2.0}
    inputs = torch.randn(B, E)
    seen = []
    stack.inputs[1].register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0] == 0))
    stack.step(inputs, stack.start(B), prepared.at(2))
    assert torch.equal(seen[0], prepared.at(2).between[1] == 0)


def test_no_masks_of_steps_are_drawn_without_dropout() -> None:
    for stack in (make("gru"), make("gru", dropout=0.5).eval(), make("gru", num_layers=1, dropout=0.5)):
        assert stack.prepare(B, steps=T).between == [None] * len(stack.inputs)


def test_weight_drop_draws_one_mask_per_batch_and_layer():
    stack = make("gru", weight_drop=0.5)
    prepared, later = stack.prepare(B), stack.prepare(B)
    for layer, weight in enumerate(stack.weight_hh):
        kept = prepared.weights[layer] != 0
        assert 0 < kept.sum() < weight.numel()
        torch.testing.assert_close(prepared.weights[layer][kept], 2 * weight[kept])
        assert not torch.equal(prepared.weights[layer], later.weights[layer])


@pytest.mark.parametrize("cell", [name for name, cell in CELLS.items() if cell.gates > 1])
def test_gated_cells_are_initialised_uniformly(cell: str):
    stack = StackedCell(cell, input_size=E, hidden_size=64, num_layers=2)
    for parameter in stack.parameters():
        assert 0.08 < parameter.abs().max() <= 0.1
        assert parameter.unique().numel() > 0.9 * parameter.numel()


def test_cells_without_gates_are_initialised_orthogonally_and_relu_with_the_identity():
    tanh, relu = (StackedCell(cell, input_size=E, hidden_size=H, num_layers=1) for cell in ("rnn_tanh", "rnn_relu"))
    torch.testing.assert_close(tanh.weight_hh[0] @ tanh.weight_hh[0].T, torch.eye(H), rtol=0, atol=1e-5)
    assert torch.equal(relu.weight_hh[0], torch.eye(H))
    for stack in (tanh, relu):
        assert not stack.inputs[0].bias.any()
        assert not stack.bias_hh[0].any()


def test_uniform_has_the_given_standard_deviation():
    assert uniform_(torch.empty(400, 100), 0.2).std().item() == pytest.approx(0.2, rel=0.02)


def test_an_unknown_cell_is_refused_with_the_list():
    message = f"model.cell must be one of {', '.join(CELLS)}, but is elman"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        StackedCell("elman", input_size=E, hidden_size=H, num_layers=1)
    assert cells.find_cell("lstm").parts == 2


# Layer normalisation, against loops over sentences, steps and gates


def normalised(vector: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    mean = vector.sum() / len(vector)
    variance = ((vector - mean) ** 2).sum() / len(vector)
    return gain * (vector - mean) / torch.sqrt(variance + 1e-5)


def naive_step(cell, x_part, h_part, state, gains, biases):
    """Return the parts of the next state of one sentence: x_part = W_ih x and h_part = W_hh h, without bias."""
    b_ih, b_hh = biases
    if cell.startswith("rnn"):  # Ba et al. 2016, eq. 4
        total = normalised(x_part + h_part, gains["gain_ih"]) + b_ih + b_hh
        return (torch.tanh(total) if cell == "rnn_tanh" else total.clamp(min=0),)
    if cell == "lstm":  # eqs. 20 to 22
        total = normalised(x_part, gains["gain_ih"]) + b_ih + normalised(h_part, gains["gain_hh"]) + b_hh
        i, f, g, o = total.view(4, -1)
        c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(normalised(c, gains["state.weight"]) + gains["state.bias"]), c
    split = 2 * len(state[0])  # supplement, eqs. 27 to 29: r and z together, the candidate n separately
    r_z = normalised(x_part[:split], gains["gain_ih"][:split]) + b_ih[:split]
    r_z = r_z + normalised(h_part[:split], gains["gain_hh"][:split]) + b_hh[:split]
    r, z = torch.sigmoid(r_z).view(2, -1)
    n_x = normalised(x_part[split:], gains["gain_ih"][split:]) + b_ih[split:]
    n_h = normalised(h_part[split:], gains["gain_hh"][split:]) + b_hh[split:]
    n = torch.tanh(n_x + r * n_h)
    return ((1 - z) * n + z * state[0],)


def normed(cell: str, num_layers: int, **options) -> StackedCell:
    """Return a float64 stack with layer normalisation and random gains and biases."""
    stack = make(cell, num_layers, layer_norm=True, **options).double()
    for norm in stack.norms:
        for parameter in norm.parameters():
            nn.init.uniform_(parameter, 0.5, 1.5)
    for linear in stack.inputs:
        nn.init.uniform_(linear.bias, -0.5, 0.5)
    return stack


@EVERY_CELL
@LAYERS
def test_layer_normalisation_equals_the_naive_reference(cell, num_layers):
    stack = normed(cell, num_layers)
    inputs = torch.randn(B, T, E, dtype=torch.float64, requires_grad=True)
    start = torch.randn(B, num_layers, stack.state_size, dtype=torch.float64, requires_grad=True)
    outputs, hidden = run(stack, inputs, start)

    expected, last = [], []
    for b in range(B):
        states = [tuple(start[b, layer].split(H)) for layer in range(num_layers)]
        for t in range(T):
            x = inputs[b, t]
            for layer in range(num_layers):
                linear, norm = stack.inputs[layer], dict(stack.norms[layer].named_parameters())
                parts = (linear.weight @ x, stack.weight_hh[layer] @ states[layer][0])
                states[layer] = naive_step(cell, *parts, states[layer], norm, (linear.bias, stack.bias_hh[layer]))
                x = states[layer][0]
            expected.append(x)
        last.append(torch.stack([torch.cat(state) for state in states]))
    naive, naive_last = torch.stack(expected).view(B, T, H), torch.stack(last)
    torch.testing.assert_close(outputs, naive, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(hidden, naive_last, rtol=1e-10, atol=1e-12)

    factor = torch.randn(B, T, H, dtype=torch.float64)
    wanted = [inputs, start, *stack.parameters()]
    mine = torch.autograd.grad((outputs * factor).sum() + hidden.square().sum(), wanted)
    theirs = torch.autograd.grad((naive * factor).sum() + naive_last.square().sum(), wanted)
    for one, other in zip(mine, theirs, strict=True):
        assert other.abs().sum() > 0
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@EVERY_CELL
def test_layer_normalisation_adds_parameters_and_changes_no_other_name_or_initial_weight(cell):
    torch.manual_seed(3)
    plain = StackedCell(cell, input_size=E, hidden_size=H, num_layers=2)
    torch.manual_seed(3)
    stack = StackedCell(cell, input_size=E, hidden_size=H, num_layers=2, layer_norm=True)
    weights = stack.state_dict()
    assert {name for name in weights if not name.startswith("norms.")} == plain.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in plain.state_dict().items())
    assert weights.keys() > plain.state_dict().keys()
    assert plain.has_fast_twin == (CELLS[cell].fast is not None)
    assert not stack.has_fast_twin


@EVERY_CELL
def test_the_scale_of_the_weights_does_not_change_a_normalised_cell(cell):
    stack = normed(cell, 1)
    inputs, start = torch.randn(B, T, E, dtype=torch.float64), torch.randn(B, 1, stack.state_size, dtype=torch.float64)
    outputs = []
    for _ in range(2):  # at a scale of 100, the 1e-5 that is added to the variance has no effect
        with torch.no_grad():
            stack.inputs[0].weight.mul_(100)
            stack.weight_hh[0].mul_(100)
        outputs.append(run(stack, inputs, start)[0])
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)
