"""Attention pooling equals its formula, and ignores padding."""

from __future__ import annotations

import math

import pytest
import torch

from seq2seq.layers.pooling import AttentionPool

B, S, M = 3, 5, 4
LENGTHS = (5, 2, 1)
MASK = torch.arange(S) < torch.tensor(LENGTHS).unsqueeze(1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def naive(pool: AttentionPool, values: torch.Tensor) -> torch.Tensor:
    """Pool the values (n, M) of one sequence in loops."""
    scores = [math.e ** (pool.query * torch.tanh(pool.key.weight @ h + pool.key.bias)).sum() for h in values]
    return sum(score / sum(scores) * h for score, h in zip(scores, values, strict=True))


@pytest.mark.parametrize("attention_size", [None, 7])
def test_values_and_gradients_equal_the_formula(attention_size):
    pool = AttentionPool(M, attention_size).double()
    assert pool.query.shape == (attention_size or M,)
    values = torch.randn(B, S, M, dtype=torch.float64, requires_grad=True)
    found = pool(values, MASK)
    expected = torch.stack([naive(pool, values[b, : LENGTHS[b]]) for b in range(B)])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    factor = torch.randn(B, M, dtype=torch.float64)
    wanted = [values, *pool.parameters()]
    mine = torch.autograd.grad((found * factor).sum(), wanted)
    theirs = torch.autograd.grad((expected * factor).sum(), wanted)
    for one, other in zip(mine, theirs, strict=True):
        assert other.abs().sum() > 0
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_padding_changes_nothing_and_has_no_weight():
    pool, values = AttentionPool(M), torch.randn(B, S, M)
    found = pool(values, MASK)
    other = torch.where(MASK.unsqueeze(2), values, torch.full_like(values, 1e3))
    assert torch.equal(pool(other, MASK), found)
    torch.testing.assert_close(pool(values[1:2, :2], MASK[1:2, :2]), found[1:2])
    weights = pool.weights(values, MASK)
    assert torch.equal(weights == 0, ~MASK)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(B))


def test_a_row_without_a_real_position_gives_zeros_and_finite_gradients():
    pool, values, mask = AttentionPool(M), torch.randn(B, S, M, requires_grad=True), MASK.clone()
    mask[1] = False
    found = pool(values, mask)
    assert not found[1].any()
    found.square().sum().backward()
    assert values.grad.isfinite().all()
    assert not values.grad[1].any()
    assert all(parameter.grad.isfinite().all() for parameter in pool.parameters())


def test_weights_of_bfloat16_values_are_fp32():
    pool, values = AttentionPool(M).bfloat16(), torch.randn(B, S, M).bfloat16()
    assert pool.weights(values, MASK).dtype == torch.float32
    assert pool(values, MASK).dtype == torch.bfloat16


def test_the_query_learns_to_select_the_word_that_counts():
    """The class is that of the one word 0 or 1 among other words."""
    embedding, pool, output = torch.nn.Embedding(20, 8), AttentionPool(8), torch.nn.Linear(8, 2)
    optimizer = torch.optim.Adam(torch.nn.ModuleList([embedding, pool, output]).parameters(), lr=0.05)
    for _ in range(150):
        words, places, classes = torch.randint(2, 20, (32, 9)), torch.randint(9, (32,)), torch.randint(2, (32,))
        words[torch.arange(32), places] = classes
        values, mask = embedding(words), torch.ones(32, 9, dtype=torch.bool)
        loss = torch.nn.functional.cross_entropy(output(pool(values, mask)), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (pool.weights(values, mask).argmax(dim=1) == places).double().mean() > 0.9
