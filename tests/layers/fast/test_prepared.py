"""Prepared tensors are computed again when a parameter changes, and only then."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from seq2seq.config import ModelConfig
from seq2seq.data.batching import collate
from seq2seq.layers.fast.next_token import FEW_ROWS
from seq2seq.layers.fast.prepared import Prepared
from seq2seq.model import Seq2Seq
from seq2seq.text.tokenizer import BOS, EOS, PAD


def test_a_value_is_computed_again_after_a_change_only() -> None:
    layer, kept, calls = nn.Linear(2, 3), Prepared(), []

    def doubled() -> torch.Tensor:
        def make() -> torch.Tensor:
            calls.append(1)
            return 2 * layer.weight

        return kept.get("doubled", layer.parameters(), make)

    assert doubled() is doubled()
    assert not doubled().requires_grad
    assert len(calls) == 1
    with torch.no_grad():
        layer.bias.add_(1)
    doubled()
    assert len(calls) == 2
    layer.double()
    assert doubled().dtype == torch.float64
    layer.weight = nn.Parameter(torch.ones(3, 2))
    assert torch.equal(doubled(), torch.full((3, 2), 2.0))
    optimizer = torch.optim.Adam(layer.parameters())
    layer.weight.grad = torch.ones(3, 2)
    optimizer.step()
    assert torch.equal(doubled(), 2 * layer.weight)
    layer.weight.data.zero_()  # leaves no trace
    kept.eval()
    assert not torch.equal(doubled(), layer.weight)
    kept.train()
    assert torch.equal(doubled(), layer.weight)


def test_another_parameter_at_the_same_address_is_another_one() -> None:
    kept, layer = Prepared(), nn.Linear(2, 3)
    addresses = set()
    for number in range(20):
        del layer.weight
        layer.weight = nn.Parameter(torch.full((3, 2), float(number)))
        addresses.add(id(layer.weight))
        assert torch.equal(kept.get("sum", [layer.weight], layer.weight.sum), torch.tensor(6.0 * number))
    assert len(addresses) < 20, "no address was used twice"


def test_copies_hold_no_value() -> None:
    kept = Prepared()
    kept.get("one", (), lambda: 1)
    for copied in (copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))):
        assert copied.get("one", (), lambda: 2) == 2
    assert kept.get("one", (), lambda: 2) == 1
    assert copy.deepcopy(kept).training
    assert not copy.deepcopy(kept.eval()).training


def test_tensors_of_inference_mode_are_taken() -> None:
    with torch.inference_mode():
        weight = torch.ones(2)
    assert Prepared().get("weight", (weight,), lambda: 1) == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("sentences", [1, FEW_ROWS])
@torch.no_grad()
def test_a_search_follows_every_change_of_the_weights(precision: str, sentences: int) -> None:
    torch.manual_seed(1)
    config = ModelConfig(hidden_size=8, embedding_size=8)
    model = Seq2Seq(config, src_size=20, tgt_size=20, shared=True).eval()
    batch = collate([[5, 6]] * sentences, [[]] * sentences, pad_id=PAD, bos_id=BOS, eos_id=EOS)

    def best(model: Seq2Seq) -> torch.Tensor:
        next_token, _ = model.step(torch.full((sentences,), BOS), model.encode(batch, precision=precision))
        return next_token.best(1)[0]

    for parameter in (model.readout.logits.bias, model.readout.logits.weight, model.tgt_embedding.weight):
        best(model)
        parameter.mul_(2)
        fresh = Seq2Seq(config, src_size=20, tgt_size=20, shared=True).eval()
        fresh.load_state_dict(model.state_dict())
        assert torch.equal(best(model), best(fresh))
    for parameter in (*model.decoder.stack.parameters(), model.decoder.context_gates.weight):
        before = best(model)
        parameter.add_(1)
        fresh.load_state_dict(model.state_dict())
        assert torch.equal(best(model), best(fresh))
        assert parameter is model.decoder.context_gates.weight or not torch.equal(best(model), before)
