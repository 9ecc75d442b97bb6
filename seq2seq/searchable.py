"""The interface of a model that Translator and selfcheck use.

A single model implements it. A combination of several models can implement it too.
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
    """The origin of each of the R real target tokens of a batch, sentence after sentence."""

    weights: Tensor  # (R, S), attention weights
    p_gen: Tensor  # (R,), the probability of generating; 1 without copying
    copied: Tensor  # (R, S), the share of the token's probability that copying from each position contributes


def copied_positions(copied: Tensor) -> list[int | None]:
    """Return the source position that each token was copied from.

    It is None unless copying contributes more than half of the token's probability.

    Args:
        copied: ``Provenance.copied`` (R, S).
    """
    shares, positions = copied.sum(dim=1).tolist(), copied.argmax(dim=1).tolist()
    return [position if share > 0.5 else None for share, position in zip(shares, positions, strict=True)]


D = TypeVar("D", bound=SearchState)


class Searchable(Protocol[D]):
    """A model that can be searched and can score given targets."""

    @property
    def vocab_size(self) -> int:
        """V, the size of the target vocabulary."""

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""

    @property
    def copies(self) -> bool:
        """Whether source pieces can be copied, which requires ``Batch.copy_ids``."""

    @property
    def has_attention(self) -> bool:
        """Whether the model has attention weights."""

    @property
    def never_id(self) -> int | None:
        """An id that search must not produce, or None."""

    @property
    def max_source_length(self) -> int:
        """The maximum number of pieces of a source, without eos; longer sources are cut or split."""

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Return the parameters with their names."""

    def encode(self, batch: Batch, allowed: Tensor | None = None, precision: str = "fp32") -> D:
        """Encode the sources of a batch; return the initial state of a search.

        Args:
            allowed: whether a sentence may choose each target id (B, V); with copying, each sentence its source pieces.
                The distributions are then normalised over these ids. None: every id.
            precision: fp32 or bf16, that of the products of the output layer; see ``layers.fast.next_token``. The plain
                layers compute them in fp32.
        """

    def step(self, tokens: Tensor, decoding: D) -> tuple[NextToken, D]:
        """Advance every hypothesis by its previous token (N,).

        Returns:
            The distribution of the next token, and the next state.
        """

    def log_probs(self, batch: Batch) -> Tensor:
        """Return the natural log-probability of each real target token (R,), sentence after sentence."""

    def provenance(self, batch: Batch) -> Provenance:
        """Return the origin of each real target token."""

    def evaluating(self) -> AbstractContextManager[None]:
        """Switch off dropout and gradients in this context; restore the mode afterwards."""
