"""The decoder: unrolling equals stepping, how it starts, and what the readout never produces."""

from __future__ import annotations

import pytest
import torch

from seq2seq.layers.attention import ATTENTIONS, MASKED, Memory, make_attention
from seq2seq.layers.cells import CELLS, StackedCell
from seq2seq.layers.decoder import Bridge, Decoder, Readout
from seq2seq.layers.encoder import Encoded, Encoder

B, S, T, E, H, M = 3, 5, 4, 6, 8, 8
EVERY_CELL = pytest.mark.parametrize("cell", CELLS)
COVERED = [(kind, coverage) for kind in ATTENTIONS if kind != "none" for coverage in ("sum", "fertility")]
EVERY_COVERAGE = pytest.mark.parametrize(
    ("attention", "coverage"), [*((kind, "none") for kind in ATTENTIONS), *COVERED]
)
LENGTHS = torch.tensor([5, 2, 3])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def make(cell: str = "gru", attention: str = "additive", coverage: str = "none", **options) -> Decoder:
    stack = StackedCell(cell, input_size=E, hidden_size=H, num_layers=2, **options)
    looking = make_attention(attention, query_size=H, memory_size=M, attention_size=4, coverage=coverage)
    if coverage != "none":  # weights that act
        for parameter in looking.coverage_parameters():
            torch.nn.init.uniform_(parameter, -1, 1)
    return Decoder(stack, looking, memory_size=M)


def remember(decoder: Decoder) -> Memory:
    mask = torch.arange(S) < LENGTHS.unsqueeze(1)
    values = torch.randn(B, S, M) * mask.unsqueeze(2)
    attention, nothing = decoder.attention, torch.zeros(B, 0, dtype=torch.long)
    summary = torch.randn(B, M)
    return Memory(values, attention.keys(values), mask, summary, attention.fertility(values), values[:, :, :0], nothing)


def encode(cell: str, num_layers: int = 1, width: int = M, bidirectional: bool = True) -> tuple[Encoder, Encoded]:
    encoder = Encoder(cell, input_size=E, hidden_size=width, num_layers=num_layers, bidirectional=bidirectional)
    return encoder, encoder(torch.randn(B, S, E), LENGTHS)


def bridge(kind: str, cell: str, encoder: Encoder, num_layers: int = 1, width: int = H) -> Bridge:
    stack = StackedCell(cell, input_size=E, hidden_size=width, num_layers=num_layers)
    made = Bridge(
        kind,
        stack=stack,
        num_layers=num_layers,
        memory_size=encoder.hidden_size,
        direction_size=encoder.direction_size,
        parts=stack.cell.parts,
    )
    for linear in made.maps:
        torch.nn.init.uniform_(linear.bias, -0.5, 0.5)
    return made


@EVERY_CELL
@EVERY_COVERAGE
def test_unrolling_equals_stepping(cell, attention, coverage):
    decoder = make(cell, attention, coverage)
    memory = remember(decoder)
    state = decoder.start(torch.randn(B, 2, decoder.stack.state_size), memory)
    embedded = torch.randn(B, T, E)
    trace = decoder.unroll(embedded, state, memory)
    for t in range(T):
        gates = decoder.stack.project(embedded[:, t])
        output, state = decoder.step(gates, state, memory, decoder.stack.prepare(B))
        torch.testing.assert_close(trace.outputs[:, t], output)
        torch.testing.assert_close(trace.contexts[:, t], state.context)
        torch.testing.assert_close(trace.log_weights[:, t], state.log_weights)


