"""The interface of the distribution of the next token, which search and sampling use."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class NextToken(Protocol):
    """The distribution of the next token of N rows over V' ids, as natural log-probabilities.

    V' is V, or with copying the size of the extended vocabulary. Each method computes only the values that it returns.
    """

    def best(self, k: int, banned: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and ids of the k best ids of each row, best first: (N, k), (N, k).

        There are only V' columns if k is larger. The log-probability of an id in ``banned`` is minus infinity.
        """

    def at(self, ids: Tensor) -> Tensor:
        """Return the log-probabilities of n given ids per row: (N, n) -> (N, n)."""

    def log_probs(self) -> Tensor:
        """Return all log-probabilities: (N, V')."""

    def part(self, rows: slice) -> NextToken:
        """Return the distribution of some of the rows."""


class LogProbs(NamedTuple):
    """The plain ``NextToken``: a table of all log-probabilities."""

    table: Tensor  # (N, V')

    def best(self, k: int, banned: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """See ``NextToken.best``."""
        width = self.table.shape[1]
        log_probs, ids = self.table.topk(min(k + len(banned), width), dim=1)
        if banned:  # at most len(banned) of the k + len(banned) best are banned
            refused = torch.isin(ids, torch.tensor(list(banned), device=ids.device))
            log_probs, order = log_probs.masked_fill(refused, -inf).topk(min(k, width), dim=1)
            ids = ids.gather(1, order)
        return log_probs, ids

    def at(self, ids: Tensor) -> Tensor:
        """See ``NextToken.at``."""
        return self.table.gather(1, ids)

    def log_probs(self) -> Tensor:
        """See ``NextToken.log_probs``."""
        return self.table

    def part(self, rows: slice) -> LogProbs:
        """See ``NextToken.part``."""
        return LogProbs(self.table[rows])
