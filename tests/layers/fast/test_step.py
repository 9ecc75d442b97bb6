"""The fast step of the decoder in search equals the plain one: outputs and states."""

from __future__ import annotations

import itertools

import pytest
import torch

from seq2seq.config import ModelConfig
from seq2seq.data.batching import collate
from seq2seq.layers.fast import plain_layers
from seq2seq.layers.fast.cells import FAST_CELLS
from seq2seq.model import Decoding, Seq2Seq
from seq2seq.text.tokenizer import BOS, EOS, PAD

SIZE = 20


def make(**options) -> tuple[Seq2Seq, Decoding]:
    """Return a model in double precision and the state of a search after the first step, with two hypotheses each."""
    torch.manual_seed(1)
    config = ModelConfig(**({"hidden_size": 12, "embedding_size": 10, "coverage": "sum"} | options))
    model = Seq2Seq(config, src_size=SIZE, tgt_size=SIZE, shared=True).double().eval()
    batch = collate([[5, 6, 7], [8]], [[], []], pad_id=PAD, bos_id=BOS, eos_id=EOS)
    _, decoding = model.step(torch.tensor([BOS, BOS]), model.encode(batch))
    return model, decoding.reorder(torch.tensor([0, 0, 1, 1]))


@pytest.mark.parametrize(("layers", "residual"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("cell", FAST_CELLS)
def test_a_fast_step_equals_a_plain_step(cell: str, layers: int, residual: bool) -> None:
    for attention, bridge in itertools.product(("additive", "none"), ("linear", "zero")):
        coverage = "none" if attention == "none" else "fertility"
        options = {"attention": attention, "bridge": bridge, "decoder_layers": layers, "residual": residual}
        with torch.no_grad():
            model, decoding = make(cell=cell, coverage=coverage, **options)
            advance = model.decoder.search_step()
            assert advance != model.decoder.step
            embedded = torch.randn(4, 10, dtype=torch.float64)
            before = [tensor.clone() for tensor in decoding.state]
            output, state = advance(embedded, decoding.state, decoding.memory)
            expected, plain_state = model.decoder.step(embedded, decoding.state, decoding.memory)
        torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
        for found, plain, old, kept in zip(state, plain_state, decoding.state, before, strict=True):
            torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-12)
            assert torch.equal(old, kept), "the previous state does not change"


def test_a_step_is_plain_with_gradients_in_training_with_layer_norm_and_without_fast_layers() -> None:
    model, _ = make()
    decoder = model.decoder
    assert decoder.search_step() == decoder.step
    with torch.no_grad():
        advance = decoder.search_step()
        assert advance != decoder.step
        with plain_layers():
            assert decoder.search_step() == decoder.step
        assert decoder.train().search_step() == decoder.step
        _, decoding = make()
        normed = make(layer_norm=True)[0].decoder
        assert normed.search_step() == normed.step
    output, _ = advance(torch.randn(4, 10, dtype=torch.float64), decoding.state, decoding.memory)
    assert output.requires_grad, "a step with gradients is plain in a search that began without them"
