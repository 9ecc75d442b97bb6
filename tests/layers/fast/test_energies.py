"""The fast additive energies equal the plain ones, also those computed in several slices."""

from __future__ import annotations

import itertools

import pytest
import torch

from seq2seq.layers.attention import Additive
from seq2seq.layers.fast import energies, plain_layers


@pytest.mark.parametrize("coverage", ["none", "sum", "fertility"])
@pytest.mark.parametrize("sentences_at_a_time", [1, 2, 5, 9])
@torch.no_grad()
def test_fast_energies_equal_plain_ones(
    coverage: str, sentences_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    B, Q, S, H, M, A = 5, 3, 4, 6, 7, 8
    monkeypatch.setattr(energies, "BUFFER", sentences_at_a_time * Q * S * A)
    for dtype, scale in itertools.product((torch.float32, torch.float64), (0.1, 1.0, 30.0)):
        attention = Additive(H, M, A, coverage).to(dtype)
        if coverage != "none":
            attention.coverage_weight.normal_()
        query, values = scale * torch.randn(B, Q, H, dtype=dtype), torch.randn(B, S, M, dtype=dtype)
        arguments = (query, attention.keys(values), torch.rand(B, Q, S if coverage != "none" else 0, dtype=dtype))
        found = attention.energies(*arguments)
        with plain_layers():
            expected = attention.energies(*arguments)
        tolerance = 1e-5 if dtype == torch.float32 else 1e-12
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@torch.no_grad()
def test_fast_energies_take_no_sentences_and_one_sentence_larger_than_the_buffer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(energies, "BUFFER", 1)
    attention = Additive(4, 4, 4)
    for sentences in (0, 1):
        values = torch.randn(sentences, 3, 4)
        assert attention.energies(values, attention.keys(values), values[:, :, :0]).shape == (sentences, 3, 3)


def test_energies_with_gradients_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seq2seq.layers.attention.additive_energies", None)
    attention, values = Additive(4, 4, 4), torch.randn(2, 3, 4)
    energies_ = attention.energies(values, attention.keys(values), values[:, :, :0])
    energies_.sum().backward()
    assert attention.energy.weight.grad is not None
    with torch.no_grad(), pytest.raises(TypeError, match="not callable"):
        attention.energies(values, attention.keys(values), values[:, :, :0])