@EVERY_CELL
def test_the_order_of_a_step_is_cell_then_attention(cell):
    decoder = make(cell)
    memory = remember(decoder)
    hidden, previous, x = torch.randn(B, 2, decoder.stack.state_size), torch.randn(B, M), torch.randn(B, E)
    state = decoder.start(hidden, memory)._replace(context=previous)
    output, after = decoder.step(decoder.stack.project(x), state, memory, decoder.stack.prepare(B))
    # s_t from x_t and c_{t-1} through one matrix over both; c_t from s_t
    matrix = torch.cat((decoder.stack.inputs[0].weight, decoder.context_gates.weight), dim=1)
    gates = torch.cat((x, previous), dim=1) @ matrix.T + decoder.stack.inputs[0].bias
    expected, _ = decoder.stack(gates, hidden, decoder.stack.prepare(B))
    torch.testing.assert_close(output, expected)
    context, log_weights = decoder.attention(output, memory, state.coverage)
    torch.testing.assert_close(after.context, context)
    torch.testing.assert_close(after.log_weights, log_weights)


@EVERY_COVERAGE
def test_unrolling_changes_neither_memory_nor_state(attention, coverage):
    decoder = make("lstm", attention, coverage)
    memory = remember(decoder)
    state = decoder.start(torch.randn(B, 2, 2 * H), memory)
    before = [tensor.clone() for tensor in (*memory, *state)]
    decoder.unroll(torch.randn(B, T, E), state, memory)
    assert all(torch.equal(a, b) for a, b in zip(before, (*memory, *state), strict=True))


def test_the_first_context_is_zero_with_attention_and_the_summary_without():
    decoder = make(attention="additive")
    memory = remember(decoder)
    state = decoder.start(torch.zeros(B, 2, H), memory)
    assert not state.context.any()
    assert (state.log_weights == MASKED).all()  # so the weights are 0
    decoder = make(attention="none")
    memory = remember(decoder)
    assert torch.equal(decoder.start(torch.zeros(B, 2, H), memory).context, memory.summary)


def test_masks_are_drawn_once_for_a_whole_target(monkeypatch):
    decoder = make("gru", recurrent_dropout=0.5, weight_drop=0.5, dropout=0.5, locked=True)
    memory = remember(decoder)
    drawn = []
    original = decoder.stack.prepare
    monkeypatch.setattr(decoder.stack, "prepare", lambda rows: drawn.append(original(rows)) or drawn[-1])
    state = decoder.start(torch.zeros(B, 2, H), memory)
    embedded = torch.randn(B, T, E)
    trace = decoder.unroll(embedded, state, memory)
    assert len(drawn) == 1
    for t in range(T):
        output, state = decoder.step(decoder.stack.project(embedded[:, t]), state, memory, drawn[0])
        torch.testing.assert_close(trace.outputs[:, t], output)


def test_state_select_takes_rows_of_everything():
    decoder = make(coverage="sum")
    state = decoder.start(torch.randn(B, 2, H), remember(decoder))
    state = state._replace(log_weights=torch.rand(B, S), coverage=torch.rand(B, S))
    for new, old in zip(state.select(torch.tensor([2, 2, 0])), state, strict=True):
        assert torch.equal(new, old[[2, 2, 0]])


# Coverage


def stepped(decoder: Decoder, memory: Memory, steps: int = T) -> list:
    """The states before the first step and after every one."""
    states = [decoder.start(torch.randn(B, 2, H), memory)]
    for _ in range(steps):
        gates = decoder.stack.project(torch.randn(B, E))
        states.append(decoder.step(gates, states[-1], memory, decoder.stack.prepare(B))[1])
    return states


@pytest.mark.parametrize("attention", [kind for kind in ATTENTIONS if kind != "none"])
def test_after_t_steps_coverage_sums_to_t(attention):
    decoder = make(attention=attention, coverage="sum")
    memory = remember(decoder)
    for t, state in enumerate(stepped(decoder, memory)):
        torch.testing.assert_close(state.coverage.sum(dim=1), torch.full((B,), float(t)))
        assert not state.coverage[~memory.mask].any()


