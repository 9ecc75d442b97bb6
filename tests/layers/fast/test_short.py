"""The next token over some ids only equals the plain table over these ids, renormalised."""

from __future__ import annotations

import pytest
import torch

from seq2seq.config import ModelConfig
from seq2seq.data.batching import collate
from seq2seq.layers.distribution import NEVER
from seq2seq.layers.fast import plain_layers
from seq2seq.model import Decoding, Seq2Seq
from seq2seq.text.tokenizer import BOS, EOS, PAD

V = 503
SOURCES = [[5, 6, 7, 5], [8]]
COPIED = [[5, V, V + 1, 5], [8]]  # two OOV pieces
BEAM = 3


def make(copy: str, *, sentences: tuple[int, ...] = (0, 1)) -> tuple[Seq2Seq, Decoding, torch.Tensor]:
    """Return a model, the state of a search with three hypotheses per sentence, and the ids that each may choose."""
    torch.manual_seed(1)
    model = Seq2Seq(ModelConfig(hidden_size=8, embedding_size=6, copy=copy), src_size=V, tgt_size=V, shared=True)
    model = model.double().eval()
    for parameter in model.parameters():
        parameter.data += 0.5 * torch.randn_like(parameter)
    allowed = torch.rand(2, V) < 0.3
    for row, ids in zip(allowed, COPIED, strict=True):
        row[[EOS, *(number for number in ids if number < V)]] = True
    allowed = allowed[list(sentences)]
    src, copied = ([lists[number] for number in sentences] for lists in (SOURCES, COPIED))
    batch = collate(
        src, [[] for _ in src], pad_id=PAD, bos_id=BOS, eos_id=EOS, copy_ids=copied if copy != "none" else None
    )
    _, decoding = model.step(torch.full((len(src),), BOS), model.encode(batch, allowed))
    return model, decoding.reorder(torch.arange(len(src)).repeat_interleave(BEAM)), allowed


@pytest.mark.parametrize("copy", ["none", "pointer", "copynet"])
@torch.no_grad()
def test_every_value_is_that_of_the_plain_layers(copy: str) -> None:
    model, decoding, allowed = make(copy)
    tokens = torch.tensor([5, 6, 7, 8, 9, 10])
    fast = model.step(tokens, decoding)[0]
    with plain_layers():
        plain = model.step(tokens, decoding)[0]
    table = plain.log_probs()
    torch.testing.assert_close(fast.log_probs(), table, rtol=1e-9, atol=1e-9)
    assert (table[:, :V].exp()[~allowed.repeat_interleave(BEAM, dim=0)] == 0).all()
    torch.testing.assert_close(table.exp().sum(dim=1), torch.ones(6, dtype=torch.float64))
    every = torch.arange(table.shape[1]).expand(6, -1)
    torch.testing.assert_close(fast.at(every), fast.log_probs(), rtol=1e-9, atol=1e-9)
    for banned in ((), (EOS,), (EOS, 1)):
        found, ids = fast.best(4, banned)
        expected, expected_ids = plain.best(4, banned)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        assert torch.equal(ids, expected_ids)


@pytest.mark.parametrize("copy", ["none", "pointer", "copynet"])
@torch.no_grad()
def test_a_part_is_the_distribution_of_its_rows(copy: str) -> None:
    model, decoding, _ = make(copy)
    whole = model.step(torch.tensor([5, 6, 7, 8, 9, 10]), decoding)[0]
    for rows in (slice(0, 6), slice(2, 5)):
        part = whole.part(rows)
        torch.testing.assert_close(part.log_probs(), whole.log_probs()[rows], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(part.best(4)[0], whole.best(4)[0][rows], rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_without_copying_the_table_is_the_whole_one_renormalised() -> None:
    model, decoding, allowed = make("none")
    tokens = torch.tensor([5, 6, 7, 8, 9, 10])
    short = model.step(tokens, decoding)[0].log_probs()
    weights = model._output_weights(in_bf16=False, has_few_rows=True)
    whole = model.step(tokens, decoding._replace(output=weights))[0].log_probs()
    whole = whole.masked_fill(~allowed.repeat_interleave(BEAM, dim=0), NEVER).log_softmax(dim=1)
    torch.testing.assert_close(short, whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("copy", ["none", "pointer"])
@torch.no_grad()
def test_a_sentence_does_not_depend_on_its_batch(copy: str) -> None:
    model, decoding, _ = make(copy)
    together = model.step(torch.full((6,), 5), decoding)[0].log_probs()
    _, alone, _ = make(copy, sentences=(1,))
    kept = decoding.keep(torch.tensor([1]))
    for single in (alone, kept):
        table = model.step(torch.full((3,), 5), single)[0].log_probs()
        torch.testing.assert_close(table[:, :V], together[3:, :V], rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_ids_that_are_refused_are_never_among_the_best() -> None:
    model, decoding, allowed = make("none")
    log_probs, ids = model.step(torch.full((6,), 5), decoding)[0].best(300)
    possible = log_probs > NEVER
    assert (
        possible.sum(dim=1).tolist()
        == (allowed.sum(dim=1) - allowed[:, [PAD, BOS]].sum(dim=1)).repeat_interleave(3).tolist()
    )
    assert allowed.repeat_interleave(BEAM, dim=0).gather(1, ids)[possible].all()
