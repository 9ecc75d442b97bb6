"""The decoder: unrolling equals stepping, the order of a step, and coverage."""

from __future__ import annotations

import pytest
import torch

from seq2seq.layers.attention import ATTENTIONS, MASKED, Memory, make_attention
from seq2seq.layers.cells import CELLS, StackedCell
from seq2seq.layers.decoder import RecurrentDecoder, RecurrentState
from seq2seq.layers.encoder import Encoded

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


class FinalStates(torch.nn.Module):
    """A bridge that returns the final states unchanged."""

    def forward(self, encoded: Encoded) -> torch.Tensor:
        return encoded.final


def start(decoder: RecurrentDecoder, hidden: torch.Tensor, memory: Memory) -> RecurrentState:
    """Return the initial state with this packed hidden state (B, L, W)."""
    return decoder.start(Encoded(memory.values, memory.mask, memory.summary, hidden), memory)


def make(cell: str = "gru", attention: str = "additive", coverage: str = "none", **options) -> RecurrentDecoder:
    stack = StackedCell(cell, input_size=E, hidden_size=H, num_layers=2, **options)
    attending = make_attention(attention, query_size=H, memory_size=M, attention_size=4, coverage=coverage)
    if coverage != "none":  # weights that are not 0
        for parameter in attending.coverage_parameters():
            torch.nn.init.uniform_(parameter, -1, 1)
    return RecurrentDecoder(FinalStates(), stack, attending, memory_size=M)


def remember(decoder: RecurrentDecoder) -> Memory:
    mask = torch.arange(S) < LENGTHS.unsqueeze(1)
    values = torch.randn(B, S, M) * mask.unsqueeze(2)
    attention, nothing = decoder.attention, torch.zeros(B, 0, dtype=torch.long)
    summary = torch.randn(B, M)
    return Memory(
        values, attention.keys(values), mask, summary, attention.fertility(values), values[:, :, :0], nothing, nothing
    )


@EVERY_CELL
@EVERY_COVERAGE
def test_unrolling_equals_stepping(cell, attention, coverage):
    decoder = make(cell, attention, coverage)
    memory = remember(decoder)
    state = start(decoder, torch.randn(B, 2, decoder.stack.state_size), memory)
    embedded = torch.randn(B, T, E)
    trace = decoder.unroll(embedded, state, memory)
    for t in range(T):
        output, state = decoder.step(embedded[:, t], state, memory)
        torch.testing.assert_close(trace.outputs[:, t], output)
        torch.testing.assert_close(trace.contexts[:, t], state.context)
        torch.testing.assert_close(trace.log_weights[:, t], state.log_weights)


@EVERY_CELL
def test_the_order_of_a_step_is_cell_then_attention(cell):
    decoder = make(cell)
    memory = remember(decoder)
    hidden, previous, x = torch.randn(B, 2, decoder.stack.state_size), torch.randn(B, M), torch.randn(B, E)
    state = start(decoder, hidden, memory)._replace(context=previous)
    output, after = decoder.step(x, state, memory)
    # s_t is computed from x_t and c_{t-1} with one matrix; c_t is computed from s_t
    matrix = torch.cat((decoder.stack.inputs[0].weight, decoder.context_gates.weight), dim=1)
    gates = torch.cat((x, previous), dim=1) @ matrix.T + decoder.stack.inputs[0].bias
    expected, _ = decoder.stack(gates, hidden, decoder.stack.prepare(B))
    torch.testing.assert_close(output, expected)
    coverage = state.coverage.unsqueeze(1)
    log_weights = decoder.attention.log_weights(output.unsqueeze(1), memory.keys, memory.mask, coverage)
    torch.testing.assert_close(after.context, decoder.attention.context(log_weights, memory).squeeze(1))
    torch.testing.assert_close(after.log_weights, log_weights.squeeze(1))


@EVERY_COVERAGE
def test_unrolling_changes_neither_memory_nor_state(attention, coverage):
    decoder = make("lstm", attention, coverage)
    memory = remember(decoder)
    state = start(decoder, torch.randn(B, 2, 2 * H), memory)
    before = [tensor.clone() for tensor in (*memory[:-1], *state)]
    decoder.unroll(torch.randn(B, T, E), state, memory)
    assert all(torch.equal(a, b) for a, b in zip(before, (*memory[:-1], *state), strict=True))