@pytest.mark.parametrize(("attention", "coverage"), COVERED)
def test_coverage_is_the_sum_of_the_weights_over_the_fertility(attention, coverage):
    decoder = make(attention=attention, coverage=coverage)
    memory = remember(decoder)
    states = stepped(decoder, memory)
    assert not states[0].coverage.any()
    total = torch.zeros(B, S)
    for state in states[1:]:
        total = total + state.log_weights.exp()
        torch.testing.assert_close(state.coverage, total / memory.fertility)
    assert (memory.fertility != 1).any() == (coverage == "fertility")


@pytest.mark.parametrize(("attention", "coverage"), COVERED)
def test_a_step_uses_the_coverage_of_the_steps_before_it(attention, coverage):
    decoder = make(attention=attention, coverage=coverage)
    memory = remember(decoder)
    first, second, *_ = stepped(decoder, memory)
    x = decoder.stack.project(torch.randn(B, E))
    output, after = decoder.step(x, second, memory, decoder.stack.prepare(B))
    _, log_weights = decoder.attention(output, memory, first.coverage + second.log_weights.exp() / memory.fertility)
    torch.testing.assert_close(after.log_weights, log_weights)
    _, without = decoder.step(x, second._replace(coverage=first.coverage), memory, decoder.stack.prepare(B))
    assert (without.log_weights - after.log_weights)[memory.mask].abs().max() > 1e-4


@pytest.mark.parametrize(("attention", "coverage"), COVERED)
def test_the_coverage_weight_learns_from_the_second_step_on(attention, coverage):
    for steps in (1, 2):
        decoder = make(attention=attention, coverage=coverage)
        memory = remember(decoder)
        trace = decoder.unroll(torch.randn(B, steps, E), decoder.start(torch.randn(B, 2, H), memory), memory)
        trace.contexts.square().sum().backward()
        for name, parameter in decoder.attention.named_parameters():
            if name.startswith(("coverage", "fertility")):
                learns = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
                assert learns == (steps == 2), name


def test_without_coverage_none_is_kept():
    for attention in ATTENTIONS:
        decoder = make(attention=attention)
        states = stepped(decoder, remember(decoder), 2)
        assert [state.coverage.shape for state in states] == [(B, 0)] * 3


@EVERY_CELL
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("encoder_layers", "decoder_layers", "width"), [(1, 1, H), (2, 3, 10), (3, 1, 6)])
def test_linear_bridge_is_bahdanaus_formula(cell, bidirectional, encoder_layers, decoder_layers, width):
    encoder, encoded = encode(cell, encoder_layers, M, bidirectional)
    made = bridge("linear", cell, encoder, decoder_layers, width)
    start = made(encoded)
    parts = made.parts
    assert start.shape == (B, decoder_layers, width * parts)
    # the backward state at the first word, or the forward one at the last; the top layer's
    last = [length - 1 for length in LENGTHS.tolist()]
    if bidirectional:
        h = encoded.values[:, 0, M // 2 :]
    else:
        h = encoded.values[torch.arange(B), last]
    for layer in range(decoder_layers):
        rows = slice(layer * width, (layer + 1) * width)
        expected = torch.tanh(h @ made.maps[0].weight[rows].T + made.maps[0].bias[rows])
        torch.testing.assert_close(start[:, layer, :width], expected)
        if parts == 2:
            c = encoded.final[:, -1, -1, encoder.direction_size :]
            expected = c @ made.maps[1].weight[rows].T + made.maps[1].bias[rows]
            torch.testing.assert_close(start[:, layer, width:], expected)


@EVERY_CELL
def test_mean_bridge_averages_real_positions_only(cell):
    encoder, encoded = encode(cell, 2)
    made = bridge("mean", cell, encoder, 2, 10)
    noisy = encoded._replace(values=encoded.values + 9 * ~encoded.mask.unsqueeze(2))
    start = made(noisy)
    for row, length in enumerate(LENGTHS.tolist()):
        mean = encoded.values[row, :length].mean(dim=0)
        expected = torch.tanh(made.maps[0](mean)).view(2, 10)
        torch.testing.assert_close(start[row, :, :10], expected)
        if made.parts == 2:
            torch.testing.assert_close(start[row, :, 10:], made.maps[1](mean).view(2, 10))


@EVERY_CELL
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("encoder_layers", "decoder_layers"), [(2, 2), (1, 3), (3, 1)])
def test_last_bridge_hands_states_on(cell, bidirectional, encoder_layers, decoder_layers):
    encoder, encoded = encode(cell, encoder_layers, H, bidirectional)
    start = bridge("last", cell, encoder, decoder_layers)(encoded)
    width = encoder.direction_size
    for layer in range(decoder_layers):
        final = encoded.final[:, min(layer, encoder_layers - 1)]  # (B, D, W)
        h = torch.cat([final[:, d, :width] for d in range(encoder.directions)], dim=1)
        torch.testing.assert_close(start[:, layer, :H], h)
        if cell == "lstm":
            c = torch.cat([final[:, d, width:] for d in range(encoder.directions)], dim=1)
            torch.testing.assert_close(start[:, layer, H:], c)


