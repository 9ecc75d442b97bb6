"""Batched beam search; with beam size 1 it is greedy search.

A beam has K slots. Each step takes the best K continuations of a sentence. A continuation that ends with eos is finished,
keeps its slot and is never extended, so the search of a sentence ends when every slot is finished (the shrinking beam of
Bahdanau et al. 2015). The result for a sentence depends only on that sentence. At the maximum length of a sentence, only
eos is allowed; every hypothesis therefore ends with eos, and its log-probability is that of the whole sentence.

A target prefix is forced in the same way: while it lasts, its next id is the only candidate. Constraints change the values
that order the candidates, not their log-probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import fsum, inf
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, finfo

from seq2seq.search.constraints import Candidates, Constraint, best_candidates
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


class _Tree:
    """The ids of all hypotheses as a tree: a node has an id, its log-probability, and its parent, the node before.

    Beams hold one node per slot, so that a step copies no histories. Node 0 is the root, its own parent.
    """

    def __init__(self) -> None:
        self._size = 1
        self._steps: list[tuple[Tensor, Tensor, Tensor]] = []  # parents, ids and log-probabilities of the nodes

    def grow(self, parents: Tensor, ids: Tensor, log_probs: Tensor) -> Tensor:
        """Add nodes and return their numbers; all tensors are (B, K)."""
        count = ids.numel()
        self._steps.append((parents.flatten(), ids.flatten(), log_probs.flatten()))
        self._size += count
        return torch.arange(self._size - count, self._size, device=ids.device).view(ids.shape)

    def paths(self, nodes: Sequence[int], lengths: Sequence[int]) -> list[tuple[list[int], list[float]]]:
        """Return for each node the ids and the log-probabilities from the root to it, given their number."""
        parents, ids, log_probs = (torch.cat((some[0][:1], *some)) for some in zip(*self._steps, strict=True))
        parents[0] = 0
        places = torch.tensor(nodes, device=ids.device)
        walk = [places]  # towards the root
        for _ in range(max(lengths) - 1):
            places = parents[places]
            walk.append(places)
        order = torch.stack(walk, dim=1)  # (number of nodes, largest length)
        rows = zip(ids[order].tolist(), log_probs[order].tolist(), lengths, strict=True)
        return [(some[:length][::-1], values[:length][::-1]) for some, values, length in rows]


class _Beams(NamedTuple):
    """The unfinished hypotheses of B sentences."""

    sums: Tensor  # (B, K) fp64 sums of the values of the ids; minus infinity in slots that are finished or empty
    nodes: Tensor  # (B, K), see ``_Tree``
    history: Tensor | None  # (B, K, t), the ids so far; None without constraints
    attended: Tensor | None  # (B, K, S), sums of the weights of all steps; None without penalties

    @classmethod
    def start(cls, sentences: int, device: torch.device, *, constrained: bool) -> _Beams:
        """Return beams with one slot that has no ids yet."""
        nodes = torch.zeros(sentences, 1, dtype=torch.long, device=device)
        return cls(nodes.double(), nodes, nodes.unsqueeze(2)[:, :, :0] if constrained else None, None)

    def keep(self, sentences: Tensor) -> _Beams:
        """Select sentences."""
        history, attended = (None if some is None else some[sentences] for some in (self.history, self.attended))
        return _Beams(self.sums[sentences], self.nodes[sentences], history, attended)


class _End(NamedTuple):
    """The end of a finished hypothesis."""

    node: int
    length: int
    score: float
    cut: bool


@torch.no_grad()
def beam_search(
    step: StepFunction[State],
    state: State,
    max_lengths: Sequence[int],
    options: SearchOptions,
    prefixes: Sequence[Sequence[int]] = (),
) -> list[list[Hypothesis]]:
    """Search the translations of a batch of sentences.

    Args:
        step: maps the previous tokens and the state to the distribution of the next token and the next state.
        state: the initial state, with one row per sentence.
        max_lengths: for each sentence, the maximum number of ids, eos included; at least 1.
        prefixes: for each sentence, the first ids of its hypotheses, shorter than its maximum length; or (): no prefixes.

    Returns:
        The hypotheses of each sentence, best score first: ``beam_size`` of them, or fewer if no more exist.
    """
    found: list[list[_End]] = [[] for _ in max_lengths]
    sentences = list(range(len(found)))  # those whose search has not ended
    tokens = torch.full((len(found),), options.bos_id)
    tree = _Tree()
    beams: _Beams | None = None
    mask = state.mask if options.penalties else None  # (B, S)
    for length in range(1, max(max_lengths, default=0) + 1):
        next_token, state = step(tokens, state)
        free = [options.beam_size - len(found[number]) for number in sentences]
        only = [only_id(prefixes[n] if prefixes else (), max_lengths[n], length, options.eos_id) for n in sentences]
        history = None if beams is None else beams.history
        candidates, forced = _candidates(next_token, history, length, only, max(free), options)
        if beams is None:
            beams = _Beams.start(len(found), candidates.ids.device, constrained=bool(options.constraints))
        count, slots = beams.sums.shape
        if mask is not None:
            weights = state.weights.view(count, slots, -1)
            beams = beams._replace(attended=weights if beams.attended is None else beams.attended + weights)
        beams, parents, ids = _advance(tree, beams, candidates, free)
        ended = (ids == options.eos_id) & (beams.sums > -inf)
        if bool(ended.any()):
            was_forced = None if forced is None else forced.gather(1, parents)
            _finish(beams, ended, mask, sentences, found, was_forced, length, options)
            beams = beams._replace(sums=beams.sums.masked_fill(ended, -inf))
        alive = [row for row, some in enumerate((beams.sums > -inf).any(dim=1).tolist()) if some]
        if not alive:
            break
        if slots > 1 or ids.shape[1] > 1:
            first_rows = torch.arange(0, count * slots, slots, device=parents.device).unsqueeze(1)
            state = state.reorder((first_rows + parents).flatten())
        if len(alive) < count:
            kept = torch.tensor(alive, device=parents.device)
            state, beams, ids = state.keep(kept), beams.keep(kept), ids[kept]
            sentences = [sentences[row] for row in alive]
        tokens = ids.flatten()
    return _hypotheses(tree, found)


def only_id(prefix: Sequence[int], limit: int, length: int, eos_id: int) -> int | None:
    """Return the only id that a sentence may have at a length, or None: eos at its maximum length, or an id of its prefix."""
    if length == limit:
        return eos_id
    return prefix[length - 1] if length <= len(prefix) else None


def _candidates(
    next_token: NextToken,
    history: Tensor | None,
    length: int,
    only: Sequence[int | None],
    count: int,
    options: SearchOptions,
) -> tuple[Candidates, Tensor | None]:
    """Find the best next tokens of each slot.

    Up to the minimum length, eos is banned unless it is the only possible token.

    Args:
        history: the ids so far (B, K, t), or None if there are no constraints or no ids yet.
        length: t + 1.
        only: for each of the B sentences, its only candidate, which takes precedence over everything else, or None.
        count: C, the number of candidates per slot; there are fewer if there are fewer ids.

    Returns:
        The candidates (B, K, C); and whether eos is forced although another token is more probable (B, K), or None if
        no token is forced.
    """
    never = () if options.never_id is None else (options.never_id,)
    needs_end = length <= options.min_length
    banned = (*never, options.eos_id) if needs_end else never
    rows = torch.zeros(len(only), 0, dtype=torch.long) if history is None else history.flatten(0, 1)
    best = best_candidates(next_token, rows, count, banned=banned, constraints=options.constraints)
    best = Candidates(*(tensor.unflatten(0, (len(only), -1)) for tensor in best))  # (N, C) -> (B, K, C)
    if any(number is not None for number in only) or (needs_end and bool((best.values[:, :, 0] == -inf).any())):
        return _with_forced(best, next_token, only, options.eos_id, needs_end=needs_end)
    return best, None


def _with_forced(
    best: Candidates, next_token: NextToken, only: Sequence[int | None], eos_id: int, *, needs_end: bool
) -> tuple[Candidates, Tensor]:
    """Replace the candidates of sentences that may have only one; see ``_candidates``.

    Args:
        best: the candidates (B, K, C).
        needs_end: whether a slot without candidates ends, because eos is banned.
    """
    log_probs, ids, values = (tensor.flatten(0, 1) for tensor in best)  # (N, C)
    slots = best.ids.shape[1]
    singles = torch.tensor([eos_id if number is None else number for number in only], device=ids.device)
    singles = singles.repeat_interleave(slots).unsqueeze(1)  # (N, 1)
    is_single = torch.tensor([number is not None for number in only], device=ids.device)
    is_single = is_single.repeat_interleave(slots).unsqueeze(1)
    single_log_probs = next_token.at(singles)
    is_end = singles == eos_id
    lowest = finfo(single_log_probs.dtype).min  # an impossible id of a prefix is forced too
    single_log_probs = single_log_probs.where(is_end, single_log_probs.clamp(min=lowest))
    forced = is_single & is_end & (ids[:, :1] != singles) & (values[:, :1] > single_log_probs)
    if needs_end:
        is_single = is_single | (values[:, :1] == -inf)
    values = values.masked_fill(is_single, -inf)
    log_probs = torch.where(is_single, single_log_probs, log_probs)
    values = torch.cat((torch.where(is_single, single_log_probs, values[:, :1]), values[:, 1:]), dim=1)
    ids = torch.where(is_single, singles, ids)
    return Candidates(*(tensor.view_as(best.ids) for tensor in (log_probs, ids, values))), forced.view(-1, slots)


def _advance(tree: _Tree, beams: _Beams, candidates: Candidates, free: Sequence[int]) -> tuple[_Beams, Tensor, Tensor]:
    """Take the best continuations of each sentence, as many as it has free slots.

    Args:
        free: for each of the B sentences, the number of slots that are not finished.

    Returns:
        The beams with one more id, with K slots; the previous slot of each new slot (B, K); and its id (B, K).
    """
    per_slot = candidates.ids.shape[2]
    totals = (beams.sums.unsqueeze(2) + candidates.values).flatten(1)  # (B, K, C) -> (B, K*C)
    sums, chosen = totals.topk(min(max(free), totals.shape[1]), dim=1)
    if min(free) < sums.shape[1]:
        ranks = torch.arange(sums.shape[1], device=sums.device)
        sums = sums.masked_fill(ranks >= torch.tensor(free, device=sums.device).unsqueeze(1), -inf)
    parents = chosen // per_slot
    ids = candidates.ids.flatten(1).gather(1, chosen)
    log_probs = candidates.log_probs.flatten(1).gather(1, chosen)
    nodes = tree.grow(beams.nodes.gather(1, parents), ids, log_probs)
    history, attended = (
        None if some is None else some.gather(1, parents.unsqueeze(2).expand(-1, -1, some.shape[2]))
        for some in (beams.history, beams.attended)
    )
    if history is not None:
        history = torch.cat((history, ids.unsqueeze(2)), dim=2)
    return _Beams(sums, nodes, history, attended), parents, ids


def _finish(
    beams: _Beams,
    finished: Tensor,
    mask: Tensor | None,
    sentences: Sequence[int],
    found: list[list[_End]],
    forced: Tensor | None,
    length: int,
    options: SearchOptions,
) -> None:
    """Append the hypotheses that end with this step to ``found``.

    Args:
        finished: whether each slot finished (B, K).
        forced: whether the eos of each slot was forced (B, K); None: none was.
        length: the number of their ids.
    """
    rows, slots = finished.nonzero().unbind(1)
    numbers = [sentences[row] for row in rows.tolist()]
    scores = beams.sums[rows, slots] / length**options.length_penalty
    if mask is not None and beams.attended is not None:
        scores = scores - options.penalties(beams.attended[rows, slots], mask[numbers])
    cut = [False] * len(numbers) if forced is None else forced[rows, slots].tolist()
    for number, *end in zip(numbers, beams.nodes[rows, slots].tolist(), scores.tolist(), cut, strict=True):
        found[number].append(_End(end[0], length, end[1], end[2]))


def _hypotheses(tree: _Tree, found: Sequence[list[_End]]) -> list[list[Hypothesis]]:
    """Make the hypotheses of each sentence, best score first."""
    ends = [end for some in found for end in some]
    if not ends:
        return [[] for _ in found]
    paths = iter(tree.paths([end.node for end in ends], [end.length for end in ends]))
    results = []
    for some in found:
        hypotheses = []
        for end in some:
            ids, log_probs = next(paths)
            hypotheses.append(Hypothesis(ids, fsum(log_probs), end.score, log_probs, end.cut))
        results.append(sorted(hypotheses, key=lambda hypothesis: -hypothesis.score))
    return results
