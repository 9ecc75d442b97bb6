"""The distribution of the next token, with or without copying: one object, a view for training and one for search.

Everything is computed in log space. See et al. 2017, eq. 9: P(w) = p_gen P_vocab(w) + (1 - p_gen) sum of a_i over the
positions i where the source has w. The vocabulary is extended by the source's own pieces, whose ids start at V; no
(B, S, V) tensor is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

NEVER = -float("inf")  # the log-probability of what cannot be


class Copying(NamedTuple):
    """What a source offers."""

    gate: Tensor | None  # (R,), p_gen = sigmoid(gate); None: one softmax over vocabulary and positions (Gu et al. 2016)
    energies: Tensor  # (R, S), the finite minimum at padding; log-weights are energies too
    ids: Tensor  # (R, S), the target id of every source piece

    def select(self, rows: slice) -> Copying:
        """What is offered to some rows."""
        return Copying(None if self.gate is None else self.gate[rows], self.energies[rows], self.ids[rows])


class Route(NamedTuple):
    """By which way a target token comes: natural logs of probabilities."""

    generated: Tensor  # (R,), p_gen P_vocab(target)
    copied: Tensor  # (R,), (1 - p_gen) times the weight of the positions that hold it
    gate: Tensor  # (R,)


class TargetProb(NamedTuple):
    """What is known of a target token."""

    log_prob: Tensor  # (R,)
    uniform: Tensor  # (R,), mean over the vocabulary of log P_vocab, without the ids that are never produced
    route: Route | None  # with copying

    @staticmethod
    def join(parts: Sequence[TargetProb]) -> TargetProb:
        """The rows of all parts, one behind the other."""
        log_probs, uniforms, routes = zip(*parts, strict=True)
        route = Route(*(torch.cat(some) for some in zip(*routes, strict=True))) if routes[0] else None
        return TargetProb(torch.cat(log_probs), torch.cat(uniforms), route)


class Distribution(NamedTuple):
    """The next token of R rows."""

    logits: Tensor  # (R, V), finite; those of ``banned`` so low that their probability is 0
    banned: Tensor  # ids that are never produced
    copying: Copying | None = None

    def target(self, target: Tensor) -> TargetProb:
        """The view for training and scoring: what happens to the target ids (R,)."""
        known = target < self.logits.shape[1]
        gold, log_sum, mean = _VocabTerms.apply(self.logits, target.where(known, 0), self.banned)
        generated = gold - log_sum
        if self.copying is None:
            return TargetProb(generated, mean - log_sum, None)
        gate, log_weights = self._gate_and_log_weights(log_sum)
        match = self.copying.ids == target.unsqueeze(1)
        # a logsumexp over nothing is minus infinity, and its masked gradient an exact zero
        copied = F.logsigmoid(-gate) + log_weights.masked_fill(~match, NEVER).logsumexp(dim=1)
        generated = F.logsigmoid(gate) + generated.masked_fill(~known, NEVER)
        route = Route(generated, copied, gate)
        return TargetProb(torch.logaddexp(generated, copied), mean - log_sum, route)

    def log_probs(self, size: int) -> Tensor:
        """The view for search: all of the extended vocabulary, (R, size); what is never produced has minus infinity.

        Args:
            size: V and as many more as a source of the batch has own pieces.
        """
        logits = wide(self.logits)
        log_probs = torch.log_softmax(logits, dim=1)
        log_sum = logits.amax(dim=1) - log_probs.amax(dim=1)
        log_probs = log_probs.index_fill(1, self.banned, NEVER)
        if self.copying is None:
            return log_probs
        gate, log_weights = self._gate_and_log_weights(log_sum)
        ids = self.copying.ids
        log_probs = F.pad(log_probs + F.logsigmoid(gate).unsqueeze(1), (0, size - log_probs.shape[1]), value=NEVER)
        top = log_weights.amax(dim=1, keepdim=True)
        mass = torch.zeros_like(log_probs).scatter_add(1, ids, (log_weights - top).exp())
        copied = mass.gather(1, ids).log() + top + F.logsigmoid(-gate).unsqueeze(1)  # (R, S), positions of one id alike
        return log_probs.scatter(1, ids, torch.logaddexp(log_probs.gather(1, ids), copied))

    def _gate_and_log_weights(self, log_sum: Tensor) -> tuple[Tensor, Tensor]:
        """From what the vocabulary's logits sum to: gate (R,), log-weights (R, S)."""
        assert self.copying is not None
        gate, energies = self.copying.gate, wide(self.copying.energies)
        if gate is None:  # one softmax over both is a gate between two: sigmoid(log Z_vocab - log Z_copy)
            gate = log_sum - torch.logsumexp(energies, dim=1)
        return wide(gate), torch.log_softmax(energies, dim=1)


def wide(tensor: Tensor) -> Tensor:
    """In fp32 at least."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class _VocabTerms(torch.autograd.Function):
    """The target's logit, the logsumexp and the mean of each row in one go.

    The logits are (R, V) large, and autograd would pass over them a dozen times.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, banned: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = wide(logits)
        largest, place = logits.max(dim=1, keepdim=True)
        prior = logits.new_full((logits.shape[1],), 1 / (logits.shape[1] - banned.numel())).index_fill_(0, banned, 0.0)
        gold = logits.gather(1, target.unsqueeze(1)).squeeze(1)
        mean = logits @ prior
        probs = torch.softmax(logits, dim=1)
        log_sum = (largest - probs.gather(1, place).log()).squeeze(1)  # the largest probability never underflows
        ctx.save_for_backward(probs, target, prior)
        ctx.set_materialize_grads(False)
        return gold, log_sum, mean

    @staticmethod
    def backward(ctx: Any, *outer: Tensor | None) -> tuple[Tensor, None, None]:
        probs, target, prior = ctx.saved_tensors
        gold, log_sum, mean = outer
        gradient = probs * (0.0 if log_sum is None else log_sum.unsqueeze(1))
        if gold is not None:
            gradient.scatter_add_(1, target.unsqueeze(1), gold.unsqueeze(1))
        if mean is not None:
            gradient.addr_(mean, prior)
        return gradient, None, None
