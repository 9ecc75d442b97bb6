"""Copying: the gate and the copy weights equal their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from seq2seq.layers.attention import ATTENTIONS, MASKED, Attention, Memory, make_attention, masked_log_softmax
from seq2seq.layers.distribution import Copying, Distribution
from seq2seq.layers.fast.output import output_loss
from seq2seq.layers.pointer import CopyNet, Pointer

B, T, S, H, M, E, A = 3, 2, 4, 6, 6, 3, 10
KINDS = [kind for kind in ATTENTIONS if kind != "none"]
LENGTHS = torch.tensor([4, 1, 3])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def separate(kind: str = "additive") -> Attention:
    return make_attention(kind, query_size=H, memory_size=M, attention_size=A, heads=2, weights_only=True)


def pointer(attention: Attention | None = None) -> Pointer:
    made = Pointer(output_size=H, memory_size=M, context_size=M, embedding_size=E, attention=attention)
    torch.nn.init.normal_(made.gate.bias)
    return made


def copynet(memory_size: int = M) -> CopyNet:
    return CopyNet(output_size=H, memory_size=memory_size, context_size=M, embedding_size=E)


def remember(made: Pointer | CopyNet) -> Memory:
    mask = torch.arange(S) < LENGTHS.unsqueeze(1)
    values = torch.randn(B, S, M) * mask.unsqueeze(2)
    nothing = values[:, :, :0]
    return Memory(
        values,
        nothing,
        mask,
        values[:, 0],
        nothing[:, 0],
        made.keys(values),
        torch.zeros(B, S).long(),
        torch.zeros(B, S).long(),
    )


def steps() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return s_t, c_t, x_t and the log-weights of the decoder's attention."""
    energies = torch.randn(B, T, S).masked_fill((torch.arange(S) >= LENGTHS.unsqueeze(1)).unsqueeze(1), MASKED)
    return torch.randn(B, T, H), torch.randn(B, T, M), torch.randn(B, T, E), torch.log_softmax(energies, dim=2)


def test_the_gate_is_equation_8_of_see():
    made, given = pointer(), steps()
    outputs, contexts, embedded, _ = given
    gate, _ = made(*given, remember(made))
    weight, bias = made.gate.weight[0], made.gate.bias[0]
    for b in range(B):
        for t in range(T):
            w_s, w_c, w_x = weight.split((H, M, E))
            expected = w_s @ outputs[b, t] + w_c @ contexts[b, t] + w_x @ embedded[b, t] + bias
            assert gate[b, t].item() == pytest.approx(expected.item(), abs=1e-5)


