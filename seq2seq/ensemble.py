"""Ensembles: several models translate together, each step with a mixture of their distributions of the next token.

Let P_m be the distribution of member m, over the extended vocabulary of the line (``data.copy_ids``), and w_m its weight;
the weights sum to 1. The mixtures are

    log-linear:  P(y) = prod_m P_m(y)^w_m / Z,  where Z is the sum of the products over the extended vocabulary
    linear:      P(y) = sum_m w_m P_m(y)

Members share the vocabularies, so they share the ids of copied pieces, and P_m of a member that copies is its mixture of
generating and copying. If only some members copy, one that does not divides its probability of ``<unk>`` equally among
``<unk>`` and the out-of-vocabulary pieces of the line; otherwise the log-linear mixture could never copy such a piece.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn import functional as F

from seq2seq import model_dir
from seq2seq.data.batching import Batch
from seq2seq.data.limits import STANDARD_LIMIT, LengthLimit
from seq2seq.layers.fast.output import rows_of_a_slice
from seq2seq.model import Decoding, Seq2Seq
from seq2seq.model_dir import Settings, Tokenizers
from seq2seq.search.next_token import LogProbs, NextToken
from seq2seq.searchable import Provenance, Searchable
from seq2seq.text.tokenizer import UNK


class EnsembleDecoding(NamedTuple):
    """The states of a search of all members, for the same B sentences and N hypotheses."""

    members: tuple[Decoding, ...]
    attention_weights: tuple[float, ...]  # of the members in the mixture of attention weights
    oov_counts: Tensor  # (B,), the number of OOV pieces of each source; 0 unless a member copies
    size: int  # size of the extended vocabulary

    @property
    def weights(self) -> Tensor:
        """Attention weights of the previous step, averaged over the members that have attention: (N, S)."""
        parts = zip(self.attention_weights, self.members, strict=True)
        return torch.stack([weight * member.weights for weight, member in parts]).sum(dim=0)

    @property
    def mask(self) -> Tensor:
        """Source pieces, without padding and end of sentence: (B, S), True = piece."""
        return self.members[0].mask

    def reorder(self, rows: Tensor) -> EnsembleDecoding:
        """Select hypotheses, the same number of each sentence."""
        return self._replace(members=tuple(member.reorder(rows) for member in self.members))

    def keep(self, sentences: Tensor) -> EnsembleDecoding:
        """Select sentences with all their hypotheses."""
        members = tuple(member.keep(sentences) for member in self.members)
        return self._replace(members=members, oov_counts=self.oov_counts[sentences])


class Ensemble:
    """Several models with the same vocabularies as one ``seq2seq.searchable.Searchable``.

    The maximum source length is the smallest of the members.

    Args:
        models: the members, on one device.
        weights: a positive number for each member, divided by their sum; None: equal weights.
        mixture: one of ``MIXTURES``.

    Raises:
        ValueError: there is no member, a weight is missing or not positive, or the mixture is unknown.
    """

    def __init__(
        self, models: Sequence[Seq2Seq], *, weights: Sequence[float] | None = None, mixture: str = "log-linear"
    ) -> None:
        if not models:
            raise ValueError("an ensemble must have at least one model, but has none")
        if mixture not in MIXTURES:
            raise ValueError(f"the mixture of an ensemble must be one of {', '.join(MIXTURES)}, but is {mixture}")
        weights = [1.0] * len(models) if weights is None else list(weights)
        if len(weights) != len(models):
            raise ValueError(
                f"an ensemble must have one weight per model, but has {len(weights)} for {len(models)}; "
                "give as many weights as models"
            )
        for weight in weights:
            if not 0 < weight < math.inf:
                raise ValueError(f"the weight of a model must be a finite number above 0, but is {weight}")
        self.models = tuple(models)
        self.member_weights = tuple(weight / sum(weights) for weight in weights)
        self._mix = MIXTURES[mixture]
        self._linear = mixture == "linear"
        attending = sum(w for w, model in zip(self.member_weights, models, strict=True) if model.has_attention)
        self._attention_weights = tuple(
            w / attending if model.has_attention else 0.0 for w, model in zip(self.member_weights, models, strict=True)
        )

    @property
    def vocab_size(self) -> int:
        """V, the size of the target vocabulary."""
        return self.models[0].vocab_size

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.models[0].device

    @property
    def copies(self) -> bool:
        """Whether a member copies, which requires ``Batch.copy_ids``."""
        return any(model.copies for model in self.models)

    @property
    def has_attention(self) -> bool:
        """Whether a member has attention weights."""
        return any(model.has_attention for model in self.models)

    @property
    def never_id(self) -> int | None:
        """UNK if a member copies; else None."""
        return UNK if self.copies else None

    @property
    def max_source_length(self) -> int:
        """The smallest maximum source length of the members."""
        return min(model.max_source_length for model in self.models)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Return the parameters of all members; a name begins with the number of the member, from 1."""
        for number, model in enumerate(self.models, start=1):
            for name, parameter in model.named_parameters():
                yield f"{number}.{name}", parameter

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Switch off dropout and gradients in this context; restore the modes afterwards."""
        with ExitStack() as stack:
            for model in self.models:
                stack.enter_context(model.evaluating())
            yield

    def encode(self, batch: Batch, allowed: Tensor | None = None, precision: str = "fp32") -> EnsembleDecoding:
        """Encode the sources of a batch by every member; return the initial state of a search."""
        members = tuple(model.encode(self._batch_of(model, batch), allowed, precision) for model in self.models)
        size = max(member.size for member in members)
        return EnsembleDecoding(members, self._attention_weights, self._oov_counts(batch), size)

    def step(self, tokens: Tensor, decoding: EnsembleDecoding) -> tuple[NextToken, EnsembleDecoding]:
        """Advance every hypothesis by its previous token (N,).

        Returns:
            The mixture of the distributions of the next token, and the next state.
        """
        members, states = [], []
        counts = decoding.oov_counts.repeat_interleave(len(tokens) // len(decoding.oov_counts))
        for model, member in zip(self.models, decoding.members, strict=True):
            next_token, state = model.step(self._tokens_of(model, tokens), member)
            members.append(next_token)
            states.append(state)

        def mix(rows: slice) -> LogProbs:
            tables = [
                self._extended(model, member.part(rows).log_probs(), counts[rows], decoding.size)
                for model, member in zip(self.models, members, strict=True)
            ]
            return LogProbs(self._mix(tables, self.member_weights))

        most = rows_of_a_slice(counts, decoding.size)
        return MixedNextToken(mix, len(tokens), most), decoding._replace(members=tuple(states))

    def log_probs(self, batch: Batch) -> Tensor:
        """Return the natural log-probability of each real target token: (R,), sentence after sentence."""
        target = batch.tgt_out.flatten().index_select(0, batch.target_positions)
        sentences = batch.target_positions // batch.tgt_in.shape[1]
        counts = self._oov_counts(batch).index_select(0, sentences)
        size = max(self.vocab_size, int(batch.copy_ids.max()) + 1) if self.copies else self.vocab_size
        found, first = [], 0
        for slices in zip(*(model.distributions(self._batch_of(model, batch)) for model in self.models), strict=True):
            rows = slice(first, first + len(slices[0]))
            tables = [
                self._extended(model, table, counts[rows], size)
                for model, table in zip(self.models, slices, strict=True)
            ]
            found.append(self._mix(tables, self.member_weights).gather(1, target[rows].unsqueeze(1)).squeeze(1))
            first = rows.stop
        return torch.cat(found)

    def provenance(self, batch: Batch) -> Provenance:
        """Return the origin of each real target token, averaged over the members.

        Attention weights are averaged over the members that have attention, ``p_gen`` over all; a member that does not
        copy has the value 1. The shares of copying are averaged with the share of each member in the token's probability,
        w_m P_m(y) / P(y), in the linear mixture, and with w_m in the log-linear one, where a product has no such shares.
        """
        parts = [model.provenance(self._batch_of(model, batch)) for model in self.models]
        weights = torch.stack([w * p.weights for w, p in zip(self._attention_weights, parts, strict=True)]).sum(dim=0)
        p_gen = torch.stack([w * part.p_gen for w, part in zip(self.member_weights, parts, strict=True)]).sum(dim=0)
        shares = [torch.full_like(part.p_gen, w) for w, part in zip(self.member_weights, parts, strict=True)]
        if self._linear and self.copies:
            log_prob = self.log_probs(batch)
            batches = ((model, self._batch_of(model, batch)) for model in self.models)
            # for a member that does not copy, the value does not matter: all its shares of copying are 0
            shares = [
                w * (model.log_probs(some) - log_prob).exp() if model.copies else torch.zeros_like(log_prob)
                for w, (model, some) in zip(self.member_weights, batches, strict=True)
            ]
        copied = torch.stack([s.unsqueeze(1) * part.copied for s, part in zip(shares, parts, strict=True)]).sum(dim=0)
        return Provenance(weights, p_gen, copied)

    def _batch_of(self, model: Seq2Seq, batch: Batch) -> Batch:
        """Return the batch for one member: without ids of OOV pieces if it does not copy."""
        if model.copies or not self.copies:
            return batch
        return batch._replace(
            tgt_in=self._tokens_of(model, batch.tgt_in),
            tgt_out=self._tokens_of(model, batch.tgt_out),
            copy_ids=batch.src[:, :0],
        )

    def _tokens_of(self, model: Seq2Seq, tokens: Tensor) -> Tensor:
        """Return token ids for one member; OOV pieces are UNK if it does not copy."""
        return tokens if model.copies else tokens.masked_fill(tokens >= self.vocab_size, UNK)

    def _oov_counts(self, batch: Batch) -> Tensor:
        """Return the number of OOV pieces of each source: (B,)."""
        if not self.copies:
            return torch.zeros_like(batch.src[:, 0])
        return (batch.copy_ids.amax(dim=1) + 1 - self.vocab_size).clamp(min=0)

    def _extended(self, model: Seq2Seq, log_probs: Tensor, oov_counts: Tensor, size: int) -> Tensor:
        """Return the log-probabilities (R, V) or (R, size) of a member over the extended vocabulary: (R, size).

        Args:
            oov_counts: the number of OOV pieces of each row's source (R,).
        """
        if model.copies or size == self.vocab_size:
            return log_probs
        share = log_probs[:, UNK] - (oov_counts + 1).log()
        extended = F.pad(log_probs, (0, size - self.vocab_size), value=-math.inf)
        extended[:, UNK] = share
        numbers = torch.arange(size - self.vocab_size, device=log_probs.device)
        has_number = numbers < oov_counts.unsqueeze(1)
        extended[:, self.vocab_size :] = torch.where(has_number, share.unsqueeze(1), -math.inf)
        return extended


class MixedNextToken:
    """The mixture of distributions of N rows, as a ``NextToken``. Its table is computed in slices that fit the cache.

    Args:
        mix: computes the mixture of some rows.
        count: N.
        most: the largest number of rows of a slice.
    """

    def __init__(self, mix: Callable[[slice], LogProbs], count: int, most: int) -> None:
        self._mix = mix
        self._slices = [slice(start, min(start + most, count)) for start in range(0, count, most)]

    def best(self, k: int, banned: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """See ``NextToken.best``."""
        log_probs, ids = zip(*(self._mix(rows).best(k, banned) for rows in self._slices), strict=True)
        return torch.cat(log_probs), torch.cat(ids)

    def at(self, ids: Tensor) -> Tensor:
        """See ``NextToken.at``."""
        return torch.cat([self._mix(rows).at(ids[rows]) for rows in self._slices])

    def log_probs(self) -> Tensor:
        """See ``NextToken.log_probs``."""
        return torch.cat([self._mix(rows).table for rows in self._slices])

    def part(self, rows: slice) -> LogProbs:
        """See ``NextToken.part``."""
        return self._mix(rows)


def _log_linear(tables: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Mix log-probabilities (R, V') by the weighted geometric mean, renormalised."""
    mixed = weights[0] * tables[0]
    for weight, table in zip(weights[1:], tables[1:], strict=True):
        mixed = mixed + weight * table
    return torch.log_softmax(mixed, dim=1)


