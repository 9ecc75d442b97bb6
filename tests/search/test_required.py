"""Required terms in beam search over toy chains, compared with exhaustive search, and their parts by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from toy_chain import BOS, EOS, NEVER, Chain, ids_of

from seq2seq.search.beam import Hypothesis, SearchOptions, beam_search
from seq2seq.search.constraints import Forbidden, NoRepeatNgram
from seq2seq.search.next_token import LogProbs
from seq2seq.search.required import (
    MOST_EXTRA,
    RequiredTerm,
    RequiredTerms,
    TermMatch,
    TermState,
    WordEdges,
    extra_slots,
    order_by_banks,
)

FREE = WordEdges([0] * 20)  # every id is a word
BEGINS, ENDS = 1, 2


def term(*spellings: tuple[int, ...], exact: bool = False) -> RequiredTerm:
    return RequiredTerm(spellings, exact)


def terms(*some: RequiredTerm, edges: WordEdges = FREE) -> RequiredTerms:
    return RequiredTerms(some, edges)


def places(required: RequiredTerms, ids: list[int]) -> list[tuple[int, int, int]]:
    return [tuple(match) for match in required.find(ids)]


def test_terms_are_found_from_left_to_right_and_do_not_overlap():
    required = terms(term((4, 5)), term((5, 1)), term((4,)))
    assert places(required, [4, 5, 1]) == [(0, 0, 2)]
    assert places(required, [4, 5, 5, 1, 4]) == [(0, 0, 2), (1, 2, 4), (2, 4, 5)]
    assert places(required, [4, 4, 5]) == [(2, 0, 1), (0, 1, 3)]
    assert places(required, [4, 1, 4, 4, 5, 4]) == [(2, 0, 1), (0, 3, 5)]
    assert required.find([]) == []
    assert required.faults([4, 5, 5, 1, 4, EOS]) == 0
    assert required.faults([4, 5, 1, EOS]) == 2


def test_the_longest_term_counts_and_a_shorter_one_if_the_longer_breaks_off():
    required = terms(term((4,)), term((4, 5, 1)))
    assert places(required, [4, 5, 1, 4]) == [(1, 0, 3), (0, 3, 4)]
    assert places(required, [4, 5, 4, 5, 1]) == [(0, 0, 1), (1, 2, 5)]
    assert places(terms(term((4, 4, 5))), [4, 4, 4, 5]) == [(0, 1, 4)]


def test_any_spelling_meets_a_term_and_a_term_that_is_given_twice_is_required_twice():
    required = terms(term((4,), (5, 5)), term((4,), (5, 5)))
    assert places(required, [5, 5, 1, 4]) == [(0, 0, 2), (1, 3, 4)]
    assert required.faults([4]) == 1
    assert required.faults([4, 4, 4]) == 0
    assert required.count == 4


def test_a_part_of_a_longer_word_is_no_term():
    bits = [0] * 20
    bits[4] = ENDS  # a word with a space before it
    bits[5] = BEGINS | ENDS  # the rest of a word
    bits[8] = 0  # punctuation
    edges = WordEdges(bits, [BEGINS | ENDS])  # 20 is out of the vocabulary
    required = terms(term((4,)), edges=edges)
    assert places(required, [4, 8]) == [(0, 0, 1)]
    assert places(required, [4]) == [(0, 0, 1)]
    assert places(required, [4, 5, 4]) == [(0, 2, 3)]
    assert places(required, [4, 20, 4, 4]) == [(0, 2, 3)]
    glued = terms(term((5,)), edges=edges)
    assert places(glued, [4, 5, 8, 5]) == [(0, 3, 4)]
    assert glued.next_ids(TermState(in_word=True)) == []
    assert glued.next_ids(TermState()) == [5]


def test_an_exact_term_that_appears_again_ends_the_hypothesis():
    required = terms(term((4, 5), exact=True))
    state: TermState | None = TermState()
    for index in (4, 5, 1, 4):
        assert state is not None
        state = required.follow(state, index)
    assert state is not None
    assert required.may_end(state)
    after = required.follow(state, 5)
    assert after is not None  # not decided before the next id
    assert not required.may_end(after)
    assert required.follow(after, 1) is None
    assert required.force(after, 1) == TermState(1)
    free = terms(term((4, 5)))
    assert free.may_end(TermState(1, ()))
    assert required.find([4, 5, 1, 4, 5, 1, 4]) == [TermMatch(0, 0, 2)]


def test_lacking_ids_and_next_ids():
    required = terms(term((4, 5, 1)), term((5,), (6, 7, 8)))
    assert required.lacking(TermState()) == required.count == 6
    assert required.next_ids(TermState()) == [4, 5, 6]
    state = required.follow(TermState(), 4)
    assert state == TermState(0, (4,))
    assert required.lacking(state) == 5
    assert required.next_ids(state) == [4, 5, 6]
    state = required.follow(state, 9)
    assert state == TermState()
    state = required.follow(state, 6)
    assert required.lacking(state) == 5
    assert required.lacking(TermState(0, (5,))) == 3  # a shorter spelling
    assert required.next_ids(TermState(0, (4, 5, 1))) == [4, 5, 6]
    assert required.lacking(TermState(0, (4, 5, 1))) == 3
    assert required.lacking(TermState(2, (4, 5, 1))) == 0
    assert required.may_end(TermState(2, (4, 5, 1)))


def test_states_follow_the_ids_as_find_does():
    required = terms(term((4, 5)), term((4,), (1, 1)), term((5, 4, 4)), term((1,), exact=True))
    for ids in itertools.product((1, 4, 5), repeat=6):
        state = TermState()
        for index in ids:
            state = required.force(state, index)
        found = {match.term for match in required.find(ids)}
        assert {number for number in range(4) if state.met >> number & 1} <= found
        resolved = required._resolve(state, end=True)[0]
        if resolved is not None:
            assert resolved.met == sum(1 << number for number in found)


def test_the_order_of_candidates_by_banks():
    totals = torch.tensor([[-1.0, -2.0, -3.0, -4.0, -5.0, NEVER], [-3.0, -1.0, -2.0, NEVER, -9.0, -4.0]])
    lacking = torch.tensor([[2, 2, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]])
    assert order_by_banks(totals, lacking).tolist() == [[2, 3, 0, 4, 1, 5], [1, 2, 0, 5, 4, 3]]


REQUIRED = [
    (term((4,)),),
    (term((4, 4)), term((5,))),
    (term((1,), (5, 5)), term((1,), (5, 5))),
    (term((4, 5), exact=True),),
    (term((4,), exact=True), term((5, 1))),
]


def search(chain: Chain, sentences: list[int], limits: list[int], required, **options) -> list[list[Hypothesis]]:
    prefixes = options.pop("prefixes", ())
    settings = SearchOptions(BOS, EOS, **({"beam_size": 3, "length_penalty": 0.6} | options))
    return beam_search(chain.step, chain.start(sentences), limits, settings, prefixes, required)


def is_met(required: RequiredTerms, ids: list[int]) -> bool:
    """Whether a hypothesis has its terms, by the definition with plain loops; each term has spellings of words."""
    counts: dict[tuple, int] = {}
    spelled = {spelling: one for one in required.terms for spelling in one.spellings}
    left = list(required.terms)
    place = 0
    while place < len(ids):
        here = [
            s for s, one in spelled.items() if tuple(ids[place : place + len(s)]) == s and (one in left or one.exact)
        ]
        longest = max(here, key=len, default=None)
        if longest is None:
            place += 1
            continue
        if spelled[longest] not in left:
            return False
        left.remove(spelled[longest])
        counts[longest] = counts.get(longest, 0) + 1
        place += len(longest)
    return not left


@pytest.mark.parametrize("some", REQUIRED)
def test_a_beam_of_all_hypotheses_is_exhaustive_search_over_those_with_the_terms(some):
    chain, limit = Chain(), 5
    required = [terms(*some) for _ in range(4)]
    found = search(chain, [0, 1, 2, 3], [limit] * 4, required, beam_size=300)  # all of them
    for sentence, hypotheses in enumerate(found):
        expected = [pair for pair in chain.everything(sentence, limit, 0.6) if is_met(required[0], pair[1][:-1])]
        having = [one for one in hypotheses if not required[0].faults(one.ids)]
        assert len(expected) > 2
        assert ids_of(having[: len(expected)]) == [ids for _, ids in expected]
        assert [one.score for one in having[: len(expected)]] == pytest.approx([score for score, _ in expected])
        assert ids_of(hypotheses)[: len(having)] == ids_of(having)  # those with faults come last


@pytest.mark.parametrize("beam_size", [1, 2, 5])
@pytest.mark.parametrize("some", REQUIRED)
def test_a_hypothesis_has_its_terms_if_they_fit(some, beam_size):
    chain = Chain(sentences=6, sharpness=4.0)
    required = [terms(*some) for _ in range(6)]
    need, least = required[0].count, sum(min(map(len, one.spellings)) for one in some)
    prefixes = [[], [], [5], [1, 5], [], []]
    limits = [need + 1, need + 6, need + 2, need + 3, 12, least]
    found = search(chain, list(range(6)), limits, required, beam_size=beam_size, prefixes=prefixes)
    for sentence, hypotheses in enumerate(found[:5]):
        best = hypotheses[0]
        assert len(hypotheses) <= beam_size
        assert required[0].faults(best.ids) == 0
        assert len(best.ids) <= limits[sentence]
        assert best.ids[: len(prefixes[sentence])] == prefixes[sentence]
        assert best.log_prob == pytest.approx(sum(chain.follow(sentence, best.ids)[0]))
        assert best.score == pytest.approx(best.log_prob / len(best.ids) ** 0.6)
    assert all(required[0].faults(one.ids) for one in found[5])
    plain = search(chain, list(range(6)), limits, (), beam_size=beam_size, prefixes=prefixes)
    assert any(required[0].faults(hypotheses[0].ids) for hypotheses in plain[:5])


@pytest.mark.parametrize("some", REQUIRED)
def test_sentences_do_not_depend_on_their_batch(some):
    chain = Chain(sentences=5)
    required = [terms(*some), None, terms(term((5,), (1, 4))), None, terms(*some)]
    limits = [7, 6, 9, 4, 5]
    together = search(chain, list(range(5)), limits, required, min_length=2)
    for sentence in range(5):
        (alone,) = search(chain, [sentence], [limits[sentence]], [required[sentence]], min_length=2)
        assert ids_of(together[sentence]) == ids_of(alone)
        assert [one.score for one in together[sentence]] == [one.score for one in alone]
    without = search(chain, [1, 3], [6, 4], (), min_length=2)
    assert [ids_of(together[1]), ids_of(together[3])] == list(map(ids_of, without))
    assert all(len(one.ids) > 2 for hypotheses in together for one in hypotheses)


def test_a_greedy_search_waits_for_the_place_of_a_term():
    """The term is improbable at the start and probable as the third word."""
    table = torch.full((6, 6), 0.01)
    table[BOS, 1], table[1, 5], table[5, 4], table[4, EOS] = 1.0, 1.0, 0.3, 1.0
    table[5, EOS] = 0.7
    log_probs = (table / table.sum(dim=1, keepdim=True)).log()

    class State:
        mask = weights = torch.zeros(1, 0)

        def reorder(self, rows):
            return self

        keep = reorder

    required = [terms(term((4,)))]
    options = SearchOptions(BOS, EOS, beam_size=1)
    ((plain,),) = beam_search(lambda tokens, state: (LogProbs(log_probs[tokens]), state), State(), [8], options)
    ((best,),) = beam_search(
        lambda tokens, state: (LogProbs(log_probs[tokens]), state), State(), [8], options, (), required
    )
    assert plain.ids == [1, 5, EOS]
    assert best.ids == [1, 5, 4, EOS]


def test_a_term_that_other_constraints_block_is_missing_and_the_search_ends():
    chain = Chain()
    required = [terms(term((4, 5)))] * 2
    for constraints in ((Forbidden(((5,),)),), (Forbidden(((1,), (4,), (5,))),)):
        found = search(chain, [0, 1], [6, 6], required, constraints=constraints)
        assert all(required[0].faults(one.ids) == 1 for hypotheses in found for one in hypotheses)
        assert all(hypotheses for hypotheses in found)
    twice = [terms(term((4,)), term((4,)))]
    ((best, *_),) = search(chain, [0], [6], twice, constraints=(NoRepeatNgram(1),))
    assert twice[0].faults(best.ids) == 1


def test_the_number_of_further_slots_is_bounded():
    assert extra_slots(terms(term((4, 5)), term((6,), (7, 8)))) == 4
    assert extra_slots(terms(term(tuple(range(4, 20))), term((4,)))) == MOST_EXTRA
    chain = Chain()
    search(chain, [0, 1], [9, 9], [terms(term((4, 5))), None], beam_size=3)
    assert max(chain.rows) <= 2 * (3 + 2)
