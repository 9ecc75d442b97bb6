"""Required terms of a hypothesis: sequences of ids that must appear in it, and the allocation of a beam to them.

The search is dynamic beam allocation (Post & Vilar 2018, arXiv 1804.06609) in the form of Hu et al. 2019 (NAACL, section
3): the continuations of a sentence are divided into banks by the number of required ids that they still lack, and the slots
are given to the best one of each bank, fewest lacking ids first, then to the second best of each bank, and so on. So the
hypothesis that lacks the fewest ids is always in the beam, and so are some that wait for better places. Two things
differ: a sentence has a further slot for each required id, at most ``MOST_EXTRA``, so that a greedy search can wait too;
and a finished hypothesis leaves its slot to others, because the first hypotheses with all terms are often bad. The
sentence ends when as many hypotheses as the beam size are finished and no unfinished one has a better score so far.

Cost: a sentence with C required ids has K + min(C, ``MOST_EXTRA``) rows instead of K, and each step looks up the candidates
of these rows in a table. Sentences without terms are searched as before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from seq2seq.search.constraints import Candidates, Constraint, lowered_values
from seq2seq.search.next_token import NextToken

MOST_EXTRA = 16  # slots of a sentence for its required ids, beyond the beam size
_NONE = -1  # fills the rows that have fewer further candidates than others; an id of no term after a term
_JOINS = -2  # such an id that goes on with the word before it


class RequiredTerm(NamedTuple):
    """A term that a hypothesis must have once more than without it."""

    spellings: tuple[tuple[int, ...], ...]  # sequences of ids, of which one must appear; none is empty
    exact: bool = False  # the term must not appear more often than it is required


class WordEdges(NamedTuple):
    """Whether each id begins inside a word (bit 1) and ends inside a word (bit 2).

    Two neighbouring ids are in one word if the first ends and the second begins inside it.
    """

    vocab: Sequence[int]  # of the ids below V
    oov: Sequence[int] = ()  # of the ids from V on
    others: Mapping[int, int] = MappingProxyType({})  # of ids that stand for another text in this sentence

    def begins(self, index: int) -> bool:
        """Return whether an id has no space before it and begins with a character of a word."""
        return bool(self._bits(index) & 1)

    def ends(self, index: int) -> bool:
        """Return whether an id ends with a character of a word."""
        return bool(self._bits(index) & 2)

    def _bits(self, index: int) -> int:
        if index in self.others:
            return self.others[index]
        return self.vocab[index] if index < len(self.vocab) else self.oov[index - len(self.vocab)]


class TermState(NamedTuple):
    """Which terms a hypothesis has so far."""

    met: int = 0  # bit r: it has term r
    pending: tuple[int, ...] = ()  # its last ids, if they can be the beginning of a term or the whole
    in_word: bool = False  # whether the id before these ends inside a word


class TermMatch(NamedTuple):
    """The place of a term in a hypothesis."""

    term: int  # its number
    start: int  # index of its first id
    end: int  # index after its last id


class RequiredTerms:
    """The required terms of one sentence.

    A term appears where the ids of one of its spellings follow each other and are not part of a longer word. Terms do not
    overlap: from left to right, the longest one counts.

    Args:
        terms: a term that is required twice is given twice.
        edges: of the ids of the sentence.
    """

    def __init__(self, terms: Sequence[RequiredTerm], edges: WordEdges) -> None:
        self.terms = tuple(terms)
        self.edges = edges
        self._sizes = [max(map(len, term.spellings)) for term in self.terms]
        self._spelled: dict[tuple[int, ...], list[int]] = {}  # the terms of each spelling
        for number, term in enumerate(self.terms):
            for spelling in term.spellings:
                self._spelled.setdefault(spelling, []).append(number)
        self.ids = {index for spelling in self._spelled for index in spelling}  # of all spellings
        self._by_first: dict[int, list[tuple[int, ...]]] = {}
        for spelling in self._spelled:
            self._by_first.setdefault(spelling[0], []).append(spelling)
        # results of the methods below, which a search calls for every candidate
        self._faults: dict[tuple[int, ...], int] = {}
        self._next: dict[tuple[TermState, int], TermState | None] = {}
        self._next_ids: dict[TermState, list[int]] = {}
        self._lacking: dict[TermState, int] = {}

    @property
    def count(self) -> int:
        """The number of required ids; that of a term is the length of its longest spelling."""
        return sum(self._sizes)

    def follow(self, state: TermState, index: int) -> TermState | None:
        """Return the state after one more id; None if an exact term appears too often."""
        if not state.pending and index not in self._by_first:
            return state._replace(in_word=self.edges.ends(index))
        if index not in self.ids:  # the ids of no term end a word, or go on with it, all in the same way
            key = (state, _JOINS if self.edges.begins(index) else _NONE)
            if key not in self._next:
                self._next[key] = self._resolve(state._replace(pending=(*state.pending, index)), end=False)[0]
            after = self._next[key]
            return after and after._replace(in_word=self.edges.ends(index))
        key = (state, index)
        if key not in self._next:
            self._next[key] = self._resolve(state._replace(pending=(*state.pending, index)), end=False)[0]
        return self._next[key]

    def force(self, state: TermState, index: int) -> TermState:
        """Return the state after an id that is given; a term that appears too often is not counted."""
        after = self.follow(state, index)
        if after is not None:
            return after
        matches = self._resolve(state._replace(pending=(*state.pending, index)), end=False)[1]
        return TermState(state.met | sum(1 << number for number, *_ in matches), (), self.edges.ends(index))

    def lacking(self, state: TermState) -> int:
        """Return how many required ids are lacking if the pending ids become the term that they begin.

        Each id of ``next_ids`` that goes on with the pending ids, or begins a term after none, lowers this number, since a
        shorter spelling counts as if its first ids were there already.
        """
        if state not in self._lacking:
            self._lacking[state] = self._count_lacking(state)
        return self._lacking[state]

    def _count_lacking(self, state: TermState) -> int:
        saved = [0]
        for spelling in self._by_first.get(state.pending[0], ()) if state.pending else ():
            if self._begins(spelling, state):
                unmet = (number for number in self._spelled[spelling] if not state.met >> number & 1)
                saved += [self._sizes[number] - len(spelling) + len(state.pending) for number in unmet]
        return sum(size for number, size in enumerate(self._sizes) if not state.met >> number & 1) - max(saved)

    def may_end(self, state: TermState) -> bool:
        """Return whether a hypothesis that ends here has all terms, and no exact one too often."""
        ended = self._resolve(state, end=True)[0]
        return ended is not None and ended.met == (1 << len(self.terms)) - 1

    def next_ids(self, state: TermState) -> list[int]:
        """Return the ids that begin a lacking term or go on with it."""
        if state not in self._next_ids:
            self._next_ids[state] = self._find_next_ids(state)
        return self._next_ids[state]

    def _find_next_ids(self, state: TermState) -> list[int]:
        found = set()
        unmet = (term for number, term in enumerate(self.terms) if not state.met >> number & 1)
        for spelling in {spelling for term in unmet for spelling in term.spellings}:
            if len(spelling) > len(state.pending) > 0 and self._begins(spelling, state):
                found.add(spelling[len(state.pending)])
            in_word = self.edges.ends(state.pending[-1]) if state.pending else state.in_word
            if not (in_word and self.edges.begins(spelling[0])):
                found.add(spelling[0])
        return sorted(found)

    def find(self, ids: Sequence[int]) -> list[TermMatch]:
        """Find the terms in the ids of a hypothesis; eos may be the last id."""
        return self._scan(ids)[0]

    def faults(self, ids: Sequence[int]) -> int:
        """Return how many terms the ids of a hypothesis lack, plus how often exact terms appear too often."""
        key = tuple(ids)
        if key not in self._faults:
            found, surplus = self._scan(ids)
            self._faults[key] = len(self.terms) - len(found) + surplus
        return self._faults[key]

    def _scan(self, ids: Sequence[int]) -> tuple[list[TermMatch], int]:
        """Return the terms in the ids of a hypothesis, and how often exact terms appear too often."""
        state, found, surplus = TermState(), [], 0
        for position, index in enumerate([*ids, None]):
            if index is not None and not state.pending and index not in self._by_first:
                state = state._replace(in_word=self.edges.ends(index))
                continue
            first = position - len(state.pending)
            longer = state if index is None else state._replace(pending=(*state.pending, index))
            after, matches = self._resolve(longer, end=index is None)
            found += [TermMatch(number, first + start, first + start + size) for number, start, size in matches]
            surplus += after is None
            met = state.met | sum(1 << number for number, *_ in matches)
            state = after or TermState(met, (), index is not None and self.edges.ends(index))
        return found, surplus

    def _begins(self, spelling: tuple[int, ...], state: TermState) -> bool:
        """Return whether the pending ids are the first ids of a spelling."""
        inside = state.in_word and self.edges.begins(spelling[0])
        return not inside and spelling[: len(state.pending)] == state.pending

    def _counted(self, spelling: tuple[int, ...], met: int) -> bool:
        """Return whether a spelling is looked for: its term is lacking, or must not appear again."""
        return any(self.terms[number].exact or not met >> number & 1 for number in self._spelled[spelling])

    def _resolve(self, state: TermState, *, end: bool) -> tuple[TermState | None, list[tuple[int, int, int]]]:
        """Decide on pending ids as far as later ids cannot change it.

        Args:
            end: whether the hypothesis ends here, so that nothing stays pending.

        Returns:
            The state, or None if an exact term appears too often; and for each term that was found its number, the index
            of its first pending id, and its size.
        """
        met, pending, in_word = state
        found: list[tuple[int, int, int]] = []
        while pending:
            now = TermState(met, pending, in_word)
            if not end and any(
                self._begins(each, now) and self._counted(each, met) for each in self._by_first.get(pending[0], ())
            ):
                return now, found
            spelling = self._longest(now)
            if spelling:
                numbers = [number for number in self._spelled[spelling] if not met >> number & 1]
                if not numbers:
                    return None, found
                met |= 1 << numbers[0]
                found.append((numbers[0], len(state.pending) - len(pending), len(spelling)))
            size = len(spelling) or 1
            in_word, pending = self.edges.ends(pending[size - 1]), pending[size:]
        return TermState(met, (), in_word), found

    def _longest(self, state: TermState) -> tuple[int, ...]:
        """Return the longest spelling at the start of the pending ids, or ()."""
        pending = state.pending
        longest: tuple[int, ...] = ()
        for spelling in self._by_first.get(pending[0], ()):
            size = len(spelling)
            if size <= len(longest) or pending[:size] != spelling or not self._counted(spelling, state.met):
                continue
            joined = size < len(pending) and self.edges.ends(spelling[-1]) and self.edges.begins(pending[size])
            if not joined and not (state.in_word and self.edges.begins(spelling[0])):
                longest = spelling
        return longest


class StepRules(NamedTuple):
    """The rules of a search at a step."""

    eos_id: int
    may_end: bool  # whether eos is allowed at this length
    constraints: Sequence[Constraint]


class TermBanks:
    """The states of the hypotheses of a beam search, for the sentences with required terms.

    Args:
        required: the terms of each sentence, or None.
        beam_size: K.
    """

    def __init__(self, required: Sequence[RequiredTerms | None], beam_size: int) -> None:
        self.required = required
        self.beam_size = beam_size
        self._states: dict[int, list[TermState | None]] = {
            number: [TermState()] for number, terms in enumerate(required) if terms is not None
        }

    def free_slots(self, sentence: int, finished: int) -> int:
        """Return the number of unfinished hypotheses that a sentence may have."""
        terms = self.required[sentence]
        return self.beam_size - finished if terms is None else self.beam_size + extra_slots(terms)

    def candidates(
        self,
        next_token: NextToken,
        best: Candidates,
        history: Tensor,
        sentences: Sequence[int],
        only: Sequence[int | None],
        rules: StepRules,
    ) -> tuple[Candidates, Tensor]:
        """Add the ids of lacking terms to the candidates, and block an end without all terms.

        A row whose candidates are all blocked ends.

        Args:
            best: the candidates (B, K, C).
            history: the ids so far (B, K, t).
            sentences: the numbers of the B sentences.
            only: see ``beam.only_id``; where it is not None, nothing is added or blocked.

        Returns:
            The candidates (B, K, C'); and how many required ids each lacks (B, K, C').
        """
        free = [sentence in self._states and single is None for sentence, single in zip(sentences, only, strict=True)]
        more = self._further(sentences, free, best.ids.shape[1], rules.eos_id)
        best = best._replace(values=self._own_best(best.values, sentences, free))
        further = torch.tensor(more, dtype=torch.long, device=best.ids.device)  # (B, K, m)
        known = further.clamp(min=0).flatten(0, 1)  # (N, m)
        log_probs = next_token.at(known)
        values = lowered_values(known, log_probs, history.flatten(0, 1), rules.constraints).view_as(further)
        present = best.ids.masked_fill(best.values == -inf, _NONE)
        repeated = (further.unsqueeze(3) == present.unsqueeze(2)).any(dim=3)
        values = values.masked_fill(repeated | (further == _NONE), -inf)
        extended = (log_probs.view_as(further), known.view_as(further), values)
        pairs = zip(best, extended, strict=True)
        joined = Candidates(*(torch.cat((some, others.to(some.dtype)), dim=2) for some, others in pairs))
        lacking, blocked = self._lookup(joined, sentences, free, rules)
        return joined._replace(values=joined.values.masked_fill(blocked, -inf)), lacking

    def _own_best(self, values: Tensor, sentences: Sequence[int], free: Sequence[bool]) -> Tensor:
        """Keep as many candidates of a row as its sentence has slots, so that they do not depend on the batch."""
        width = values.shape[2]
        counts = [
            self.free_slots(sentence, 0) if is_free else width
            for sentence, is_free in zip(sentences, free, strict=True)
        ]
        limits = torch.tensor(counts, device=values.device).view(-1, 1, 1)
        return values.masked_fill(torch.arange(width, device=values.device) >= limits, -inf)

    def _further(
        self, sentences: Sequence[int], free: Sequence[bool], slots: int, eos_id: int
    ) -> list[list[list[int]]]:
        """Return the ids to add to each row, with _NONE up to the same number: B lists of K lists of m ids."""
        rows: list[list[list[int]]] = []
        for sentence, is_free in zip(sentences, free, strict=True):
            terms, states = self.required[sentence], self._states.get(sentence, [])
            found: list[list[int]] = [[] for _ in range(slots)]
            for slot, state in enumerate(states if is_free else []):
                if terms is not None and state is not None:
                    found[slot] = [*terms.next_ids(state), eos_id]
            rows.append(found)
        width = max(len(ids) for found in rows for ids in found)
        return [[ids + [_NONE] * (width - len(ids)) for ids in found] for found in rows]

    def _lookup(
        self, candidates: Candidates, sentences: Sequence[int], free: Sequence[bool], rules: StepRules
    ) -> tuple[Tensor, Tensor]:
        """Return how many required ids each candidate lacks, and whether it is blocked: (B, K, C), (B, K, C)."""
        lacking = torch.zeros(candidates.ids.shape, dtype=torch.long)
        blocked = torch.zeros(candidates.ids.shape, dtype=torch.bool)
        ids, possible = candidates.ids.cpu(), (candidates.values > -inf).cpu()  # one copy from a GPU
        for row, (sentence, is_free) in enumerate(zip(sentences, free, strict=True)):
            terms = self.required[sentence]
            if terms is None or not is_free:
                continue
            row_ids, row_possible = ids[row].tolist(), possible[row].tolist()
            for slot, state in enumerate(self._states[sentence]):
                if state is not None:
                    counts = _lacking(terms, state, row_ids[slot], row_possible[slot], rules)
                    blocked[row, slot] = torch.tensor([count is None for count in counts])
                    lacking[row, slot] = torch.tensor([0 if count is None else count for count in counts])
        device = candidates.ids.device
        return lacking.to(device), blocked.to(device)

    def advance(self, sentences: Sequence[int], parents: Tensor, ids: Tensor, alive: Tensor) -> None:
        """Follow the chosen ids.

        Args:
            parents: the previous slot of each slot (B, K).
            ids: the chosen ids (B, K).
            alive: whether a slot holds an unfinished hypothesis (B, K).
        """
        for sentence, *lists in zip(sentences, parents.tolist(), ids.tolist(), alive.tolist(), strict=True):
            terms, states = self.required[sentence], self._states.get(sentence)
            if terms is None or states is None:
                continue
            longer: list[TermState | None] = []
            for parent, index, is_alive in zip(*lists, strict=True):
                state = states[parent] if is_alive else None
                longer.append(None if state is None else terms.force(state, index))
            self._states[sentence] = longer

    def is_done(self, sentence: int, finished: Sequence[tuple[int, float]], best: float) -> bool:
        """Return whether the search of a sentence may end: K hypotheses are finished, and none is better so far.

        Args:
            finished: the number of faults and the score of each finished hypothesis.
            best: the largest score of an unfinished hypothesis at its present length.
        """
        if self.required[sentence] is None or len(finished) < self.beam_size:
            return False
        scores = sorted((score for faults, score in finished if not faults), reverse=True)
        return len(scores) >= self.beam_size and scores[self.beam_size - 1] >= best


def extra_slots(terms: RequiredTerms) -> int:
    """Return the number of slots that a sentence has beyond the beam size."""
    return min(terms.count, MOST_EXTRA)


def _lacking(
    terms: RequiredTerms, state: TermState, ids: Sequence[int], possible: Sequence[bool], rules: StepRules
) -> list[int | None]:
    """Return how many required ids a hypothesis lacks after each candidate; None: blocked.

    If all possible candidates would be blocked, eos is not.
    """
    counts: list[int | None] = []
    for index, is_possible in zip(ids, possible, strict=True):
        after = None
        if index == rules.eos_id:
            counts.append(0 if is_possible and rules.may_end and terms.may_end(state) else None)
        else:
            after = terms.follow(state, index) if is_possible else None
            counts.append(None if after is None else terms.lacking(after))
    if all(count is None for count in counts):
        counts = [terms.count if index == rules.eos_id else None for index in ids]
    return counts


def order_by_banks(totals: Tensor, lacking: Tensor) -> Tensor:
    """Order candidates: the best of each bank, fewest lacking ids first, then the second best of each bank, and so on.

    Args:
        totals: (B, M); minus infinity: never chosen, last in order.
        lacking: the number of the bank (B, M).

    Returns:
        The indices of the candidates in this order (B, M).
    """
    last = int(lacking.max()) + 1
    order = totals.argsort(dim=1, descending=True, stable=True)
    banks = lacking.masked_fill(totals == -inf, last).gather(1, order)
    sorted_banks, by_bank = banks.sort(dim=1, stable=True)  # each bank in the order of its totals
    first = torch.searchsorted(sorted_banks, sorted_banks)
    ranks = torch.arange(banks.shape[1], device=banks.device) - first  # of each candidate in its bank
    keys = (ranks * (last + 1) + sorted_banks).masked_fill(sorted_banks == last, torch.iinfo(torch.long).max)
    return order.gather(1, by_bank.gather(1, keys.argsort(dim=1, stable=True)))
