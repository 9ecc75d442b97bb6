"""The Transformer: its layers equal naive references in fp64, and single steps equal the whole unroll."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from seq2seq.layers.attention import MASKED, Memory
from seq2seq.layers.transformer import (
    DecoderLayer,
    EncoderLayer,
    SourceAttention,
    TransformerDecoder,
    TransformerEncoder,
    TransformerSizes,
    positions,
    with_positions,
)

B, S, T, E, M, F = 3, 5, 4, 6, 7, 10  # E = H, F is the feed-forward width
LENGTHS = torch.tensor([5, 1, 3])
SIZES = TransformerSizes(width=E, heads=2, feedforward_size=F, num_layers=2)
HEADS = pytest.mark.parametrize("heads", [1, 2, 3])


class Lengths(NamedTuple):
    """A source with lengths only."""

    src_lengths: Tensor


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def spread(module: nn.Module) -> nn.Module:
    """Give every parameter, biases and norms included, random values in fp64."""
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.6)
    return module


def source_mask() -> Tensor:
    return torch.arange(S) < LENGTHS.unsqueeze(1)


# ---- one layer by loops over rows, heads and positions


def norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
    """Normalise one vector by its mean and its variance (with the divisor n), as in Ba et al. 2016."""
    mean = sum(x) / len(x)
    variance = sum((x - mean) ** 2) / len(x)
    return layer.weight * (x - mean) / (variance + 1e-5).sqrt() + layer.bias


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return weight @ x + bias


def attend(queries: list[Tensor], keys: list[Tensor], values: list[Tensor], allowed, heads: int) -> list[Tensor]:
    """Return the concatenated heads for every query; query i may attend to the positions ``allowed(i)``."""
    width = len(queries[0]) // heads
    results = []
    for i, query in enumerate(queries):
        parts = []
        for head in range(heads):
            cut = slice(head * width, (head + 1) * width)
            scores = [torch.exp(query[cut] @ keys[j][cut] / math.sqrt(width)) for j in allowed(i)]
            parts.append(sum(s * values[j][cut] for s, j in zip(scores, allowed(i), strict=True)) / sum(scores))
        results.append(torch.cat(parts))
    return results


def self_attention(layer, rows: list[Tensor], allowed, heads: int) -> list[Tensor]:
    weights, biases = layer.attention.inputs.weight.chunk(3), layer.attention.inputs.bias.chunk(3)
    normed = [norm(x, layer.attention_norm) for x in rows]
    queries, keys, values = ([affine(x, w, b) for x in normed] for w, b in zip(weights, biases, strict=True))
    output = layer.attention.output
    attended = attend(queries, keys, values, allowed, heads)
    return [x + affine(y, output.weight, output.bias) for x, y in zip(rows, attended, strict=True)]


def feedforward(layer, rows: list[Tensor]) -> list[Tensor]:
    first, _, second = layer.feedforward
    results = []
    for x in rows:
        inside = affine(norm(x, layer.feedforward_norm), first.weight, first.bias)
        inside = torch.stack([torch.where(value > 0, value, value * 0) for value in inside])
        results.append(x + affine(inside, second.weight, second.bias))
    return results


def source_attention(layer, rows: list[Tensor], memory: list[Tensor], heads: int) -> list[Tensor]:
    attention = layer.source
    (wk, wv), (bk, bv) = attention.memory.weight.chunk(2), attention.memory.bias.chunk(2)
    keys, values = [affine(h, wk, bk) for h in memory], [affine(h, wv, bv) for h in memory]
    queries = [affine(norm(x, layer.source_norm), attention.query.weight, attention.query.bias) for x in rows]
    attended = attend(queries, keys, values, lambda i: range(len(memory)), heads)
    output = attention.output
    return [x + affine(y, output.weight, output.bias) for x, y in zip(rows, attended, strict=True)]


def check_gradients(found: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    """Compare values, and the gradients of a random weighted sum."""
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    factors = torch.randn_like(found)
    gradients = [torch.autograd.grad((result * factors).sum(), inputs) for result in (found, expected)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
        assert b.abs().sum() > 0


@HEADS
def test_an_encoder_layer_equals_loops_in_values_and_gradients(heads):
    layer = spread(EncoderLayer(SIZES._replace(heads=heads)))
    inputs = torch.randn(B, S, E, dtype=torch.float64, requires_grad=True)
    found, expected = layer(inputs, source_mask()), []
    for row, length in enumerate(LENGTHS.tolist()):
        rows = list(inputs[row, :length])
        expected += feedforward(layer, self_attention(layer, rows, lambda i, n=length: range(n), heads))
    check_gradients(found[source_mask()], torch.stack(expected), [inputs, *layer.parameters()])


@HEADS
@pytest.mark.parametrize("weighs", [False, True])
def test_a_decoder_layer_equals_loops_in_values_and_gradients(heads, weighs):
    layer = spread(DecoderLayer(SIZES._replace(heads=heads), M))
    inputs = torch.randn(B, T, E, dtype=torch.float64, requires_grad=True)
    memory = torch.randn(B, S, M, dtype=torch.float64, requires_grad=True)
    past = inputs.new_zeros(B, 2, heads, 0, E // heads)
    causal = torch.ones(T, T, dtype=torch.bool).tril()
    found, _, _ = layer(inputs, past, causal, layer.source.project(memory), source_mask(), weighs=weighs)
    expected = []
    for row, length in enumerate(LENGTHS.tolist()):
        rows = self_attention(layer, list(inputs[row]), lambda i: range(i + 1), heads)
        expected += feedforward(layer, source_attention(layer, rows, list(memory[row, :length]), heads))
    check_gradients(found.flatten(0, 1), torch.stack(expected), [inputs, memory, *layer.parameters()])


def test_an_encoder_layer_equals_that_of_torch():
    layer = spread(EncoderLayer(SIZES))
    other = nn.TransformerEncoderLayer(E, 2, F, dropout=0.0, batch_first=True, norm_first=True).double()
    attention = {"in_proj_weight": "inputs.weight", "in_proj_bias": "inputs.bias"}
    attention |= {f"out_proj.{kind}": f"output.{kind}" for kind in ("weight", "bias")}
    names = {f"self_attn.{theirs}": f"attention.{ours}" for theirs, ours in attention.items()}
    parts = {"norm1": "attention_norm", "norm2": "feedforward_norm", "linear1": "feedforward.0"}
    for theirs, ours in (parts | {"linear2": "feedforward.2"}).items():
        names |= {f"{theirs}.{kind}": f"{ours}.{kind}" for kind in ("weight", "bias")}
    other.load_state_dict({theirs: layer.state_dict()[ours] for theirs, ours in names.items()})
    inputs, mask = torch.randn(B, S, E, dtype=torch.float64), source_mask()
    found, expected = layer(inputs, mask), other(inputs, src_key_padding_mask=~mask)
    torch.testing.assert_close(found[mask], expected[mask])


# ---- positions


@pytest.mark.parametrize("width", [1, 6, 7])
def test_positions_are_the_formula_of_vaswani(width):
    found = positions(3, 4, torch.zeros(1, width, dtype=torch.float64))
    for row in range(4):
        for entry in range(width):
            angle = (3 + row) / 10000 ** (2 * (entry // 2) / width)
            assert float(found[row, entry]) == pytest.approx(math.cos(angle) if entry % 2 else math.sin(angle))


def test_embeddings_are_scaled_and_positions_added():
    embedded = torch.randn(B, T, E)
    found = with_positions(embedded, 2)
    torch.testing.assert_close(found, embedded * math.sqrt(E) + positions(2, T, embedded))
    assert not torch.allclose(with_positions(embedded), found)


# ---- encoder


def encoder(**options) -> TransformerEncoder:
    return spread(TransformerEncoder(SIZES._replace(**options)))


def test_an_encoder_ends_with_a_norm_and_has_no_final_states():
    model = encoder()
    embedded = torch.randn(B, S, E, dtype=torch.float64)
    encoded = model(embedded, Lengths(LENGTHS))
    values = with_positions(embedded)
    for layer in model.layers:
        values = layer(values, source_mask())
    values = model.norm(values)
    assert torch.equal(encoded.mask, source_mask())
    torch.testing.assert_close(encoded.values[source_mask()], values[source_mask()])
    assert not encoded.values[~source_mask()].any()
    means = torch.stack([values[row, :length].mean(dim=0) for row, length in enumerate(LENGTHS.tolist())])
    torch.testing.assert_close(encoded.summary, means)
    assert encoded.final is None
    assert model.direction_size is None


def test_padding_changes_nothing_in_the_encoder():
    model = encoder().float()
    embedded = torch.randn(B, S, E)
    encoded = model(embedded, Lengths(LENGTHS))
    noisy = torch.where(source_mask().unsqueeze(2), embedded, 9.0)
    for field in ("values", "summary"):
        assert torch.equal(getattr(model(noisy, Lengths(LENGTHS)), field), getattr(encoded, field))
    for row, length in enumerate(LENGTHS.tolist()):
        alone = model(embedded[row : row + 1, :length], Lengths(LENGTHS[row : row + 1]))
        torch.testing.assert_close(alone.values[0], encoded.values[row, :length], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [encoder, lambda **options: decoder(**options)])
def test_the_order_of_the_positions_matters(make):
    model = make().float()
    embedded = torch.randn(1, 3, E)
    if isinstance(model, TransformerEncoder):
        found, turned = (model(x, Lengths(torch.tensor([3]))).summary for x in (embedded, embedded.flip(1)))
    else:
        memory = remember(model, 1)
        start = model.start(None, memory)
        found, turned = (model.unroll(x, start, memory).outputs[:, -1] for x in (embedded, embedded[:, [1, 0, 2]]))
    assert (found - turned).abs().max() > 1e-3


# ---- decoder


def decoder(**options) -> TransformerDecoder:
    return spread(TransformerDecoder(SIZES._replace(**options), memory_size=M))


def remember(model: TransformerDecoder, sentences: int = B) -> Memory:
    """Return a memory of random values."""
    dtype = next(model.parameters()).dtype
    values = torch.randn(sentences, S, M, dtype=dtype)
    nothing = values[:, :, :0]
    mask = source_mask()[:sentences]
    ids = torch.zeros(sentences, 0, dtype=torch.long)
    return Memory(values, model.keys(values), mask, values[:, 0], model.fertility(values), nothing, ids, ids)


def stepped(model: TransformerDecoder, embedded: Tensor, memory: Memory, state) -> tuple[Tensor, Tensor, object]:
    """Return outputs and log-weights, computed step by step, and the last state."""
    outputs, log_weights = [], []
    for inputs in embedded.unbind(1):
        output, state = model.step(inputs, state, memory)
        assert state.context.shape == (len(inputs), 0)
        outputs.append(output)
        log_weights.append(state.log_weights)
    return torch.stack(outputs, dim=1), torch.stack(log_weights, dim=1), state


@HEADS
def test_steps_give_the_results_of_the_unroll(heads):
    model = decoder(heads=heads).float()
    memory, embedded = remember(model), torch.randn(B, T, E)
    start = model.start(None, memory)
    unrolled = model.unroll(embedded, start, memory)
    outputs, log_weights, state = stepped(model, embedded, memory, start)
    torch.testing.assert_close(outputs, unrolled.outputs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(log_weights.exp(), unrolled.log_weights.exp(), rtol=1e-5, atol=1e-5)
    assert unrolled.contexts.shape == (B, T, model.context_size) == (B, T, 0)
    assert [tuple(past.shape) for past in state.past] == [(B, 2, heads, T, E // heads)] * 2
    assert [past.shape[3] for past in start.past] == [0, 0]  # a state is a value: the steps did not change it


def test_an_unroll_continues_after_steps():
    model = decoder()
    memory, embedded = remember(model), torch.randn(B, T, E, dtype=torch.float64)
    start = model.start(None, memory)
    whole = model.unroll(embedded, start, memory)
    _, _, state = stepped(model, embedded[:, :2], memory, start)
    rest = model.unroll(embedded[:, 2:], state, memory)
    for found, expected in zip(rest, whole, strict=True):
        torch.testing.assert_close(found, expected[:, 2:])


def test_an_output_does_not_depend_on_later_inputs():
    model = decoder()
    memory, embedded = remember(model), torch.randn(B, T, E, dtype=torch.float64)
    start = model.start(None, memory)
    other = torch.cat((embedded[:, :2], torch.randn(B, T - 2, E, dtype=torch.float64)), dim=1)
    found, changed = (model.unroll(x, start, memory).outputs for x in (embedded, other))
    torch.testing.assert_close(found[:, :2], changed[:, :2])
    assert (found[:, 2:] - changed[:, 2:]).abs().min(dim=2).values.max() > 1e-3


def test_hypotheses_share_the_memory_of_their_sentence():
    model = decoder()
    memory = remember(model)
    rows = torch.arange(B).repeat_interleave(2)
    embedded = torch.randn(2 * B, T, E, dtype=torch.float64)
    shared = stepped(model, embedded, memory, model.start(None, memory).select(rows))
    repeated = memory.select(rows)
    expected = stepped(model, embedded, repeated, model.start(None, repeated))
    for a, b in zip(shared[:2], expected[:2], strict=True):
        torch.testing.assert_close(a, b)


def test_select_moves_every_tensor_of_a_state():
    model = decoder()
    memory = remember(model)
    _, _, state = stepped(model, torch.randn(B, 2, E, dtype=torch.float64), memory, model.start(None, memory))
    rows = torch.tensor([2, 0, 2])
    chosen = state.select(rows)
    assert all(torch.equal(a, b[rows]) for a, b in zip(chosen.past, state.past, strict=True))
    assert torch.equal(chosen.log_weights, state.log_weights[rows])
    assert len(chosen.context) == 3


@HEADS
def test_log_weights_are_the_mean_of_the_heads_of_the_last_layer(heads):
    model = decoder(heads=heads)
    memory, embedded = remember(model), torch.randn(B, T, E, dtype=torch.float64)
    inputs = []
    model.layers[-1].source.query.register_forward_hook(lambda module, arguments, result: inputs.append(result))
    found = model.unroll(embedded, model.start(None, memory), memory).log_weights
    attention, width = model.layers[-1].source, E // heads
    keys = nn.functional.linear(memory.values, attention.memory.weight[:E], attention.memory.bias[:E])
    expected = torch.zeros(B, T, S, dtype=torch.float64)
    for head in range(heads):
        cut = slice(head * width, (head + 1) * width)
        energies = inputs[0][:, :, cut] @ keys[:, :, cut].transpose(1, 2) / math.sqrt(width)
        expected += energies.masked_fill(~memory.mask.unsqueeze(1), -math.inf).softmax(dim=2) / heads
    torch.testing.assert_close(found.exp(), expected)
    padding = (~memory.mask).unsqueeze(1).expand_as(found)
    assert (found[padding] == MASKED).all()


def test_both_ways_to_attend_to_the_source_agree():
    attention = spread(SourceAttention(SIZES, M))
    known = attention.project(torch.randn(B, S, M, dtype=torch.float64))
    inputs = torch.randn(B, T, E, dtype=torch.float64)
    attended, _ = attention.with_weights(inputs, known, source_mask())
    torch.testing.assert_close(attention(inputs, known, source_mask()), attended)


def test_a_row_without_a_source_gives_zeros_and_finite_gradients():
    attention = spread(SourceAttention(SIZES, M)).float()
    values = torch.randn(B, S, M, requires_grad=True)
    mask = source_mask().clone()
    mask[1] = False
    inputs = torch.randn(B, T, E, requires_grad=True)
    plain = attention(inputs, attention.project(values), mask)
    attended, log_weights = attention.with_weights(inputs, attention.project(values), mask)
    for found in (plain, attended):
        torch.testing.assert_close(found[1], attention.output.bias.expand(T, -1))
    assert not log_weights[1].exp().any()
    (plain.sum() + attended.sum() + log_weights.exp().sum()).backward()
    for gradient in (values.grad, inputs.grad):
        assert gradient.isfinite().all()
        assert not gradient[1].any()


def test_keys_are_projected_once_per_sentence():
    model = decoder()
    memory = remember(model)
    calls = []
    for layer in model.layers:
        layer.source.memory.register_forward_hook(lambda *called: calls.append(called))
    stepped(model, torch.randn(B, T, E, dtype=torch.float64), memory, model.start(None, memory))
    assert not calls
    assert memory.keys.shape == (B, 2, 2, 2, S, E // 2)


def test_a_transformer_has_weights_but_no_coverage():
    model = decoder()
    assert model.attends
    assert model.coverage == "none"
    assert model.coverage_parameters() == []
    assert model.fertility(torch.randn(B, S, M)).shape == (B, 0)
    assert not model.unrolls_by_steps


# ---- dropout


@pytest.mark.parametrize("locked", [False, True])
def test_dropout_acts_on_every_sublayer_in_training_only(locked):
    layer = EncoderLayer(SIZES._replace(width=64, dropout=0.5, locked=locked))
    made = []
    layer.dropout.register_forward_hook(lambda module, arguments, result: made.append((arguments[0], result)))
    inputs, mask = torch.randn(B, S, 64), source_mask()
    dropped = layer(inputs, mask)
    assert len(made) == 2
    for before, after in made:
        zeros = after == 0
        assert 0.3 < zeros.double().mean() < 0.7
        torch.testing.assert_close(after[~zeros], 2 * before[~zeros], rtol=1e-4, atol=1e-6)
        assert (zeros == zeros[:, :1]).all() == locked
    plain = layer.eval()(inputs, mask)
    assert torch.equal(made[-1][0], made[-1][1])
    assert (plain - dropped).abs().max() > 0.01
