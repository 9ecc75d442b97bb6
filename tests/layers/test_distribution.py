"""The distribution of the next token: both views agree, formulas by hand, sums, gradients and extremes."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch

from seq2seq.layers.distribution import Copying, Distribution, Route

V, SIZE = 6, 9  # ids 1, 3, 4, 5 can be produced; 6, 7, 8 are OOV pieces
PAD, BOS = 0, 2
BANNED = torch.tensor([PAD, BOS])
FREE = [1, 3, 4, 5]
NEVER = torch.finfo(torch.float32).min
KINDS = ("none", "pointer", "copynet")
COPIES = ("pointer", "copynet")
IDS = torch.tensor(  # repeated pieces, OOV pieces, padding
    [
        [4, 6, 4, 4, 7, 3],
        [8, 5, 3, 0, 0, 0],
        [3, 0, 0, 0, 0, 0],
        [6, 6, 7, 7, 8, 3],
        [1, 3, 1, 5, 3, 0],
    ]
)
R = len(IDS)
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
EVERY_COPY = pytest.mark.parametrize("kind", COPIES)


class Parts(NamedTuple):
    logits: torch.Tensor
    gate: torch.Tensor
    energies: torch.Tensor


def parts(dtype: torch.dtype = torch.float32, sharpness: float = 2.0) -> Parts:
    random = torch.Generator().manual_seed(1)
    logits = sharpness * torch.randn(R, V, generator=random, dtype=torch.float64)
    gate = sharpness * torch.randn(R, generator=random, dtype=torch.float64)
    energies = sharpness * torch.randn(R, IDS.shape[1], generator=random, dtype=torch.float64)
    return Parts(logits.to(dtype), gate.to(dtype), energies.to(dtype))


def make(kind: str, given: Parts, ids: torch.Tensor = IDS) -> Distribution:
    """Make a distribution as the model does, with banned logits and padded energies."""
    logits = given.logits.index_fill(1, BANNED, -1e9)
    if kind == "none":
        return Distribution(logits, BANNED)
    energies = given.energies.masked_fill(ids == PAD, NEVER)
    if kind == "pointer":  # log-weights of an attention
        return Distribution(logits, BANNED, Copying(given.gate, torch.log_softmax(energies, dim=1), ids))
    return Distribution(logits, BANNED, Copying(None, energies, ids))


def by_hand(kind: str, given: Parts) -> torch.Tensor:
    """Compute P of every id (R, SIZE) by its formula, in float64."""
    logits, gate, energies = (tensor.double() for tensor in given)
    result = torch.zeros(R, SIZE, dtype=torch.float64)
    for row in range(R):
        words = {v: math.exp(logits[row, v]) for v in FREE}
        places = {i: math.exp(energies[row, i]) for i, piece in enumerate(IDS[row].tolist()) if piece != PAD}
        vocab, copy = sum(words.values()), sum(places.values())
        share = {"none": 1.0, "pointer": 1 / (1 + math.exp(-gate[row])), "copynet": vocab / (vocab + copy)}[kind]
        for v, value in words.items():
            result[row, v] += share * value / vocab
        for i, value in places.items():
            result[row, IDS[row, i]] += (1 - share) * value / copy
    return result


def size_of(kind: str) -> int:
    return V if kind == "none" else SIZE


def targets(distribution: Distribution, size: int) -> torch.Tensor:
    """Compute log-probabilities (R, size) with ``target``, one id at a time."""
    return torch.stack([distribution.target(torch.full((R,), v)).log_prob for v in range(size)], dim=1)


# Values


@EVERY_KIND
def test_both_views_equal_the_formula(kind):
    given, size = parts(), size_of(kind)
    distribution = make(kind, given)
    expected = by_hand(kind, given)[:, :size]
    torch.testing.assert_close(distribution.log_probs(size).double().exp(), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(targets(distribution, size).double().exp(), expected, rtol=1e-5, atol=1e-7)


@EVERY_KIND
@pytest.mark.parametrize("sharpness", [0.1, 2.0, 20.0])
def test_both_views_agree_on_every_id(kind, sharpness):
    size = size_of(kind)
    distribution = make(kind, parts(sharpness=sharpness))
    search, training = distribution.log_probs(size), targets(distribution, size)
    possible = search > -math.inf
    torch.testing.assert_close(training[possible], search[possible], rtol=1e-5, atol=1e-5)
    assert (training[~possible].exp() == 0).all()


@EVERY_KIND
@pytest.mark.parametrize("sharpness", [0.1, 2.0, 20.0, 1e4])
def test_the_probabilities_of_a_row_sum_to_one_and_those_of_pad_and_bos_are_zero(kind, sharpness):
    size = size_of(kind)
    log_probs = make(kind, parts(sharpness=sharpness)).log_probs(size)
    torch.testing.assert_close(log_probs.exp().sum(dim=1), torch.ones(R), rtol=0, atol=1e-5)
    assert (log_probs[:, BANNED] == -math.inf).all()
    assert not log_probs.isnan().any()
    assert (targets(make(kind, parts(sharpness=sharpness)), size)[:, BANNED].exp() == 0).all()


@EVERY_COPY
def test_oov_ids_that_the_source_of_the_row_lacks_have_no_probability(kind):
    log_probs = make(kind, parts()).log_probs(SIZE + 2)
    assert log_probs.shape == (R, SIZE + 2)
    for row in range(R):
        own = {v for v in range(V, SIZE + 2) if v in IDS[row].tolist()}
        assert {v for v in range(V, SIZE + 2) if log_probs[row, v] > -math.inf} == own


def test_equation_9_of_see_by_hand():
    # P_vocab = (1/8, 2/8, 1/8, 4/8) over ids 1, 3, 4, 5; p_gen = 1/3; the source is "4 6 4", a = (1/6, 2/6, 3/6)
    logits = torch.tensor([[-1e9, math.log(1), -1e9, math.log(2), math.log(1), math.log(4)]])
    energies = torch.tensor([[1 / 6, 2 / 6, 3 / 6]]).log()
    copying = Copying(torch.tensor([-math.log(2)]), energies, torch.tensor([[4, 6, 4]]))
    distribution = Distribution(logits, BANNED, copying)
    expected = [0, 1 / 24, 0, 2 / 24, 1 / 24 + 2 / 3 * 4 / 6, 4 / 24, 2 / 3 * 2 / 6]
    assert distribution.log_probs(7).exp().tolist()[0] == pytest.approx(expected, rel=1e-5)
    found = distribution.target(torch.tensor([4]))
    assert found.log_prob.exp().item() == pytest.approx(1 / 24 + 4 / 9, rel=1e-5)
    assert found.route.generated.exp().item() == pytest.approx(1 / 24, rel=1e-5)
    assert found.route.copied.exp().item() == pytest.approx(4 / 9, rel=1e-5)
    assert found.route.gate.sigmoid().item() == pytest.approx(1 / 3)
    assert found.mean_log_prob.item() == pytest.approx(math.log(1 / 8 * 2 / 8 * 1 / 8 * 4 / 8) / 4, rel=1e-5)  # P_vocab


def test_the_shared_softmax_of_gu_by_hand():
    # e^logit = 1, 2, 1, 4 over ids 1, 3, 4, 5; e^psi = 3, 5, 4 over "4 6 4": Z = 20
    logits = torch.tensor([[-1e9, math.log(1), -1e9, math.log(2), math.log(1), math.log(4)]])
    copying = Copying(None, torch.tensor([[3.0, 5.0, 4.0]]).log(), torch.tensor([[4, 6, 4]]))
    distribution = Distribution(logits, BANNED, copying)
    expected = [0, 1 / 20, 0, 2 / 20, 8 / 20, 4 / 20, 5 / 20]
    assert distribution.log_probs(7).exp().tolist()[0] == pytest.approx(expected, rel=1e-5)
    found = distribution.target(torch.tensor([4]))
    assert found.log_prob.exp().item() == pytest.approx(8 / 20, rel=1e-5)
    assert found.route.generated.exp().item() == pytest.approx(1 / 20, rel=1e-5)
    assert found.route.copied.exp().item() == pytest.approx(7 / 20, rel=1e-5)
    assert found.route.gate.sigmoid().item() == pytest.approx(8 / 20, rel=1e-5)  # the share of the vocabulary


def test_without_copying_there_is_no_route():
    found = make("none", parts()).target(torch.full((R,), 3))
    assert found.route is None
    given = parts()
    expected = torch.log_softmax(given.logits[:, FREE], dim=1)
    torch.testing.assert_close(found.log_prob, expected[:, 1])
    torch.testing.assert_close(found.mean_log_prob, expected.mean(dim=1))


@EVERY_COPY
def test_the_routes_sum_to_the_probability(kind):
    target = torch.tensor([4, 8, 5, 7, 1])  # both routes; OOV; only generated; OOV; both routes
    found = make(kind, parts()).target(target)
    assert isinstance(found.route, Route)
    both = found.route.generated.exp() + found.route.copied.exp()
    torch.testing.assert_close(found.log_prob.exp(), both)
    assert (found.route.generated == -math.inf).tolist() == [False, True, False, True, False]
    assert (found.route.copied == -math.inf).tolist() == [False, False, True, False, False]
    assert found.log_prob.isfinite().all()


@EVERY_COPY
def test_copied_and_generated_are_one_token(kind):
    given = parts()
    log_probs = make(kind, given).log_probs(SIZE)
    found = make(kind, given).target(torch.full((R,), 4))
    assert found.route.copied[0] > -math.inf
    torch.testing.assert_close(log_probs[:, 4], found.log_prob)
    assert log_probs[0, 4] > found.route.generated[0]


@EVERY_COPY
def test_the_order_and_the_padding_of_the_source_change_nothing(kind):
    given = parts()
    expected = make(kind, given).log_probs(SIZE)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = make(kind, given._replace(energies=given.energies[:, order]), IDS[:, order])
    torch.testing.assert_close(shuffled.log_probs(SIZE), expected)
    wide = make(
        kind,
        given._replace(energies=torch.nn.functional.pad(given.energies, (0, 3), value=50.0)),
        torch.nn.functional.pad(IDS, (0, 3)),
    )
    torch.testing.assert_close(wide.log_probs(SIZE), expected)


# Gradients


def gradients(kind: str, given: Parts, target: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the gradients of the log-probability of the target, for every input that it depends on."""
    leaves = Parts(*(tensor.clone().requires_grad_() for tensor in given))
    found = make(kind, leaves).target(target)
    assert found.log_prob.isfinite().all()
    (found.log_prob.sum() + found.mean_log_prob.sum()).backward()
    acting = {"none": leaves[:1], "pointer": leaves, "copynet": (leaves.logits, leaves.energies)}[kind]
    return tuple(leaf.grad for leaf in acting)


