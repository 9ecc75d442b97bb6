"""The fused unrolling is the plain one: values, gradients, and the losses of a training."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from seq2seq.config import CELLS, COVERAGES, ModelConfig
from seq2seq.data.batching import Batch, collate
from seq2seq.layers.attention import Additive
from seq2seq.layers.decoder import Decoder
from seq2seq.layers.fast import decoder as fused
from seq2seq.model import Seq2Seq
from seq2seq.text.tokenizer import BOS, EOS, PAD

SIZE = 20
PRODUCT = list(itertools.product(CELLS, ("additive", "dot", "general", "scaled_dot"), COVERAGES))
DROPPING = {"dropout": 0.2, "recurrent_dropout": 0.3, "weight_drop": 0.3}


def make(**options) -> Seq2Seq:
    torch.manual_seed(1)
    config = ModelConfig(**({"hidden_size": 12, "embedding_size": 10, "dropout": 0.0} | options))
    model = Seq2Seq(config, src_size=SIZE, tgt_size=SIZE, shared=True)
    with torch.no_grad():
        scale = 0.1 if config.cell == "rnn_relu" else 0.3  # which has no bound
        for parameter in model.parameters():  # far from its start, where the weights of coverage are 0
            parameter.add_(scale * torch.randn_like(parameter))
    return model


def batch(src_lengths=(5, 9, 2, 7), tgt_lengths=(6, 3, 8, 1)) -> Batch:
    numbers = random.Random(1)
    src, tgt = (
        [[numbers.randrange(4, SIZE) for _ in range(n)] for n in lengths] for lengths in (src_lengths, tgt_lengths)
    )
    return collate(src, tgt, pad_id=PAD, bos_id=BOS, eos_id=EOS, copy_ids=src)


def by_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Decoder, "fuses", False)


def outcome(model: Seq2Seq, data: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss, with the same masks every time, and all gradients."""
    torch.manual_seed(5)
    model.zero_grad()
    covers = model.decoder.attention.coverage != "none"
    loss = model(data, smoothing=0.1, coverage_weight=0.7 if covers else 0.0)
    loss.total.backward()
    return loss.total.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("cell", "attention", "coverage"), PRODUCT)
@pytest.mark.parametrize("options", [{}, {"copy": "pointer", **DROPPING}], ids=["plain", "copying and dropping"])
def test_loss_and_gradients_are_those_of_the_steps(cell, attention, coverage, options, monkeypatch):
    model = make(cell=cell, attention=attention, coverage=coverage, **options).double()
    loss, gradients = outcome(model, batch())
    by_steps(monkeypatch)
    expected, others = outcome(model, batch())
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    assert gradients.keys() == others.keys()
    for name in others:
        torch.testing.assert_close(gradients[name], others[name], rtol=1e-7, atol=1e-8, msg=name)


@pytest.mark.parametrize(
    ("cell", "attention", "coverage"), [("lstm", "additive", "fertility"), ("gru", "scaled_dot", "sum")]
)
def test_gradcheck(cell, attention, coverage):
    model = make(cell=cell, attention=attention, coverage=coverage, hidden_size=4, embedding_size=3).double()
    data = batch((2, 3), (2, 1))
    names = ["decoder.weight_hh", "decoder.context_gates", "attention"]
    chosen = [p for n, p in model.named_parameters() if any(name in n for name in names)]

    def total(*_: torch.Tensor) -> torch.Tensor:
        return model(data, coverage_weight=0.7).total

    assert torch.autograd.gradcheck(total, chosen)


@pytest.mark.parametrize("shape", [((3,), (4,)), ((3, 1), (0, 0)), ((1,), (0,))])
def test_one_row_or_one_step(shape, monkeypatch):
    model = make(coverage="sum").double()
    loss, gradients = outcome(model, batch(*shape))
    by_steps(monkeypatch)
    expected, others = outcome(model, batch(*shape))
    torch.testing.assert_close(loss, expected)
    for name in others:
        torch.testing.assert_close(gradients[name], others[name], rtol=1e-7, atol=1e-8, msg=name)


def test_a_training_has_the_same_losses(monkeypatch):
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
    by_steps(monkeypatch)
    assert losses == pytest.approx(train(), rel=1e-5)
    assert losses[-1] < 0.5 * losses[0]


def test_its_input_is_left_as_it_was():
    model = make().double()
    seen = []
    model.decoder.stack.inputs[0].register_forward_hook(
        lambda module, inputs, gates: seen.append((gates, gates.clone()))
    )
    model(batch((3,), (4,))).total.backward()  # one row: transposing it moves nothing
    assert all(torch.equal(gates, before) for gates, before in seen)


@pytest.mark.parametrize("options", [{"decoder_layers": 2}, {"attention": "none"}])
def test_what_it_cannot_do_goes_by_steps(options, monkeypatch):
    def refuse(*arguments: object) -> None:
        raise AssertionError("fused")

    monkeypatch.setattr(fused.Unroll, "apply", refuse)
    make(**options)(batch()).total.backward()
    with pytest.raises(AssertionError, match="fused"):
        make()(batch())


def test_large_coverage_does_not_spoil_the_gradient(monkeypatch):
    """A place of little fertility is covered thousands of times over: its tanh is flat, and adds nothing."""
    model = make(coverage="fertility")
    with torch.no_grad():
        model.decoder.attention.fertility_energy.weight.mul_(100)
    _, gradients = outcome(model, batch())
    by_steps(monkeypatch)
    _, others = outcome(model, batch())
    for name in others:
        torch.testing.assert_close(gradients[name], others[name], rtol=1e-3, atol=1e-3, msg=name)


def test_an_attention_that_it_does_not_know_goes_by_steps():
    class Doubled(Additive):
        def energies(self, query, keys, coverage):
            return 2 * super().energies(query, keys, coverage)

    model = make()
    assert model.decoder.fuses
    model.decoder.attention.__class__ = Doubled
    assert not model.decoder.fuses


def test_additive_energies_are_not_kept_for_every_step(monkeypatch):
    model = make(attention_size=7)
    data = batch((9, 9), (30, 30))

    def kept() -> int:
        """How many (B, S, A) tensors wait for backward."""
        found: dict[int, torch.Tensor] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.shape == (2, 10, 7):
                found[tensor.data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(data)
        return len(found)

    assert kept() <= 1  # the keys
    by_steps(monkeypatch)
    assert kept() >= 31
