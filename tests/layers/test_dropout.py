"""Dropout: kept elements are scaled, locked masks are the same at all steps, and evaluation has no dropout."""

from __future__ import annotations

import pytest
import torch

from seq2seq.layers.dropout import SequenceDropout, WordDropout, drop_weight, make_mask, make_masks

P = 0.25


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def test_a_locked_mask_keeps_mean_and_dtype():
    mask = make_mask((200, 100), P, torch.zeros(1, dtype=torch.float64))
    assert mask.shape == (200, 100)
    assert mask.dtype == torch.float64
    assert set(mask.unique().tolist()) == {0.0, 1 / (1 - P)}
    assert mask.mean().item() == pytest.approx(1, abs=0.02)
    assert (mask == 0).double().mean().item() == pytest.approx(P, abs=0.02)


def test_neighbouring_entries_of_a_mask_are_independent():
    kept = make_mask((1000, 64), P, torch.zeros(1)) > 0
    for distance in range(1, 5):  # four neighbours share a random number
        both = (kept[:, distance:] & kept[:, :-distance]).double().mean().item()
        assert both == pytest.approx((1 - P) ** 2, abs=0.01)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 7)])
def test_masks_of_any_shape_with_nearly_everything_dropped(shape):
    mask = make_mask(shape, 1 - 1e-9, torch.zeros(1))
    assert mask.shape == shape
    assert mask.isfinite().all()


def test_locked_dropout_draws_one_mask_per_sentence():
    dropped = SequenceDropout(P, locked=True)(torch.ones(3, 7, 50))
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert not torch.equal(dropped[0], dropped[1])
    assert not torch.equal(dropped[1], dropped[2])


def test_ordinary_dropout_draws_a_new_mask_at_every_step():
    dropped = SequenceDropout(P)(torch.ones(3, 7, 50))
    assert dropped.unique().tolist() == pytest.approx([0, 1 / (1 - P)])
    assert not torch.equal(dropped[:, 0], dropped[:, 1])


@pytest.mark.parametrize("locked", [False, True])
def test_every_call_draws_a_new_mask(locked):
    dropout = SequenceDropout(P, locked=locked)
    ones = torch.ones(2, 4, 50)
    assert not torch.equal(dropout(ones), dropout(ones))


@pytest.mark.parametrize("locked", [False, True])
def test_nothing_is_dropped_in_evaluation_or_with_probability_zero(locked):
    sequence = torch.randn(2, 4, 50)
    assert SequenceDropout(P, locked=locked).eval()(sequence) is sequence
    assert SequenceDropout(0.0, locked=locked)(sequence) is sequence


@pytest.mark.parametrize("locked", [False, True])
def test_the_gradient_has_the_same_mask_as_the_value(locked):
    sequence = torch.ones(2, 4, 50, requires_grad=True)
    dropped = SequenceDropout(P, locked=locked)(sequence)
    dropped.sum().backward()
    assert torch.equal(sequence.grad, dropped.detach())


def test_word_dropout_drops_whole_words_and_scales_the_others():
    sequence = torch.randn(40, 50, 6, requires_grad=True)
    dropped = WordDropout(P)(sequence)
    kept = (dropped != 0).any(dim=2)
    assert (~kept).double().mean().item() == pytest.approx(P, abs=0.03)
    torch.testing.assert_close(dropped[kept], sequence[kept] / (1 - P))
    assert (dropped[~kept] == 0).all()
    assert not torch.equal(kept[:, 0], kept[:, 1])  # a new mask at each position
    dropped.sum().backward()
    assert torch.equal((sequence.grad != 0).any(dim=2), kept)


def test_word_dropout_changes_nothing_in_evaluation_or_with_probability_zero():
    sequence = torch.randn(2, 4, 50)
    assert WordDropout(P).eval()(sequence) is sequence
    assert WordDropout(0.0)(sequence) is sequence


def test_weight_drop_zeroes_single_weights_and_scales_the_others():
    weight = torch.randn(40, 40, requires_grad=True)
    dropped = drop_weight(weight, P, True)
    kept = dropped != 0
    assert 0 < kept.sum() < weight.numel()
    assert kept.any(dim=0).all()  # single weights, not whole columns
    assert kept.any(dim=1).all()
    torch.testing.assert_close(dropped[kept], weight[kept] / (1 - P))
    dropped.sum().backward()
    assert torch.equal(weight.grad != 0, kept)


@pytest.mark.parametrize("shape", [(2, 4), (3, 5)], ids=["four entries per random number", "a rest"])
def test_masks_that_are_drawn_at_once_are_those_of_single_calls(shape):
    like = torch.zeros(1)
    torch.manual_seed(1)
    single = torch.stack([make_mask(shape, P, like) for _ in range(6)])
    torch.manual_seed(1)
    assert torch.equal(make_masks(6, shape, P, like), single)
    assert make_masks(0, shape, P, like).shape == (0, *shape)


def test_weight_drop_changes_nothing_in_evaluation():
    weight = torch.randn(5, 5)
    assert torch.equal(drop_weight(weight, P, False), weight)


def test_repr_shows_probability_and_kind():
    assert "p=0.25, locked=True" in repr(SequenceDropout(P, locked=True))
    assert "p=0.25" in repr(WordDropout(P))
