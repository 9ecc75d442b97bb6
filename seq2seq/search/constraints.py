"""Constraints on the next id of a hypothesis, given its ids so far.

A constraint lowers the values of a few ids of each row. The value of an id orders the candidates of beam search and is what
sampling draws from; it is the log-probability where no constraint applies. The log-probability of a hypothesis stays that
of the model. End of sentence is never affected, because no hypothesis goes on after it, so it remains as the way out where
all other ids are blocked.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from seq2seq.search.next_token import NextToken

_NONE = -1  # fills the rows that have fewer affected ids than others


class Constraint(Protocol):
    """Lowers the values of some ids of each row."""

    def affected(self, history: Tensor) -> Tensor:
        """Return the affected ids of each row, given its ids so far: (N, t) -> (N, m); -1 fills shorter rows."""

    def lowered(self, log_probs: Tensor) -> Tensor:
        """Return the values of affected ids; none is above its log-probability."""


class NoRepeatNgram(NamedTuple):
    """Blocks an id that would end an n-gram which the hypothesis already has (Paulus et al. 2018, section 2.5)."""

    size: int  # n
    exceptions: tuple[int, ...] = ()  # an n-gram with one of these ids may repeat

    def affected(self, history: Tensor) -> Tensor:
        """See ``Constraint.affected``."""
        length = history.shape[1]
        if length < self.size:
            return history[:, :0]
        ngrams = history.unfold(1, self.size, 1)  # (N, t-n+1, n)
        last = history[:, length - self.size + 1 :]  # (N, n-1), the beginning of the next n-gram
        blocked = (ngrams[:, :, :-1] == last.unsqueeze(1)).all(dim=2) & ~_is_in(ngrams, self.exceptions).any(dim=2)
        return _distinct(ngrams[:, :, -1].where(blocked, _NONE))

    def lowered(self, log_probs: Tensor) -> Tensor:
        """See ``Constraint.lowered``."""
        return torch.full_like(log_probs, -inf)


class RepetitionPenalty(NamedTuple):
    """Multiplies the log-probabilities of ids that the hypothesis already has.

    Keskar et al. 2019, section 4.1, divide positive logits by the factor. Logits are defined only up to a constant, and the
    mixture of generating and copying has none; log-probabilities are at most 0, so they are multiplied instead.
    """

    factor: float  # at least 1
    exceptions: tuple[int, ...] = ()  # these ids may repeat

    def affected(self, history: Tensor) -> Tensor:
        """See ``Constraint.affected``."""
        return _distinct(history.masked_fill(_is_in(history, self.exceptions), _NONE))

    def lowered(self, log_probs: Tensor) -> Tensor:
        """See ``Constraint.lowered``."""
        return self.factor * log_probs

    def cost(self, ids: Sequence[int], log_probs: Sequence[float]) -> float:
        """Return by how much the penalty lowers the sum of the log-probabilities of a hypothesis; at least 0."""
        earlier: set[int] = set()
        total = 0.0
        for number, log_prob in zip(ids, log_probs, strict=True):
            if number in earlier:
                total += (1 - self.factor) * log_prob
            elif number not in self.exceptions:
                earlier.add(number)
        return total


class Forbidden(NamedTuple):
    """Blocks the last id of sequences that must not appear in a hypothesis."""

    sequences: tuple[tuple[int, ...], ...]  # each has at least one id

    def affected(self, history: Tensor) -> Tensor:
        """See ``Constraint.affected``."""
        columns = [history[:, :0]]
        for *first, last in self.sequences:
            begun = history[:, history.shape[1] - len(first) :] if len(first) <= history.shape[1] else None
            if begun is not None:
                matches = (begun == torch.tensor(first, dtype=torch.long, device=history.device)).all(dim=1)
                columns.append(torch.where(matches, last, _NONE).unsqueeze(1))
        return _distinct(torch.cat(columns, dim=1))

    def lowered(self, log_probs: Tensor) -> Tensor:
        """See ``Constraint.lowered``."""
        return torch.full_like(log_probs, -inf)


class Candidates(NamedTuple):
    """The C best next ids of each row."""

    log_probs: Tensor  # (N, C), of the model
    ids: Tensor  # (N, C)
    values: Tensor  # (N, C), the log-probabilities after the constraints; best first


def best_candidates(
    next_token: NextToken, history: Tensor, k: int, *, banned: Sequence[int], constraints: Sequence[Constraint]
) -> Candidates:
    """Find the ids with the k largest values of each row; there are fewer columns if there are fewer ids.

    A constraint lowers at most m ids of a row, so the k best are among the k + m best of the model.

    Args:
        history: the ids of each row so far (N, t).
        banned: ids with the value minus infinity.
    """
    found = [(constraint, constraint.affected(history)) for constraint in constraints]
    found = [(constraint, affected) for constraint, affected in found if affected.shape[1]]
    log_probs, ids = next_token.best(k + sum(affected.shape[1] for _, affected in found), banned)
    values = _lowered_where_affected(ids, log_probs, found)
    if found:
        values, order = values.topk(min(k, values.shape[1]), dim=1)
        log_probs, ids = log_probs.gather(1, order), ids.gather(1, order)
    return Candidates(log_probs, ids, values)


def lowered_values(ids: Tensor, log_probs: Tensor, history: Tensor, constraints: Sequence[Constraint]) -> Tensor:
    """Return the values of given ids: (N, n), (N, n), (N, t) -> (N, n)."""
    return _lowered_where_affected(ids, log_probs, [(each, each.affected(history)) for each in constraints])


def _lowered_where_affected(ids: Tensor, log_probs: Tensor, affected_by: Sequence[tuple[Constraint, Tensor]]) -> Tensor:
    """Return the values of ids (N, n), given the constraints with the ids that they affect."""
    values = log_probs
    for constraint, affected in affected_by:
        is_affected = (ids.unsqueeze(2) == affected.to(ids.device).unsqueeze(1)).any(dim=2)  # (N, n)
        values = torch.where(is_affected, constraint.lowered(values), values)
    return values


def constrained_values(log_probs: Tensor, history: Tensor, constraints: Sequence[Constraint]) -> Tensor:
    """Return the values of all ids: (N, V'), (N, t) -> (N, V')."""
    values = torch.nn.functional.pad(log_probs, (0, 1), value=-inf)  # the last column is for _NONE
    for constraint in constraints:
        affected = constraint.affected(history).to(values.device) % values.shape[1]
        values = values.scatter(1, affected, constraint.lowered(values.gather(1, affected)))
    return values[:, :-1]


def _is_in(ids: Tensor, some: Sequence[int]) -> Tensor:
    return torch.isin(ids, torch.tensor(list(some), dtype=torch.long, device=ids.device))


def _distinct(ids: Tensor) -> Tensor:
    """Keep each id of a row once, without _NONE, in as few columns as possible: (N, t) -> (N, m)."""
    if not ids.shape[1]:
        return ids
    ids = ids.sort(dim=1, descending=True).values
    repeated = torch.zeros_like(ids, dtype=torch.bool)
    repeated[:, 1:] = ids[:, 1:] == ids[:, :-1]
    ids = ids.masked_fill(repeated, _NONE).sort(dim=1, descending=True).values
    return ids[:, : int((ids != _NONE).sum(dim=1).max())]
