"""Every fast twin equals its plain layers: values, gradients, and the losses of training.

The model with all its twins (encoder, decoder, output layer) is compared with the plain one, for every cell and attention
of the tables in ``seq2seq.layers.fast``.
"""

from __future__ import annotations

import copy
import itertools
import random

import pytest
import torch

from seq2seq.config import COVERAGE_NAMES, ModelConfig
from seq2seq.data.batching import Batch, collate
from seq2seq.layers.attention import ATTENTIONS, Additive, Memory, make_attention
from seq2seq.layers.cells import CELLS
from seq2seq.layers.decoder import RecurrentState
from seq2seq.layers.fast import plain_layers
from seq2seq.layers.fast.cells import FAST_CELLS
from seq2seq.layers.fast.decoder import FAST_ATTENTIONS, FastUnroll
from seq2seq.layers.fast.encoder import FastRecurrence
from seq2seq.layers.fast.output import FastOutputLoss
from seq2seq.model import Seq2Seq
from seq2seq.text.tokenizer import BOS, EOS, PAD

SIZE = 20
EVERY_TWIN = list(itertools.product(FAST_CELLS, FAST_ATTENTIONS, COVERAGE_NAMES))
SHAPES = [((5, 9, 2, 7), (6, 3, 8, 1)), ((3,), (4,)), ((3, 1), (0, 0)), ((1,), (0,))]  # lengths of sources and targets
DROPPING = {"dropout": 0.2, "recurrent_dropout": 0.3, "weight_drop": 0.3}
LAYERED = {  # options of a decoder of several layers
    "plain": {},
    "residual": {"residual": True},
    "dropout": {"dropout": 0.3},
    "locked": {"dropout": 0.3, "dropout_kind": "locked", "residual": True},
    "recurrent": {"recurrent_dropout": 0.3},
    "all": {**DROPPING, "residual": True, "copy": "pointer"},
}
EVERY_LAYERED = list(itertools.product(FAST_CELLS, (2, 3, 4), LAYERED))


def make(**options) -> Seq2Seq:
    torch.manual_seed(1)
    config = ModelConfig(**({"hidden_size": 12, "embedding_size": 10, "dropout": 0.0} | options))
    model = Seq2Seq(config, src_size=SIZE, tgt_size=SIZE, shared=True)
    with torch.no_grad():
        scale = 0.1 if config.cell == "rnn_relu" else 0.3  # its outputs have no bound
        for parameter in model.parameters():  # the initial coverage weights are 0
            parameter.add_(scale * torch.randn_like(parameter))
    return model


def batch(src_lengths=(5, 9, 2, 7), tgt_lengths=(6, 3, 8, 1)) -> Batch:
    numbers = random.Random(1)
    src, tgt = (
        [[numbers.randrange(4, SIZE) for _ in range(n)] for n in lengths] for lengths in (src_lengths, tgt_lengths)
    )
    return collate(src, tgt, pad_id=PAD, bos_id=BOS, eos_id=EOS, copy_ids=src)


