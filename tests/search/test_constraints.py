"""Constraints and prefixes in beam search over toy chains, compared with exhaustive search, and their parts by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from toy_chain import BOS, EOS, NEVER, PAD, Chain, V, ids_of

from seq2seq.search.constraints import (
    Constraint,
    Forbidden,
    NoRepeatNgram,
    RepetitionPenalty,
    best_candidates,
    constrained_values,
)
from seq2seq.search.next_token import LogProbs

HISTORY = torch.tensor([[5, 6, 7, 5, 6], [5, 5, 5, 5, 5], [1, 4, 5, 6, 7]])


def sets(affected: torch.Tensor) -> list[set[int]]:
    return [set(row) - {-1} for row in affected.tolist()]


@pytest.mark.parametrize(
    ("size", "exceptions", "expected"),
    [
        (1, (), [{5, 6, 7}, {5}, {1, 4, 5, 6, 7}]),
        (1, (5,), [{6, 7}, set(), {1, 4, 6, 7}]),
        (2, (), [{7}, {5}, set()]),
        (2, (7,), [set(), {5}, set()]),
        (3, (), [{7}, {5}, set()]),
        (3, (5,), [set(), set(), set()]),
        (4, (), [set(), {5}, set()]),
        (5, (), [set(), {5}, set()]),
        (6, (), [set(), set(), set()]),
    ],
)
def test_ids_that_would_repeat_an_ngram_are_blocked(size, exceptions, expected):
    constraint = NoRepeatNgram(size, exceptions)
    assert sets(constraint.affected(HISTORY)) == expected
    assert sets(constraint.affected(HISTORY[:, :0])) == [set()] * 3
    assert constraint.lowered(torch.tensor([-1.0, NEVER])).tolist() == [NEVER, NEVER]


def test_a_penalty_lowers_earlier_ids():
    assert sets(RepetitionPenalty(2.0).affected(HISTORY)) == [{5, 6, 7}, {5}, {1, 4, 5, 6, 7}]
    assert sets(RepetitionPenalty(2.0, (5, 4)).affected(HISTORY)) == [{6, 7}, set(), {1, 6, 7}]
    assert RepetitionPenalty(2.0).lowered(torch.tensor([-1.0, 0.0, NEVER])).tolist() == [-2.0, 0.0, NEVER]
    assert RepetitionPenalty(1.5).cost([5, 6, 5, 5, 6, 3], [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0]) == pytest.approx(6.0)
    assert RepetitionPenalty(1.5, (5,)).cost([5, 6, 5, 5, 6, 3], [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0]) == 2.5


def test_the_last_id_of_a_forbidden_sequence_is_blocked():
    forbidden = Forbidden(((8,), (5, 6, 9), (6, 4), (1, 4, 5, 6, 7, 8)))
    assert sets(forbidden.affected(HISTORY)) == [{8, 9, 4}, {8}, {8}]
    assert sets(forbidden.affected(HISTORY[:, :0])) == [{8}] * 3
    assert sets(forbidden.affected(torch.tensor([[1, 4, 5, 6, 7]]))) == [{8}]


CONSTRAINTS: list[tuple[Constraint, ...]] = [
    (NoRepeatNgram(1),),
    (NoRepeatNgram(2),),
    (NoRepeatNgram(2, (4,)),),
    (RepetitionPenalty(1.7),),
    (RepetitionPenalty(1.7, (5,)), NoRepeatNgram(3)),
    (Forbidden(((4,), (1, 5))), NoRepeatNgram(2), RepetitionPenalty(3.0)),
]


@pytest.mark.parametrize("constraints", CONSTRAINTS)
def test_the_best_candidates_are_those_of_the_whole_table(constraints):
    random = torch.Generator().manual_seed(1)
    table = torch.log_softmax(3 * torch.randn(50, 9, generator=random), dim=1)
    history = torch.randint(4, 9, (50, 6), generator=random)
    expected = constrained_values(table, history, constraints)
    expected[:, 8] = NEVER
    for k in (1, 3, 9, 20):
        found = best_candidates(LogProbs(table), history, k, banned=(8,), constraints=constraints)
        values, _ = expected.topk(min(k, 9), dim=1)
        assert torch.equal(found.values, values)
        kept = found.values > NEVER
        assert torch.equal(found.log_probs[kept], table.gather(1, found.ids)[kept])
        assert torch.equal(found.values, expected.gather(1, found.ids))
    assert not torch.equal(expected, table)


def naive_value(constraints: tuple[Constraint, ...], before: list[int], token: int, log_prob: float) -> float:
    """Return the value of a token after some ids, by the definitions."""
    for constraint in constraints:
        if isinstance(constraint, NoRepeatNgram):
            ngram, n = [*before, token][-constraint.size :], constraint.size
            earlier = [before[first : first + n] for first in range(len(before) - n + 1)]
            if len(ngram) == n and ngram in earlier and not set(ngram) & set(constraint.exceptions):
                return NEVER
        elif isinstance(constraint, RepetitionPenalty):
            if token in before and token not in constraint.exceptions:
                log_prob *= constraint.factor
        elif any([*before, token][-len(sequence) :] == list(sequence) for sequence in constraint.sequences):
            return NEVER
    return log_prob


@pytest.mark.parametrize("constraints", CONSTRAINTS)
def test_a_beam_of_all_hypotheses_is_exhaustive_search_under_constraints(constraints):
    """Log-probabilities are those of the model; the costs of a repetition penalty are part of the score."""
    chain = Chain()
    limit = 5
    found = chain.search([0, 1, 2, 3], [limit] * 4, beam_size=V**limit, length_penalty=0.6, constraints=constraints)
    for sentence, hypotheses in enumerate(found):
        expected = []
        for _, ids in chain.everything(sentence, limit):
            log_probs = chain.follow(sentence, ids)[0]
            values = [naive_value(constraints, ids[:t], ids[t], log_probs[t]) for t in range(len(ids))]
            if min(values) > NEVER:
                expected.append((sum(values) / len(ids) ** 0.6, ids, sum(log_probs), log_probs))
        expected.sort(reverse=True)
        assert ids_of(hypotheses) == [ids for _, ids, _, _ in expected]
        assert [h.score for h in hypotheses] == pytest.approx([score for score, _, _, _ in expected])
        assert [h.log_prob for h in hypotheses] == pytest.approx([log_prob for _, _, log_prob, _ in expected])
        assert hypotheses[-1].token_log_probs == pytest.approx(expected[-1][3])
        assert 0 < len(hypotheses) < sum(3**length for length in range(limit)) or len(constraints) == 1


@pytest.mark.parametrize("constraints", CONSTRAINTS)
@pytest.mark.parametrize("beam_size", [1, 3])
def test_constraints_of_a_sentence_do_not_depend_on_its_batch(constraints, beam_size):
    chain = Chain(5, sharpness=2.0)
    chain.table[..., EOS] -= 2.0  # long hypotheses
    limits, options = [8, 8, 3, 12, 1], {"beam_size": beam_size, "constraints": constraints}
    prefixes = [[4, 4], [], [1], [5, 1, 5, 1, 5], []]
    together = chain.search([0, 1, 2, 3, 4], limits, prefixes=prefixes, **options)
    for sentence in range(5):
        one = [prefixes[sentence]]
        assert chain.search([sentence], [limits[sentence]], prefixes=one, **options) == [together[sentence]]


@pytest.mark.parametrize("min_length", [0, 6])
def test_blocking_everything_leaves_eos(min_length):
    """With three words, no hypothesis without repeated words has more than three; the minimum length gives way."""
    chain = Chain()
    chain.table[..., EOS] -= 10.0
    constraints = (NoRepeatNgram(1),)
    for beam_size in (1, 4):
        for hypotheses in chain.search(
            [0, 1], [9, 9], beam_size=beam_size, constraints=constraints, min_length=min_length
        ):
            for hypothesis in hypotheses:
                assert len(set(hypothesis.ids)) == len(hypothesis.ids) <= 4
                assert hypothesis.ids[-1] == EOS
                assert not hypothesis.cut
            assert len(hypotheses) == beam_size
        (shortest,) = chain.search([0], [9], beam_size=1, constraints=(Forbidden(((1,), (4,), (5,))),), min_length=5)[0]
        assert shortest.ids == [EOS]


# Prefixes


@pytest.mark.parametrize("beam_size", [1, 2, V**5])
def test_a_prefix_is_forced_and_the_search_goes_on_from_it(beam_size):
    chain = Chain()
    prefixes = [[4, 5], [], [1], [5, 5, 5, 5]]
    found = chain.search([0, 1, 2, 3], [5] * 4, beam_size=beam_size, prefixes=prefixes)
    for sentence, (hypotheses, prefix) in enumerate(zip(found, prefixes, strict=True)):
        possible = [(score, ids) for score, ids in chain.everything(sentence, 5) if ids[: len(prefix)] == prefix]
        for hypothesis in hypotheses:
            assert hypothesis.ids[: len(prefix)] == prefix
            assert hypothesis.log_prob == pytest.approx(sum(chain.follow(sentence, hypothesis.ids)[0]))
        if beam_size > 2:
            assert ids_of(hypotheses) == [ids for _, ids in possible]
    assert ids_of(found[3]) == [[5, 5, 5, 5, EOS]]


def test_the_search_after_a_prefix_is_the_greedy_one():
    chain = Chain()
    for prefix in itertools.product((1, 4, 5), repeat=2):
        ((best,),) = chain.search([1], [7], beam_size=1, prefixes=[list(prefix)])
        ids, (path, last) = list(prefix), (0, BOS)
        for token in prefix:
            path, last = (3 * path + last) % 7, token
        while ids[-1] != EOS and len(ids) < 7:
            path = (3 * path + last) % 7
            last = int(chain.table[1, path, last].argmax()) if len(ids) < 6 else EOS
            ids.append(last)
        assert best.ids == ids


def test_an_impossible_prefix_is_forced_too():
    """Its log-probability is the lowest finite number, so that nothing becomes NaN."""
    chain = Chain()
    ((best, *_),) = chain.search([0], [4], prefixes=[[PAD, 4]], beam_size=2)
    assert best.ids[:2] == [PAD, 4]
    assert math.isfinite(best.log_prob)
    assert math.isfinite(best.score)


def test_a_prefix_takes_precedence_over_blocking_and_the_minimum_length():
    chain = Chain()
    constraints = (NoRepeatNgram(1), RepetitionPenalty(2.0))
    ((best,),) = chain.search([0], [9], beam_size=1, prefixes=[[4, 4, 4]], constraints=constraints, min_length=4)
    assert best.ids[:3] == [4, 4, 4]
    assert set(best.ids[3:]) <= {1, 5, EOS}
    assert best.score == pytest.approx(best.log_prob)  # no cost for forced ids