@EVERY_KIND
@pytest.mark.parametrize("target", [[4, 5, 3, 1, 1], [6, 8, 3, 7, 5]], ids=["vocabulary", "own"])
def test_gradcheck_in_float64(kind, target):
    if kind == "none":
        target = [min(v, V - 1) for v in target]
    given = parts(torch.float64)

    def views(logits: torch.Tensor, gate: torch.Tensor, energies: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = make(kind, Parts(logits, gate, energies)).target(torch.tensor(target))
        return found.log_prob, found.mean_log_prob

    assert torch.autograd.gradcheck(views, tuple(tensor.requires_grad_() for tensor in given))


@EVERY_COPY
def test_gradcheck_through_the_routes(kind):
    def routes(logits: torch.Tensor, gate: torch.Tensor, energies: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = make(kind, Parts(logits, gate, energies)).target(torch.tensor([4, 5, 3, 4, 1]))
        return found.route.generated, found.route.copied[:3], found.route.gate  # row 3 does not contain id 4

    assert torch.autograd.gradcheck(routes, tuple(tensor.requires_grad_() for tensor in parts(torch.float64)))


@EVERY_COPY
def test_a_target_token_outside_the_source_gives_copying_no_gradient(kind):
    found = gradients(kind, parts(), torch.tensor([5, 4, 5, 5, 4]))
    assert all(gradient.isfinite().all() for gradient in found)
    if kind == "pointer":  # the weights of the source positions have no gradient
        assert not found[2].any()
        assert (found[1] > 0).all()  # a higher p_gen raises the probability
    else:
        assert (found[1] <= 0).all()


@EVERY_COPY
def test_a_target_piece_outside_the_vocabulary_gives_generating_no_gradient(kind):
    given = parts()
    target = torch.tensor([6, 8, 3, 7, 3])
    leaves = Parts(*(tensor.clone().requires_grad_() for tensor in given))
    found = make(kind, leaves).target(target)
    found.log_prob[[0, 1, 3]].sum().backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves if leaf.grad is not None)
    assert not leaves.logits.grad.any() if kind == "pointer" else (leaves.logits.grad[:, FREE] <= 0).all()
    assert (leaves.energies.grad[[0, 1, 3]] != 0).any(dim=1).all()
    if kind == "pointer":
        assert (leaves.gate.grad[[0, 1, 3]] < 0).all()  # a lower p_gen raises the probability


def test_an_oov_piece_that_the_source_lacks_is_impossible():
    """Training has no such target: ``extended_target_ids`` replaces it by the unknown id."""
    for kind in COPIES:
        found = make(kind, parts()).target(torch.tensor([8, 6, 6, 4, 7]))
        assert (found.log_prob == -math.inf).tolist() == [True, True, True, False, True]
        unknown = make(kind, parts()).target(torch.ones(R, dtype=torch.long))
        assert unknown.log_prob.isfinite().all()


@pytest.mark.parametrize("gate", [-1e4, 1e4])
@pytest.mark.parametrize(
    "target", [[4, 5, 3, 3, 1], [5, 4, 5, 5, 4], [6, 8, 3, 7, 3]], ids=["both", "vocabulary", "own"]
)
def test_results_are_finite_with_a_saturated_gate(gate, target):
    given = parts()._replace(gate=torch.full((R,), gate))
    assert all(gradient.isfinite().all() for gradient in gradients("pointer", given, torch.tensor(target)))
    log_probs = make("pointer", given).log_probs(SIZE)
    torch.testing.assert_close(log_probs.exp().sum(dim=1), torch.ones(R), rtol=0, atol=1e-5)
    assert not log_probs.isnan().any()
    torch.testing.assert_close(
        log_probs.gather(1, torch.tensor(target).unsqueeze(1)).squeeze(1),
        make("pointer", given).target(torch.tensor(target)).log_prob,
    )
    if gate > 0:
        assert (log_probs[:, V:].exp() == 0).all()
    else:
        held = torch.zeros(R, SIZE).scatter(1, IDS, 1.0).bool()
        assert (log_probs[~held].exp() == 0).all()


@EVERY_COPY
@pytest.mark.parametrize("low", [-1e3, -1e5])
def test_results_are_finite_where_weights_underflow(kind, low):
    given = parts()
    energies = given.energies.clone()
    energies[:, 1:] += low  # the weight of position 0 is 1; the others are 0 in fp32
    given = given._replace(energies=energies)
    target = torch.tensor([6, 5, 3, 8, 5])  # in the vocabulary and at these positions, or only at these positions
    assert all(gradient.isfinite().all() for gradient in gradients(kind, given, target))
    log_probs = make(kind, given).log_probs(SIZE)
    assert not log_probs.isnan().any()
    torch.testing.assert_close(log_probs.exp().sum(dim=1), torch.ones(R), rtol=0, atol=1e-5)
    found = make(kind, given).target(target)
    assert found.log_prob[0] == pytest.approx(low, rel=0.05)  # finite, not minus infinity
    assert found.log_prob[0] > -math.inf


@EVERY_COPY
@pytest.mark.parametrize("size", [1e3, 1e5])
def test_results_are_finite_for_extreme_energies_and_logits(kind, size):
    given = Parts(*(size * tensor.sign() for tensor in parts()))
    for target in ([4, 5, 3, 3, 1], [6, 8, 3, 7, 3]):
        assert all(gradient.isfinite().all() for gradient in gradients(kind, given, torch.tensor(target)))
    torch.testing.assert_close(make(kind, given).log_probs(SIZE).exp().sum(dim=1), torch.ones(R), rtol=0, atol=1e-5)


@EVERY_KIND
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_fp32(kind, dtype):
    rounded = parts(dtype)
    logits, gate, energies = rounded
    logits = logits.index_fill(1, BANNED, -3e4).requires_grad_()  # fp16 cannot represent -1e9
    copying = None
    if kind != "none":
        energies = energies.float().masked_fill(IDS == PAD, NEVER)
        copying = Copying(gate if kind == "pointer" else None, energies, IDS)
    target = torch.tensor([4, 5, 3, 3, 1])
    found = Distribution(logits, BANNED, copying).target(target)
    exact = by_hand(kind, rounded)[torch.arange(R), target]
    assert found.log_prob.dtype == torch.float32
    torch.testing.assert_close(found.log_prob.double(), exact.log(), rtol=1e-5, atol=1e-5)
    log_probs = Distribution(logits, BANNED, copying).log_probs(size_of(kind))
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(dim=1), torch.ones(R), rtol=0, atol=1e-5)
    (found.log_prob.sum() + found.mean_log_prob.sum()).backward()
    assert logits.grad.dtype == dtype
    assert logits.grad.isfinite().all()
    assert logits.grad[:, FREE].any()