def outcome(model: Seq2Seq, data: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the loss, with the same dropout masks in each call, and all gradients."""
    torch.manual_seed(5)
    model.zero_grad()
    covers = model.decoder.attention.coverage != "none"
    loss = model(data, smoothing=0.1, coverage_weight=0.7 if covers else 0.0)
    loss.total.backward()
    return loss.total.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def compare(model: Seq2Seq, data: Batch, *, rtol: float, atol: float) -> None:
    """Check that loss and gradients are those of the plain layers."""
    loss, gradients = outcome(model, data)
    with plain_layers():
        expected, others = outcome(model, data)
    torch.testing.assert_close(loss, expected, rtol=rtol, atol=0)
    assert gradients.keys() == others.keys()
    for name in others:
        scale = max(1.0, float(others[name].abs().max()))
        torch.testing.assert_close(gradients[name], others[name], rtol=rtol, atol=scale * atol, msg=name)


def test_every_twin_belongs_to_a_kind():
    assert FAST_CELLS.keys() <= CELLS.keys()
    assert all(CELLS[name].fast is twin for name, twin in FAST_CELLS.items())
    assert FAST_ATTENTIONS.keys() <= ATTENTIONS.keys()


@pytest.mark.parametrize(("cell", "attention", "coverage"), EVERY_TWIN)
@pytest.mark.parametrize(
    "options",
    [{}, {"copy": "pointer", **DROPPING}, {"copy": "copynet", "bidirectional": False, "encoder_layers": 2}],
    ids=["plain", "copying and dropping", "copynet"],
)
def test_loss_and_gradients_are_those_of_the_plain_layers(cell, attention, coverage, options):
    model = make(cell=cell, attention=attention, coverage=coverage, **options)
    compare(model, batch(), rtol=1e-4, atol=1e-4)
    compare(model.double(), batch(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("cell", "layers", "options"),
    [  # every fifth case includes each cell, number of layers and option
        pytest.param(*case, marks=[] if number % 5 == 0 else pytest.mark.slow)
        for number, case in enumerate(EVERY_LAYERED)
    ],
)
def test_several_layers_give_the_loss_and_gradients_of_the_plain_layers(cell, layers, options):
    model = make(cell=cell, encoder_layers=layers, decoder_layers=layers, coverage="sum", **LAYERED[options])
    compare(model, batch(), rtol=1e-4, atol=1e-4)
    compare(model.double(), batch(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("attention", FAST_ATTENTIONS)
@pytest.mark.parametrize("coverage", COVERAGE_NAMES)
def test_several_layers_agree_with_every_attention(attention, coverage):
    options = {"cell": "gru", "attention": attention, "coverage": coverage, "decoder_layers": 3, **LAYERED["all"]}
    compare(make(**options).double(), batch(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_several_layers_agree_for_every_shape(shape):
    for cell, options in itertools.product(("lstm", "gru"), (LAYERED["residual"], LAYERED["all"])):
        model = make(cell=cell, decoder_layers=2, encoder_layers=2, **options)
        compare(model.double(), batch(*shape), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", FAST_CELLS)
def test_the_initial_state_of_every_layer_has_the_gradient_of_the_plain_layers(cell, layers):
    decoder = make(cell=cell, decoder_layers=layers, encoder_layers=layers, residual=layers > 1).double().decoder
    torch.manual_seed(4)
    double = {"dtype": torch.float64}
    embedded, values = torch.randn(2, 5, 10, **double), torch.randn(2, 4, 12, **double)
    hidden = torch.randn(2, layers, decoder.stack.state_size, **double, requires_grad=True)
    context = torch.randn(2, 12, **double, requires_grad=True)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    nothing = torch.zeros(2, 0, dtype=torch.long)
    fertility = decoder.fertility(values)
    memory = Memory(values, decoder.keys(values), mask, context, fertility, values[:, :, :0], nothing, nothing)
    state = RecurrentState(hidden, context, torch.zeros(2, 4), torch.zeros_like(fertility))

    def gradients() -> list[torch.Tensor]:
        unrolled = decoder.unroll(embedded, state, memory)
        numbers = torch.Generator().manual_seed(6)
        outer = [torch.randn(result.shape, generator=numbers).to(result) for result in unrolled]  # also at padding
        return list(torch.autograd.grad(unrolled, [hidden, context], outer))

    found = gradients()
    with plain_layers():
        expected = gradients()
    for mine, other in zip(found, expected, strict=True):
        assert (other.abs().flatten(0, -2).amax(dim=1) > 0).all()  # of every layer and sentence
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cell", FAST_CELLS)
def test_twins_agree_for_every_shape(shape, cell):
    for options in ({}, {"copy": "copynet"}, {"copy": "pointer", "copy_attention": "separate"}):
        compare(make(cell=cell, coverage="sum", **options).double(), batch(*shape), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("cell", "attention", "coverage", "options"),
    [
        ("lstm", "additive", "fertility", {}),
        ("gru", "scaled_dot", "sum", {}),
        ("lstm", "general", "sum", {"decoder_layers": 2, "residual": True, "dropout": 0.3}),
    ],
)
def test_gradcheck(cell, attention, coverage, options):
    sizes = {"hidden_size": 4, "embedding_size": 3}
    model = make(cell=cell, attention=attention, coverage=coverage, **sizes, **options).double()
    data = batch((2, 3), (2, 1))
    names = ["decoder.stack", "decoder.context_gates", "attention"]
    chosen = [p for n, p in model.named_parameters() if any(name in n for name in names)]

    def total(*_: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(5)  # the same dropout masks in each call
        return model(data, coverage_weight=0.7).total

    assert torch.autograd.gradcheck(total, chosen, fast_mode=True)


def test_training_has_the_same_losses():
    def train() -> list[float]:
        model = make(copy="pointer", coverage="sum", dropout=0.1)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        losses = []
        torch.manual_seed(2)
        for _ in range(50):
            optimizer.zero_grad()
            loss = model(batch(), smoothing=0.1, coverage_weight=1.0)
            (loss.total / loss.tokens).backward()
            optimizer.step()
            losses.append(loss.nll.item() / loss.tokens)
        return losses

    losses = train()
    with plain_layers():
        assert losses == pytest.approx(train(), rel=1e-5)
    assert losses[-1] < 0.5 * losses[0]


def test_the_unroll_does_not_change_its_input():
    model = make().double()
    seen = []
    model.decoder.stack.inputs[0].register_forward_hook(
        lambda module, inputs, gates: seen.append((gates, gates.clone()))
    )
    model(batch((3,), (4,))).total.backward()  # one row: the transposed tensor shares its memory
    assert all(torch.equal(gates, before) for gates, before in seen)


@pytest.mark.parametrize("options", [{"layer_norm": True}, {"attention": "none"}])
def test_a_decoder_without_a_twin_runs_step_by_step(options, monkeypatch):
    def refuse(*arguments: object) -> None:
        raise AssertionError("fast")

    monkeypatch.setattr(FastUnroll, "apply", refuse)
    assert not make(**options).decoder.has_fast_twin
    make(**options)(batch()).total.backward()
    for layers in (1, 2, 4):
        with pytest.raises(AssertionError, match="fast"):
            make(decoder_layers=layers)(batch())


@pytest.mark.parametrize("twin", [FastUnroll, FastRecurrence, FastOutputLoss])
def test_plain_layers_use_no_twin(twin, monkeypatch):
    def refuse(*arguments: object) -> None:
        raise AssertionError("fast")

    monkeypatch.setattr(twin, "apply", refuse)
    with plain_layers():
        make(copy="pointer")(batch()).total.backward()
    with pytest.raises(AssertionError, match="fast"):
        make(copy="pointer")(batch())


def test_an_encoder_whose_cell_has_no_twin_runs_step_by_step(monkeypatch):
    model = make(recurrent_dropout=0.3)
    loss, gradients = outcome(model, batch())
    model.encoder.cell = model.encoder.cell._replace(fast=None)
    model.decoder.stack.cell = model.encoder.cell
    assert not model.decoder.has_fast_twin
    monkeypatch.setattr(FastRecurrence, "apply", None)
    same, others = outcome(model, batch())
    torch.testing.assert_close(loss, same)
    for name in others:
        torch.testing.assert_close(gradients[name], others[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("scale", [0.03, 1.0, 5.0])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_float32_twins_are_as_accurate_as_the_plain_layers(cell, scale):
    """The twins compute tanh as 2 sigmoid(2x) - 1. ``scale``: of the weights, from linear to saturated gates."""
    model = make(cell=cell, decoder_layers=2, coverage="sum")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    found, gradients = outcome(model, batch())
    with plain_layers():
        plain, others = outcome(model, batch())
        expected, references = outcome(copy.deepcopy(model).double(), batch())
    size = max(float(reference.abs().max()) for reference in references.values())

    def error(mine: dict[str, torch.Tensor]) -> float:
        return max(float((mine[name] - reference).abs().max()) for name, reference in references.items()) / size

    assert error(gradients) <= 5 * error(others) + 1e-7
    assert abs(found - expected) <= 5 * abs(plain - expected) + 1e-7 * expected


def test_the_gradient_is_accurate_for_large_coverage():
    """The coverage of a position with low fertility is in the thousands; its tanh is constant and its gradient is 0."""
    model = make(coverage="fertility")
    with torch.no_grad():
        model.decoder.attention.fertility_energy.weight.mul_(100)
    _, gradients = outcome(model, batch())
    with plain_layers():
        _, others = outcome(model, batch())
    for name in others:
        torch.testing.assert_close(gradients[name], others[name], rtol=1e-3, atol=1e-3, msg=name)


def test_an_attention_outside_the_table_runs_step_by_step(monkeypatch):
    class Doubled(Additive):
        """Additive energies times two."""

        def energies(self, query, keys, coverage):
            return 2 * super().energies(query, keys, coverage)

    monkeypatch.setitem(ATTENTIONS, "doubled", Doubled)
    plain = make()
    doubled = make()
    doubled.decoder.attention = make_attention("doubled", query_size=12, memory_size=12, attention_size=12)
    doubled.load_state_dict(plain.state_dict())
    assert plain.decoder.has_fast_twin
    assert not doubled.decoder.has_fast_twin
    assert not torch.allclose(plain(batch()).total, doubled(batch()).total)


@pytest.mark.parametrize("layers", [1, 2])
def test_additive_energies_are_not_saved_for_every_step(layers):
    model = make(attention_size=7, decoder_layers=layers)
    data = batch((9, 9), (30, 30))

    def kept() -> int:
        """Return the number of (B, S, A) tensors that are saved for backward."""
        found: dict[int, torch.Tensor] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.shape in ((2, 10, 7), (2, 1, 10, 7)):
                found[tensor.data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(data)
        return len(found)

    assert kept() <= 1  # the keys
    with plain_layers():
        assert kept() >= 31


@pytest.mark.gpu
@pytest.mark.parametrize(("cell", "attention", "coverage"), EVERY_TWIN)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"copy": "pointer"},
        {"copy": "copynet", "bidirectional": False, "encoder_layers": 2},
        {"decoder_layers": 3, "residual": True},
    ],
    ids=["plain", "pointer", "copynet", "three layers"],
)
def test_a_gpu_gives_the_loss_and_gradients_of_a_cpu_in_float64(cell, attention, coverage, options, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    assert torch.get_float32_matmul_precision() == "highest", "no earlier test of a training left TF32 on"
    model = make(cell=cell, attention=attention, coverage=coverage, **options)
    with plain_layers():
        expected, others = outcome(model.double(), batch())
    loss, gradients = outcome(model.float().cuda(), batch().to(torch.device("cuda")))
    torch.testing.assert_close(loss.cpu().double(), expected, rtol=1e-5, atol=0)
    assert gradients.keys() == others.keys()
    for name in others:
        scale = max(1.0, float(others[name].abs().max()))
        torch.testing.assert_close(gradients[name].cpu().double(), others[name], rtol=1e-4, atol=scale * 1e-4, msg=name)
