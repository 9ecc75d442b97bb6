"""The distribution of the next token, with or without copying.

It is computed in log space and differentiated by autograd. P(w) = p_gen P_vocab(w) + (1 - p_gen) sum_{i: x_i = w} a_i, where
x_i is the source piece at position i (See et al. 2017, eq. 9). Source pieces outside the vocabulary (OOV) extend the
vocabulary; their ids start at V. There is no (B, S, V) tensor. Training uses the fast twin ``layers.fast.output``.

R is the number of rows: target tokens without padding in training, hypotheses in search.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

NEVER = -float("inf")  # the log-probability of an impossible token
MAX_LOGITS = 2**25  # most logits in memory at once, when scoring targets and on a GPU: 128 MiB in fp32


class Copying(NamedTuple):
    """The copy weights of R rows."""

    gate: Tensor | None  # (R,), p_gen = sigmoid(gate); None: one softmax over vocabulary and positions (Gu et al. 2016)
    energies: Tensor  # (R, S), the lowest finite number at padding; log-weights are valid energies
    ids: Tensor  # (R, S), the target id of each source piece

    def select(self, rows: slice) -> Copying:
        """Return the copy weights of the given rows."""
        return Copying(None if self.gate is None else self.gate[rows], self.energies[rows], self.ids[rows])


class Route(NamedTuple):
    """The two routes to a target token: generating and copying."""

    generated: Tensor  # (R,), log of p_gen P_vocab(target)
    copied: Tensor  # (R,), log of (1 - p_gen) times the sum of the weights of its positions
    gate: Tensor  # (R,), p_gen = sigmoid(gate)


class TargetProb(NamedTuple):
    """The probabilities of given target tokens, as natural logarithms."""

    log_prob: Tensor  # (R,)
    mean_log_prob: Tensor  # (R,), mean of log P_vocab over the ids that are not banned; for label smoothing
    route: Route | None  # None without copying

    @staticmethod
    def concatenate(parts: Sequence[TargetProb]) -> TargetProb:
        """Concatenate the rows of several parts."""
        log_probs, means, routes = zip(*parts, strict=True)
        route = Route(*(torch.cat(some) for some in zip(*routes, strict=True))) if routes[0] else None
        return TargetProb(torch.cat(log_probs), torch.cat(means), route)


class Distribution(NamedTuple):
    """The distribution of the next token of R rows."""

    logits: Tensor  # (R, V), finite; for ``banned`` ids so low that the probability is 0
    banned: Tensor  # ids that are never produced
    copying: Copying | None = None

    def target(self, target: Tensor) -> TargetProb:
        """Return the probabilities of target ids (R,)."""
        size = self.logits.shape[1]
        known = target < size
        log_vocab = torch.log_softmax(as_fp32(self.logits), dim=1)
        prior = log_vocab.new_full((size,), 1 / (size - self.banned.numel())).index_fill(0, self.banned, 0.0)
        mean_log_prob = log_vocab @ prior
        generated = log_vocab.gather(1, target.where(known, 0).unsqueeze(1)).squeeze(1)
        if self.copying is None:
            return TargetProb(generated, mean_log_prob, None)
        gate, log_weights = self._gate_and_log_weights()
        match = self.copying.ids == target.unsqueeze(1)
        # the logsumexp over no position is minus infinity, and its masked gradient is exactly 0
        copied = F.logsigmoid(-gate) + log_weights.masked_fill(~match, NEVER).logsumexp(dim=1)
        generated = F.logsigmoid(gate) + generated.masked_fill(~known, NEVER)
        return TargetProb(torch.logaddexp(generated, copied), mean_log_prob, Route(generated, copied, gate))

    def log_probs(self, size: int) -> Tensor:
        """Return log-probabilities (R, size) over the extended vocabulary; minus infinity for banned ids.

        Args:
            size: V plus the largest number of OOV pieces in one source of the batch.
        """
        log_probs = torch.log_softmax(as_fp32(self.logits), dim=1).index_fill(1, self.banned, NEVER)
        if self.copying is None:
            return log_probs
        gate, log_weights = self._gate_and_log_weights()
        ids = self.copying.ids
        log_probs = F.pad(log_probs + F.logsigmoid(gate).unsqueeze(1), (0, size - log_probs.shape[1]), value=NEVER)
        top = log_weights.amax(dim=1, keepdim=True)
        mass = torch.zeros_like(log_probs).scatter_add(1, ids, (log_weights - top).exp())
        copied = (
            mass.gather(1, ids).log() + top + F.logsigmoid(-gate).unsqueeze(1)
        )  # (R, S); positions with equal ids have equal values
        return log_probs.scatter(1, ids, torch.logaddexp(log_probs.gather(1, ids), copied))

    def _gate_and_log_weights(self) -> tuple[Tensor, Tensor]:
        """Return gate (R,) and log-weights (R, S).

        One softmax over vocabulary and positions equals two softmaxes with the gate log Z_vocab - log Z_copy, where Z are
        the sums of their exponentials.
        """
        assert self.copying is not None
        gate, energies = self.copying.gate, as_fp32(self.copying.energies)
        if gate is None:
            gate = as_fp32(self.logits).logsumexp(dim=1) - energies.logsumexp(dim=1)
        return as_fp32(gate), torch.log_softmax(energies, dim=1)


def as_fp32(tensor: Tensor) -> Tensor:
    """Convert half precision to fp32; leave fp32 and fp64 as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
