"""Beam search over hand-written step functions: compared with exhaustive search and a plain beam search; no model."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from toy_chain import BOS, EOS, HISTORIES, NEVER, PAD, Chain, Toy, V, ids_of

from seq2seq.search.beam import SearchOptions, beam_search
from seq2seq.search.next_token import LogProbs
from seq2seq.search.penalties import Penalties


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("limit", [1, 2, 4])
def test_a_beam_of_all_hypotheses_is_exhaustive_search(limit, penalty):
    chain = Chain()
    found = chain.search([0, 1, 2, 3], [limit] * 4, beam_size=V**limit, length_penalty=penalty)
    for sentence, hypotheses in enumerate(found):
        expected = chain.everything(sentence, limit, penalty)
        assert len(hypotheses) == sum(3**length for length in range(limit))
        assert ids_of(hypotheses) == [ids for _, ids in expected]
        assert [h.score for h in hypotheses] == pytest.approx([score for score, _ in expected])


@pytest.mark.parametrize("least", [0, 1])
def test_never_id_is_never_produced_and_other_hypotheses_keep_their_scores(least):
    chain = Chain()
    found = chain.search([0, 1, 2, 3], [4] * 4, beam_size=V**4, min_length=least, never_id=4)
    for sentence, hypotheses in enumerate(found):
        expected = [(score, ids) for score, ids in chain.everything(sentence, 4) if 4 not in ids and len(ids) > least]
        assert ids_of(hypotheses) == [ids for _, ids in expected]
        assert [h.score for h in hypotheses] == pytest.approx([score for score, _ in expected])


@pytest.mark.parametrize("beam_size", [1, 2, 3, 5])
@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("least", [0, 2])
def test_a_batch_equals_the_plain_search_of_each_sentence(beam_size, penalty, least):
    limits = [6, 1, 3, 9, 2, 6]
    for seed in range(5):
        chain = Chain(6, seed)
        found = chain.search(list(range(6)), limits, beam_size=beam_size, length_penalty=penalty, min_length=least)
        for sentence, limit in enumerate(limits):
            assert ids_of(found[sentence]) == chain.plain(sentence, limit, beam_size, penalty, least)


def test_beam_size_one_is_greedy_search():
    chain = Chain(8)
    for sentence, (best,) in enumerate(chain.search(list(range(8)), [7] * 8, beam_size=1)):
        ids, path, last = [], 0, BOS
        while len(ids) < 7 and last != EOS:
            path = (3 * path + last) % HISTORIES
            last = int(chain.table[sentence, path, last].argmax()) if len(ids) < 6 else EOS
            ids.append(last)
        assert best.ids == ids


def test_the_fields_of_a_hypothesis_agree_with_its_ids():
    chain = Chain()
    limits = [5, 2, 8, 1]
    ends = set()
    for sentence, hypotheses in enumerate(chain.search([0, 1, 2, 3], limits, beam_size=4, length_penalty=0.7)):
        assert len({tuple(ids) for ids in ids_of(hypotheses)}) == len(hypotheses)
        assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
        for hypothesis in hypotheses:
            assert hypothesis.ids.index(EOS) == len(hypothesis.ids) - 1  # never extended
            assert not {PAD, BOS} & set(hypothesis.ids)
            assert len(hypothesis.ids) <= limits[sentence]
            log_probs, paths = chain.follow(sentence, hypothesis.ids)
            before = hypothesis.ids[-2] if len(hypothesis.ids) > 1 else BOS
            would_go_on = int(chain.table[sentence, paths[-1], before].argmax()) != EOS
            at_limit = len(hypothesis.ids) == limits[sentence]
            assert hypothesis.cut == (at_limit and would_go_on)
            ends.add((at_limit, would_go_on))
            assert hypothesis.token_log_probs == pytest.approx(log_probs)
            assert hypothesis.log_prob == pytest.approx(sum(log_probs))
            assert hypothesis.score == pytest.approx(sum(log_probs) / len(hypothesis.ids) ** 0.7)
    assert {(True, True), (True, False)} <= ends, "both are seen: cut by the limit, and ended there by itself"


@pytest.mark.parametrize("beam_size", [1, 2, 4])
def test_a_sentence_does_not_depend_on_its_batch(beam_size):
    chain = Chain(5, sharpness=3.0)
    chain.table[1, :, :, :] = NEVER  # sentence 1 ends at the first step
    chain.table[1, :, :, EOS] = 0.0
    limits = [8, 8, 3, 12, 1]
    together = chain.search([0, 1, 2, 3, 4], limits, beam_size=beam_size)
    assert ids_of(together[1]) == [[EOS]]
    order = [3, 1, 4, 0, 2]
    shuffled = chain.search(order, [limits[number] for number in order], beam_size=beam_size)
    for sentence in range(5):
        (alone,) = chain.search([sentence], [limits[sentence]], beam_size=beam_size)
        assert alone == together[sentence] == shuffled[order.index(sentence)]


def test_finished_sentences_and_slots_leave_the_batch():
    chain = Chain(3)
    chain.search([0, 1, 2], [2, 4, 9], beam_size=2)
    assert chain.rows[:2] == [3, 6]
    assert max(chain.rows[2:4]) <= 4  # the first sentence has left the batch
    assert max(chain.rows[4:], default=0) <= 2


def test_the_search_stops_when_every_slot_is_finished():
    chain = Chain(2)
    chain.table[:] = math.log(0.01)
    chain.table[..., [PAD, BOS]] = NEVER
    chain.table[..., EOS] = math.log(0.97)
    found = chain.search([0, 1], [50, 50], beam_size=2)
    assert len(chain.rows) == 2
    assert [len(h.ids) for h in found[0]] == [1, 2]


def test_limits_are_kept_per_sentence():
    chain = Chain()
    chain.table[..., EOS] = -50.0  # no hypothesis ends before its limit
    limits = [4, 1, 7, 2]
    for limit, hypotheses in zip(limits, chain.search([0, 1, 2, 3], limits), strict=True):
        assert {len(h.ids) for h in hypotheses} == {limit}
        assert all(h.cut for h in hypotheses)


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("least", [0, 1, 4])
def test_no_end_before_the_minimum_length(beam_size, least):
    chain = Chain()
    chain.table[..., EOS] = math.log(0.9)  # without a minimum it would end at the first step
    found = chain.search([0, 1], [9, 9], beam_size=beam_size, min_length=least)
    for hypotheses in found:
        assert min(len(h.ids) for h in hypotheses) == least + 1
        assert len(hypotheses) == beam_size


def test_the_maximum_length_takes_precedence_over_the_minimum():
    found = Chain().search([0, 1], [2, 6], min_length=4)
    assert {len(h.ids) for h in found[0]} == {2}
    assert min(len(h.ids) for h in found[1]) == 5


def test_banning_eos_never_leaves_a_row_without_a_token():
    chain = Chain()
    chain.table[0] = NEVER  # sentence 0 can only end
    chain.table[0, :, :, EOS] = 0.0
    found = chain.search([0, 1], [9, 9], min_length=3)
    assert ids_of(found[0]) == [[EOS]]
    assert min(len(h.ids) for h in found[1]) == 4


def test_fewer_hypotheses_are_returned_only_if_no_more_exist():
    found = Chain().search([0, 1, 2], [1, 2, 3], beam_size=6)
    assert [len(hypotheses) for hypotheses in found] == [1, 4, 6]  # 1, 4 and 13 exist


def test_minus_infinity_never_gives_nan():
    chain = Chain()
    chain.table[0, :, :, [1, 4]] = NEVER  # few possible ids
    chain.table[1, :, :, EOS] = NEVER  # eos has probability 0
    found = chain.search([0, 1, 2, 3], [5] * 4, beam_size=8)
    for hypotheses in found:
        for hypothesis in hypotheses:
            values = [hypothesis.log_prob, hypothesis.score, *hypothesis.token_log_probs]
            assert all(math.isfinite(value) for value in values)
    assert [len(hypotheses) for hypotheses in found] == [5, 0, 8, 8]


def test_the_length_penalty_divides_by_the_length_to_its_power():
    chain = Chain(1)
    # eos at the first step: 0.5; one word, then eos with certainty: 0.4
    chain.table[:] = NEVER
    chain.table[0, :, BOS, EOS] = math.log(0.5)
    chain.table[0, :, BOS, 4] = math.log(0.4)
    chain.table[0, :, 4, EOS] = 0.0
    for penalty, first in [(0.0, [EOS]), (1.0, [4, EOS])]:
        (found,) = chain.search([0], [5], beam_size=2, length_penalty=penalty)
        assert found[0].ids == first
        by_ids = {tuple(h.ids): h for h in found}
        assert by_ids[(EOS,)].score == pytest.approx(math.log(0.5))
        assert by_ids[(4, EOS)].score == pytest.approx(math.log(0.4) / 2**penalty)
        assert by_ids[(4, EOS)].log_prob == pytest.approx(math.log(0.4))


# Penalties


def penalty(chain: Chain, sentence: int, ids: list[int], real: int, coverage: float, summary: float) -> float:
    """Compute the penalty of a hypothesis from its ids."""
    attended = sum(chain.looks(torch.tensor(path)) for path in chain.follow(sentence, ids)[1]).tolist()[:real]
    little = -sum(math.log(min(looked, 1.0)) for looked in attended)
    return coverage * little + summary * sum(max(looked, 1.0) - 1 for looked in attended)


@pytest.mark.parametrize(("coverage", "summary"), [(0.4, 0.0), (0.0, 0.7), (0.3, 0.2)])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_penalties_follow_the_beam_and_count_only_real_positions(coverage, summary, length_penalty):
    limits, lengths = [6, 1, 3, 9, 2, 6], [4, 2, 1, 3, 4, 2]
    options = {"beam_size": 4, "length_penalty": length_penalty}
    for seed in range(3):
        chain = Chain(6, seed)
        found = chain.search(list(range(6)), limits, lengths, penalties=Penalties(coverage, summary), **options)
        for sentence, hypotheses in enumerate(found):
            for hypothesis in hypotheses:
                taken = penalty(chain, sentence, hypothesis.ids, lengths[sentence], coverage, summary)
                expected = hypothesis.log_prob / len(hypothesis.ids) ** length_penalty - taken
                assert hypothesis.score == pytest.approx(expected, abs=1e-5)
            assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)


def test_penalties_change_the_order_and_not_the_log_probabilities():
    moved = 0
    for seed in range(5):
        chain = Chain(4, seed)
        plain, penalized = (
            chain.search([0, 1, 2, 3], [6] * 4, beam_size=4, penalties=penalties)
            for penalties in (Penalties(), Penalties(2.0, 1.0))
        )
        for before, after in zip(plain, penalized, strict=True):
            by_ids = {tuple(hypothesis.ids): hypothesis for hypothesis in before}
            assert by_ids.keys() == {tuple(hypothesis.ids) for hypothesis in after}
            for hypothesis in after:
                same = by_ids[tuple(hypothesis.ids)]
                assert hypothesis.log_prob == same.log_prob
                assert hypothesis.token_log_probs == same.token_log_probs
                assert hypothesis.score <= same.score
            moved += ids_of(before) != ids_of(after)
    assert moved > 5


def test_penalties_of_a_sentence_do_not_depend_on_its_batch():
    chain = Chain(5)
    limits, lengths = [8, 8, 3, 12, 1], [4, 1, 3, 2, 4]
    penalties = Penalties(0.5, 0.3)
    together = chain.search([0, 1, 2, 3, 4], limits, lengths, penalties=penalties)
    order = [3, 1, 4, 0, 2]
    shuffled = chain.search(order, [limits[n] for n in order], [lengths[n] for n in order], penalties=penalties)
    for sentence in range(5):
        alone = chain.search([sentence], [limits[sentence]], [lengths[sentence]], penalties=penalties)[0]
        for found in (together[sentence], shuffled[order.index(sentence)]):
            assert ids_of(found) == ids_of(alone)
            assert [h.score for h in found] == pytest.approx([h.score for h in alone])


def test_without_penalties_attention_weights_are_not_read():
    class Blind(NamedTuple):
        """A state without weights and mask."""

        toy: Toy

        def reorder(self, rows: torch.Tensor) -> Blind:
            return Blind(self.toy.reorder(rows))

        def keep(self, sentences: torch.Tensor) -> Blind:
            return Blind(self.toy.keep(sentences))

    def step(tokens: torch.Tensor, state: Blind) -> tuple[LogProbs, Blind]:
        next_token, toy = chain.step(tokens, state.toy)
        return next_token, Blind(toy)

    chain = Chain()
    expected = chain.search([0, 1], [4, 4])
    assert chain.search([0, 1], [4, 4], penalties=Penalties(0.0, 0.0)) == expected
    assert beam_search(step, Blind(chain.start([0, 1])), [4, 4], SearchOptions(BOS, EOS, 3, 0.0)) == expected


def test_the_first_token_is_bos():
    seen = []

    def step(tokens, state):
        seen.append(tokens.tolist())
        return chain.step(tokens, state)

    chain = Chain()
    beam_search(step, chain.start([0, 1]), [3, 3], SearchOptions(BOS, EOS, 2))
    assert seen[0] == [BOS, BOS]
    assert all(BOS not in tokens for tokens in seen[1:])


def test_an_empty_batch_gives_an_empty_list():
    assert Chain().search([], []) == []


def test_search_records_no_gradient():
    chain = Chain()
    chain.table.requires_grad_()

    def step(tokens, state):
        next_token, state = chain.step(tokens, state)
        assert not next_token.log_probs().requires_grad
        return next_token, state

    assert beam_search(step, chain.start([0]), [3], SearchOptions(BOS, EOS, 2))[0]


def test_the_log_probability_of_a_long_output_is_the_sum_over_its_tokens():
    """The error of fp32 sums is 1e-3 after a thousand tokens."""
    chain = Chain(sentences=1, sharpness=0.3, dtype=torch.float32)
    chain.table[..., EOS] -= 12.0
    for hypothesis in chain.search([0], [1500], beam_size=2)[0]:
        assert len(hypothesis.ids) > 1000
        assert hypothesis.log_prob == pytest.approx(math.fsum(hypothesis.token_log_probs), abs=1e-9)
