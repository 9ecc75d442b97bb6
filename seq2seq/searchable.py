"""The interface between a model and its users, Translator and selfcheck.

A single model satisfies it, and so can several models that are searched as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter

from seq2seq.data.batching import Batch
from seq2seq.search.beam import SearchState
from seq2seq.search.next_token import NextToken


class Provenance(NamedTuple):
    """Origin of each real target token of a batch, R tokens, sentence after sentence."""

    weights: Tensor  # (R, S), attention weights
    p_gen: Tensor  # (R,), probability of generating; 1 without copying
    copied: Tensor  # (R, S), the share of the token's probability that copying from each position contributes


def copied_positions(copied: Tensor) -> list[int | None]:
    """Return the position that each token was copied from, where copying contributes most of its probability.

    Args:
        copied: ``Provenance.copied`` (R, S).
    """
    shares, positions = copied.sum(dim=1).tolist(), copied.argmax(dim=1).tolist()
    return [position if share > 0.5 else None for share, position in zip(shares, positions, strict=True)]


D = TypeVar("D", bound=SearchState)


class Searchable(Protocol[D]):
    """A model that can be searched and that scores given targets."""

    @property
    def vocab_size(self) -> int:
        """V of the target side."""

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""

    @property
    def copies(self) -> bool:
        """Whether source pieces can be copied, which requires ``Batch.copy_ids``."""

    @property
    def has_attention(self) -> bool:
        """Whether attention weights show where the model looks."""

    @property
    def never_id(self) -> int | None:
        """An id that search must not produce; None if there is none."""

    @property
    def max_source_length(self) -> int:
        """Pieces of a source, without the end of sentence; longer sources are cut or split."""

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Return the parameters with their names."""

    def encode(self, batch: Batch) -> D:
        """Encode the sources of a batch; return the state before the first token."""

    def step(self, tokens: Tensor, decoding: D) -> tuple[NextToken, D]:
        """Extend every hypothesis by its last token (N,): the distribution of the next token, and the next state."""

    def log_probs(self, batch: Batch) -> Tensor:
        """Return the natural log-probability of every real target token (R,), sentence after sentence."""

    def provenance(self, batch: Batch) -> Provenance:
        """Return the origin of every real target token."""

    def evaluating(self) -> AbstractContextManager[None]:
        """Switch dropout and gradients off; restore the mode afterwards."""
