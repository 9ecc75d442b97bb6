"""Batched beam search; with one slot it is greedy search.

A beam has K slots. Each step takes the best K continuations of a sentence; one that ends with eos is finished, keeps
its slot and is never extended, so the search of a sentence ends when every slot is finished (Bahdanau et al. 2015's
shrinking beam). What a sentence gets depends on that sentence alone. At its maximum length only eos is allowed, so
every hypothesis ends with eos and its log-probability is that of the whole sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from seq2seq.search.penalties import Penalties

NEVER = -float("inf")


class State(Protocol):
    """What the step function carries from token to token; one row per hypothesis."""

    @property
    def weights(self) -> Tensor:
        """Where the last step looked (N, S); asked for penalties alone."""

    @property
    def mask(self) -> Tensor:
        """Which positions count (N, S), True = real; asked for penalties alone."""

    def reorder(self: S, rows: Tensor) -> S:
        """New row i is old row ``rows[i]`` of the same sentence."""

    def select(self: S, rows: Tensor) -> S:
        """New row i is old row ``rows[i]``; sentences may leave."""


S = TypeVar("S", bound=State)
Step = Callable[[Tensor, S], tuple[Tensor, S]]  # last tokens (N,), state -> log-probabilities (N, V), state


class Hypothesis(NamedTuple):
    """One finished translation."""

    ids: list[int]  # the last one is eos
    log_prob: float  # natural log of P(ids), eos included
    score: float  # log_prob / len(ids)**length_penalty, minus the penalties
    token_log_probs: list[float]  # one per id; they sum to log_prob
    cut: bool  # eos was forced by the maximum length, though something else was likelier


class Search(NamedTuple):
    """What to look for."""

    bos_id: int
    eos_id: int
    beam_size: int
    length_penalty: float = 1.0  # a of score = log P / |Y|^a
    min_length: int = 0  # ids before eos
    penalties: Penalties = Penalties()
    never_id: int | None = None  # an id that is not to be produced


class _Beams(NamedTuple):
    """The live part of the search."""

    scores: Tensor  # (R, K) sums of log-probabilities; minus infinity in slots that are finished or empty
    ids: Tensor  # (R, K, t)
    log_probs: Tensor  # (R, K, t)
    attended: Tensor  # (R, K, S), sums of weights; (R, K, 0) without penalties

    def take(self, sentences: Tensor, slots: Tensor) -> _Beams:
        """Pick (R', K') slots of (R', 1) sentences."""
        return _Beams(*(tensor[sentences, slots] for tensor in self))


@torch.no_grad()
def beam_search(step: Step[S], state: S, max_lengths: Sequence[int], search: Search) -> list[list[Hypothesis]]:
    """Search every sentence of a batch.

    Args:
        step: maps the last tokens and the state to the log-probabilities of the next.
        state: one row per sentence.
        max_lengths: per sentence, ids with eos, at least 1.

    Returns:
        Per sentence its hypotheses, best score first: ``beam_size`` of them, or fewer if there are no more to be had.
    """
    count = len(max_lengths)
    found: list[list[Hypothesis]] = [[] for _ in range(count)]
    if not count:
        return found
    numbers = list(range(count))  # of the sentences still searched
    tokens = torch.full((count,), search.bos_id)
    beams: _Beams | None = None
    mask = state.mask if search.penalties else None  # (B, S)
    for length in range(1, max(max_lengths) + 1):
        log_probs, state = step(tokens, state)
        if beams is None:
            device = log_probs.device
            empty = torch.zeros(count, 1, 0, device=device)
            attended = empty if mask is None else torch.zeros(count, 1, mask.shape[1], device=device)
            beams = _Beams(torch.zeros(count, 1, device=device), empty.long(), empty, attended)
        rows, width = beams.scores.shape
        log_probs = log_probs.view(rows, width, -1)
        last = [max_lengths[number] == length for number in numbers]
        log_probs, forced = _restrict(log_probs, last, length, search)
        free = [search.beam_size - len(found[number]) for number in numbers]
        if mask is not None:
            beams = beams._replace(attended=beams.attended + state.weights.view(rows, width, -1))
        beams, parents = _advance(beams, log_probs, free)
        ended = _finish(beams, mask, numbers, found, forced.gather(1, parents), search)
        scores = beams.scores.masked_fill(ended, NEVER)
        beams = beams._replace(scores=scores)
        alive = [row for row, some in enumerate((scores > NEVER).any(dim=1).tolist()) if some]
        if not alive:
            break
        sentences = torch.tensor(alive, device=scores.device).unsqueeze(1)  # (R', 1)
        slots = torch.arange(scores.shape[1], device=scores.device).unsqueeze(0)  # (1, K)
        old_rows = (sentences * width + parents[sentences, slots]).flatten()
        stay = len(alive) == rows and width == scores.shape[1]
        state = state.reorder(old_rows) if stay else state.select(old_rows)
        beams = beams.take(sentences, slots)
        numbers = [numbers[row] for row in alive]
        tokens = beams.ids[:, :, -1].flatten()
    for hypotheses in found:
        hypotheses.sort(key=lambda hypothesis: -hypothesis.score)
    return found


def _restrict(log_probs: Tensor, last: Sequence[bool], length: int, search: Search) -> tuple[Tensor, Tensor]:
    """No eos before the minimum length unless nothing else is possible; nothing but eos at the maximum, which wins.

    Args:
        log_probs: (R, width, V).
        last: which of the R sentences have come to their maximum length.

    Returns:
        The log-probabilities (R, width, V); and where eos is forced, though something else is likelier (R, width).
    """
    eos, never = torch.zeros(2, log_probs.shape[-1], dtype=torch.bool, device=log_probs.device)
    eos[search.eos_id] = True
    if search.never_id is not None:
        never[search.never_id] = True
    ends = torch.tensor(last, device=log_probs.device).view(-1, 1, 1)
    if length <= search.min_length:
        others = (log_probs.masked_fill(eos | never, NEVER) > NEVER).any(dim=-1, keepdim=True)
        log_probs = log_probs.masked_fill(eos & others & ~ends, NEVER)
    log_probs = log_probs.masked_fill(never, NEVER)
    if not any(last):
        return log_probs, torch.zeros_like(log_probs[..., 0], dtype=torch.bool)
    forced = ends.squeeze(2) & (log_probs.argmax(dim=-1) != search.eos_id)
    return log_probs.masked_fill(~eos & ends, NEVER), forced


def _advance(beams: _Beams, log_probs: Tensor, free: Sequence[int]) -> tuple[_Beams, Tensor]:
    """Take the best continuations of every sentence, as many as it has free slots.

    Args:
        log_probs: (R, width, V).
        free: of each of the R sentences, slots not yet finished.

    Returns:
        The beams one id longer, with K slots; and the old slot of each (R, K).
    """
    rows, width, vocab = log_probs.shape
    most = max(free)
    totals = (beams.scores.unsqueeze(2) + log_probs).flatten(1)  # (R, width, V) -> (R, width*V)
    scores, chosen = totals.topk(min(most, width * vocab), dim=1)
    ranks = torch.arange(scores.shape[1], device=scores.device)
    scores = scores.masked_fill(ranks >= torch.tensor(free, device=scores.device).unsqueeze(1), NEVER)
    parents, ids = chosen // vocab, chosen % vocab
    sentences = torch.arange(rows, device=scores.device).unsqueeze(1)
    old = beams.take(sentences, parents)
    return _Beams(
        scores,
        torch.cat((old.ids, ids.unsqueeze(2)), dim=2),
        torch.cat((old.log_probs, log_probs[sentences, parents, ids].unsqueeze(2)), dim=2),
        old.attended,
    ), parents


def _finish(
    beams: _Beams,
    mask: Tensor | None,
    numbers: list[int],
    found: list[list[Hypothesis]],
    forced: Tensor,
    search: Search,
) -> Tensor:
    """Collect the hypotheses that have just ended, by force or not (R, K); return where they stand (R, K)."""
    ended = (beams.ids[:, :, -1] == search.eos_id) & (beams.scores > NEVER)
    places = ended.nonzero()
    if len(places):
        rows, slots = places.unbind(1)
        finished = beams.take(rows, slots)
        length = finished.ids.shape[1]
        scores = finished.scores / length**search.length_penalty
        if mask is not None:
            sentences = torch.tensor(numbers, device=rows.device)[rows]
            scores = scores - search.penalties(finished.attended, mask[sentences])
        cut = forced[rows, slots]
        lists = (t.tolist() for t in (rows, finished.ids, finished.scores, scores, finished.log_probs, cut))
        for row, ids, log_prob, score, token_log_probs, was_cut in zip(*lists, strict=True):
            found[numbers[row]].append(Hypothesis(ids, log_prob, score, token_log_probs, was_cut))
    return ended
