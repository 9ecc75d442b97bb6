"""Fast twin of the next token's distribution in search. It never holds all (N, V) log-probabilities in memory.

Search needs the k best ids of each row and the normaliser of its logits. The logits of a slice of rows are computed as
W x^T, whose product is faster than x W^T on the CPUs that were measured, and reduced while they are in the cache:

1. The k best ids of a row. The V logits are divided into blocks; entry j of all blocks forms column j. The k
   columns with the largest maxima contain the k largest logits, because each of these columns holds a logit that is at
   least as large as every logit of the other columns. So a top-k over the maxima, and one over k columns, are exact.
2. The logits of the source pieces, if the model copies.
3. log Z, in place: subtract the largest logit where it is far from 0, exponentiate, add.

With copying, the k best ids are among the k best ids of the vocabulary and the source pieces: every other id has the
probability p_gen P_vocab, and k ids of the vocabulary have at least that. The probability of a source piece is that of
``Distribution.log_probs``, with the weights of the positions that hold the same id added at the first of them.

A few rows of a search on a CPU are computed as x W^T with a contiguous copy of W^T, which takes half the time of W x^T there.

With ``OutputWeights.half``, the product is computed in bf16, which is two to nine times as fast on a CPU with instructions for it.
Its error is that of rounding a logit to 8 bits, for example 0.03 at a logit of 8. The logits of the ``EXTRA`` + k best ids of
this product are then computed again in the precision of the model, so what search compares is not rounded, and log Z
contains rounded logits of improbable ids only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from seq2seq.layers.distribution import NEVER, Copying, Distribution, as_fp32
from seq2seq.layers.fast.output import BANNED_LOGIT, rows_of_a_slice

BLOCKS = 16  # the largest number; topk of a row is several times as fast if the row has at least 64 k entries
FEW_ROWS = 16  # with fewer rows, the product with a contiguous W^T is faster
EXTRA = 4  # ids after the k best of a product in bf16 that are computed again, since rounding can change their order
_MODERATE = 40.0  # between -40 and 40, the exponentials of the largest logits are summed without overflow or underflow
_LEAST = -80.0  # its exponential changes no sum of these; that of the logits of refused ids is slow


class _Slice(NamedTuple):
    """The results for the n rows of a slice."""

    logits: Tensor  # (n, k), largest first
    ids: Tensor  # (n, k)
    source_logits: (
        Tensor  # (n, S), logits of the source pieces; those of OOV pieces are not defined; (n, 0) without copying
    )
    log_sum: Tensor  # (n,), log Z


class OutputWeights(NamedTuple):
    """The parameters of an output layer, prepared for a search."""

    weight: Tensor  # (V, E), W
    bias: Tensor  # (V,), ``BANNED_LOGIT`` for ids that are never produced
    transposed: Tensor | None = None  # (E, V), contiguous, for the products of few rows
    half: Tensor | None = None  # (V, E'), weights and bias in bf16 for all products, see ``half_weights``


def half_weights(weight: Tensor, bias: Tensor) -> Tensor:
    """Join weights and bias in bf16: (V, E), (V,) -> (V, E'), where E' is E + 2 rounded up to a multiple of 32.

    The bias has two columns, its value in bf16 and the rest, which are multiplied by ones; zeros follow.
    """
    rounded = bias.to(torch.bfloat16)
    V, E = weight.shape
    joined = rounded.new_zeros(V, (E + 2 + 31) // 32 * 32)  # products of other widths are slower
    joined[:, :E] = weight
    joined[:, E], joined[:, E + 1] = rounded, bias - rounded
    return joined


def _half_features(features: Tensor, half: Tensor) -> Tensor:
    """Return features in bf16 with the columns for the bias: (n, E) -> (n, E')."""
    count, width = features.shape
    rows = half.new_zeros(count, half.shape[1])
    rows[:, :width] = features
    rows[:, width : width + 2] = 1
    return rows


class FastNextToken:
    """The distribution of the next token of N rows, as ``seq2seq.search.next_token.NextToken``; without gradients.

    Args:
        weights: those of the layer that maps features (N, E) to logits (N, V).
        banned: ids that are never produced.
        copying: the copy weights of the rows, or None.
        first: for each source position, the first one with the same id (N, S); None without copying.
        size: V plus the largest number of OOV pieces in one source of the batch.
        refused: ids that single rows never produce, (V, N); None: there are none.
    """

    def __init__(
        self,
        weights: OutputWeights,
        features: Tensor,
        *,
        banned: Tensor,
        copying: Copying | None,
        first: Tensor | None,
        size: int,
        refused: Tensor | None = None,
    ) -> None:
        self._weights = weights
        self._weight, self._bias, self._transposed, self._half = weights
        if len(features) < FEW_ROWS and self._transposed is not None and refused is None:
            self._half = None  # fp32 is faster
        else:
            self._transposed = None
        self._features = features.to(self._weight.dtype)
        self._banned, self._copying, self._first, self._size = banned, copying, first, size
        self._refused = refused
        self._log_sum: Tensor | None = None

    def best(self, k: int, banned: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and ids of the k best ids of each row; see ``NextToken.best``."""
        count = k + len(banned)  # at most len(banned) of them are banned
        if count * BLOCKS > len(self._weight):
            log_probs = self.log_probs()
            count = min(count, log_probs.shape[1])
            log_probs, ids = log_probs.topk(count, dim=1)
        else:
            found = self._reduce(count)
            log_probs, ids = found.logits - found.log_sum.unsqueeze(1), found.ids
            if self._copying is not None:
                log_probs, ids = self._with_source(log_probs, ids, found.source_logits)
        if banned:
            refused = torch.isin(ids, torch.tensor(list(banned), device=ids.device))
            log_probs, order = log_probs.masked_fill(refused, NEVER).topk(min(k, self._size), dim=1)
            ids = ids.gather(1, order)
        return log_probs, ids

    def at(self, ids: Tensor) -> Tensor:
        """Return the log-probabilities of n given ids per row: (N, n) -> (N, n)."""
        size = len(self._weight)
        known = ids < size
        inside = ids.where(known, 0)
        logits = self._logits_at(inside, self._features)
        possible = known & ~torch.isin(ids, self._banned)
        if self._refused is not None:
            possible = possible & ~self._refused.t().gather(1, inside)
        log_probs = (as_fp32(logits) - self._sums().unsqueeze(1)).masked_fill(~possible, NEVER)
        if self._copying is None:
            return log_probs
        gate, log_weights = self._gate_and_log_weights()
        log_weights = log_weights.masked_fill(log_weights.exp() == 0, NEVER).unsqueeze(1)
        elsewhere = self._copying.ids.unsqueeze(1) != ids.unsqueeze(2)  # (N, n, S)
        copied = log_weights.masked_fill(elsewhere, NEVER).logsumexp(dim=2)
        return torch.logaddexp(log_probs + F.logsigmoid(gate), copied + F.logsigmoid(-gate))

    def log_probs(self) -> Tensor:
        """Return all log-probabilities: (N, V')."""
        if self._half is None:
            logits = F.linear(self._features, self._weight, self._bias)
        else:
            logits = F.linear(_half_features(self._features, self._half), self._half).to(self._features.dtype)
            ids = logits.topk(min(4 * EXTRA, logits.shape[1]), dim=1).indices
            logits.scatter_(1, ids, self._logits_at(ids, self._features))
        if self._refused is not None:
            logits = logits.masked_fill_(self._refused.t(), BANNED_LOGIT)
        return Distribution(logits, self._banned, self._copying).log_probs(self._size)

    def part(self, rows: slice) -> FastNextToken:
        """See ``NextToken.part``."""
        return FastNextToken(
            self._weights,
            self._features[rows],
            banned=self._banned,
            copying=None if self._copying is None else self._copying.select(rows),
            first=None if self._first is None else self._first[rows],
            size=self._size,
            refused=None if self._refused is None else self._refused[:, rows],
        )

    def _logits_at(self, ids: Tensor, features: Tensor) -> Tensor:
        """Return the logits of n given ids per row: (N, n), (N, E) -> (N, n)."""
        weights = F.embedding(ids, self._weight)  # (N, n, E)
        return torch.bmm(weights, features.unsqueeze(2)).squeeze(2) + self._bias[ids]

    def _with_source(self, log_probs: Tensor, ids: Tensor, source_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best ids of vocabulary and source: (N, k), (N, k), (N, S) -> (N, k), (N, k).

        Args:
            log_probs: log P_vocab of the best ids of the vocabulary.
            ids: these ids.
        """
        assert self._copying is not None
        assert self._first is not None
        gate, log_weights = self._gate_and_log_weights()
        source, first = self._copying.ids, self._first
        generated = as_fp32(source_logits) - self._sums().unsqueeze(1) + F.logsigmoid(gate)
        impossible = (source >= len(self._weight)) | torch.isin(source, self._banned)
        top = log_weights.amax(dim=1, keepdim=True)
        mass = torch.zeros_like(log_weights).scatter_add(1, first, (log_weights - top).exp())
        copied = mass.log() + top + F.logsigmoid(-gate)
        of_source = torch.logaddexp(generated.masked_fill(impossible, NEVER), copied)
        repeated = first != torch.arange(source.shape[1], device=source.device)
        of_source = of_source.masked_fill(repeated, NEVER)
        in_source = (ids.unsqueeze(2) == source.unsqueeze(1)).any(dim=2)
        of_vocab = (log_probs + F.logsigmoid(gate)).masked_fill(in_source, NEVER)
        log_probs, order = torch.cat((of_vocab, of_source), dim=1).topk(ids.shape[1], dim=1)
        return log_probs, torch.cat((ids, source), dim=1).gather(1, order)

    def _gate_and_log_weights(self) -> tuple[Tensor, Tensor]:
        """Return the gate (N, 1) and the log-weights of the source positions (N, S), as ``Distribution`` does."""
        assert self._copying is not None
        energies = as_fp32(self._copying.energies)
        gate = self._copying.gate
        if gate is None:
            gate = self._sums() - energies.logsumexp(dim=1)
        return as_fp32(gate).unsqueeze(1), torch.log_softmax(energies, dim=1)

    def _sums(self) -> Tensor:
        """Return log Z of each row: (N,)."""
        if self._log_sum is None:
            self._reduce(1)
        assert self._log_sum is not None
        return self._log_sum

    def _reduce(self, k: int) -> _Slice:
        """Compute the logits of all rows, slice by slice; return the k largest of each row, with their ids, and log Z."""
        if self._transposed is not None:
            found = self._reduce_few(self._transposed, k)
        else:
            found = _Slice(*(torch.cat(parts) for parts in zip(*self._slices(k), strict=True)))
        self._log_sum = found.log_sum
        return found

    def _reduce_few(self, transposed: Tensor, k: int) -> _Slice:
        """Compute the results of all rows at once, row by row in memory."""
        logits = torch.addmm(self._bias, self._features, transposed)
        largest, ids = logits.topk(k, dim=1)
        of_source = self._features[:, :0]
        if self._copying is not None:
            of_source = logits.gather(1, self._copying.ids.clamp(max=len(self._weight) - 1))
        top = largest[:, :1]
        log_sum = logits.sub_(top).exp_().sum(dim=1).log_() + top.squeeze(1)
        return _Slice(largest, ids, of_source, log_sum)

    def _slices(self, k: int) -> Iterator[_Slice]:
        N, V = len(self._features), len(self._weight)
        most = rows_of_a_slice(self._features, V)
        widest = max(min(most, N), 2)
        buffer = self._features.new_empty(V * widest)
        rounded = None if self._half is None else self._half.new_empty(V * widest)
        bias, source = self._bias.unsqueeze(1), None if self._copying is None else self._copying.ids
        for start in range(0, N, most):
            features = self._features[start : start + most]
            rows = (
                features if len(features) > 1 else features.repeat(2, 1)
            )  # the product of one row takes twice the time
            logits = buffer[: V * len(rows)].view(V, -1)
            if self._half is None or rounded is None:
                torch.addmm(bias, self._weight, rows.t(), out=logits)
            else:
                product = rounded[: V * len(rows)].view(V, -1)
                torch.mm(self._half, _half_features(rows, self._half).t(), out=product)
                logits.copy_(product)
            logits = logits[:, : len(features)].contiguous()
            refused = None if self._refused is None else self._refused[:, start : start + most]
            if refused is not None:
                logits.masked_fill_(refused, BANNED_LOGIT)
            largest, ids = _largest(logits, k if rounded is None else min(k + EXTRA, V))
            if rounded is not None:
                largest = self._logits_at(ids, features)
                if refused is not None:
                    largest = largest.masked_fill(refused.t().gather(1, ids), BANNED_LOGIT)
                logits.scatter_(0, ids.t(), largest.t())
                largest, order = largest.topk(k, dim=1)
                ids = ids.gather(1, order)
            of_source = features[:, :0]
            if source is not None:
                of_source = logits.gather(0, source[start : start + most].clamp(max=V - 1).t()).t()
            yield _Slice(largest, ids, of_source, _log_sum(logits, largest[:, 0], has_refused=refused is not None))


def _log_sum(logits: Tensor, top: Tensor, *, has_refused: bool) -> Tensor:
    """Return the logsumexp of each of n rows, given its largest logit: (V, n), (n,) -> (n,). The logits are overwritten."""
    is_moderate = top.device.type == "cpu" and float(top.abs().max()) < _MODERATE  # a GPU would have to be waited for
    if not is_moderate:
        logits -= top
    if has_refused:
        logits.clamp_(min=_LEAST)
    sums = logits.exp_().sum(dim=0).log_()
    return sums if is_moderate else sums + top


def _largest(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k <= V largest logits of each of n rows and their ids: (V, n) -> (n, k), (n, k), largest first."""
    V, n = logits.shape
    if BLOCKS * k > V:
        return logits.t().topk(k, dim=1)
    count = BLOCKS
    while count > BLOCKS // 4 and V // count < 64 * k:
        count //= 2
    width = V // count
    blocks = logits[: count * width].view(count, width, n)
    columns = blocks.amax(dim=0).t().topk(k, dim=1).indices  # (n, k)
    inside = blocks.gather(1, columns.t().expand(count, -1, -1))  # (count, k, n)
    rest = logits[count * width :]  # fewer than ``count`` rows
    largest, places = torch.cat((inside.flatten(0, 1), rest)).t().topk(k, dim=1)
    block, column = places // k, places % k
    ids = torch.where(places < count * k, block * width + columns.gather(1, column), places - count * k + count * width)
    return largest, ids
