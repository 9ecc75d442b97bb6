"""The output layer and its loss in one: logits live in a room that stays in cache, and are never all there at once.

For every slice of rows the logits are made, turned into the gradient of the loss, and used up in the products that give
the gradients of features and weights. Memory does not grow with rows times vocabulary. The formulas are those of
``Distribution.target`` and ``smoothed_nll``, and a test equates them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seq2seq.layers.distribution import NEVER, Copying, wide

ROWS = 256  # of a slice on a CPU; fewer are slower products, more leave the cache
TINY = 1e-36  # what divides at least
ROOM = 2**25  # logits of a slice where no cache would hold it, on a GPU or to tell of targets: 128 MiB


class CopyTerms(NamedTuple):
    """What copying brings to the loss of R target tokens; energies are as in ``Copying``."""

    gate: Tensor | None  # (R,), p_gen = sigmoid(gate); None: one softmax over vocabulary and positions
    matched: Tensor  # (R,), logsumexp of the energies where the source has the target, minus infinity without any
    total: Tensor  # (R,), logsumexp of all energies


def output_loss(
    layer: nn.Linear, features: Tensor, target: Tensor, copying: Copying | None, *, banned: Tensor, smoothing: float
) -> tuple[Tensor, Tensor]:
    """Loss and NLL of R target tokens, summed; the NLL has no gradient.

    The products are made in the type of ``features``, all else in fp32 at least.

    Args:
        layer: from features (R, E) to logits (R, V).
        target: (R,), ids of the extended vocabulary.
        banned: ids that are never produced.
        smoothing: e of (1-e) NLL + e mean_v(-log P_vocab(v)).
    """
    terms = (None, None, None) if copying is None else _copy_terms(copying, target)
    with torch.autocast(features.device.type, enabled=False):
        loss, nll = OutputLoss.apply(features, layer.weight, layer.bias, target, banned, smoothing, *terms)
    return loss, nll


def _copy_terms(copying: Copying, target: Tensor) -> CopyTerms:
    energies = wide(copying.energies)
    elsewhere = copying.ids != target.unsqueeze(1)
    matched = energies.masked_fill(elsewhere, NEVER).logsumexp(dim=1)
    gate = None if copying.gate is None else wide(copying.gate)
    return CopyTerms(gate, matched, energies.logsumexp(dim=1))


class OutputLoss(torch.autograd.Function):
    """(features (R, E), weight (V, E), bias (V,), target (R,), banned, e, gate, matched, total) -> total loss, NLL.

    Sums over the rows: (1-e) NLL + e mean_v(-log P_vocab(v)), and the NLL alone, which has no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        target: Tensor,
        banned: Tensor,
        smoothing: float,
        gate: Tensor | None,
        matched: Tensor | None,
        total: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        R, V = features.shape[0], weight.shape[0]
        d_features, d_weight, d_bias = torch.empty_like(features), torch.zeros_like(weight), torch.zeros_like(bias)
        d_copy = weight.new_zeros(3, R)  # gate, matched, total
        loss, nll = weight.new_zeros(()), weight.new_zeros(())
        halved, typed = features.dtype != weight.dtype, weight.to(features.dtype)
        prior = weight.new_full((V,), 1 / (V - banned.numel())).index_fill_(0, banned, 0.0)
        mean_weight, mean_bias = prior @ weight, prior @ bias  # of the mean logit: no logits are needed for it
        most = max(ROWS, ROOM // V) if features.is_cuda else ROWS
        room = weight.new_empty(min(most, R), V)
        for first in range(0, R, most):
            rows = slice(first, first + most)
            part = features[rows]
            logits = room[: len(part)]
            if halved:
                torch.add(part @ typed.T, bias, out=logits)
            else:
                torch.addmm(bias, part, weight.T, out=logits)
            logits.index_fill_(1, banned, -1e9)
            known = target[rows] < V
            gold_id = target[rows].where(known, 0).unsqueeze(1)
            top = logits.amax(dim=1, keepdim=True)
            logits.sub_(top)
            gold = logits.gather(1, gold_id).squeeze(1)  # less top
            masses = logits.exp_().sum(dim=1)
            log_sum = masses.log()
            generated = gold - log_sum
            made = share = torch.ones_like(gold)
            if matched is None or total is None:
                log_prob = generated
            else:
                own = gate[rows] if gate is not None else log_sum + top.squeeze(1) - total[rows]
                generated = generated.masked_fill(~known, NEVER) + F.logsigmoid(own)
                log_prob = torch.logaddexp(generated, F.logsigmoid(-own) + matched[rows] - total[rows])
                made, p_gen = (generated - log_prob).exp(), torch.sigmoid(own)  # the share of generating, and its prior
                # without a gate it is the vocabulary's logsumexp less that of the energies
                share = made if gate is not None else p_gen
                d_copy[0, rows], d_copy[1, rows], d_copy[2, rows] = p_gen - made, made - 1, 1 - share
            nll -= log_prob.sum()
            loss -= (1 - smoothing) * log_prob.sum()
            if smoothing:
                mean = part.to(weight.dtype) @ mean_weight + mean_bias - top.squeeze(1)
                loss -= smoothing * (mean - log_sum).sum()
            # d loss / d logits = scale exp(logits) - (1-e) made [v = target] - e prior
            scale = ((1 - smoothing) * share + smoothing) / masses
            logits.scatter_add_(1, gold_id, ((smoothing - 1) * made / scale.clamp(min=TINY)).unsqueeze(1))
            d_bias.addmv_(logits.T, scale)
            if halved:
                graded = logits.mul_(scale.unsqueeze(1)).to(features.dtype)
                torch.mm(graded, typed, out=d_features[rows])
                d_weight += graded.T @ part
            else:  # rows are scaled where they are narrow
                torch.mm(logits, weight, out=d_features[rows])
                d_features[rows] *= scale.unsqueeze(1)
                d_weight.addmm_(logits.T, part * scale.unsqueeze(1))
        if smoothing:  # - e prior, the same for every row
            d_features -= (smoothing * mean_weight).to(features.dtype)
            d_weight.addr_(prior, features.sum(dim=0, dtype=weight.dtype), alpha=-smoothing)
            d_bias -= smoothing * R * prior
        d_copy *= 1 - smoothing
        ctx.save_for_backward(d_features, d_weight, d_bias, d_copy)
        ctx.copies, ctx.gated = matched is not None, gate is not None
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        d_features, d_weight, d_bias, d_copy = (gradient * outer[0] for gradient in ctx.saved_tensors)
        d_gate, d_matched, d_total = d_copy
        return (
            *(d_features, d_weight, d_bias, None, None, None),
            d_gate if ctx.gated else None,
            *((d_matched, d_total) if ctx.copies else (None, None)),
        )
