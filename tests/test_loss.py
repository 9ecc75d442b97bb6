"""The loss: its formula by hand, its own gradient against autograd, and sums instead of means."""

from __future__ import annotations

import math

import pytest
import torch

from seq2seq.loss import smoothed_nll

BANNED = torch.tensor([0, 2])
SMOOTHING = pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])


def make(rows: int = 4, vocab: int = 7, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(rows, vocab, generator=random, dtype=dtype)
    logits[:, BANNED] = -1e9
    return logits, torch.tensor([1, 3, 6, 4, 5, 1, 3])[:rows]


def by_autograd(logits: torch.Tensor, target: torch.Tensor, smoothing: float) -> torch.Tensor:
    """R12 word by word."""
    log_probs = torch.log_softmax(logits, dim=1)
    nll = -log_probs[torch.arange(len(target)), target]
    allowed = [v for v in range(logits.shape[1]) if v not in BANNED.tolist()]
    return ((1 - smoothing) * nll + smoothing * -log_probs[:, allowed].mean(dim=1)).sum()


def test_by_hand():
    # the probabilities of the three allowed words are 1/8, 2/8 and 5/8; pad and bos have none
    logits = torch.tensor([[-1e9, math.log(1), -1e9, math.log(2), math.log(5)]])
    loss = smoothed_nll(logits, torch.tensor([3]), banned=BANNED, smoothing=0.3)
    nll = math.log(8 / 2)
    uniform = (math.log(8 / 1) + math.log(8 / 2) + math.log(8 / 5)) / 3
    assert loss.nll.item() == pytest.approx(nll, rel=1e-5)
    assert loss.total.item() == pytest.approx(0.7 * nll + 0.3 * uniform, rel=1e-5)
    assert loss.tokens == 1


@SMOOTHING
def test_values_and_gradient_are_those_of_the_formula(smoothing):
    logits, target = make()
    mine, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = smoothed_nll(mine, target, banned=BANNED, smoothing=smoothing)
    expected = by_autograd(theirs, target, smoothing)
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(loss.nll, by_autograd(logits, target, 0.0))
    (2.5 * loss.total).backward()
    (2.5 * expected).backward()
    torch.testing.assert_close(mine.grad[:, [1, 3, 4, 5, 6]], theirs.grad[:, [1, 3, 4, 5, 6]])
    assert torch.equal(mine.grad[:, BANNED], torch.zeros(4, 2, dtype=torch.float64))


@SMOOTHING
def test_gradcheck_in_float64(smoothing):
    logits, target = make()
    free = logits[:, [1, 3, 4, 5, 6]].requires_grad_()

    def total(values: torch.Tensor) -> torch.Tensor:
        filled = logits.detach().index_copy(1, torch.tensor([1, 3, 4, 5, 6]), values)
        return smoothed_nll(filled, target, banned=BANNED, smoothing=smoothing).total

    assert torch.autograd.gradcheck(total, (free,))


@SMOOTHING
def test_sums_not_means(smoothing):
    logits, target = make(7)
    whole = smoothed_nll(logits, target, banned=BANNED, smoothing=smoothing)
    parts = [
        smoothed_nll(logits[rows], target[rows], banned=BANNED, smoothing=smoothing)
        for rows in ([0, 1, 2], [3, 4, 5, 6])
    ]
    torch.testing.assert_close(whole.total, parts[0].total + parts[1].total)
    torch.testing.assert_close(whole.nll, parts[0].nll + parts[1].nll)
    assert (whole.tokens, parts[0].tokens, parts[1].tokens) == (7, 3, 4)


def test_the_logits_are_left_as_they_were():
    logits, target = make()
    before = logits.clone()
    smoothed_nll(logits, target, banned=BANNED, smoothing=0.1)
    assert torch.equal(logits, before)


@SMOOTHING
def test_extreme_logits_stay_finite(smoothing):
    logits = torch.tensor([[-1e9, 2e4, -1e9, -2e4, 0.0]] * 2, requires_grad=True)
    loss = smoothed_nll(logits, torch.tensor([3, 1]), banned=BANNED, smoothing=smoothing)
    loss.total.backward()
    assert loss.nll.item() == pytest.approx(4e4)
    assert loss.total.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_summed_in_fp32(dtype):
    logits, target = make(7)
    logits = logits.clamp_min(-1e4).to(dtype).requires_grad_()
    loss = smoothed_nll(logits, target, banned=BANNED, smoothing=0.1)
    assert loss.total.dtype == torch.float32
    torch.testing.assert_close(loss.nll.double(), by_autograd(logits.detach().double(), target, 0.0), rtol=1e-5, atol=0)
    loss.total.backward()
    assert logits.grad.dtype == dtype
    assert logits.grad.abs().sum() > 0
