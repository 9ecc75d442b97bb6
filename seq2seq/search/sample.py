"""Sampling: independent translations drawn from the distribution of the model.

Each next id is drawn by inverse cumulative distribution from one uniform number that the caller provides, over the ids in
increasing order. So a sample depends only on its sentence, its numbers and the settings, not on the other sentences of the
batch, as far as the probabilities do. Rounding changes these by about 1e-6 between batches: a draw whose number lies within
``BORDER`` of the border between two ids can give another id there, and is counted.

N is B*n rows for n samples of each sentence. V' is the size of the extended vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor, finfo

from seq2seq.search.beam import Hypothesis, SearchOptions, State, StepFunction, only_id
from seq2seq.search.constraints import constrained_values

BORDER = 1e-4  # difference of probabilities, or of log-probabilities at the truncation by rank
_ROWS = 256  # rows that are drawn at once, so that their probabilities stay in the cache
_HEAD = 256  # probabilities that are sorted first; those of most rows sum to more than a usual top-p


class Truncation(NamedTuple):
    """Changes of the distribution before a draw, in this order."""

    temperature: float = 1.0  # the log-probabilities are divided by it
    top_k: int = 0  # the k most probable ids are kept (Fan et al. 2018); 0: all
    top_p: float = 1.0  # of these the fewest whose probabilities sum to at least p (Holtzman et al. 2020)


class Samples(NamedTuple):
    """The samples of a batch of sentences."""

    hypotheses: list[list[Hypothesis]]  # n of each sentence, best score first; equal samples are all kept
    draws: int  # ids that were drawn
    near_draws: int  # those within ``BORDER`` of another id


class _Rows(NamedTuple):
    """The samples so far of N rows."""

    sums: Tensor  # (N,) fp64 sums of the values of the ids
    ids: Tensor  # (N, t)
    log_probs: Tensor  # (N, t), of the model
    attended: Tensor  # (N, S), sums of the weights of all steps; (N, 0) without penalties
    alive: Tensor  # (N,), whether the row has no eos yet


@torch.no_grad()
def sample(
    step: StepFunction[State],
    state: State,
    max_lengths: Sequence[int],
    uniforms: Tensor,
    *,
    options: SearchOptions,
    truncation: Truncation,
    prefixes: Sequence[Sequence[int]] = (),
) -> Samples:
    """Draw n samples of each of a batch of sentences; see ``beam_search`` for the arguments that are not listed.

    Log-probabilities and scores are those of the model, without the truncation.

    Args:
        uniforms: numbers in [0, 1) for each sentence, sample and step (B, n, T), in fp64; T is at least the largest
            maximum length.
        options: those of beam search; ``beam_size`` is not read.
    """
    found: list[list[Hypothesis]] = [[] for _ in max_lengths]
    draws = near_draws = 0
    sentences = list(range(len(found)))
    count = uniforms.shape[1]
    mask = state.mask if options.penalties else None  # (B, S)
    tokens = torch.full((len(found),), options.bos_id)
    rows: _Rows | None = None
    for length in range(1, max(max_lengths, default=0) + 1):
        next_token, state = step(tokens, state)
        log_probs = next_token.log_probs()
        if rows is None:
            each = torch.arange(len(found), device=log_probs.device).repeat_interleave(count)
            state, log_probs = state.reorder(each), log_probs[each]
            rows = _start(len(each), 0 if mask is None else mask.shape[1], log_probs)
        if mask is not None:
            rows = rows._replace(attended=rows.attended + state.weights)
        only = [only_id(prefixes[n] if prefixes else (), max_lengths[n], length, options.eos_id) for n in sentences]
        numbers = uniforms[sentences, :, length - 1].flatten().to(log_probs.device)
        values = _values(log_probs, rows.ids, options)
        drawn, near = _draw_rows(values, numbers, truncation)
        singles = torch.tensor([-1 if number is None else number for number in only], device=drawn.device)
        singles = singles.repeat_interleave(count)
        is_free = singles < 0
        draws, near_draws = (
            draws + int((rows.alive & is_free).sum()),
            near_draws + int((near & rows.alive & is_free).sum()),
        )
        ids = torch.where(is_free, drawn, singles)
        rows = _extend(rows, log_probs, values, ids, is_free)
        cut = (singles == options.eos_id) & (drawn != ids)
        _finish(rows, mask, sentences, found, cut, options)
        rows = rows._replace(alive=rows.alive & (ids != options.eos_id))
        kept = rows.alive.view(len(sentences), count).any(dim=1).nonzero().squeeze(1)
        if not len(kept):
            break
        if len(kept) < len(sentences):
            state = state.keep(kept)
            places = (count * kept.unsqueeze(1) + torch.arange(count, device=kept.device)).flatten()
            rows = _Rows(*(tensor[places] for tensor in rows))
            sentences = [sentences[row] for row in kept.tolist()]
        tokens = rows.ids[:, -1]
    for hypotheses in found:
        hypotheses.sort(key=lambda hypothesis: -hypothesis.score)
    return Samples(found, draws, near_draws)


def draw(values: Tensor, numbers: Tensor, truncation: Truncation) -> tuple[Tensor, Tensor]:
    """Draw one id per row.

    Args:
        values: log-probabilities up to a constant of each row (N, V'); at least one of a row is finite.
        numbers: uniform numbers in [0, 1), in fp64 (N,).

    Returns:
        The ids (N,); and whether a change of the probabilities by ``BORDER`` could give another id (N,).
    """
    temperature, top_k, top_p = truncation
    weights = torch.softmax(values.double() / temperature, dim=1)  # (N, V')
    near = torch.zeros_like(numbers, dtype=torch.bool)
    if 0 < top_k < weights.shape[1]:
        best = weights.topk(top_k + 1, dim=1).values
        last, following = best[:, -2], best[:, -1]
        near |= (following > BORDER) & (following > last * (1 - BORDER))
        weights = weights.masked_fill(weights < last.unsqueeze(1), 0.0)
    if top_p < 1:
        weights = weights / weights.sum(dim=1, keepdim=True)
        least, is_near = _least_of_top_p(weights, top_p)
        near |= is_near
        weights = weights.masked_fill(weights < least.unsqueeze(1), 0.0)
    sums = weights.cumsum(dim=1)
    totals = sums[:, -1]
    points = torch.minimum(numbers * totals, torch.nextafter(totals, torch.zeros_like(totals)))
    ids = torch.searchsorted(sums, points.unsqueeze(1), right=True)  # (N, 1)
    high = sums.gather(1, ids).squeeze(1)
    low = high - weights.gather(1, ids).squeeze(1)
    width = BORDER * totals
    near |= ((points - low < width) & (low > width)) | ((high - points < width) & (totals - high > width))
    return ids.squeeze(1), near


def _least_of_top_p(weights: Tensor, top_p: float, head: int = _HEAD) -> tuple[Tensor, Tensor]:
    """Find the smallest of the most probable ids whose probabilities sum to ``top_p``.

    Only the largest ``head`` probabilities of a row are sorted, and all of them where these sum to less.

    Args:
        weights: probabilities (N, V').

    Returns:
        Its probability (N,), and whether another id is within ``BORDER`` of this border (N,).
    """
    best = weights.topk(min(head, weights.shape[1]), dim=1).values
    before = best.cumsum(dim=1) - best  # the sum of the more probable ids
    near = (((before - top_p).abs() < BORDER) & (best > BORDER)).any(dim=1)
    places = (before < top_p).sum(dim=1, keepdim=True).clamp(min=1) - 1
    least = best.gather(1, places).squeeze(1)
    rest = (best.sum(dim=1) < top_p + BORDER).nonzero().squeeze(1)
    if len(rest) and head < weights.shape[1]:
        least[rest], near[rest] = _least_of_top_p(weights[rest], top_p, weights.shape[1])
    return least, near


def _draw_rows(values: Tensor, numbers: Tensor, truncation: Truncation) -> tuple[Tensor, Tensor]:
    """Draw for slices of rows, see ``draw``."""
    parts = [draw(*part, truncation) for part in zip(values.split(_ROWS), numbers.split(_ROWS), strict=True)]
    ids, near = (torch.cat(some) for some in zip(*parts, strict=True))
    return ids, near


def _start(count: int, positions: int, log_probs: Tensor) -> _Rows:
    """Return rows without ids, on the device of ``log_probs``."""
    empty = log_probs.new_zeros(count, 0)
    sums = torch.zeros(count, dtype=torch.float64, device=log_probs.device)
    attended = log_probs.new_zeros(count, positions)
    return _Rows(sums, empty.long(), empty, attended, torch.ones_like(sums, dtype=torch.bool))


def _values(log_probs: Tensor, history: Tensor, options: SearchOptions) -> Tensor:
    """Return the values to draw from; eos is the way out of a row without any other possible id: (N, V') -> (N, V')."""
    values = constrained_values(log_probs, history, options.constraints)
    banned = [] if options.never_id is None else [options.never_id]
    if history.shape[1] < options.min_length:
        banned.append(options.eos_id)
    values = values.index_fill(1, torch.tensor(banned, dtype=torch.long, device=values.device), -inf)
    stuck = (values == -inf).all(dim=1)
    ends = log_probs[:, options.eos_id].clamp(min=finfo(log_probs.dtype).min)
    values[:, options.eos_id] = torch.where(stuck, ends, values[:, options.eos_id])
    return values


def _extend(rows: _Rows, log_probs: Tensor, values: Tensor, ids: Tensor, is_free: Tensor) -> _Rows:
    """Append an id to each row.

    Args:
        is_free: whether the id was drawn (N,); a forced id has its log-probability as its value.
    """
    ids = ids.unsqueeze(1)
    chosen = log_probs.gather(1, ids)  # (N, 1)
    chosen = chosen.clamp(min=finfo(chosen.dtype).min)  # an impossible id of a prefix is forced too
    lowered = torch.where(is_free.unsqueeze(1), values.gather(1, ids), chosen)
    return rows._replace(
        sums=rows.sums + lowered.squeeze(1),
        ids=torch.cat((rows.ids, ids), dim=1),
        log_probs=torch.cat((rows.log_probs, chosen), dim=1),
    )


def _finish(
    rows: _Rows,
    mask: Tensor | None,
    sentences: Sequence[int],
    found: list[list[Hypothesis]],
    cut: Tensor,
    options: SearchOptions,
) -> None:
    """Append the samples that end with this step to ``found``.

    Args:
        cut: whether eos was forced although another id was drawn (N,).
    """
    ended = (rows.alive & (rows.ids[:, -1] == options.eos_id)).nonzero().squeeze(1)
    per_sentence = len(rows.alive) // len(sentences)
    log_prob_sums = rows.log_probs[ended].double().sum(dim=1)
    scores = rows.sums[ended] / rows.ids.shape[1] ** options.length_penalty
    numbers = [sentences[row // per_sentence] for row in ended.tolist()]
    if mask is not None:
        scores = scores - options.penalties(rows.attended[ended], mask[numbers])
    lists = (t.tolist() for t in (rows.ids[ended], log_prob_sums, scores, rows.log_probs[ended], cut[ended]))
    for number, ids, log_prob, score, token_log_probs, was_cut in zip(numbers, *lists, strict=True):
        found[number].append(Hypothesis(ids, log_prob, score, token_log_probs, was_cut))