def test_the_shared_attention_copies_by_the_weights_of_the_decoder():
    made, given = pointer(), steps()
    memory = remember(made)
    _, energies = made(*given, memory)
    assert torch.equal(energies, given[3])
    assert memory.copy_keys.shape == (B, S, 0)
    assert [name for name, _ in made.named_parameters()] == ["gate.weight", "gate.bias"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_separate_attention_has_separate_weights(kind):
    made, given = pointer(separate(kind)), steps()
    memory = remember(made)
    gate, energies = made(*given, memory)
    assert gate.shape == (B, T)
    torch.testing.assert_close(energies.exp().sum(dim=2), torch.ones(B, T))
    assert (energies.exp() == 0).any(dim=1).logical_not().equal(memory.mask)
    assert (energies.exp() - given[3].exp()).abs().max() > 1e-2
    for t in range(T):  # the weights of that attention for the same query
        query = given[0][:, t : t + 1]
        expected = made.attention.log_weights(query, memory.copy_keys, memory.mask, torch.zeros(B, 1, 0))
        torch.testing.assert_close(energies[:, t : t + 1], expected)


def test_the_log_weights_of_a_separate_attention_are_used():
    class WithPrior(type(separate())):
        """An attention with a higher energy at the first position."""

        def log_weights(self, query, keys, mask, coverage, prior=None):
            prior = torch.zeros(S).index_fill(0, torch.tensor(0), 3.0)
            return masked_log_softmax(self.energies(query, keys, coverage) + prior, mask)

    plain, with_prior = pointer(separate()), pointer(WithPrior(H, M, A))
    with_prior.load_state_dict(plain.state_dict())
    given, memory = steps(), remember(plain)
    (_, without), (_, found) = plain(*given, memory), with_prior(*given, memory)
    several = LENGTHS > 1
    assert (found[several, :, 0] > without[several, :, 0] + 0.1).all()
    torch.testing.assert_close(found.exp().sum(dim=2), torch.ones(B, T))


def test_only_the_separate_attention_has_a_gradient_through_copying():
    made, given = pointer(separate()), steps()
    log_weights = given[3].requires_grad_()
    gate, energies = made(*given[:3], log_weights, remember(made))
    (gate.sum() + energies.exp().square().sum()).backward()
    assert log_weights.grad is None
    for name, parameter in made.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("make", [lambda: pointer(separate()), lambda: copynet()])
def test_keys_are_projected_once_per_sentence(make, monkeypatch):
    made, given = make(), steps()
    memory = remember(made)
    before = [tensor.clone() for tensor in memory[:-1]]
    expected = made(*given, memory)[1]
    monkeypatch.setattr(made, "keys", None)
    monkeypatch.setattr(getattr(made, "attention", made).key, "forward", None)
    assert torch.equal(made(*given, memory)[1], expected)
    assert all(torch.equal(a, b) for a, b in zip(before, memory[:-1], strict=True))  # the memory does not change
    other = memory._replace(copy_keys=memory.copy_keys.flip(2))
    assert not torch.allclose(made(*given, other)[1], expected)


def test_copynet_is_equation_8_of_gu():
    made, given = copynet(), steps()
    memory = remember(made)
    gate, energies = made(*given, memory)
    assert gate is None
    for b in range(B):
        for t in range(T):
            for j in range(S):
                h = made.key.weight @ memory.values[b, j] + made.key.bias
                psi = sum(math.tanh(a) * s for a, s in zip(h.tolist(), given[0][b, t].tolist(), strict=True))
                expected = psi if j < LENGTHS[b] else MASKED
                assert energies[b, t, j].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_copynet_accepts_a_memory_of_another_width():
    made = copynet(8)
    assert made.keys(torch.randn(B, S, 8)).shape == (B, S, H)


@pytest.mark.parametrize("make", [lambda: pointer(), lambda: pointer(separate("dot")), lambda: copynet()])
def test_energies_are_fp32_under_bfloat16(make):
    made = make().bfloat16()
    memory = remember(pointer())
    values = memory.values.bfloat16()
    outputs, contexts, embedded, log_weights = steps()
    gate, energies = made(
        outputs.bfloat16(),
        contexts.bfloat16(),
        embedded.bfloat16(),
        log_weights,
        memory._replace(copy_keys=made.keys(values)),
    )
    assert energies.dtype == torch.float32
    assert (energies.exp() == 0).any(dim=1).logical_not().equal(memory.mask)
    assert gate is None or gate.dtype == torch.bfloat16


@pytest.mark.parametrize("make", [lambda: pointer(), lambda: pointer(separate()), lambda: copynet()])
def test_single_steps_equal_all_steps_at_once(make):
    made, given = make(), steps()
    memory = remember(made)
    gate, energies = made(*given, memory)
    for t in range(T):
        one_gate, one = made(*(tensor[:, t : t + 1] for tensor in given), memory)
        torch.testing.assert_close(one, energies[:, t : t + 1])
        if gate is not None:
            torch.testing.assert_close(one_gate, gate[:, t : t + 1])


@pytest.mark.parametrize("attention", ["shared", "separate"])
def test_an_empty_source_has_no_copy_probability(attention):
    made, given = pointer(separate() if attention == "separate" else None), steps()
    memory = remember(made)
    memory = memory._replace(mask=memory.mask & (torch.arange(B) != 1).unsqueeze(1))
    log_weights = given[3].masked_fill(~memory.mask.unsqueeze(1), MASKED)
    gate, energies = made(*given[:3], log_weights, memory)
    rows = (gate.flatten(), energies.flatten(0, 1), torch.zeros(B * T, S, dtype=torch.long))
    logits = torch.randn(B * T, 5).index_fill(1, torch.tensor([0]), -1e9)
    log_probs = Distribution(logits, torch.tensor([0]), Copying(*rows)).log_probs(5).view(B, T, 5)
    assert (log_probs[1, :, 0] == -math.inf).all()  # padding
    torch.testing.assert_close(log_probs[1].exp().sum(dim=1), torch.ones(T))
    target = torch.full((B * T,), 3)
    target_probs = Distribution(logits, torch.tensor([0]), Copying(*rows)).target(target)
    torch.testing.assert_close(target_probs.log_prob.view(B, T)[1], log_probs[1, :, 3])
    loss, _ = output_loss(
        nn.Linear(4, 5), torch.randn(B * T, 4), target, Copying(*rows), banned=torch.tensor([0]), smoothing=0.0
    )
    (loss + target_probs.log_prob.sum()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in made.parameters())
