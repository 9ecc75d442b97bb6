"""Attention: every kind with hand-computed energies, coverage, the masked softmax, and keys computed once per sentence.

The tests run over ``ATTENTIONS``. A new kind requires its energies in ``HAND``, and in
``energy`` of ``test_hierarchical.py``.
"""

from __future__ import annotations

import math
import re

import pytest
import torch

from seq2seq.layers.attention import (
    ATTENTIONS,
    MASKED,
    Attention,
    LocalPredictive,
    Memory,
    MultiHead,
    make_attention,
    masked_log_softmax,
)

KINDS = [kind for kind in ATTENTIONS if kind != "none"]
COVERAGES = ("sum", "fertility")
B, S, H, M, A = 3, 4, 6, 6, 10
HEADS = 2
UNCOVERED = torch.zeros(B, 0)
FERTILE = "fertility_energy.weight"


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def make(
    kind: str, query: int = H, memory: int = M, attention: int = A, coverage: str = "none", heads: int = HEADS
) -> Attention:
    sizes = {"query_size": query, "memory_size": memory, "attention_size": attention}
    return make_attention(kind, **sizes, coverage=coverage, heads=heads)


def remember(attention, values: torch.Tensor, mask: torch.Tensor | None = None) -> Memory:
    mask = torch.ones(values.shape[:2], dtype=torch.bool) if mask is None else mask
    nothing = torch.zeros(len(values), 0, dtype=torch.long)
    fertility = attention.fertility(values)
    return Memory(values, attention.keys(values), mask, values[:, -1], fertility, values[:, :, :0], nothing, nothing)


def attend(attention, query: torch.Tensor, memory: Memory, coverage: torch.Tensor | None = None):
    """Return context and log-weights for one query per sentence."""
    coverage = UNCOVERED[: len(query)] if coverage is None else coverage
    found = attention.attend(query.unsqueeze(1), memory, coverage.unsqueeze(1))
    assert torch.equal(
        found.log_weights, attention.log_weights(query.unsqueeze(1), memory.keys, memory.mask, coverage.unsqueeze(1))
    )
    return found.context.squeeze(1), found.log_weights.squeeze(1)


def look(attention, query: torch.Tensor, memory: Memory, coverage: torch.Tensor | None = None):
    """Return context and weights for one query per sentence."""
    context, log_weights = attend(attention, query, memory, coverage)
    return context, log_weights.exp()


def set_(parameter: torch.Tensor, values: list) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(values))


SMALL = {
    "key.weight": [[1.0, 2.0], [0.0, -1.0]],
    "key.bias": [0.25, 0.0],
    "query.weight": [[0.5, 0.0], [1.0, 1.0]],
    "energy.weight": [[2.0, -3.0]],
    "value.weight": [[1.0, 0.0], [0.0, 1.0]],
    "position_hidden.weight": [[0.5, 0.0], [0.0, 1.0]],
    "position_energy.weight": [[1.0, -2.0]],
}


def small(kind: str, coverage: str = "none"):
    """Return an attention of width 2 and one head with the weights of ``SMALL``."""
    attention = make(kind, 2, 2, 2, coverage, heads=1)
    covering = {id(parameter) for parameter in attention.coverage_parameters()}
    for name, parameter in attention.named_parameters():
        if id(parameter) not in covering:
            assert name in SMALL, f"add a value of the parameter {name} of attention {kind} to SMALL"
            set_(parameter, SMALL[name])
    return attention


def shapes(kind: str, attention_size: int) -> list[torch.Size]:
    """Return the shapes of the parameters of an attention with this width."""
    return [parameter.shape for parameter in make(kind, attention=attention_size).parameters()]


LEARNED = [kind for kind in KINDS if shapes(kind, A)]  # kinds with parameters
WIDE = [kind for kind in KINDS if shapes(kind, A) != shapes(kind, A + 2)]  # kinds whose queries and keys have width A


