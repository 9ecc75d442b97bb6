"""The public interface ``seq2seq.layers``: its examples run, and small systems without a configuration learn."""

from __future__ import annotations

import doctest
import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seq2seq import layers
from seq2seq.layers import AttentionPool, RecurrentEncoder, SequenceDropout, StackedCell, make_attention
from seq2seq.layers.attention import ATTENTIONS
from seq2seq.layers.cells import CELLS

EVERY_CELL = pytest.mark.parametrize("cell", CELLS)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


@pytest.mark.parametrize("name", ["seq2seq.layers", *layers.__all__])
def test_the_examples_of_the_docstrings_run(name):
    value = layers if name == "seq2seq.layers" else getattr(layers, name)
    names = {"torch": torch} | {key: getattr(layers, key) for key in layers.__all__}
    examples = doctest.DocTestParser().get_doctest(inspect.getdoc(value), names, name, None, None)
    assert examples.examples, f"{name} has no example"
    result = doctest.DocTestRunner().run(examples)
    assert result.failed == 0


@EVERY_CELL
@pytest.mark.parametrize("layer_norm", [False, True])
def test_steps_of_a_cell_equal_the_sequence(cell, layer_norm):
    encoder = RecurrentEncoder(cell, input_size=4, hidden_size=6, bidirectional=False, layer_norm=layer_norm)
    stack = StackedCell(cell, input_size=4, hidden_size=6, layer_norm=layer_norm)
    layer = encoder.layers[0]
    with torch.no_grad():
        stack.inputs[0].weight.copy_(layer.weight_ih_l0)
        stack.inputs[0].bias.copy_(layer.bias_ih_l0)
        stack.weight_hh[0].copy_(layer.weight_hh_l0)
        stack.bias_hh[0].copy_(layer.bias_hh_l0)
    inputs = torch.randn(3, 5, 4)
    encoded = encoder(inputs)
    hidden = stack.start(3)
    for t in range(5):
        output, hidden = stack.step(inputs[:, t], hidden)
        torch.testing.assert_close(encoded.values[:, t], output)
    torch.testing.assert_close(encoded.final[:, :, 0], hidden)
    assert encoded.mask.all()


def test_lengths_are_given_as_a_tensor_or_by_a_batch():
    encoder, inputs, lengths = RecurrentEncoder("gru", input_size=4, hidden_size=6), torch.randn(2, 5, 4), [5, 2]

    class Source:
        src_lengths = torch.tensor(lengths)

    one, other = encoder(inputs, torch.tensor(lengths)), encoder(inputs, Source())
    assert torch.equal(one.values, other.values)
    assert one.mask.sum(dim=1).tolist() == lengths
    torch.testing.assert_close(one.values[1:, :2], encoder(inputs[1:, :2]).values)


def test_constants_of_a_step_are_shared_if_given():
    stack = StackedCell("gru", input_size=4, hidden_size=32, recurrent_dropout=0.5)
    inputs, hidden = torch.randn(2, 4), torch.randn(2, 1, 32)
    constants = stack.prepare(2)
    same = [stack.step(inputs, hidden, constants)[0] for _ in range(2)]
    assert torch.equal(*same)
    assert not torch.equal(stack.step(inputs, hidden)[0], same[0])


@pytest.mark.parametrize("kind", [kind for kind in ATTENTIONS if kind != "none"])
@pytest.mark.parametrize("coverage", ["none", "fertility"])
def test_an_attention_is_called_without_a_memory(kind, coverage):
    attention = make_attention(kind, query_size=8, memory_size=8, coverage=coverage)
    for parameter in attention.coverage_parameters():
        nn.init.uniform_(parameter, -1, 1)
    queries, values, mask = torch.randn(2, 3, 8), torch.randn(2, 5, 8), torch.rand(2, 5) > 0.3
    mask[:, 0] = True
    first = attention(queries, values, mask)
    torch.testing.assert_close(first.weights.sum(dim=2), torch.ones(2, 3))
    assert not first.weights[~mask.unsqueeze(1).expand(-1, 3, -1)].any()
    again = attention(queries, values, mask, keys=attention.keys(values))
    assert torch.equal(again.context, first.context)
    second = attention(queries, values, mask, coverage=first.weights).weights
    assert torch.equal(second, first.weights) == (coverage == "none")
    everything = attention(queries, values)
    torch.testing.assert_close(everything.context, attention(queries, values, torch.ones_like(mask)).context)


def test_attention_none_is_refused_without_an_encoder():
    message = "^attention none returns the summary of an encoder; use Encoded.summary as the context$"
    with pytest.raises(TypeError, match=message):
        make_attention("none", query_size=8, memory_size=8)(torch.randn(2, 3, 8), torch.randn(2, 5, 8))


def test_a_cell_learns_the_cosine_from_the_sine():
    """The target of a step is the cosine of the phase whose sine is the input: the slope of the input."""
    cell, readout = StackedCell("lstm", input_size=1, hidden_size=16), nn.Linear(16, 1)
    optimizer = torch.optim.Adam([*cell.parameters(), *readout.parameters()], lr=0.03)
    losses = []
    for _ in range(80):
        phase = 0.3 * torch.arange(20) + 6.3 * torch.rand(16, 1)
        hidden, outputs = cell.start(16), []
        for x in phase.sin().unsqueeze(2).unbind(dim=1):
            output, hidden = cell.step(x, hidden)
            outputs.append(readout(output))
        loss = F.mse_loss(torch.cat(outputs, dim=1)[:, 2:], phase.cos()[:, 2:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.4  # the mean of cos^2 is 0.5
    assert losses[-1] < 0.02


def test_a_classifier_with_pooling_finds_the_word_that_counts():
    """The class is that of the one word 1 or 2 among other words; length and place vary."""
    embedding, dropout = nn.Embedding(20, 16), SequenceDropout(0.1, locked=True)
    encoder, pool, output = RecurrentEncoder("gru", input_size=16, hidden_size=16), AttentionPool(16), nn.Linear(16, 2)
    parts = nn.ModuleList([embedding, dropout, encoder, pool, output])
    optimizer = torch.optim.Adam(parts.parameters(), lr=0.02)

    def batch(rows: int = 32) -> tuple[torch.Tensor, ...]:
        lengths, classes = torch.randint(2, 12, (rows,)), torch.randint(2, (rows,))
        words = torch.randint(3, 20, (rows, 11))
        words[torch.arange(rows), (torch.rand(rows) * lengths).long()] = 1 + classes
        return words, lengths, classes

    def classify(words: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        encoded = encoder(dropout(embedding(words)), lengths)
        return output(pool(encoded.values, encoded.mask))

    for _ in range(100):
        words, lengths, classes = batch()
        loss = F.cross_entropy(classify(words, lengths), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    parts.eval()
    words, lengths, classes = batch(500)
    with torch.no_grad():
        assert (classify(words, lengths).argmax(dim=1) == classes).double().mean() > 0.95
