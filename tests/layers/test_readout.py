"""The readout: its formula, dropout, and ids that are never produced."""

from __future__ import annotations

import pytest
import torch

from seq2seq.layers.readout import Readout

B, T, E, H, M = 3, 4, 6, 8, 8


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def readout(**options) -> Readout:
    return Readout(output_size=H, context_size=M, embedding_size=E, vocab_size=9, banned=(0, 2), **options)


def test_readout_equals_its_formula_and_bans_ids():
    made = readout()
    torch.nn.init.normal_(made.logits.bias)
    output, context = torch.randn(B, T, H), torch.randn(B, T, M)
    logits = made(made.features(output, context))
    inner = torch.cat((output, context), dim=2) @ made.hidden.weight.T + made.hidden.bias
    expected = inner @ made.logits.weight.T + made.logits.bias
    free = [v for v in range(9) if v not in (0, 2)]
    torch.testing.assert_close(logits[..., free], expected[..., free])
    probabilities = torch.softmax(logits, dim=-1)
    assert torch.equal(probabilities[..., [0, 2]], torch.zeros(B, T, 2))
    torch.testing.assert_close(torch.log_softmax(logits, -1)[..., free], torch.log_softmax(expected[..., free], -1))


def test_readout_bans_the_largest_logit_and_gives_it_no_gradient():
    made = readout()
    with torch.no_grad():
        made.logits.bias[2] = 1e4
    logits = made(made.features(torch.randn(B, H), torch.randn(B, M)))
    assert not (logits.argmax(dim=-1) == 2).any()
    torch.logsumexp(logits, dim=-1).sum().backward()
    assert not made.logits.weight.grad[[0, 2]].any()
    assert made.logits.weight.grad[1].any()


@pytest.mark.parametrize("locked", [False, True])
def test_readout_dropout_is_active_only_in_training(locked):
    made = readout(dropout=0.5, locked=locked)
    values = torch.randn(B, T, H), torch.randn(B, T, M)
    zeros = made.features(*values) == 0
    assert zeros.any()
    assert (zeros == zeros[:, :1]).all().item() == locked
    assert not (made.eval().features(*values) == 0).any()