@EVERY_CELL
def test_zero_bridge_hands_nothing_on(cell):
    encoder, encoded = encode(cell)
    start = bridge("zero", cell, encoder, 2, 10)(encoded)
    assert start.shape == (B, 2, 10 * CELLS[cell].parts)
    assert not start.any()


def test_last_bridge_refuses_different_widths():
    encoder, _ = encode("gru", width=6)
    message = (
        "model.bridge=last hands states on as they are, but the encoder is 6 wide and the decoder 8; "
        "set model.encoder_hidden_size=8 or model.bridge=linear"
    )
    with pytest.raises(ValueError, match=message):
        bridge("last", "gru", encoder)


def test_an_unknown_bridge_is_refused_with_the_list():
    encoder, _ = encode("gru")
    with pytest.raises(ValueError, match=r"model.bridge must be one of linear, last, mean, zero, but is first"):
        bridge("first", "gru", encoder)


def readout(**options) -> Readout:
    return Readout(output_size=H, memory_size=M, embedding_size=E, vocab_size=9, banned=(0, 2), **options)


def test_readout_is_its_formula_and_bans():
    made = readout()
    torch.nn.init.normal_(made.logits.bias)
    output, context = torch.randn(B, T, H), torch.randn(B, T, M)
    logits = made(made.features(output, context))
    inner = torch.cat((output, context), dim=2) @ made.hidden.weight.T + made.hidden.bias
    expected = inner @ made.logits.weight.T + made.logits.bias
    free = [v for v in range(9) if v not in (0, 2)]
    torch.testing.assert_close(logits[..., free], expected[..., free])
    probabilities = torch.softmax(logits, dim=-1)
    assert torch.equal(probabilities[..., [0, 2]], torch.zeros(B, T, 2))
    torch.testing.assert_close(torch.log_softmax(logits, -1)[..., free], torch.log_softmax(expected[..., free], -1))


def test_readout_bans_even_the_largest_logit_and_gives_it_no_gradient():
    made = readout()
    with torch.no_grad():
        made.logits.bias[2] = 1e4
    logits = made(made.features(torch.randn(B, H), torch.randn(B, M)))
    assert not (logits.argmax(dim=-1) == 2).any()
    torch.logsumexp(logits, dim=-1).sum().backward()
    assert not made.logits.weight.grad[[0, 2]].any()
    assert made.logits.weight.grad[1].any()


@pytest.mark.parametrize("locked", [False, True])
def test_readout_dropout_acts_in_training_only(locked):
    made = readout(dropout=0.5, locked=locked)
    values = torch.randn(B, T, H), torch.randn(B, T, M)
    zeros = made.features(*values) == 0
    assert zeros.any()
    assert (zeros == zeros[:, :1]).all().item() == locked
    assert not (made.eval().features(*values) == 0).any()
