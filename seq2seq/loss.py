"""The loss of a batch: sums over its target tokens, and their number. The trainer divides the sums by the number."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from seq2seq.layers.distribution import TargetProb


class Loss(NamedTuple):
    """Sums over the target tokens of a batch, in nats."""

    total: Tensor  # the value that training minimises
    nll: Tensor  # negative log-likelihood without smoothing and coverage
    coverage: Tensor  # coverage loss without its weight; 0 without coverage
    tokens: int  # number of target tokens


def smoothed_nll(target: TargetProb, smoothing: float) -> tuple[Tensor, Tensor]:
    """Compute the sums of (1-e) NLL + e mean_v(-log P_vocab(v)) and of the NLL.

    Label smoothing (Szegedy et al. 2016, section 7) is uniform over the ids that are not banned. With copying, the NLL is
    that of the mixture; the smoothing term is that of P_vocab only.

    Args:
        smoothing: e.
    """
    nll = -target.log_prob.sum()
    return ((1 - smoothing) * nll - smoothing * target.mean_log_prob.sum() if smoothing else nll), nll


def coverage_loss(weights: Tensor, fertility: Tensor) -> Tensor:
    """Compute the coverage loss of each step: sum_i min(a_i^t, c_i^t) (See et al. 2017, eq. 12).

    Args:
        weights: (B, T, S), 0 at padding.
        fertility: (B, S), the divisor of coverage.

    Returns:
        The coverage losses (B, T).
    """
    before = F.pad(weights[:, :-1].cumsum(dim=1), (0, 0, 1, 0))  # c^t excludes a^t
    return weights.minimum(before / fertility.unsqueeze(1)).sum(dim=2)


def total_loss(smoothed: Tensor, nll: Tensor, coverage: Tensor, *, coverage_weight: float, tokens: int) -> Loss:
    """Compute the total loss: smoothed NLL + lambda covloss (See et al. 2017, eq. 13).

    Args:
        coverage: ``coverage_loss`` of each real target token (R,), or empty.
        coverage_weight: lambda.
    """
    covered = coverage.sum()
    total = smoothed + coverage_weight * covered if coverage_weight else smoothed
    return Loss(total, nll.detach(), covered.detach(), tokens)
