"""Batched beam search; with beam size 1 it is greedy search.

A beam has K slots. Each step takes the best K continuations of a sentence. A continuation that ends with eos is finished,
keeps its slot and is never extended, so the search of a sentence ends when every slot is finished (the shrinking beam of
Bahdanau et al. 2015). The result for a sentence depends only on that sentence. At the maximum length of a sentence, only
eos is allowed; every hypothesis therefore ends with eos, and its log-probability is that of the whole sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from seq2seq.search.next_token import NextToken
from seq2seq.search.penalties import Penalties


class SearchState(Protocol):
    """The state between two steps: B sentences with K hypotheses each, N = B*K rows."""

    @property
    def weights(self) -> Tensor:
        """Attention weights of the previous step (N, S); only penalties read them."""

    @property
    def mask(self) -> Tensor:
        """Source positions that penalties count (B, S), True = counted; only penalties read it."""

    def reorder(self: State, rows: Tensor) -> State:
        """Return the state whose row i is row ``rows[i]`` of this state, which belongs to the same sentence.

        Every sentence has the same number of rows in ``rows``.
        """

    def keep(self: State, sentences: Tensor) -> State:
        """Return the state of the given sentences with all their rows, in the given order."""


State = TypeVar("State", bound=SearchState)
StepFunction = Callable[
    [Tensor, State], tuple[NextToken, State]
]  # previous tokens (N,), state -> next token of N rows, next state


class Hypothesis(NamedTuple):
    """One finished translation."""

    ids: list[int]  # the last one is eos
    log_prob: float  # natural log of P(ids), eos included
    score: float  # log_prob / len(ids)**length_penalty, minus the penalties
    token_log_probs: list[float]  # one per id; their sum is log_prob
    cut: bool  # eos was forced by the maximum length, although another token was more probable


class SearchOptions(NamedTuple):
    """Options of a search."""

    bos_id: int
    eos_id: int
    beam_size: int
    length_penalty: float = 1.0  # a in score = log P / |Y|^a
    min_length: int = 0  # minimum number of ids before eos
    penalties: Penalties = Penalties()
    never_id: int | None = None  # an id that is never produced


class _Beams(NamedTuple):
    """The unfinished hypotheses of B sentences."""

    log_prob_sums: Tensor  # (B, K) fp64 sums of log-probabilities; minus infinity in slots that are finished or empty
    ids: Tensor  # (B, K, t)
    log_probs: Tensor  # (B, K, t)
    attended: Tensor  # (B, K, S), sums of the weights of all steps; (B, K, 0) without penalties

    @classmethod
    def start(cls, sentences: int, positions: int, device: torch.device) -> _Beams:
        """Return beams with one slot that has no ids yet."""
        empty = torch.zeros(sentences, 1, 0, device=device)
        attended = torch.zeros(sentences, 1, positions, device=device)
        return cls(torch.zeros(sentences, 1, dtype=torch.float64, device=device), empty.long(), empty, attended)

    def select(self, sentences: Tensor, slots: Tensor) -> _Beams:
        """Select slots (B', K') of sentences (B', 1)."""
        return _Beams(*(tensor[sentences, slots] for tensor in self))


class _Candidates(NamedTuple):
    """The best next tokens of each slot."""

    log_probs: Tensor  # (B, K, C)
    ids: Tensor  # (B, K, C)
    forced: Tensor  # (B, K), whether eos is forced although another token is more probable


@torch.no_grad()
def beam_search(
    step: StepFunction[State], state: State, max_lengths: Sequence[int], options: SearchOptions
) -> list[list[Hypothesis]]:
    """Search the translations of a batch of sentences.

    Args:
        step: maps the previous tokens and the state to the distribution of the next token and the next state.
        state: the initial state, with one row per sentence.
        max_lengths: for each sentence, the maximum number of ids, eos included; at least 1.

    Returns:
        The hypotheses of each sentence, best score first: ``beam_size`` of them, or fewer if no more exist.
    """
    found: list[list[Hypothesis]] = [[] for _ in max_lengths]
    if not found:
        return found
    sentences = list(range(len(found)))  # those whose search has not ended
    tokens = torch.full((len(found),), options.bos_id)
    beams: _Beams | None = None
    mask = state.mask if options.penalties else None  # (B, S)
    for length in range(1, max(max_lengths) + 1):
        next_token, state = step(tokens, state)
        free = [options.beam_size - len(found[number]) for number in sentences]
        at_limit = [max_lengths[number] == length for number in sentences]
        candidates = _candidates(next_token, at_limit, length, max(free), options)
        if beams is None:
            positions = 0 if mask is None else mask.shape[1]
            beams = _Beams.start(len(found), positions, candidates.log_probs.device)
        count, slots = beams.log_prob_sums.shape
        if mask is not None:
            beams = beams._replace(attended=beams.attended + state.weights.view(count, slots, -1))
        beams, parents = _advance(beams, candidates, free)
        ended = _finish(beams, mask, sentences, found, candidates.forced.gather(1, parents), options)
        beams = beams._replace(log_prob_sums=beams.log_prob_sums.masked_fill(ended, -inf))
        alive = [row for row, some in enumerate((beams.log_prob_sums > -inf).any(dim=1).tolist()) if some]
        if not alive:
            break
        first_rows = slots * torch.arange(count, device=parents.device).unsqueeze(1)
        state = state.reorder((first_rows + parents).flatten())
        if len(alive) < count:
            kept = torch.tensor(alive, device=parents.device)
            state = state.keep(kept)
            beams = _Beams(*(tensor[kept] for tensor in beams))
            sentences = [sentences[row] for row in alive]
        tokens = beams.ids[:, :, -1].flatten()
    for hypotheses in found:
        hypotheses.sort(key=lambda hypothesis: -hypothesis.score)
    return found


def _candidates(
    next_token: NextToken, at_limit: Sequence[bool], length: int, count: int, options: SearchOptions
) -> _Candidates:
    """Find the best next tokens of each slot.

    Up to the minimum length, eos is banned unless it is the only possible token. At the maximum length of a sentence, which
    takes precedence, eos is its only candidate.

    Args:
        at_limit: whether each of the B sentences has reached its maximum length.
        length: the length of the hypotheses including the next token.
        count: C, the number of candidates per slot; there are fewer if there are fewer ids.
    """
    never = () if options.never_id is None else (options.never_id,)
    needs_end = length <= options.min_length
    log_probs, ids = next_token.best(count, (*never, options.eos_id) if needs_end else never)  # (N, C)
    forced = torch.zeros_like(ids[:, 0], dtype=torch.bool)
    if needs_end or any(at_limit):
        ends = torch.full_like(ids[:, :1], options.eos_id)
        end_log_probs = next_token.at(ends)  # (N, 1)
        limit = torch.tensor(at_limit, device=ids.device).repeat_interleave(len(ids) // len(at_limit)).unsqueeze(1)
        better = (ids[:, :1] != options.eos_id) & (log_probs[:, :1] > end_log_probs)
        forced = (limit & better).squeeze(1)
        only_end = limit | (log_probs[:, :1] == -inf) if needs_end else limit  # (N, 1)
        log_probs = log_probs.masked_fill(only_end, -inf)
        log_probs = torch.cat((torch.where(only_end, end_log_probs, log_probs[:, :1]), log_probs[:, 1:]), dim=1)
        ids = ids.masked_fill(only_end, options.eos_id)
    per_sentence = (len(at_limit), -1)
    return _Candidates(*(tensor.unflatten(0, per_sentence) for tensor in (log_probs, ids, forced)))


def _advance(beams: _Beams, candidates: _Candidates, free: Sequence[int]) -> tuple[_Beams, Tensor]:
    """Take the best continuations of each sentence, as many as it has free slots.

    Args:
        free: for each of the B sentences, the number of slots that are not finished.

    Returns:
        The beams with one more id, with K slots; and the previous slot of each new slot (B, K).
    """
    per_slot = candidates.ids.shape[2]
    totals = (beams.log_prob_sums.unsqueeze(2) + candidates.log_probs).flatten(1)  # (B, K, C) -> (B, K*C)
    sums, chosen = totals.topk(min(max(free), totals.shape[1]), dim=1)
    ranks = torch.arange(sums.shape[1], device=sums.device)
    sums = sums.masked_fill(ranks >= torch.tensor(free, device=sums.device).unsqueeze(1), -inf)
    parents = chosen // per_slot
    sentences = torch.arange(len(sums), device=sums.device).unsqueeze(1)
    old = beams.select(sentences, parents)
    ids = candidates.ids.flatten(1).gather(1, chosen).unsqueeze(2)
    log_probs = candidates.log_probs.flatten(1).gather(1, chosen).unsqueeze(2)
    longer = (torch.cat((old.ids, ids), dim=2), torch.cat((old.log_probs, log_probs), dim=2))
    return _Beams(sums, *longer, old.attended), parents


def _finish(
    beams: _Beams,
    mask: Tensor | None,
    sentences: list[int],
    found: list[list[Hypothesis]],
    forced: Tensor,
    options: SearchOptions,
) -> Tensor:
    """Append the hypotheses that end with this step to ``found``.

    Args:
        forced: whether the eos of each slot was forced (B, K).

    Returns:
        Whether each slot ended (B, K).
    """
    ended = (beams.ids[:, :, -1] == options.eos_id) & (beams.log_prob_sums > -inf)
    places = ended.nonzero()
    if len(places):
        rows, slots = places.unbind(1)
        finished = beams.select(rows, slots)
        length = finished.ids.shape[1]
        scores = finished.log_prob_sums / length**options.length_penalty
        if mask is not None:
            numbers = torch.tensor(sentences, device=rows.device)[rows]
            scores = scores - options.penalties(finished.attended, mask[numbers])
        cut = forced[rows, slots]
        lists = (t.tolist() for t in (rows, finished.ids, finished.log_prob_sums, scores, finished.log_probs, cut))
        for row, ids, log_prob, score, token_log_probs, was_cut in zip(*lists, strict=True):
            found[sentences[row]].append(Hypothesis(ids, log_prob, score, token_log_probs, was_cut))
    return ended