def _linear(tables: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Mix log-probabilities (R, V') by the weighted arithmetic mean of the probabilities."""
    mixed = tables[0] + math.log(weights[0])
    for weight, table in zip(weights[1:], tables[1:], strict=True):
        mixed = torch.logaddexp(mixed, table + math.log(weight))
    return mixed


MIXTURES: dict[str, Callable[[Sequence[Tensor], Sequence[float]], Tensor]] = {
    "log-linear": _log_linear,
    "linear": _linear,
}


def load_models(
    paths: Iterable[str | Path],
    device: torch.device,
    *,
    weights: Sequence[float] | None = None,
    mixture: str = "log-linear",
) -> tuple[Searchable[Decoding] | Searchable[EnsembleDecoding], Settings, Tokenizers]:
    """Load one model, or several as an ensemble, in evaluation mode.

    The settings of an ensemble are those of the first model, except for the limit of the length of a translation: its
    ratio, number of extra pieces and maximum are each the largest of the models.

    Args:
        paths: model or run directories.

    Raises:
        ValueError: a model cannot be loaded, two have different tokenizers, or see ``Ensemble``.
    """
    paths = list(paths)
    loaded = [model_dir.load(path, device) for path in paths]
    for path, (_, _, tokenizers) in zip(paths, loaded, strict=True):
        _check_tokenizers(paths[0], loaded[0][2], path, tokenizers)
    ensemble = Ensemble([model for model, _, _ in loaded], weights=weights, mixture=mixture)
    model, settings, tokenizers = loaded[0]
    if len(loaded) == 1:
        return model, settings, tokenizers
    limit = _widest([each.length_limit or STANDARD_LIMIT for _, each, _ in loaded])
    return ensemble, settings._replace(length_limit=limit), tokenizers


def _check_tokenizers(first: str | Path, expected: Tokenizers, path: str | Path, found: Tokenizers) -> None:
    for side in ("src", "tgt"):
        if getattr(expected, side).identity != getattr(found, side).identity:
            name = {"src": "source", "tgt": "target"}[side]
            raise ValueError(
                f"the models of an ensemble must have the same {name} tokenizer, but those of {first} and {path} differ; "
                "train the models on the same data with the same tokenizer settings and different values of train.seed"
            )


def _widest(limits: Sequence[LengthLimit]) -> LengthLimit:
    """Return the limit whose ratio, extra and maximum are each the largest."""
    maxima = [limit.maximum for limit in limits]
    return dataclasses.replace(
        limits[0],
        ratio=max(limit.ratio for limit in limits),
        extra=max(limit.extra for limit in limits),
        maximum=None if None in maxima else max(maximum for maximum in maxima if maximum is not None),
    )
