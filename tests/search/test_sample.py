"""Sampling over toy chains: frequencies, truncation by hand, borders, limits and batches."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from toy_chain import BOS, EOS, NEVER, PAD, Chain, ids_of

from seq2seq.data.uniforms import LinePart, uniform_numbers
from seq2seq.search.beam import SearchOptions
from seq2seq.search.constraints import Forbidden, NoRepeatNgram, RepetitionPenalty
from seq2seq.search.penalties import Penalties
from seq2seq.search.sample import Samples, Truncation, _least_of_top_p, draw, sample

PLAIN = Truncation()


def run(chain: Chain, sentences: list[int], limits: list[int], count: int, truncation=PLAIN, **options) -> Samples:
    """Sample with the numbers of the sentences as lines."""
    prefixes, lengths, seed = (
        options.pop(name, default) for name, default in (("prefixes", ()), ("lengths", None), ("seed", 1))
    )
    numbers = torch.from_numpy(uniform_numbers(seed, [LinePart(n) for n in sentences], count, max(limits)))
    search = SearchOptions(BOS, EOS, 1, **{"length_penalty": 0.0, **options})
    state = chain.start(sentences, lengths)
    return sample(chain.step, state, limits, numbers, options=search, truncation=truncation, prefixes=prefixes)


def test_samples_have_the_frequencies_of_the_model():
    """A chi-squared test over all sequences of at most three ids; 5 standard deviations."""
    chain, count, limit = Chain(), 4000, 3
    for sentence in (0, 1):
        (found,) = run(chain, [sentence], [limit], count).hypotheses
        counts = Counter(tuple(hypothesis.ids) for hypothesis in found)
        assert counts.total() == count
        expected: Counter[tuple[int, ...]] = Counter()
        for _, ids in chain.everything(sentence, limit):
            log_probs = chain.follow(sentence, ids)[0]
            last = len(ids) == limit  # eos is forced
            expected[tuple(ids)] += count * math.exp(sum(log_probs[:-1] if last else log_probs))
        assert expected.total() == pytest.approx(count)
        squared = sum((counts[ids] - mean) ** 2 / mean for ids, mean in expected.items())
        free = len(expected) - 1
        assert abs(squared - free) < 5 * math.sqrt(2 * free) + 5
        for hypothesis in found:
            log_probs = chain.follow(sentence, hypothesis.ids)[0]
            assert hypothesis.token_log_probs == pytest.approx(log_probs)
            assert hypothesis.log_prob == pytest.approx(sum(log_probs))
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        assert {hypothesis.cut for hypothesis in found if len(hypothesis.ids) == limit} == {True, False}
        assert not any(hypothesis.cut for hypothesis in found if len(hypothesis.ids) < limit)


def drawn(weights: list[float], truncation: Truncation, count: int = 4000) -> list[float]:
    """Return the share of each id for evenly spaced numbers."""
    values = torch.tensor([weights]).log().expand(count, -1)
    ids, _ = draw(values, (torch.arange(count, dtype=torch.float64) + 0.5) / count, truncation)
    assert torch.equal(ids, ids.sort().values), "ids are in increasing order"
    return (torch.bincount(ids, minlength=len(weights)) / count).tolist()


@pytest.mark.parametrize(
    ("truncation", "expected"),
    [
        (PLAIN, [0.2, 0.5, 0.0, 0.3]),
        (Truncation(temperature=0.5), [0.04 / 0.38, 0.25 / 0.38, 0.0, 0.09 / 0.38]),
        (Truncation(temperature=0.01), [0.0, 1.0, 0.0, 0.0]),
        (Truncation(top_k=2), [0.0, 0.625, 0.0, 0.375]),
        (Truncation(top_k=1), [0.0, 1.0, 0.0, 0.0]),
        (Truncation(top_k=9), [0.2, 0.5, 0.0, 0.3]),
        (Truncation(top_p=0.79), [0.0, 0.625, 0.0, 0.375]),
        (Truncation(top_p=0.81), [0.2, 0.5, 0.0, 0.3]),
        (Truncation(top_p=0.49), [0.0, 1.0, 0.0, 0.0]),
        (Truncation(top_p=0.0), [0.0, 1.0, 0.0, 0.0]),
        (Truncation(top_k=2, top_p=0.6), [0.0, 1.0, 0.0, 0.0]),
        (Truncation(temperature=0.5, top_p=0.6), [0.0, 1.0, 0.0, 0.0]),
    ],
)
def test_truncation(truncation, expected):
    assert drawn([0.2, 0.5, 0.0, 0.3], truncation) == pytest.approx(expected, abs=0.002)


def test_ids_as_probable_as_the_last_one_are_kept():
    for truncation in (Truncation(top_k=2), Truncation(top_p=0.6)):
        assert drawn([0.4, 0.25, 0.25, 0.1], truncation) == pytest.approx([4 / 9, 2.5 / 9, 2.5 / 9, 0.0], abs=0.002)


def near(weights: list[float], number: float, truncation: Truncation = PLAIN) -> bool:
    _, found = draw(torch.tensor([weights]).log(), torch.tensor([number], dtype=torch.float64), truncation)
    return bool(found)


def test_draws_near_a_border_are_found():
    weights = [0.2, 0.5, 0.0, 0.3]
    for number in (0.2 - 9e-5, 0.2 + 9e-5, 0.7 - 9e-5, 0.7 + 9e-5):
        assert near(weights, number)
    for number in (0.0, 0.2 - 1.1e-4, 0.2 + 1.1e-4, 0.5, 0.7 + 1.1e-4, 1 - 1e-9):  # 0 and 1 are no borders
        assert not near(weights, number)
    assert near([0.3, 0.3, 0.4], 0.95, Truncation(top_k=2))  # which of the equal ids is kept depends on rounding
    assert not near([0.3, 0.29, 0.41], 0.95, Truncation(top_k=2))
    assert near(weights, 0.1, Truncation(top_p=0.8))
    assert near(weights, 0.1, Truncation(top_p=0.79995))
    assert not near(weights, 0.1, Truncation(top_p=0.7998))


def test_a_draw_that_is_not_near_a_border_survives_noise():
    """Rounding between batches changes log-probabilities by less than 1e-5."""
    random = torch.Generator().manual_seed(1)
    values = torch.log_softmax(3 * torch.randn(20000, 40, generator=random), dim=1)
    numbers = torch.rand(20000, generator=random, dtype=torch.float64)
    other = values + 1e-5 * (torch.rand(values.shape, generator=random) - 0.5)
    for truncation in (PLAIN, Truncation(top_k=7), Truncation(0.7, 0, 0.9), Truncation(1.3, 20, 0.8)):
        ids, close = draw(values, numbers, truncation)
        changed = draw(other, numbers, truncation)[0] != ids
        assert not (changed & ~close).any()
        assert 0 < close.float().mean() < 0.02


def test_the_largest_number_below_one_draws_a_possible_id():
    values = torch.tensor([[0.1, 0.2, 0.7, 0.0]]).log()
    for number in (0.0, math.nextafter(1.0, 0.0)):
        ids, _ = draw(values, torch.tensor([number], dtype=torch.float64), PLAIN)
        assert ids.tolist() == [0 if number == 0 else 2]


def test_a_sample_does_not_depend_on_the_batch_and_the_number_of_samples():
    chain = Chain(5, sharpness=2.0)
    chain.table[..., EOS] -= 1.0
    limits, lengths = [8, 8, 3, 12, 1], [4, 1, 3, 2, 4]
    options = {"penalties": Penalties(0.3, 0.2), "constraints": (NoRepeatNgram(3), RepetitionPenalty(1.2))}
    prefixes = [[], [4, 4], [1], [], []]
    together = run(chain, [0, 1, 2, 3, 4], limits, 6, lengths=lengths, prefixes=prefixes, **options)
    order = [3, 1, 4, 0, 2]
    parts = ([limits[n] for n in order], 6)
    shuffled = run(
        chain, order, *parts, lengths=[lengths[n] for n in order], prefixes=[prefixes[n] for n in order], **options
    )
    draws = 0
    for sentence in range(5):
        one = {"lengths": [lengths[sentence]], "prefixes": [prefixes[sentence]]}
        alone = run(chain, [sentence], [limits[sentence]], 6, **one, **options)
        assert alone.hypotheses[0] == together.hypotheses[sentence] == shuffled.hypotheses[order.index(sentence)]
        fewer = run(chain, [sentence], [limits[sentence]], 2, **one, **options).hypotheses[0]
        assert all(hypothesis in alone.hypotheses[0] for hypothesis in fewer)
        draws += alone.draws
    assert draws == together.draws > 100


def test_draws_are_counted():
    chain = Chain()
    found = run(chain, [0, 1], [6, 6], 50, prefixes=[[4, 5], []])
    expected = sum(len(h.ids) for hypotheses in found.hypotheses for h in hypotheses)
    expected -= sum(len(h.ids) == 6 for hypotheses in found.hypotheses for h in hypotheses)  # eos was forced
    assert found.draws == expected - 2 * 50
    assert all(hypothesis.ids[:2] == [4, 5] for hypothesis in found.hypotheses[0])
    chain.table.fill_(NEVER)
    chain.table[..., 4], chain.table[..., EOS] = math.log(5e-5), math.log(1 - 5e-5)
    found = run(chain, [0], [6], 50)
    assert (found.draws, found.near_draws) == (50, 0)  # the border is at 1 - 5e-5 of numbers far from it
    chain.table[..., 4], chain.table[..., EOS] = math.log(0.5), math.log(0.5)
    number = torch.full((1, 3, 6), 0.5 + 5e-5, dtype=torch.float64)
    options = SearchOptions(BOS, EOS, 1)
    found = sample(chain.step, chain.start([0]), [6], number, options=options, truncation=PLAIN)
    assert found.near_draws == found.draws


def test_a_seed_gives_other_samples():
    chain = Chain()
    one, again, other = (run(chain, [0, 1, 2], [6] * 3, 5, seed=seed).hypotheses for seed in (1, 1, 2))
    assert one == again != other
    assert len({tuple(map(tuple, ids_of(hypotheses))) for hypotheses in one}) == 3


@pytest.mark.parametrize("top_p", [0.0, 0.1, 0.5, 0.9, 0.9999, 1 - 1e-9])
@pytest.mark.parametrize("spread", [0.0, 1.0, 8.0])
def test_the_border_of_top_p_does_not_depend_on_how_many_are_sorted_first(top_p: float, spread: float) -> None:
    torch.manual_seed(1)
    weights = torch.softmax(spread * torch.randn(40, 30, dtype=torch.float64), dim=1)
    expected, near = _least_of_top_p(weights, top_p, 30)
    for head in (1, 2, 5, 29, 100):
        least, is_near = _least_of_top_p(weights, top_p, head)
        assert torch.equal(least, expected)
        assert torch.equal(is_near, near)


@pytest.mark.parametrize("truncation", [Truncation(temperature=0.01), Truncation(top_k=1), Truncation(top_p=0.0)])
@pytest.mark.parametrize(
    "options", [{}, {"min_length": 4}, {"never_id": 4}, {"constraints": (RepetitionPenalty(4.0),)}]
)
def test_samples_of_the_most_probable_ids_are_greedy_search(truncation, options):
    chain = Chain()
    greedy = chain.search([0, 1, 2, 3], [6, 1, 9, 4], beam_size=1, **options)
    for hypotheses, (best,) in zip(
        run(chain, [0, 1, 2, 3], [6, 1, 9, 4], 3, truncation, **options).hypotheses, greedy, strict=True
    ):
        assert ids_of(hypotheses) == [best.ids] * 3
        for hypothesis in hypotheses:
            assert hypothesis.cut == best.cut
            assert (hypothesis.log_prob, hypothesis.score) == pytest.approx((best.log_prob, best.score))


def test_limits_minimum_and_blocking():
    chain = Chain()
    chain.table[..., EOS] -= 4.0
    limits = [7, 1, 2, 5]
    found = run(chain, [0, 1, 2, 3], limits, 40, Truncation(temperature=5.0), never_id=5, min_length=3).hypotheses
    for limit, hypotheses in zip(limits, found, strict=True):
        assert len(hypotheses) == 40
        for hypothesis in hypotheses:
            assert min(limit, 4) <= len(hypothesis.ids) <= limit
            assert hypothesis.ids.index(EOS) == len(hypothesis.ids) - 1
            assert not {PAD, BOS, 5} & set(hypothesis.ids)
    for hypotheses in run(chain, [0, 1], [9, 9], 20, constraints=(NoRepeatNgram(1),), min_length=8).hypotheses:
        assert all(len(set(h.ids)) == len(h.ids) == 4 and math.isfinite(h.log_prob) for h in hypotheses)
    for hypotheses in run(chain, [0, 1], [9, 9], 20, constraints=(Forbidden(((1, 4), (5,))),)).hypotheses:
        assert all((1, 4) not in pairwise(h.ids) and 5 not in h.ids for h in hypotheses)


def test_an_empty_batch_gives_no_samples():
    found = sample(
        Chain().step, Chain().start([]), [], torch.zeros(0, 2, 0), options=SearchOptions(BOS, EOS, 1), truncation=PLAIN
    )
    assert found == Samples([], 0, 0)


def test_finished_sentences_leave_the_batch():
    chain = Chain(3)
    chain.table[0] = chain.table[1] = NEVER
    chain.table[0, ..., EOS] = chain.table[1, ..., EOS] = 0.0
    run(chain, [0, 1, 2], [4, 4, 4], 5)
    assert chain.rows[:2] == [3, 5]


def test_uniform_numbers_depend_on_seed_line_sample_and_part_alone():
    places = [LinePart(7), LinePart(7, 1), LinePart(8), LinePart(2**40)]
    numbers = uniform_numbers(3, places, 4, 50)
    assert numbers.shape == (4, 4, 50)
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert len(np.unique(numbers)) == numbers.size
    assert np.array_equal(uniform_numbers(3, places[2:], 2, 20), numbers[2:, :2, :20])
    assert not np.isin(uniform_numbers(4, places, 4, 50), numbers).any()
    assert numbers[0, 0, :3] == pytest.approx(uniform_numbers(3, [LinePart(7)], 1, 3)[0, 0])
    assert abs(numbers.mean() - 0.5) < 5 / math.sqrt(12 * numbers.size)
