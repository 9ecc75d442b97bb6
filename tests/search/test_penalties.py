"""Penalties of a hypothesis: their formulas by hand, padding, and limits."""

from __future__ import annotations

import math

import pytest
import torch

from seq2seq.search.penalties import Penalties

MASK = torch.tensor([[True, True, True, False], [True, False, False, False]])
ATTENDED = torch.tensor([[0.5, 1.0, 2.5, 9.0], [0.25, 0.0, 0.0, 3.0]])


def test_the_coverage_penalty_is_wus_equation_14():
    """- beta sum_i log min(sum_t a_i^t, 1)."""
    found = Penalties(coverage=0.2)(ATTENDED, MASK)
    assert found.tolist() == pytest.approx([0.2 * math.log(2), 0.2 * math.log(4)])


def test_the_summary_penalty_is_that_of_gehrmann():
    """beta sum_i (max(sum_t a_i^t, 1) - 1)."""
    found = Penalties(summary=0.5)(ATTENDED, MASK)
    assert found.tolist() == pytest.approx([0.5 * 1.5, 0.0])


def test_both_penalties_are_added():
    found = Penalties(0.2, 0.5)(ATTENDED, MASK)
    torch.testing.assert_close(found, Penalties(0.2)(ATTENDED, MASK) + Penalties(summary=0.5)(ATTENDED, MASK))


def test_padding_adds_nothing():
    penalties = Penalties(0.2, 0.5)
    expected = penalties(ATTENDED, MASK)
    for value in (0.0, 1e-30, 1.0, 50.0):
        assert torch.equal(penalties(torch.where(MASK, ATTENDED, value), MASK), expected)
    wide = penalties(torch.nn.functional.pad(ATTENDED, (0, 5)), torch.nn.functional.pad(MASK, (0, 5)))
    torch.testing.assert_close(wide, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("looked", [0.0, 1e-45])
def test_the_coverage_penalty_of_an_unattended_position_is_large_and_finite(looked, dtype):
    attended = torch.full((1, 3), looked, dtype=dtype)
    found = Penalties(0.2)(attended, torch.ones(1, 3, dtype=torch.bool))
    assert found.isfinite().all()
    assert found > 0.2 * 3 * 80


def test_the_coverage_penalty_falls_with_coverage_and_is_zero_from_one():
    mask = torch.ones(5, 1, dtype=torch.bool)
    little = Penalties(1.0)(torch.tensor([[0.1], [0.5], [0.9], [1.0], [7.0]]), mask).tolist()
    assert little == sorted(little, reverse=True)
    assert little[3:] == [0, 0]
    much = Penalties(summary=1.0)(torch.tensor([[0.0], [0.5], [1.0], [1.5], [7.0]]), mask).tolist()
    assert much == [0, 0, 0, 0.5, 6]


def test_the_default_penalties_are_zero():
    assert not Penalties()
    assert Penalties(coverage=0.1)
    assert Penalties(summary=0.1)
    assert not Penalties()(ATTENDED, MASK).any()
