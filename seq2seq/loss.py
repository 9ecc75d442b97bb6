"""The loss of a batch, as sums and a token count; whoever updates divides."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from seq2seq.layers.distribution import TargetProb


class Loss(NamedTuple):
    """Sums over the target tokens of a batch, in nats."""

    total: Tensor  # what is minimised
    nll: Tensor  # unsmoothed, without coverage
    coverage: Tensor  # unweighted; 0 without coverage
    tokens: int


def total_loss(target: TargetProb, coverage: Tensor, *, smoothing: float, coverage_weight: float) -> Loss:
    """(1-e) NLL + e mean_v(-log P_vocab(v)) + lambda covloss.

    Smoothing: Szegedy et al. 2016, section 7, uniform over the words that can be produced; with copying the NLL is that
    of the mixture and the smoothing stays on P_vocab. Coverage: See et al. 2017, eq. 13.

    Args:
        coverage: (R,) ``coverage_loss`` of every target token, or empty.
        smoothing: e.
        coverage_weight: lambda.
    """
    nll, covered = -target.log_prob.sum(), coverage.sum()
    total = nll
    if smoothing:
        total = (1 - smoothing) * nll - smoothing * target.uniform.sum()
    if coverage_weight:
        total = total + coverage_weight * covered
    return Loss(total, nll.detach(), covered.detach(), target.log_prob.numel())


def coverage_loss(weights: Tensor, fertility: Tensor) -> Tensor:
    """What each step looks at again: sum_i min(a_i^t, c_i^t) (See et al. 2017, eq. 12).

    Args:
        weights: (B, T, S), 0 at padding.
        fertility: (B, S), what coverage is divided by.

    Returns:
        (B, T)
    """
    before = F.pad(weights[:, :-1].cumsum(dim=1), (0, 0, 1, 0))  # c^t does not hold a^t
    return weights.minimum(before / fertility.unsqueeze(1)).sum(dim=2)
