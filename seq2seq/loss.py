"""Negative log-likelihood with label smoothing, as sums and a token count; whoever updates divides."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Loss(NamedTuple):
    """Sums over the target tokens of a batch, in nats."""

    total: Tensor  # what is minimised
    nll: Tensor  # unsmoothed
    tokens: int


class _SmoothedNLL(torch.autograd.Function):
    """Loss and its gradient in one go: the logits are (R, V) large, and autograd would pass over them a dozen times."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, banned: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        allowed = logits.shape[1] - banned.numel()
        largest, place = logits.max(dim=1, keepdim=True)
        prior = logits.new_full((logits.shape[1],), 1 / allowed).index_fill_(0, banned, 0.0)
        gold = target.unsqueeze(1)
        gold_logit = logits.gather(1, gold)
        gradient = torch.softmax(logits, dim=1)
        log_sum = largest - gradient.gather(1, place).log()  # the largest probability never underflows
        nll = (log_sum - gold_logit).sum()
        uniform = (log_sum.squeeze(1) - logits @ prior).sum() if smoothing else nll
        if smoothing:
            gradient -= smoothing * prior
        gradient.scatter_add_(1, gold, gradient.new_full((), smoothing - 1.0).expand(gold.shape))
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(nll)
        return (1 - smoothing) * nll + smoothing * uniform, nll

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0], None, None, None


def smoothed_nll(logits: Tensor, target: Tensor, *, banned: Tensor, smoothing: float) -> Loss:
    """(1-e) NLL + e mean_v(-log P(v)), v over the vocabulary without the ids that are never produced.

    Source: Szegedy et al. 2016, section 7, with a uniform prior over the words that can be produced.

    Args:
        logits: (R, V), finite; those of ``banned`` so low that their probability is 0.
        target: (R,).
        smoothing: e.
    """
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    total, nll = _SmoothedNLL.apply(logits, target, banned, smoothing)
    return Loss(total, nll, target.numel())
