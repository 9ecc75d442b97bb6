"""The loss: smoothing, coverage and their weights by hand, and sums instead of means."""

from __future__ import annotations

import math

import pytest
import torch

from seq2seq.layers.distribution import Copying, Distribution
from seq2seq.loss import Loss, coverage_loss, smoothed_nll, total_loss

BANNED = torch.tensor([0, 2])
NOTHING = torch.zeros(0)
SMOOTHING = pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])


def make(rows: int = 4, vocab: int = 7, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(rows, vocab, generator=random, dtype=dtype)
    logits[:, BANNED] = -1e9
    return logits, torch.tensor([1, 3, 6, 4, 5, 1, 3])[:rows]


def smoothed(logits: torch.Tensor, target: torch.Tensor, smoothing: float, copying: Copying | None = None) -> Loss:
    found = Distribution(logits, BANNED, copying).target(target)
    return total_loss(*smoothed_nll(found, smoothing), NOTHING, coverage_weight=0.0, tokens=len(target))


def by_autograd(logits: torch.Tensor, target: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Compute label smoothing by its formula."""
    log_probs = torch.log_softmax(logits, dim=1)
    nll = -log_probs[torch.arange(len(target)), target]
    allowed = [v for v in range(logits.shape[1]) if v not in BANNED.tolist()]
    return ((1 - smoothing) * nll + smoothing * -log_probs[:, allowed].mean(dim=1)).sum()


# Label smoothing


def test_the_smoothed_loss_by_hand():
    # the probabilities of the three allowed words are 1/8, 2/8 and 5/8; those of pad and bos are 0
    logits = torch.tensor([[-1e9, math.log(1), -1e9, math.log(2), math.log(5)]])
    loss = smoothed(logits, torch.tensor([3]), 0.3)
    nll = math.log(8 / 2)
    uniform = (math.log(8 / 1) + math.log(8 / 2) + math.log(8 / 5)) / 3
    assert loss.nll.item() == pytest.approx(nll, rel=1e-5)
    assert loss.total.item() == pytest.approx(0.7 * nll + 0.3 * uniform, rel=1e-5)
    assert loss.tokens == 1
    assert loss.coverage.item() == 0


def test_with_copying_the_nll_is_that_of_the_mixture_and_smoothing_that_of_the_vocabulary():
    # P_vocab as above; p_gen = 3/4; the source is "3 7" (7 is OOV) with the weights 2/5 and 3/5
    logits = torch.tensor([[-1e9, math.log(1), -1e9, math.log(2), math.log(5)]] * 2)
    energies = torch.tensor([[0.4, 0.6]] * 2).log()
    copying = Copying(torch.tensor([math.log(3)] * 2), energies, torch.tensor([[3, 7]] * 2))
    loss = smoothed(logits, torch.tensor([3, 7]), 0.3, copying)
    nll = -math.log(3 / 4 * 2 / 8 + 1 / 4 * 2 / 5) - math.log(1 / 4 * 3 / 5)
    uniform = 2 * (math.log(8 / 1) + math.log(8 / 2) + math.log(8 / 5)) / 3
    assert loss.nll.item() == pytest.approx(nll, rel=1e-5)
    assert loss.total.item() == pytest.approx(0.7 * nll + 0.3 * uniform, rel=1e-5)
    assert loss.tokens == 2


@SMOOTHING
def test_values_and_gradient_are_those_of_the_formula(smoothing):
    logits, target = make()
    mine, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = smoothed(mine, target, smoothing)
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
        return smoothed(filled, target, smoothing).total

    assert torch.autograd.gradcheck(total, (free,))


@SMOOTHING
def test_sums_not_means(smoothing):
    logits, target = make(7)
    whole = smoothed(logits, target, smoothing)
    parts = [smoothed(logits[rows], target[rows], smoothing) for rows in ([0, 1, 2], [3, 4, 5, 6])]
    torch.testing.assert_close(whole.total, parts[0].total + parts[1].total)
    torch.testing.assert_close(whole.nll, parts[0].nll + parts[1].nll)
    assert (whole.tokens, parts[0].tokens, parts[1].tokens) == (7, 3, 4)


def test_the_loss_does_not_change_the_logits():
    logits, target = make()
    before = logits.clone()
    smoothed(logits, target, 0.1)
    assert torch.equal(logits, before)


@SMOOTHING
def test_the_loss_is_finite_for_extreme_logits(smoothing):
    logits = torch.tensor([[-1e9, 2e4, -1e9, -2e4, 0.0]] * 2, requires_grad=True)
    loss = smoothed(logits, torch.tensor([3, 1]), smoothing)
    loss.total.backward()
    assert loss.nll.item() == pytest.approx(4e4)
    assert loss.total.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_summed_in_fp32(dtype):
    logits, target = make(7)
    logits = logits.clamp_min(-1e4).to(dtype).requires_grad_()
    loss = smoothed(logits, target, 0.1)
    assert loss.total.dtype == torch.float32
    torch.testing.assert_close(loss.nll.double(), by_autograd(logits.detach().double(), target, 0.0), rtol=1e-5, atol=0)
    loss.total.backward()
    assert logits.grad.dtype == dtype
    assert logits.grad.abs().sum() > 0


# Coverage

WEIGHTS = [[[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.4, 0.2, 0.4]]]


def test_coverage_by_hand():
    # c^1 = 0; c^2 = a^1; c^3 = a^1 + a^2 = (0.6, 1.1, 0.3)
    found = coverage_loss(torch.tensor(WEIGHTS), torch.ones(1, 3))
    assert found.tolist()[0] == pytest.approx([0, 0.1 + 0.3 + 0.1, 0.4 + 0.2 + 0.3])


def test_coverage_is_divided_by_the_fertility():
    # c^2 = (0.5/2, 0.3/0.5, 0.2), c^3 = (0.3, 1.1/0.5, 0.3)
    found = coverage_loss(torch.tensor(WEIGHTS), torch.tensor([[2.0, 0.5, 1.0]]))
    assert found.tolist()[0] == pytest.approx([0, 0.1 + 0.6 + 0.1, 0.3 + 0.2 + 0.3])


def test_the_coverage_of_a_step_excludes_its_weights():
    weights = torch.eye(4).unsqueeze(0)  # each step attends to another position
    assert not coverage_loss(weights, torch.ones(1, 4)).any()
    again = coverage_loss(weights[:, [0, 1, 1, 0]], torch.ones(1, 4))
    assert again.tolist() == [[0, 0, 1, 1]]


def test_padded_positions_and_steps_add_no_coverage_loss():
    weights = torch.tensor(WEIGHTS)
    padded = torch.nn.functional.pad(weights, (0, 2, 0, 1))  # two positions, one step
    padded[:, 3, :3] = 1 / 3  # weights at a padded target position
    found = coverage_loss(padded, torch.tensor([[1.0, 1.0, 1.0, 0.1, 9.0]]))
    torch.testing.assert_close(found[:, :3], coverage_loss(weights, torch.ones(1, 3)))


def test_the_coverage_loss_grows_linearly_with_lambda():
    logits, target = make()
    parts = smoothed_nll(Distribution(logits, BANNED).target(target), 0.1)
    coverage = torch.tensor([0.0, 0.5, 0.25, 2.0], dtype=torch.float64)
    losses = [total_loss(*parts, coverage, coverage_weight=weight, tokens=4) for weight in (0.0, 0.1, 1.0, 10.0)]
    for loss, weight in zip(losses, (0.0, 0.1, 1.0, 10.0), strict=True):
        assert loss.total.item() == pytest.approx(losses[0].total.item() + 2.75 * weight)
        assert loss.coverage.item() == 2.75  # without its weight
        assert torch.equal(loss.nll, losses[0].nll)  # without coverage


def test_the_gradient_of_the_coverage_loss_in_float64():
    random = torch.Generator().manual_seed(2)
    energies = torch.randn(2, 4, 3, generator=random, dtype=torch.float64, requires_grad=True)
    fertility = (0.5 + torch.rand(2, 3, generator=random, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda e, f: coverage_loss(e.softmax(dim=2), f), (energies, fertility))


def test_reported_values_have_no_gradient():
    logits, target = make()
    logits.requires_grad_()
    coverage = torch.ones(4, dtype=torch.float64, requires_grad=True)
    parts = smoothed_nll(Distribution(logits, BANNED).target(target), 0.1)
    loss = total_loss(*parts, coverage, coverage_weight=0.5, tokens=4)
    assert not loss.nll.requires_grad
    assert not loss.coverage.requires_grad
    loss.total.backward()
    assert coverage.grad.tolist() == [0.5] * 4