def covering(kind: str, coverage: str, **sizes: int) -> Attention:
    """Return an attention whose coverage weights are random; their initial value is 0."""
    attention = make(kind, coverage=coverage, **sizes)
    for parameter in attention.coverage_parameters():
        torch.nn.init.uniform_(parameter, -1, 1)
    return attention


# query s = (2, -1); values h_1 = (1, 0), h_2 = (0.5, 3)
HAND = {
    "dot": [2.0, -2.0],  # 2*1 - 1*0;  2*0.5 - 1*3
    "general": [2.0, 16.0],  # U h_1 = (1, 0), U h_2 = (6.5, -3): 2*1 - 0;  2*6.5 + 3
    "scaled_dot": [1 / math.sqrt(2), 3.5 / math.sqrt(2)],  # Q s = (1, 1): 1 + 0;  6.5 - 3
    # W s = (1, 1), plus U h + b
    "additive": [
        2 * math.tanh(1 + 1.25) - 3 * math.tanh(1),
        2 * math.tanh(1 + 6.75) - 3 * math.tanh(1 - 3),
    ],
    "multi_head": [1 / math.sqrt(2), 3.5 / math.sqrt(2)],  # one head is scaled_dot
    "local_p": [2.0, 16.0],  # general
}
# p_t = 2 sigmoid(tanh(0.5*2) - 2 tanh(-1)); the Gaussian of positions 0 and 1, sigma = 5, is added to the energies
PREDICTED = 2 / (1 + math.exp(-3 * math.tanh(1)))
PRIOR = {"local_p": [-(PREDICTED**2) / 50, -((1 - PREDICTED) ** 2) / 50]}


def test_every_kind_has_energies_by_hand():
    missing = set(KINDS) - HAND.keys()
    assert not missing, f"add the energies of attention {', '.join(sorted(missing))} for the weights of SMALL to HAND"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind in HAND])
def test_energies_weights_and_context_by_hand(kind):
    attention = small(kind)
    memory = remember(attention, torch.tensor([[[1.0, 0.0], [0.5, 3.0]]]))
    query = torch.tensor([[2.0, -1.0]])
    first, second = HAND[kind]
    energies = attention.energies(query.unsqueeze(1), memory.keys, UNCOVERED[:1].unsqueeze(1))
    assert energies.tolist()[0][0] == pytest.approx([first, second], rel=1e-5)
    context, weights = look(attention, query, memory)
    before, after = PRIOR.get(kind, [0.0, 0.0])
    share = 1 / (1 + math.exp(second + after - first - before))
    assert weights.tolist()[0] == pytest.approx([share, 1 - share], rel=1e-4, abs=1e-6)
    expected = [share + 0.5 * (1 - share), 3 * (1 - share)]
    assert context.tolist()[0] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_without_attention_the_context_is_the_summary_and_the_weights_are_zero():
    attention = make("none")
    values = torch.randn(B, S, M)
    memory = remember(attention, values)
    assert memory.keys.shape == (B, S, 0)
    context, weights = look(attention, torch.randn(B, H), memory)
    assert torch.equal(context, memory.summary)
    assert torch.equal(weights, torch.zeros(B, S))
    assert memory.fertility.shape == (B, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_has_zero_weight_and_does_not_change_the_context(kind):
    attention = make(kind)
    mask = torch.tensor([[True] * 4, [True, True, False, False], [True, False, False, False]])
    values, query = torch.randn(B, S, M), torch.randn(B, H)
    context, weights = look(attention, query, remember(attention, values, mask))
    assert torch.equal(weights == 0, ~mask)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(B))
    other = torch.where(mask.unsqueeze(2), values, torch.full_like(values, 1e3))
    torch.testing.assert_close(look(attention, query, remember(attention, other, mask))[0], context)
    alone, _ = look(attention, query[1:2], remember(attention, values[1:2, :2]))
    torch.testing.assert_close(alone, context[1:2])


