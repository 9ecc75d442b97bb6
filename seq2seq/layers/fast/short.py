"""The next token of a search whose sentences may each choose from some ids only.

The rows of the output layer that any sentence of the batch needs are gathered once per search; their number is U. Within
these rows, ids have other numbers, here called places: an id of the vocabulary is its row, an OOV id V + i is U + i. In the
row of a hypothesis, the logits of ids that its sentence may not choose have the probability 0, so the distribution is
normalised over the ids of its sentence.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from seq2seq.layers.distribution import NEVER, Copying
from seq2seq.layers.fast.next_token import FastNextToken, OutputWeights, half_weights
from seq2seq.layers.fast.output import BANNED_LOGIT


class ShortOutput(NamedTuple):
    """The rows of the output layer that the sentences of a batch need."""

    weights: OutputWeights  # of U rows
    ids: Tensor  # (U,), in increasing order
    places: Tensor  # (V,), the place of each id; that of a banned id for ids without a row
    banned: Tensor  # places that are never produced
    allowed: Tensor  # (B, U), whether a sentence may choose an id
    is_single: bool  # whether the rows are those of one sentence, which may choose all of them

    @classmethod
    def of(cls, layer: nn.Linear, *, banned: Tensor, allowed: Tensor, in_bf16: bool) -> ShortOutput:
        """Gather the rows.

        Args:
            banned: ids that are never produced, at least one.
            allowed: whether a sentence may choose an id (B, V); with copying, every sentence its own pieces.
            in_bf16: whether the search computes its products in bf16.
        """
        chosen = allowed.any(dim=0).index_fill(0, banned, True)
        ids = chosen.nonzero().squeeze(1)
        places = chosen.cumsum(0) - 1
        places = places.where(chosen, places[banned[0]])
        weight, bias = layer.weight[ids], layer.bias[ids].index_fill(0, places[banned], BANNED_LOGIT)
        return cls(
            weights=OutputWeights(weight, bias, half=half_weights(weight, bias) if in_bf16 else None),
            ids=ids,
            places=places,
            banned=places[banned],
            allowed=allowed[:, ids],
            is_single=len(allowed) == 1,
        )

    def keep(self, sentences: Tensor) -> ShortOutput:
        """Select sentences."""
        return self._replace(allowed=self.allowed[sentences])

    def place_of(self, ids: Tensor) -> Tensor:
        """Convert ids of the extended vocabulary to places."""
        known = ids < len(self.places)
        return torch.where(known, self.places[ids.where(known, 0)], ids + (len(self.ids) - len(self.places)))

    def id_of(self, places: Tensor) -> Tensor:
        """Convert places to ids of the extended vocabulary."""
        known = places < len(self.ids)
        return torch.where(known, self.ids[places.where(known, 0)], places + (len(self.places) - len(self.ids)))

    def mask(self, beam: int) -> Tensor:
        """Return whether each id is refused to each of N = B*K rows: (N, V)."""
        refused = self.allowed.new_ones(len(self.allowed), len(self.places))
        refused[:, self.ids] = ~self.allowed
        return refused.repeat_interleave(beam, dim=0)


class ShortNextToken:
    """The distribution of the next token of N rows over the ids that their sentences may choose; a ``NextToken``.

    Args:
        features: the input of the output layer (N, E).
        copying, first, size: as for ``FastNextToken``, with ids.
    """

    def __init__(
        self, output: ShortOutput, features: Tensor, *, copying: Copying | None, first: Tensor | None, size: int
    ) -> None:
        self._output, self._size = output, size
        beam = len(features) // len(output.allowed)
        refused = None
        if not output.is_single:
            refused = (~output.allowed).t().repeat_interleave(beam, dim=1)  # (U, N)
        if copying is not None:
            copying = copying._replace(ids=output.place_of(copying.ids))
        self._places = FastNextToken(
            output.weights,
            features,
            banned=output.banned,
            copying=copying,
            first=first,
            size=size + len(output.ids) - len(output.places),
            refused=refused,
        )

    def best(self, k: int, banned: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """See ``NextToken.best``; there are fewer columns if the batch has fewer ids."""
        numbers = torch.tensor(banned, dtype=torch.long, device=self._output.ids.device)
        log_probs, places = self._places.best(k, self._output.place_of(numbers).tolist())
        return without_refused(log_probs), self._output.id_of(places)

    def at(self, ids: Tensor) -> Tensor:
        """See ``NextToken.at``."""
        return without_refused(self._places.at(self._output.place_of(ids)))

    def log_probs(self) -> Tensor:
        """See ``NextToken.log_probs``."""
        table = without_refused(self._places.log_probs())
        ids = self._output.id_of(torch.arange(table.shape[1], device=table.device))
        return table.new_full((len(table), self._size), NEVER).index_copy_(1, ids, table)

    def part(self, rows: slice) -> ShortNextToken:
        """See ``NextToken.part``."""
        part = copy.copy(self)
        part._places = self._places.part(rows)
        return part


def without_refused(log_probs: Tensor) -> Tensor:
    """Replace the log-probabilities of refused ids, which are finite, by minus infinity."""
    return log_probs.masked_fill(log_probs < BANNED_LOGIT / 2, NEVER)
