"""The fast step of the decoder in search equals the plain one: outputs and states."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional

from seq2seq.config import ModelConfig
from seq2seq.data.batching import collate
from seq2seq.layers.attention import Memory
from seq2seq.layers.cells import StackedCell
from seq2seq.layers.decoder import Decoder, RecurrentState
from seq2seq.layers.fast import plain_layers
from seq2seq.layers.fast.cells import FAST_CELLS
from seq2seq.layers.fast.step import MANY_ROWS
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
            embeddings = model.tgt_embedding.weight
            tokens, before = torch.tensor([5, 7, 5, 19]), [tensor.clone() for tensor in decoding.state]
            output, state = model.decoder.search_step(embeddings)(tokens, decoding.state, decoding.memory)
            with plain_layers():
                expected, plain_state = model.decoder.step(embeddings[tokens], decoding.state, decoding.memory)
        torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
        for found, plain, old, kept in zip(state, plain_state, decoding.state, before, strict=True):
            torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-12)
            assert torch.equal(old, kept), "the previous state does not change"


@pytest.mark.parametrize("cell", FAST_CELLS)
@torch.no_grad()
def test_equal_tokens_of_many_rows_are_projected_once(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, decoding = make(cell=cell)
    decoding = decoding.reorder(torch.arange(4).repeat_interleave(MANY_ROWS // 4))
    tokens = torch.randint(4, SIZE, (MANY_ROWS,))
    advance = model.decoder.search_step(model.tgt_embedding.weight)
    rows: list[int] = []
    project = functional.embedding
    monkeypatch.setattr(functional, "embedding", lambda ids, table: rows.append(len(ids)) or project(ids, table))
    output, _ = advance(tokens, decoding.state, decoding.memory)
    assert rows == [len(set(tokens.tolist()))]
    expected = [advance(tokens[[row]], *_row(decoding, row))[0] for row in range(MANY_ROWS)]
    assert len(rows) == 1 + MANY_ROWS
    torch.testing.assert_close(output, torch.cat(expected), rtol=1e-12, atol=1e-12)


def _row(decoding: Decoding, row: int) -> tuple[RecurrentState, Memory]:
    """Return the state of a row and the memory of its sentence."""
    rows = torch.tensor([row])
    return decoding.state.select(rows), decoding.memory.select(rows // (len(decoding.state.context) // 2))


def test_a_step_is_plain_with_gradients_in_training_with_layer_norm_and_without_fast_layers() -> None:
    model, decoding = make()
    decoder, embeddings, tokens = model.decoder, model.tgt_embedding.weight, torch.tensor([5, 7, 5, 19])

    def is_fast(decoder: Decoder[RecurrentState]) -> bool:
        """Whether the steps of a search that begins now use the fast cells."""
        advance = decoder.search_step(embeddings)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(StackedCell, "forward", lambda *_: pytest.fail("plain"))
            try:
                advance(tokens, decoding.state, decoding.memory)
            except pytest.fail.Exception:
                return False
        return True

    assert not is_fast(decoder)
    with torch.no_grad():
        advance = decoder.search_step(embeddings)
        assert is_fast(decoder)
        with plain_layers():
            assert not is_fast(decoder)
        assert not is_fast(decoder.train())
        decoder.eval()
        assert not is_fast(make(layer_norm=True)[0].decoder)
    output, _ = advance(tokens, decoding.state, decoding.memory)
    assert output.requires_grad, "a step with gradients is plain in a search that began without them"
