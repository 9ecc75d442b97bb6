"""Fast twin of the output layer and its loss. It never holds all (R, V) logits in memory.

Rows are processed in slices. The logits of a slice are computed in a buffer that fits the cache and replaced in place by
the gradient of the loss; matrix products of this gradient then give those of features and weights. Memory does not grow
with rows times vocabulary. The results are those of ``Distribution.target`` and ``smoothed_nll``.

For one row with logits l and target y, let Z = sum_v exp(l_v), e the smoothing, and u_v = 1/(number of ids that are not
banned), 0 for banned ids. With copying, let g be the gate, p_gen = sigmoid(g), log M the logsumexp of the energies at the
source positions that hold y, and log T the logsumexp of all energies::

    log P = logaddexp(logsigmoid(g) + l_y - log Z,  logsigmoid(-g) + log M - log T)      (without copying l_y - log Z)
    loss  = -(1-e) log P - e sum_v u_v (l_v - log Z)
    r     = p_gen P_vocab(y) / P                  the share of P that generating contributes; 1 without copying
    d loss / d l_v = ((1-e) k + e) exp(l_v)/Z - (1-e) r [v = y] - e u_v

where k = r if g is computed by the pointer. CopyNet has one softmax over vocabulary and positions; there g = log Z - log T
depends on the logits too, which gives k = p_gen. With ``scale`` = ((1-e) k + e)/Z, the first term is scale * exp(l_v). The
buffer holds exp(l_v), and the products are multiplied by ``scale``, since their rows are shorter. The term of the target
y is therefore divided by ``scale`` before it is added to the buffer. Where ``scale`` can underflow (CopyNet without
smoothing, copy energies far above the logits), the term of the target would be lost; its products are then separate.

The gradients of the terms of copying are::

    d loss / d g = (1-e) (p_gen - r)    d loss / d log M = (1-e) (r - 1)    d loss / d log T = (1-e) (1 - k)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seq2seq.layers.distribution import MAX_LOGITS, NEVER, Copying, as_fp32

SLICE_ROWS = 256  # rows of a slice on a CPU; the products of fewer rows are slower, and more rows do not fit the cache
MIN_SCALE = 1e-36  # the term of the target is divided by at least this
BANNED_LOGIT = -1e9  # so low that the probability is 0, and finite


class CopyTerms(NamedTuple):
    """The terms of the loss that depend on copying, for R target tokens; the energies are those of ``Copying``."""

    gate: Tensor | None  # (R,), p_gen = sigmoid(gate); None: one softmax over vocabulary and positions
    matched: Tensor  # (R,), log M: logsumexp of the energies of the target's positions, or minus infinity
    total: Tensor  # (R,), log T: logsumexp of all energies


def rows_of_a_slice(rows: Tensor, vocab_size: int) -> int:
    """Return the number of rows whose logits are computed at once, on the device of a tensor of all rows."""
    return max(SLICE_ROWS, MAX_LOGITS // vocab_size) if rows.is_cuda else SLICE_ROWS


def output_loss(
    layer: nn.Linear, features: Tensor, target: Tensor, copying: Copying | None, *, banned: Tensor, smoothing: float
) -> tuple[Tensor, Tensor]:
    """Compute the loss and the negative log-likelihood, summed over R target tokens; only the loss has a gradient.

    Matrix products are computed in the dtype of ``features``, everything else in fp32 or higher precision.

    Args:
        layer: maps features (R, E) to logits (R, V).
        target: ids of the extended vocabulary (R,).
        banned: ids that are never produced.
        smoothing: e in (1-e) NLL + e mean_v(-log P_vocab(v)).
    """
    terms = (None, None, None) if copying is None else copy_terms(copying, target)
    with torch.autocast(features.device.type, enabled=False):
        loss, nll = FastOutputLoss.apply(features, layer.weight, layer.bias, target, banned, smoothing, *terms)
    return loss, nll


def copy_terms(copying: Copying, target: Tensor) -> CopyTerms:
    """Compute log M and log T of each row, which the loss depends on."""
    energies = as_fp32(copying.energies)
    elsewhere = copying.ids != target.unsqueeze(1)
    matched = energies.masked_fill(elsewhere, NEVER).logsumexp(dim=1)
    gate = None if copying.gate is None else as_fp32(copying.gate)
    return CopyTerms(gate, matched, energies.logsumexp(dim=1))


class _RowTerms(NamedTuple):
    """The terms of the loss of the rows (R,) of a slice."""

    log_prob: Tensor  # log P
    generated_share: Tensor  # r
    vocab_share: Tensor  # k
    d_copy: Tensor | None  # (3, R), gradients of gate, matched and total, without the factor 1-e


class FastOutputLoss(torch.autograd.Function):
    """(features (R, E), weight (V, E), bias (V,), target (R,), banned, e, gate, matched, total) -> loss, NLL.

    The results are sums over the rows: (1-e) NLL + e mean_v(-log P_vocab(v)), and the NLL, which has no gradient.
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
        *copy: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        R, V = features.shape[0], weight.shape[0]
        gate, matched, total = copy
        terms = None if matched is None or total is None else CopyTerms(gate, matched, total)
        may_underflow = terms is not None and gate is None and not smoothing  # ``scale`` below
        gradients = _Gradients(features, weight, bias)
        d_copy = weight.new_zeros(3, R)  # gate, matched, total
        loss, nll = weight.new_zeros(()), weight.new_zeros(())
        prior = weight.new_full((V,), 1 / (V - banned.numel())).index_fill_(0, banned, 0.0)  # u
        mean_weight, mean_bias = (
            prior @ weight,
            prior @ bias,
        )  # the mean logit of a row is features @ mean_weight + mean_bias
        most = rows_of_a_slice(features, V)
        buffer = weight.new_empty(min(most, R), V)
        for first in range(0, R, most):
            rows = slice(first, first + most)
            logits = gradients.logits(rows, buffer)
            logits.index_fill_(1, banned, BANNED_LOGIT)
            known = target[rows] < V
            gold_id = target[rows].where(known, 0).unsqueeze(1)
            top = logits.amax(dim=1, keepdim=True)
            logits.sub_(top)
            gold = logits.gather(1, gold_id).squeeze(1)  # minus top
            masses = logits.exp_().sum(dim=1)
            log_sum = masses.log()
            found = _row_terms(gold - log_sum, known, log_sum + top.squeeze(1), terms, rows)
            if found.d_copy is not None:
                d_copy[:, rows] = found.d_copy
            nll -= found.log_prob.sum()
            loss -= (1 - smoothing) * found.log_prob.sum()
            if smoothing:
                mean = features[rows].to(weight.dtype) @ mean_weight + mean_bias - top.squeeze(1)
                loss -= smoothing * (mean - log_sum).sum()
            scale = ((1 - smoothing) * found.vocab_share + smoothing) / masses
            d_gold = (smoothing - 1) * found.generated_share
            if may_underflow:
                gradients.add(rows, logits, scale, gold_id.squeeze(1), d_gold)
            else:
                logits.scatter_add_(1, gold_id, (d_gold / scale.clamp(min=MIN_SCALE)).unsqueeze(1))
                gradients.add(rows, logits, scale)
        if smoothing:
            gradients.add_prior(prior, mean_weight, smoothing)
        d_copy *= 1 - smoothing
        ctx.save_for_backward(gradients.d_features, gradients.d_weight, gradients.d_bias, d_copy)
        ctx.copies, ctx.gated = terms is not None, gate is not None
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


