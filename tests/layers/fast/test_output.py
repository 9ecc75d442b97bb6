"""The fast output layer: loss and gradients are those of the distribution; it never holds all logits in memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from seq2seq.layers.distribution import Copying, Distribution
from seq2seq.layers.fast import output
from seq2seq.loss import smoothed_nll

R, E, V, S = 23, 6, 30, 5
BANNED = torch.tensor([0, 2])
COPIES = pytest.mark.parametrize("copy", ["none", "pointer", "copynet"])
SMOOTHING = pytest.mark.parametrize("smoothing", [0.0, 0.1])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def make(copy: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Linear, dict[str, Tensor], Tensor, Tensor]:
    """Return the layer, the tensors with gradients, the targets (half in the source, some of these OOV) and the copy ids."""
    layer = nn.Linear(E, V, dtype=dtype)
    tensors = {"features": 3 * torch.randn(R, E, dtype=dtype)}
    ids, target = torch.randint(3, V + 3, (R, S)), torch.randint(3, V, (R,))
    ids[0, 1], ids[2, 1:3] = V, V + 2
    if copy != "none":
        tensors["energies"] = torch.randn(R, S, dtype=dtype)
        target = torch.where(torch.arange(R) % 2 == 0, ids[:, 1], target)
        assert (target >= V).any()
    if copy == "pointer":
        tensors["gate"] = torch.randn(R, dtype=dtype)
    return layer, {name: tensor.requires_grad_() for name, tensor in tensors.items()}, target, ids


def copying_of(tensors: dict[str, Tensor], ids: Tensor) -> Copying | None:
    return Copying(tensors.get("gate"), tensors["energies"], ids) if "energies" in tensors else None


def gradients(loss: Tensor, layer: nn.Linear, tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(2.5 * loss, [*layer.parameters(), *tensors.values()])


@COPIES
@SMOOTHING
@pytest.mark.parametrize("rows", [4, R, 100])
def test_values_and_gradients_are_those_of_the_distribution(copy, smoothing, rows, monkeypatch):
    monkeypatch.setattr(output, "SLICE_ROWS", rows)
    layer, tensors, target, ids = make(copy)
    copying = copying_of(tensors, ids)
    logits = layer(tensors["features"]).index_fill(1, BANNED, -1e9)
    expected, expected_nll = smoothed_nll(Distribution(logits, BANNED, copying).target(target), smoothing)
    loss, nll = output.output_loss(layer, tensors["features"], target, copying, banned=BANNED, smoothing=smoothing)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(nll, expected_nll, rtol=1e-12, atol=0)
    assert not nll.requires_grad
    for mine, other in zip(gradients(loss, layer, tensors), gradients(expected, layer, tensors), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)


@COPIES
def test_gradcheck(copy):
    layer, tensors, target, ids = make(copy)

    def total(weight: Tensor, bias: Tensor, features: Tensor, *others: Tensor) -> Tensor:
        named = dict(zip(list(tensors)[1:], others, strict=True))
        copying = copying_of(named, ids)
        terms = (None, None, None) if copying is None else output.copy_terms(copying, target)
        return output.FastOutputLoss.apply(features, weight, bias, target, BANNED, 0.1, *terms)[0]

    assert torch.autograd.gradcheck(total, (*layer.parameters(), *tensors.values()))


@COPIES
@pytest.mark.parametrize("gate", [-1e4, 1e4])
def test_results_are_finite_for_extreme_gates(copy, gate):
    layer, tensors, target, ids = make(copy, torch.float32)
    with torch.no_grad():
        layer.weight *= 1e4
        if "gate" in tensors:
            tensors["gate"].fill_(gate)
    if copy == "pointer" and gate > 0:  # a token that can only be copied has probability e**-10000
        target = target.where(target < V, 3)
    loss, _ = output.output_loss(
        layer, tensors["features"], target, copying_of(tensors, ids), banned=BANNED, smoothing=0.1
    )
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients(loss, layer, tensors))


@pytest.mark.parametrize("above", [10.0, 84.0, 100.0, 500.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("matched", [False, True])
def test_the_gradient_of_the_output_layer_is_that_of_the_mixture_for_large_copy_energies(above, smoothing, matched):
    """With CopyNet and copy energies far above the logits, the gradient of the target's logit does not underflow."""
    layer, features, target = nn.Linear(E, V), torch.randn(R, E), torch.full((R,), 7)
    ids = torch.full((R, S), 4)
    ids[0, 0] = 7 if matched else 4
    outcomes = []
    for fast in (True, False):
        dtype = torch.float32 if fast else torch.float64
        typed, inputs = nn.Linear(E, V).to(dtype), features.to(dtype).requires_grad_()
        typed.load_state_dict(layer.state_dict())
        energies = torch.full((R, S), above, dtype=dtype, requires_grad=True)
        copying = Copying(None, energies, ids)
        if fast:
            loss, _ = output.output_loss(typed, inputs, target, copying, banned=BANNED, smoothing=smoothing)
        else:
            logits = typed(inputs).index_fill(1, BANNED, -1e9)
            loss, _ = smoothed_nll(Distribution(logits, BANNED, copying).target(target), smoothing)
        outcomes.append(torch.autograd.grad(loss, [typed.bias, typed.weight, inputs, energies]))
    for mine, expected in zip(*outcomes, strict=True):
        torch.testing.assert_close(mine.double(), expected, rtol=1e-4, atol=1e-4)
    gold = (R - matched) * (1 - smoothing)
    assert above < 84 or outcomes[0][0][7].item() <= -gold + smoothing * R


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-3), (torch.bfloat16, 2e-2)])
@SMOOTHING
def test_gradients_are_accurate_where_the_probability_is_almost_one(dtype, rtol, smoothing):
    """The gradient p - 1 of the target's logit is accurate for p = 0.999, also in half precision."""
    layer, target = nn.Linear(E, V), torch.full((R,), 7)
    with torch.no_grad():
        layer.weight.mul_(0.01)
        layer.bias[7] = 10.0
    features = torch.ones(R, E, dtype=dtype, requires_grad=True)
    sure, exact = nn.Linear(E, V).double(), torch.ones(R, E, dtype=torch.float64, requires_grad=True)
    sure.load_state_dict(layer.state_dict())
    logits = sure(exact).index_fill(1, BANNED, -1e9)
    expected, _ = smoothed_nll(Distribution(logits, BANNED).target(target), smoothing)
    loss, _ = output.output_loss(layer, features, target, None, banned=BANNED, smoothing=smoothing)
    torch.testing.assert_close(loss.double(), expected, rtol=rtol, atol=0)
    mine, others = gradients(loss, layer, {"": features}), gradients(expected, sure, {"": exact})
    for own, other in zip(mine, others, strict=True):
        torch.testing.assert_close(own.double(), other, rtol=rtol, atol=float(rtol * other.abs().max()))
    assert others[1][7].abs() > 1e-3  # the gradient of the bias is larger than rounding errors


def test_banned_ids_have_no_gradient_and_rows_are_summed(monkeypatch):
    layer, tensors, target, _ = make("none")

    def of(rows: slice) -> Tensor:
        return output.output_loss(layer, tensors["features"][rows], target[rows], None, banned=BANNED, smoothing=0.1)[0]

    whole = of(slice(None))
    torch.testing.assert_close(whole, of(slice(0, 9)) + of(slice(9, None)))
    weight = gradients(whole, layer, tensors)[0]
    assert not weight[BANNED].any()
    assert weight[1].any()


class Largest(TorchDispatchMode):
    """Record the number of elements of the largest result."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@COPIES
def test_memory_does_not_grow_with_rows_times_vocabulary(copy, monkeypatch):
    monkeypatch.setattr(output, "SLICE_ROWS", 4)
    layer, tensors, target, ids = make(copy)
    with Largest() as largest:
        output.output_loss(layer, tensors["features"], target, copying_of(tensors, ids), banned=BANNED, smoothing=0.1)[
            0
        ].backward()
    assert largest.elements <= max(V * E, R * E)
    with Largest() as largest:
        layer(tensors["features"])
    assert largest.elements == R * V
