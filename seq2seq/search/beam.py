"""Batched beam search; with beam size 1 it is greedy search.

A beam has K slots. Each step takes the best K continuations of a sentence. A continuation that ends with eos is finished,
keeps its slot and is never extended, so the search of a sentence ends when every slot is finished (the shrinking beam of
Bahdanau et al. 2015). The result for a sentence depends only on that sentence. At the maximum length of a sentence, only
eos is allowed; every hypothesis therefore ends with eos, and its log-probability is that of the whole sentence.

A target prefix is forced in the same way: while it lasts, its next id is the only candidate. Constraints change the values
that order the candidates, not their log-probabilities. Sentences with required terms are searched as ``required`` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, finfo

from seq2seq.search.constraints import Candidates, Constraint, best_candidates
from seq2seq.search.next_token import NextToken
from seq2seq.search.penalties import Penalties
from seq2seq.search.required import RequiredTerms, StepRules, TermBanks, order_by_banks


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
    score: float  # (log_prob - the cost of a repetition penalty) / len(ids)**length_penalty, minus the other penalties
    token_log_probs: list[float]  # one per id; their sum is log_prob
    cut: bool  # eos was forced by the maximum length, although another token was more probable
    utility: float | None = None  # mean utility against the other hypotheses, where they are ordered by it


class SearchOptions(NamedTuple):
    """Options of a search."""

    bos_id: int
    eos_id: int
    beam_size: int
    length_penalty: float = 1.0  # a in score = log P / |Y|^a
    min_length: int = 0  # minimum number of ids before eos
    penalties: Penalties = Penalties()
    never_id: int | None = None  # an id that is never produced
    constraints: tuple[Constraint, ...] = ()


class _Beams(NamedTuple):
    """The unfinished hypotheses of B sentences."""

    sums: Tensor  # (B, K) fp64 sums of the values of the ids; minus infinity in slots that are finished or empty
    ids: Tensor  # (B, K, t)
    log_probs: Tensor  # (B, K, t), of the model
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


@torch.no_grad()
def beam_search(
    step: StepFunction[State],
    state: State,
    max_lengths: Sequence[int],
    options: SearchOptions,
    prefixes: Sequence[Sequence[int]] = (),
    required: Sequence[RequiredTerms | None] = (),
) -> list[list[Hypothesis]]:
    """Search the translations of a batch of sentences.

    Args:
        step: maps the previous tokens and the state to the distribution of the next token and the next state.
        state: the initial state, with one row per sentence.
        max_lengths: for each sentence, the maximum number of ids, eos included; at least 1.
        prefixes: for each sentence, the first ids of its hypotheses, shorter than its maximum length; or (): no prefixes.
        required: for each sentence, the terms that its hypotheses must have, or None; or (): no terms.

    Returns:
        The hypotheses of each sentence, best score first: ``beam_size`` of them, or fewer if no more exist. Those with
        faults in the required terms come after the others.
    """
    found: list[list[Hypothesis]] = [[] for _ in max_lengths]
    if not found:
        return found
    sentences = list(range(len(found)))  # those whose search has not ended
    tokens = torch.full((len(found),), options.bos_id)
    beams: _Beams | None = None
    mask = state.mask if options.penalties else None  # (B, S)
    banks = TermBanks(required, options.beam_size) if any(required) else None
    for length in range(1, max(max_lengths) + 1):
        next_token, state = step(tokens, state)
        free = [options.beam_size - len(found[number]) for number in sentences]
        if banks is not None:
            free = [banks.free_slots(number, len(found[number])) for number in sentences]
        history = torch.zeros(len(found), 1, 0, dtype=torch.long) if beams is None else beams.ids
        only = [only_id(prefixes[n] if prefixes else (), max_lengths[n], length, options.eos_id) for n in sentences]
        candidates, forced = _candidates(next_token, history, only, max(free), options)
        lacking: Tensor | None = None
        if banks is not None:
            rules = StepRules(options.eos_id, length > options.min_length, options.constraints)
            candidates, lacking = banks.candidates(next_token, candidates, history, sentences, only, rules)
        if beams is None:
            positions = 0 if mask is None else mask.shape[1]
            beams = _Beams.start(len(found), positions, candidates.log_probs.device)
        count, slots = beams.sums.shape
        if mask is not None:
            beams = beams._replace(attended=beams.attended + state.weights.view(count, slots, -1))
        beams, parents = _advance(beams, candidates, free, lacking)
        ended = _finish(beams, mask, sentences, found, forced.gather(1, parents), options)
        beams = beams._replace(sums=beams.sums.masked_fill(ended, -inf))
        if banks is not None:
            done = _done(banks, beams, sentences, found, options)
            beams = beams._replace(sums=beams.sums.masked_fill(done.unsqueeze(1), -inf))
            banks.advance(sentences, parents, beams.ids[:, :, -1], beams.sums > -inf)
        alive = [row for row, some in enumerate((beams.sums > -inf).any(dim=1).tolist()) if some]
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
    for number, hypotheses in enumerate(found):
        hypotheses.sort(key=lambda hypothesis: -hypothesis.score)
        if banks is not None and (terms := required[number]) is not None:
            hypotheses.sort(key=lambda hypothesis: terms.faults(hypothesis.ids))
            del hypotheses[options.beam_size :]
    return found


def only_id(prefix: Sequence[int], limit: int, length: int, eos_id: int) -> int | None:
    """Return the only id that a sentence may have at a length, or None: eos at its maximum length, or an id of its prefix."""
    if length == limit:
        return eos_id
    return prefix[length - 1] if length <= len(prefix) else None


def _candidates(
    next_token: NextToken, history: Tensor, only: Sequence[int | None], count: int, options: SearchOptions
) -> tuple[Candidates, Tensor]:
    """Find the best next tokens of each slot.

    Up to the minimum length, eos is banned unless it is the only possible token.

    Args:
        history: the ids so far (B, K, t).
        only: for each of the B sentences, its only candidate, which takes precedence over everything else, or None.
        count: C, the number of candidates per slot; there are fewer if there are fewer ids.

    Returns:
        The candidates (B, K, C); and whether eos is forced although another token is more probable (B, K).
    """
    never = () if options.never_id is None else (options.never_id,)
    needs_end = history.shape[2] < options.min_length
    banned = (*never, options.eos_id) if needs_end else never
    best = best_candidates(next_token, history.flatten(0, 1), count, banned=banned, constraints=options.constraints)
    log_probs, ids, values = best  # (N, C)
    forced = torch.zeros_like(ids[:, :1], dtype=torch.bool)
    if needs_end or any(number is not None for number in only):
        slots = history.shape[1]
        singles = torch.tensor([options.eos_id if number is None else number for number in only], device=ids.device)
        singles = singles.repeat_interleave(slots).unsqueeze(1)  # (N, 1)
        is_single = torch.tensor([number is not None for number in only], device=ids.device)
        is_single = is_single.repeat_interleave(slots).unsqueeze(1)
        single_log_probs = next_token.at(singles)
        is_end = singles == options.eos_id
        lowest = finfo(single_log_probs.dtype).min  # an impossible id of a prefix is forced too
        single_log_probs = single_log_probs.where(is_end, single_log_probs.clamp(min=lowest))
        forced = is_single & is_end & (ids[:, :1] != singles) & (values[:, :1] > single_log_probs)
        if needs_end:
            is_single = is_single | (values[:, :1] == -inf)
        values = values.masked_fill(is_single, -inf)
        log_probs = torch.where(is_single, single_log_probs, log_probs)
        values = torch.cat((torch.where(is_single, single_log_probs, values[:, :1]), values[:, 1:]), dim=1)
        ids = torch.where(is_single, singles, ids)
    per_sentence = (len(only), -1)
    candidates = Candidates(*(tensor.unflatten(0, per_sentence) for tensor in (log_probs, ids, values)))
    return candidates, forced.view(per_sentence)


def _done(
    banks: TermBanks, beams: _Beams, sentences: Sequence[int], found: Sequence[list[Hypothesis]], options: SearchOptions
) -> Tensor:
    """Return whether the search of each sentence ends although hypotheses are unfinished (B,)."""
    best = (beams.sums.amax(dim=1) / beams.ids.shape[2] ** options.length_penalty).tolist()
    done = [
        banks.is_done(number, [(hypothesis.ids, hypothesis.score) for hypothesis in found[number]], score)
        for number, score in zip(sentences, best, strict=True)
    ]
    return torch.tensor(done, device=beams.sums.device)


def _advance(
    beams: _Beams, candidates: Candidates, free: Sequence[int], lacking: Tensor | None = None
) -> tuple[_Beams, Tensor]:
    """Take the best continuations of each sentence, as many as it has free slots.

    Args:
        free: for each of the B sentences, the number of slots that are not finished.
        lacking: how many required ids each candidate lacks (B, K, C); None without required terms.

    Returns:
        The beams with one more id, with K slots; and the previous slot of each new slot (B, K).
    """
    per_slot = candidates.ids.shape[2]
    totals = (beams.sums.unsqueeze(2) + candidates.values).flatten(1)  # (B, K, C) -> (B, K*C)
    if lacking is None:
        sums, chosen = totals.topk(min(max(free), totals.shape[1]), dim=1)
    else:
        chosen = order_by_banks(totals, lacking.flatten(1))[:, : max(free)]
        sums = totals.gather(1, chosen)
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
    ended = (beams.ids[:, :, -1] == options.eos_id) & (beams.sums > -inf)
    places = ended.nonzero()
    if len(places):
        rows, slots = places.unbind(1)
        finished = beams.select(rows, slots)
        length = finished.ids.shape[1]
        log_prob_sums = finished.log_probs.double().sum(dim=1)
        scores = finished.sums / length**options.length_penalty
        if mask is not None:
            numbers = torch.tensor(sentences, device=rows.device)[rows]
            scores = scores - options.penalties(finished.attended, mask[numbers])
        cut = forced[rows, slots]
        lists = (t.tolist() for t in (rows, finished.ids, log_prob_sums, scores, finished.log_probs, cut))
        for row, ids, log_prob, score, token_log_probs, was_cut in zip(*lists, strict=True):
            found[sentences[row]].append(Hypothesis(ids, log_prob, score, token_log_probs, was_cut))
    return ended