def _row_terms(generated: Tensor, known: Tensor, log_sum: Tensor, terms: CopyTerms | None, rows: slice) -> _RowTerms:
    """Combine generating and copying.

    Args:
        generated: log P_vocab(y), valid where ``known`` is true.
        known: whether y is in the vocabulary.
        log_sum: log Z.
        terms: the terms of all rows; None without copying.
    """
    if terms is None:
        ones = torch.ones_like(generated)
        return _RowTerms(generated, ones, ones, None)
    matched, total = terms.matched[rows], terms.total[rows]
    gate = log_sum - total if terms.gate is None else terms.gate[rows]
    generated = generated.masked_fill(~known, NEVER) + F.logsigmoid(gate)
    log_prob = torch.logaddexp(generated, F.logsigmoid(-gate) + matched - total)
    generated_share, p_gen = (generated - log_prob).exp(), torch.sigmoid(gate)
    vocab_share = p_gen if terms.gate is None else generated_share
    d_copy = torch.stack((p_gen - generated_share, generated_share - 1, 1 - vocab_share))
    return _RowTerms(log_prob, generated_share, vocab_share, d_copy)


class _Gradients:
    """The gradients of the output layer and its input, accumulated over the slices."""

    def __init__(self, features: Tensor, weight: Tensor, bias: Tensor) -> None:
        self.features, self.weight, self.bias = features, weight, bias
        self.d_features, self.d_weight = torch.empty_like(features), torch.zeros_like(weight)
        self.d_bias = torch.zeros_like(bias)
        self.half = features.dtype != weight.dtype
        self.typed = weight.to(features.dtype)

    def logits(self, rows: slice, buffer: Tensor) -> Tensor:
        """Compute the logits of the given rows in ``buffer``."""
        part = self.features[rows]
        logits = buffer[: len(part)]
        if self.half:
            return torch.add(part @ self.typed.T, self.bias, out=logits)
        return torch.addmm(self.bias, part, self.weight.T, out=logits)

    def add(
        self,
        rows: slice,
        graded: Tensor,
        scale: Tensor,
        gold_ids: Tensor | None = None,
        d_gold: Tensor | None = None,
    ) -> None:
        """Accumulate the products of the gradient of the logits, ``scale`` (R,) times ``graded`` (R, V).

        Args:
            graded: may be overwritten.
            gold_ids: ids of the targets (R,), if their terms are not part of ``graded``.
            d_gold: the terms of the targets (R,), which are not multiplied by ``scale``.
        """
        part, d_features = self.features[rows], self.d_features[rows]
        self.d_bias.addmv_(graded.T, scale)
        if self.half:
            half = graded.mul_(scale.unsqueeze(1)).to(self.features.dtype)
            torch.mm(half, self.typed, out=d_features)
            self.d_weight += half.T @ part
        else:  # scale the shorter rows
            torch.mm(graded, self.weight, out=d_features)
            d_features *= scale.unsqueeze(1)
            self.d_weight.addmm_(graded.T, part * scale.unsqueeze(1))
        if gold_ids is not None and d_gold is not None:
            self.d_bias.index_add_(0, gold_ids, d_gold)
            self.d_weight.index_add_(0, gold_ids, part.to(d_gold.dtype) * d_gold.unsqueeze(1))
            d_features += (self.weight[gold_ids] * d_gold.unsqueeze(1)).to(d_features.dtype)

    def add_prior(self, prior: Tensor, mean_weight: Tensor, smoothing: float) -> None:
        """Accumulate the products of the term - e u, which is the same for every row."""
        self.d_features -= (smoothing * mean_weight).to(self.features.dtype)
        total = self.features.sum(dim=0, dtype=self.weight.dtype)
        self.d_weight.addr_(prior, total, alpha=-smoothing)
        self.d_bias -= smoothing * len(self.features) * prior