@pytest.mark.parametrize("coverage", ["none", *COVERAGES])
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_a_source_gives_zeros_and_finite_gradients(kind, coverage):
    attention = covering(kind, coverage)
    mask = torch.ones(B, S, dtype=torch.bool)
    mask[1] = False
    values, query = torch.randn(B, S, M, requires_grad=True), torch.randn(B, H, requires_grad=True)
    memory = remember(attention, values, mask)
    covered = torch.rand(B, memory.fertility.shape[1]) / memory.fertility
    context, log_weights = attend(attention, query, memory, covered)
    weights = log_weights.exp()
    assert log_weights.isfinite().all()
    assert torch.equal(weights[1], torch.zeros(S))
    assert torch.equal(context[1], torch.zeros(M))
    (context.sum() + weights.square().sum()).backward()
    for tensor in (values, query, *attention.parameters()):
        assert tensor.grad.isfinite().all()
    assert torch.equal(query.grad[1], torch.zeros(H))
    assert values.grad[0].abs().sum() > 0


@pytest.mark.parametrize("size", [1e4, 3e38])
def test_the_masked_softmax_is_finite_for_large_energies(size):
    energies = torch.tensor([[size, 0.0, -size], [-size, -size, size]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    log_weights = masked_log_softmax(energies.unsqueeze(1), mask).squeeze(1)
    assert log_weights.exp().tolist() == [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]
    assert log_weights[1, 2] == MASKED
    assert not log_weights.isnan().any()


def test_log_weights_are_exact_where_the_weights_underflow():
    log_weights = masked_log_softmax(torch.tensor([[[0.0, -500.0, -500.0]]]), torch.tensor([[True, True, False]]))
    assert log_weights.tolist() == [[[0.0, -500.0, MASKED]]]


@pytest.mark.parametrize("coverage", ["none", *COVERAGES])
@pytest.mark.parametrize("kind", KINDS)
def test_the_softmax_is_fp32_under_bfloat16(kind, coverage):
    attention = make(kind, A, A, coverage=coverage)  # one width, which every kind accepts
    values = torch.randn(1, 300, A).bfloat16()
    attention = attention.bfloat16()
    memory = remember(attention, values)
    covered = torch.rand(1, memory.fertility.shape[1])  # accumulated in fp32
    context, weights = look(attention, torch.randn(1, A).bfloat16(), memory, covered)
    assert weights.dtype == torch.float32
    assert context.dtype == torch.bfloat16
    assert weights.sum().item() == pytest.approx(1, abs=1e-5)  # the sum of 300 weights rounded to bf16 differs by more


def test_the_softmax_of_bfloat16_energies_is_that_of_the_same_numbers_in_fp32():
    energies = torch.randn(2, 3, 50).bfloat16()
    expected = torch.softmax(energies.float(), dim=2)
    found = masked_log_softmax(energies, torch.ones(2, 50, dtype=torch.bool))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.exp(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_keys_are_read_from_the_memory_and_not_computed_again(kind, monkeypatch):
    attention = make(kind)
    values, query = torch.randn(B, S, M), torch.randn(B, H)
    memory = remember(attention, values)
    before = [tensor.clone() for tensor in memory[:-1]]
    context, weights = look(attention, query, memory)
    monkeypatch.setattr(attention, "keys", None)
    if hasattr(attention, "key"):
        monkeypatch.setattr(attention.key, "forward", None)
    again = look(attention, query, memory)
    assert torch.equal(again[0], context)
    assert torch.equal(again[1], weights)
    assert all(torch.equal(a, b) for a, b in zip(before, memory[:-1], strict=True))  # the memory does not change
    other = memory._replace(keys=memory.keys.flip(1))
    assert not torch.allclose(look(attention, query, other)[1], weights)


@pytest.mark.parametrize(
    ("kind", "coverage"), [("none", "none"), *((k, c) for k in KINDS for c in ("none", *COVERAGES))]
)
def test_several_queries_of_a_sentence_share_its_memory(kind, coverage):
    attention = covering(kind, coverage)
    mask = torch.tensor([[True] * 4, [True, True, False, False], [True, False, False, False]])
    memory = remember(attention, torch.randn(B, S, M), mask)
    queries = torch.randn(B, 3, H)
    covered = torch.rand(B, 3, memory.fertility.shape[1])
    context, log_weights = attention.attend(queries, memory, covered)
    assert log_weights.shape == (B, 3, S)
    assert context.shape == (B, 3, M)
    for number in range(3):
        expected = attend(attention, queries[:, number], memory, covered[:, number])
        torch.testing.assert_close(context[:, number], expected[0])
        torch.testing.assert_close(log_weights[:, number], expected[1])


@pytest.mark.parametrize("kind", LEARNED)
def test_every_parameter_has_a_gradient(kind):
    attention = make(kind)
    context, _ = look(attention, torch.randn(B, H), remember(attention, torch.randn(B, S, M)))
    context.square().sum().backward()
    for name, parameter in attention.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", [kind for kind in ATTENTIONS if kind != "dot"])
def test_query_and_memory_widths_may_differ_except_for_dot(kind):
    attention = make(kind, 3, 8)
    context, weights = look(attention, torch.randn(B, 3), remember(attention, torch.randn(B, S, 8)))
    assert context.shape == (B, 8)
    assert weights.shape == (B, S)


@pytest.mark.parametrize("kind", WIDE)
def test_the_attention_width_is_that_of_the_keys(kind):
    assert make(kind, attention=8).keys(torch.zeros(B, S, M)).shape == (B, S, 8)


def test_memory_select_selects_rows_of_every_tensor():
    memory = remember(make("general", coverage="fertility"), torch.randn(B, S, M), torch.rand(B, S) > 0.3)
    memory = memory._replace(copy_keys=torch.randn(B, S, A), copy_ids=torch.randint(20, (B, S)))
    chosen = memory.select(torch.tensor([2, 0, 2, 2]))
    for new, old in zip(chosen[:-1], memory[:-1], strict=True):
        assert torch.equal(new, old[[2, 0, 2, 2]])


def test_dot_refuses_different_widths():
    message = (
        "model.attention=dot requires encoder and decoder of the same width, but the decoder has width 3 and the encoder 8; "
        "set model.encoder_hidden_size=3 or model.attention=general"
    )
    with pytest.raises(ValueError, match=message):
        make("dot", 3, 8)


def test_an_unknown_kind_is_refused_with_the_list():
    message = f"model.attention must be one of {', '.join(ATTENTIONS)}, but is local"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make("local")


def test_the_base_class_is_abstract():
    with pytest.raises(TypeError, match="Attention is abstract"):
        Attention(M, "none").keys(torch.zeros(1, 1, 1))
    with pytest.raises(TypeError, match="Attention is abstract"):
        Attention(M, "none").energies(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), torch.zeros(1, 1, 0))


# Several heads, and local attention, against loops over batch, heads and positions in float64


def random_case(kind: str, coverage: str) -> tuple[Attention, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a float64 attention with random weights; queries (B, 2, H), values, mask and coverage (B, 2, S)."""
    attention = covering(kind, coverage).double()
    for parameter in attention.parameters():
        torch.nn.init.uniform_(parameter, -1, 1)
    mask = torch.tensor([[True] * 4, [True, True, False, False], [True, True, True, False]])
    tensors = (torch.randn(B, 2, H), torch.randn(B, S, M), torch.rand(B, 2, S))
    queries, values, covered = (tensor.double().requires_grad_() for tensor in tensors)
    return attention, queries, values, mask, covered if coverage != "none" else covered[:, :, :0]


def softmax_of(energies: list[torch.Tensor]) -> list[torch.Tensor]:
    exponentials = [torch.exp(energy) for energy in energies]
    return [exponential / sum(exponentials) for exponential in exponentials]


def multi_head_reference(attention, query, values, covered):
    """Return context and weights of one query (H,) over the real values (n, M) with their coverage."""
    parts: list[torch.Tensor] = []
    mean = [torch.zeros((), dtype=torch.float64) for _ in values]
    width, out = A // HEADS, M // HEADS
    for head in range(HEADS):
        q = attention.query.weight[head * width : (head + 1) * width] @ query
        energies = []
        for j, value in enumerate(values):
            key = attention.key.weight[head * width : (head + 1) * width] @ value
            energy = (q * key).sum() / math.sqrt(width)
            if covered is not None:
                energy = energy + attention.coverage_weight[head] * covered[j]
            energies.append(energy)
        weights = softmax_of(energies)
        mapped = [attention.value.weight[head * out : (head + 1) * out] @ value for value in values]
        parts.append(sum(weight * vector for weight, vector in zip(weights, mapped, strict=True)))
        mean = [old + weight / HEADS for old, weight in zip(mean, weights, strict=True)]
    return torch.cat(parts), mean


def local_p_reference(attention, query, values, covered):
    """Return context and weights of one query: Luong's product of weights and Gaussian, normalised."""
    hidden = torch.tanh(attention.position_hidden.weight @ query)
    predicted = len(values) / (1 + torch.exp(-(attention.position_energy.weight[0] * hidden).sum()))
    energies = []
    for j, value in enumerate(values):
        energy = (query * (attention.key.weight @ value)).sum()
        if covered is not None:
            energy = energy + attention.coverage_weight[0] * covered[j]
        energies.append(energy)
    products = [w * torch.exp(-((j - predicted) ** 2) / (2 * 5.0**2)) for j, w in enumerate(softmax_of(energies))]
    weights = [product / sum(products) for product in products]
    return sum(weight * value for weight, value in zip(weights, values, strict=True)), weights


@pytest.mark.parametrize("coverage", ["none", *COVERAGES])
@pytest.mark.parametrize(("kind", "reference"), [("multi_head", multi_head_reference), ("local_p", local_p_reference)])
def test_values_and_gradients_equal_the_reference(kind, reference, coverage):
    attention, queries, values, mask, covered = random_case(kind, coverage)
    found = attention.attend(queries, remember(attention, values, mask), covered)
    contexts, weights = torch.zeros(B, 2, M).double(), torch.zeros(B, 2, S).double()
    for b in range(B):
        length = int(mask[b].sum())
        for q in range(2):
            given = covered[b, q] if coverage != "none" else None
            context, shares = reference(attention, queries[b, q], values[b, :length], given)
            contexts[b, q] = context
            weights[b, q, :length] = torch.stack(shares)
    torch.testing.assert_close(found.context, contexts, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.log_weights.exp(), weights, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(B, 2).double())
    # of the context and of the weights, which copying and coverage read
    factor_c, factor_w = torch.randn(B, 2, M).double(), torch.randn(B, 2, S).double()
    inputs = [queries, values, *(p for n, p in attention.named_parameters() if n != FERTILE)]
    inputs += [] if coverage == "none" else [covered]
    mine = torch.autograd.grad(
        (found.context * factor_c).sum() + (found.log_weights.exp() * factor_w).sum(), inputs, retain_graph=True
    )
    theirs = torch.autograd.grad((contexts * factor_c).sum() + (weights * factor_w).sum(), inputs)
    for one, other in zip(mine, theirs, strict=True):
        assert other.abs().sum() > 0
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["multi_head", "local_p"])
def test_log_weights_are_finite_at_every_real_position(kind):
    attention = make(kind)
    mask = torch.ones(1, 2000, dtype=torch.bool)
    mask[0, -3:] = False
    log_weights = attention.attend(torch.randn(1, 1, H), remember(attention, torch.randn(1, 2000, M), mask),
                                   torch.zeros(1, 1, 0)).log_weights[0, 0]  # fmt: skip
    assert log_weights.isfinite().all()
    assert (log_weights[:-3] > MASKED).all()
    assert (log_weights[-3:] == MASKED).all()


def test_local_p_predicts_positions_within_the_real_length():
    attention = make("local_p")
    assert isinstance(attention, LocalPredictive)
    torch.nn.init.uniform_(attention.position_energy.weight, -3, 3)
    mask = torch.tensor([[True] * 4, [True, True, False, False], [False] * 4])
    found = attention.positions(torch.randn(B, 50, H), mask)
    lengths = mask.sum(dim=1, keepdim=True)
    assert ((found >= 0) & (found <= lengths)).all()
    assert (found[0] > 2.5).any()
    assert (found[0] < 1.5).any()
    assert not found[2].any()


def test_the_heads_differ_and_their_mean_is_the_weight():
    attention = make("multi_head")
    assert isinstance(attention, MultiHead)
    values, query = torch.randn(B, S, M), torch.randn(B, 1, H)
    memory = remember(attention, values)
    energies = attention.energies(query, memory.keys, UNCOVERED.unsqueeze(1))
    assert energies.shape == (B, HEADS, S)
    by_head = energies.softmax(dim=2)
    assert (by_head[:, 0] - by_head[:, 1]).abs().max() > 1e-2
    torch.testing.assert_close(look(attention, query.squeeze(1), memory)[1], by_head.mean(dim=1))


def test_an_attention_for_weights_only_has_no_other_parameters():
    """A separate attention for copying computes no context."""
    whole = make("multi_head")
    sizes = {"query_size": H, "memory_size": M, "attention_size": A, "heads": HEADS}
    attention = make_attention("multi_head", **sizes, weights_only=True)
    assert {name for name, _ in attention.named_parameters()} == {"query.weight", "key.weight"}
    weights = {name: value for name, value in whole.state_dict().items() if name != "value.weight"}
    attention.load_state_dict(weights)
    memory, query, covered = remember(whole, torch.randn(B, S, M)), torch.randn(B, 2, H), torch.zeros(B, 2, 0)
    found = attention.log_weights(query, memory.keys, memory.mask, covered)
    assert torch.equal(found, whole.attend(query, memory, covered).log_weights)


@pytest.mark.parametrize(
    ("sizes", "name", "size"),
    [({"attention": 9}, "model.attention_size", 9), ({"memory": 7}, "model.encoder_hidden_size", 7)],
)
def test_multi_head_refuses_sizes_that_the_heads_do_not_divide(sizes, name, size):
    message = (
        f"model.attention=multi_head requires model.heads to divide {name}, but 2 does not divide {size}; "
        f"change model.heads or {name} (by default, both sizes are model.hidden_size)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make("multi_head", **sizes)


# Coverage


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind in HAND])
def test_coverage_enters_the_energies_by_its_formula(kind):
    """See et al. 2017, eq. 11: inside the tanh for additive, added to the energies for the other kinds."""
    attention = small(kind, "sum")
    keys = attention.keys(torch.tensor([[[1.0, 0.0], [0.5, 3.0]]]))
    query, coverage = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.5, 2.0]])
    if kind == "additive":
        set_(attention.coverage_weight, [0.5, -1.5])
        expected = [
            2 * math.tanh(1 + 1.25 + 0.5 * 0.5) - 3 * math.tanh(1 - 1.5 * 0.5),
            2 * math.tanh(1 + 6.75 + 0.5 * 2.0) - 3 * math.tanh(1 - 3 - 1.5 * 2.0),
        ]
    else:
        set_(attention.coverage_weight, [-0.5])  # of the one head
        expected = [HAND[kind][0] - 0.5 * 0.5, HAND[kind][1] - 0.5 * 2.0]
    found = attention.energies(query.unsqueeze(1), keys, coverage.unsqueeze(1))
    assert found.tolist()[0][0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("coverage", COVERAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_coverage_acts_unless_its_weight_is_zero(kind, coverage):
    attention = make(kind, coverage=coverage)
    assert not attention.coverage_weight.any()  # so the initial model equals the model without coverage
    plain = make(kind)
    plain.load_state_dict(
        {name: value for name, value in attention.state_dict().items() if name in dict(plain.named_parameters())}
    )
    values, query, covered = torch.randn(B, S, M), torch.randn(B, H), torch.rand(B, S)
    expected = look(plain, query, remember(plain, values))
    found = look(attention, query, remember(attention, values), covered)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    torch.nn.init.uniform_(attention.coverage_weight, 0.5, 1)
    other = look(attention, query, remember(attention, values), covered)
    assert (other[1] - expected[1]).abs().max() > 1e-3
    nothing = look(attention, query, remember(attention, values), torch.zeros(B, S))
    torch.testing.assert_close(nothing[1], expected[1])  # the first step


@pytest.mark.parametrize("kind", KINDS)
def test_a_negative_coverage_weight_lowers_the_weight_of_covered_positions(kind):
    attention = make(kind, coverage="sum")
    values, query, covered = torch.randn(B, S, M), torch.randn(B, H), torch.eye(B, S)
    before = look(attention, query, remember(attention, values), covered)[1]
    if kind == "additive":
        with torch.no_grad():  # in v . tanh(... + w c), w = -v lowers the energy
            attention.coverage_weight.copy_(-attention.energy.weight[0])
    else:
        torch.nn.init.constant_(attention.coverage_weight, -1.0)
    after = look(attention, query, remember(attention, values), covered)[1]
    assert (after.diagonal() < before.diagonal()).all()


@pytest.mark.parametrize("kind", KINDS)
def test_fertility_is_tus_formula(kind):
    """Tu et al. 2016, eq. 9: N sigmoid(U h_j), N = 2."""
    attention = covering(kind, "fertility")
    values = torch.randn(B, S, M)
    found = attention.fertility(values)
    expected = 2 / (1 + torch.exp(-(values * attention.fertility_energy.weight[0]).sum(dim=2)))
    torch.testing.assert_close(found, expected)
    assert torch.equal(make(kind, coverage="sum").fertility(values), torch.ones(B, S))
    assert make(kind).fertility(values).shape == (B, 0)


def test_fertility_is_positive_where_the_sigmoid_underflows():
    attention = covering("additive", "fertility")
    values = (-1e4 * attention.fertility_energy.weight.detach()).expand(B, S, M).clone().requires_grad_()
    found = attention.fertility(values)
    assert (found > 0).all()
    (1 / found.square()).sum().backward()
    assert values.grad.isfinite().all()


@pytest.mark.parametrize("coverage", COVERAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_has_a_gradient_with_coverage(kind, coverage):
    attention = covering(kind, coverage)
    values, query = torch.randn(B, S, M), torch.randn(B, H)
    memory = remember(attention, values)
    context, _ = look(attention, query, memory, torch.rand(B, S) / memory.fertility)
    context.square().sum().backward()
    for name, parameter in attention.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("coverage", COVERAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_coverage_weight_has_a_gradient_at_its_initial_zero(kind, coverage):
    attention = make(kind, coverage=coverage)
    context, _ = look(attention, torch.randn(B, H), remember(attention, torch.randn(B, S, M)), torch.rand(B, S))
    context.square().sum().backward()
    assert attention.coverage_weight.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_coverage_parameters_are_those_that_only_a_model_with_coverage_has(kind):
    names = set(dict(make(kind).named_parameters()))
    for coverage, extra in [("none", set()), ("sum", {"coverage_weight"}), ("fertility", {"coverage_weight", FERTILE})]:
        attention = make(kind, coverage=coverage)
        found = dict(attention.named_parameters())
        assert set(found) == names | extra
        assert {id(p) for p in attention.coverage_parameters()} == {id(found[name]) for name in extra}


@pytest.mark.parametrize("coverage", COVERAGES)
def test_no_attention_refuses_coverage(coverage):
    message = (
        f"model.coverage={coverage} requires an attention, but model.attention is none; "
        "set model.attention=additive or model.coverage=none"
    )
    with pytest.raises(ValueError, match=message):
        make("none", coverage=coverage)