def test_the_first_context_is_zero_with_attention_and_the_summary_without():
    decoder = make(attention="additive")
    memory = remember(decoder)
    state = start(decoder, torch.zeros(B, 2, H), memory)
    assert not state.context.any()
    assert (state.log_weights == MASKED).all()  # so the weights are 0
    decoder = make(attention="none")
    memory = remember(decoder)
    assert torch.equal(start(decoder, torch.zeros(B, 2, H), memory).context, memory.summary)


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("attention", ["additive", "none"])  # with a fast twin and without
def test_masks_are_drawn_once_per_unroll(monkeypatch, attention, locked):
    decoder = make("gru", attention, recurrent_dropout=0.5, weight_drop=0.5, dropout=0.5, locked=locked)
    memory = remember(decoder)
    drawn = []
    original = decoder.stack.prepare
    monkeypatch.setattr(
        decoder.stack, "prepare", lambda rows, **options: drawn.append(original(rows, **options)) or drawn[-1]
    )
    state = start(decoder, torch.zeros(B, 2, H), memory)
    embedded = torch.randn(B, T, E)
    trace = decoder.unroll(embedded, state, memory)
    assert len(drawn) == 1
    for t in range(T):
        gates = decoder.stack.project(embedded[:, t])
        output, state = decoder._advance(gates, state, memory, drawn[0].at(t))
        torch.testing.assert_close(trace.outputs[:, t], output)


@EVERY_CELL
@EVERY_COVERAGE
def test_hypotheses_of_a_sentence_share_its_memory(cell, attention, coverage):
    decoder = make(cell, attention, coverage).eval()
    memory = remember(decoder)
    beam = 3
    rows = torch.arange(B).repeat_interleave(beam)
    repeated = memory.select(rows)
    hidden = torch.randn(B * beam, 2, decoder.stack.state_size)
    shared, alone = (start(decoder, hidden, repeated) for _ in range(2))
    for _ in range(3):
        embedded = torch.randn(B * beam, E)
        output, shared = decoder.step(embedded, shared, memory)
        expected, alone = decoder.step(embedded, alone, repeated)
        torch.testing.assert_close(output, expected)
        for mine, other in zip(shared, alone, strict=True):
            torch.testing.assert_close(mine, other)


def test_state_select_selects_rows_of_every_tensor():
    decoder = make(coverage="sum")
    state = start(decoder, torch.randn(B, 2, H), remember(decoder))
    state = state._replace(log_weights=torch.rand(B, S), coverage=torch.rand(B, S))
    for new, old in zip(state.select(torch.tensor([2, 2, 0])), state, strict=True):
        assert torch.equal(new, old[[2, 2, 0]])


# Coverage


def stepped(decoder: RecurrentDecoder, memory: Memory, steps: int = T) -> list:
    """Return the initial state and the state after each step."""
    states = [start(decoder, torch.randn(B, 2, H), memory)]
    for _ in range(steps):
        states.append(decoder.step(torch.randn(B, E), states[-1], memory)[1])
    return states


@pytest.mark.parametrize("attention", [kind for kind in ATTENTIONS if kind != "none"])
def test_coverage_sums_to_t_after_t_steps(attention):
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
    x = torch.randn(B, E)
    output, after = decoder.step(x, second, memory)
    coverage = (first.coverage + second.log_weights.exp() / memory.fertility).unsqueeze(1)
    log_weights = decoder.attention.log_weights(output.unsqueeze(1), memory.keys, memory.mask, coverage)
    torch.testing.assert_close(after.log_weights, log_weights.squeeze(1))
    _, without = decoder.step(x, second._replace(coverage=first.coverage), memory)
    assert (without.log_weights - after.log_weights)[memory.mask].abs().max() > 1e-4


@pytest.mark.parametrize(("attention", "coverage"), COVERED)
def test_the_coverage_weight_has_a_gradient_from_the_second_step(attention, coverage):
    for steps in (1, 2):
        decoder = make(attention=attention, coverage=coverage)
        memory = remember(decoder)
        trace = decoder.unroll(torch.randn(B, steps, E), start(decoder, torch.randn(B, 2, H), memory), memory)
        trace.contexts.square().sum().backward()
        for name, parameter in decoder.attention.named_parameters():
            if name.startswith(("coverage", "fertility")):
                learns = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
                assert learns == (steps == 2), name


def test_without_coverage_the_state_holds_none():
    for attention in ATTENTIONS:
        decoder = make(attention=attention)
        states = stepped(decoder, remember(decoder), 2)
        assert [state.coverage.shape for state in states] == [(B, 0)] * 3
