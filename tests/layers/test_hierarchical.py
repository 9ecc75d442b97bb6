"""The hierarchical encoder and the attention to sentences, compared with loops over sentences in float64."""

from __future__ import annotations

import itertools
import math
import re
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from seq2seq.layers.attention import ATTENTIONS, MASKED, Attention, Memory, SentenceMemory, make_attention
from seq2seq.layers.cells import CELLS
from seq2seq.layers.encoder import Encoded, RecurrentEncoder
from seq2seq.layers.fast import plain_layers
from seq2seq.layers.hierarchical import HierarchicalEncoder, SentenceLayout

E, M, H = 5, 8, 8
SEGMENTS = torch.tensor([[0, 0, 0, 1, 2, 2, 2], [0, 0, 1, 1, 1, 9, 9], [0, 0, 0, 0, 0, 0, 5]])
LENGTHS = torch.tensor([7, 5, 1])
SIZES = [[3, 1, 3], [2, 3], [1]]  # words of each sentence of each document


class Document(NamedTuple):
    """A source with lengths and segments only."""

    src_lengths: Tensor = LENGTHS
    segments: Tensor = SEGMENTS


SOURCE = Document()
B, S, Z = 3, 7, 3


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def make(cell: str = "gru", num_layers: int = 1, *, bidirectional: bool = True, **options) -> HierarchicalEncoder:
    options |= {"hidden_size": M, "num_layers": num_layers, "bidirectional": bidirectional}
    words = RecurrentEncoder(cell, input_size=E, **options)
    sentences = RecurrentEncoder(cell, input_size=M, **options)
    encoder = HierarchicalEncoder(words, sentences, nn.Dropout(options.get("dropout", 0.0)))
    for name, parameter in encoder.named_parameters():
        if "bias" in name:
            nn.init.uniform_(parameter, -0.5, 0.5)
    return encoder


# ---- the layout


def test_the_layout_of_two_documents():
    layout = SentenceLayout.of(torch.tensor([[4, 4, 9, 0, 0], [0, 0, 1, 1, 2]]), torch.tensor([3, 5]))
    assert layout.lengths.tolist() == [2, 2, 2, 1, 1]  # the longest sentences are the first rows
    assert layout.counts.tolist() == [3, 2]  # the document with the most sentences is the first
    assert layout.numbers.tolist() == [[0, 0, 1, 1, 1], [0, 0, 1, 1, 2]]
    assert layout.words.tolist() == [[0, 1], [5, 6], [7, 8], [2, 2], [9, 9]]
    assert layout.places.tolist() == [[0, 1, 6, 0, 0], [2, 3, 4, 5, 8]]
    assert layout.rows.tolist() == [[1, 2, 4], [0, 3, 3]]
    assert layout.documents.tolist() == [1, 0]


def test_a_document_of_2000_words_needs_no_more_places_than_words():
    """Sentences of equal lengths have no padding."""
    layout = SentenceLayout.of(torch.arange(2000).unsqueeze(0) // 20, torch.tensor([2000]))
    assert layout.words.shape == (100, 20)
    assert torch.equal(layout.words.flatten().index_select(0, layout.places[0]), torch.arange(2000))


def test_only_the_borders_between_numbers_matter():
    encoder, embedded = make(), torch.randn(B, S, E)
    other = torch.tensor([[3, 3, 3, 7, 0, 0, 0], [5, 5, 6, 6, 6, 6, 6], [8, 1, 2, 3, 4, 5, 6]])
    one, two = encoder(embedded, SOURCE), encoder(embedded, SOURCE._replace(segments=other))
    assert torch.equal(one.values, two.values)
    assert torch.equal(one.summary, two.summary)
    assert torch.equal(one.sentences.values, two.sentences.values)


# ---- the encoder


def run_alone(encoder: RecurrentEncoder, sequence: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Run torch's layers on one sequence (S, I) by itself: values (S, M), summary (M,), final states per layer (D, W)."""
    values, final = sequence.unsqueeze(0), []
    for layer in encoder.layers:
        values, state = layer(values)
        final.append(torch.cat(state, dim=2)[:, 0] if isinstance(state, tuple) else state[:, 0])
    return values[0], final[-1][:, : encoder.direction_size].flatten(), final


def naive(encoder: HierarchicalEncoder, embedded: Tensor) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Encode document after document and sentence after sentence: values, summary, final and sentence values of each."""
    results = []
    for row, sizes in enumerate(SIZES):
        sentences = embedded[row, : sum(sizes)].split(sizes)
        found = [run_alone(encoder.words, sentence) for sentence in sentences]
        values, summary, final = run_alone(encoder.sentences, torch.stack([summary for _, summary, _ in found]))
        results.append((torch.cat([words for words, _, _ in found]), summary, torch.stack(final), values))
    return results


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])
@pytest.mark.parametrize("bidirectional", [True, False], ids=["both", "forward"])
@pytest.mark.parametrize(("cell", "num_layers"), list(itertools.product(CELLS, (1, 2))))
def test_the_encoder_equals_loops_in_values_and_gradients(cell, num_layers, bidirectional, fast):
    encoder = make(cell, num_layers, bidirectional=bidirectional).double()
    embedded = torch.randn(B, S, E, dtype=torch.float64, requires_grad=True)
    if fast:
        encoded = encoder(embedded, SOURCE)
    else:
        with plain_layers():
            encoded = encoder(embedded, SOURCE)
    parts, expected_parts = [], []
    for row, (sizes, expected) in enumerate(zip(SIZES, naive(encoder, embedded), strict=True)):
        sentences = encoded.sentences.values[row, : len(sizes)]
        found = encoded.values[row, : sum(sizes)], encoded.summary[row], encoded.final[row], sentences
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
        parts += found
        expected_parts += expected
    weights = [torch.randn_like(part) for part in parts]
    inputs = [embedded, *encoder.parameters()]
    gradients, expected_gradients = (
        torch.autograd.grad(sum((weight * part).sum() for weight, part in zip(weights, some, strict=True)), inputs)
        for some in (parts, expected_parts)
    )
    for one, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
        assert other.any()


def test_values_and_masks_are_zero_at_padding():
    encoded = make()(torch.randn(B, S, E), SOURCE)
    assert encoded.mask.sum(dim=1).tolist() == [7, 5, 1]
    assert encoded.sentences.mask.sum(dim=1).tolist() == [3, 2, 1]
    assert not encoded.values[~encoded.mask].any()
    assert not encoded.sentences.values[~encoded.sentences.mask].any()
    assert encoded.sentences.numbers.max() < Z


def test_one_sentence_equals_the_recurrent_encoder():
    """The values are those of the word layers alone; the summary is one step of the sentence layers."""
    encoder, embedded = make("lstm", 2), torch.randn(B, S, E)
    encoded = encoder(embedded, SOURCE._replace(segments=torch.zeros(B, S, dtype=torch.long)))
    flat = encoder.words(embedded, LENGTHS)
    torch.testing.assert_close(encoded.values, flat.values)
    once = encoder.sentences(flat.summary.unsqueeze(1), torch.ones(B, dtype=torch.long))
    torch.testing.assert_close(encoded.summary, once.summary)
    torch.testing.assert_close(encoded.final, once.final)
    assert not torch.allclose(encoded.summary, flat.summary)


def test_a_word_changes_only_its_sentence_and_the_document():
    """The state of the word layers starts anew in each sentence."""
    encoder, embedded = make("lstm", 2), torch.randn(B, S, E)
    other = embedded.clone()
    other[0, 1] += 1  # in the first sentence of the first document
    one, two = encoder(embedded, SOURCE), encoder(other, SOURCE)
    changed = (one.values != two.values).any(dim=2)
    assert changed[0].tolist() == [True] * 3 + [False] * 4
    assert not changed[1:].any()
    assert not torch.equal(one.summary[0], two.summary[0])
    assert (one.sentences.values[0] != two.sentences.values[0]).any(dim=1).all()
    assert torch.equal(one.summary[1:], two.summary[1:])


def close(one: Encoded, two: Encoded) -> None:
    for a, b in zip(one[:4], two[:4], strict=True):
        torch.testing.assert_close(a, b)
    for a, b in zip(one.sentences, two.sentences, strict=True):
        torch.testing.assert_close(a, b)


def test_padding_changes_nothing():
    """Vectors and segments at padded positions are not read; more positions and sentences of padding change nothing."""
    encoder, embedded = make("lstm", 2), torch.randn(B, S, E)
    expected = encoder(embedded, SOURCE)
    real = torch.arange(S) < LENGTHS.unsqueeze(1)
    noisy = encoder(
        torch.where(real.unsqueeze(2), embedded, math.inf), SOURCE._replace(segments=SEGMENTS.where(real, 77))
    )
    for one, two in zip((*expected[:4], *expected[4]), (*noisy[:4], *noisy[4]), strict=True):
        assert torch.equal(one, two)
    longer = torch.cat((embedded, torch.randn(B, 4, E)), dim=1)
    longest = torch.cat((longer, torch.randn(1, S + 4, E)))  # one more document, of S + 4 sentences
    segments = torch.cat((nn.functional.pad(SEGMENTS, (0, 4)), torch.arange(S + 4).unsqueeze(0)))
    found = encoder(longest, Document(torch.cat((LENGTHS, torch.tensor([S + 4]))), segments))
    sentences = [found.sentences.values[:B, :Z], found.sentences.mask[:B, :Z], found.sentences.numbers[:B, :S]]
    close(
        expected,
        Encoded(found.values[:B, :S], found.mask[:B, :S], found.summary[:B], found.final[:B], tuple(sentences)),
    )
    assert not found.sentences.mask[:B, Z:].any()


def test_each_document_has_its_values_in_any_batch():
    encoder, embedded = make("lstm", 2), torch.randn(B, S, E)
    together = encoder(embedded, SOURCE)
    for row in range(B):
        alone = encoder(embedded[row : row + 1], Document(LENGTHS[row : row + 1], SEGMENTS[row : row + 1]))
        torch.testing.assert_close(alone.values[0], together.values[row])
        torch.testing.assert_close(alone.summary[0], together.summary[row])


def test_dropout_acts_in_training_only():
    encoder, embedded = make(num_layers=1, dropout=0.5), torch.randn(B, S, E)
    one, two = encoder(embedded, SOURCE), encoder(embedded, SOURCE)
    assert torch.equal(one.values, two.values)  # there is no dropout between the layers of one layer
    assert not torch.equal(one.summary, two.summary)
    encoder.eval()
    assert torch.equal(encoder(embedded, SOURCE).summary, encoder(embedded, SOURCE).summary)


def test_a_source_without_segments_is_refused():
    message = "a hierarchical encoder requires Batch.segments; pass segments to collate"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()(torch.randn(B, S, E), SOURCE._replace(segments=SEGMENTS[:, :0]))


# ---- the attention


ATTENDING = [kind for kind in ATTENTIONS if kind != "none"]


def attention_of(kind: str, *, coverage: str = "none", **options) -> Attention:
    attention = make_attention(
        kind, query_size=H, memory_size=M, heads=2, coverage=coverage, sentences=True, **options
    ).double()
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.6)
    return attention


def memory_of(attention: Attention) -> Memory:
    layout = SentenceLayout.of(SEGMENTS, LENGTHS)
    values = torch.randn(B, S, M, dtype=torch.float64, requires_grad=True)
    sentences = torch.randn(B, Z, M, dtype=torch.float64, requires_grad=True)
    nothing = values[:, :0, 0].long()
    return Memory(
        values,
        attention.keys(values),
        torch.arange(S) < LENGTHS.unsqueeze(1),
        values[:, 0],
        attention.fertility(values),
        values[:, :, :0],
        nothing,
        nothing,
        SentenceMemory(
            attention.sentence_keys(sentences),
            sentences[:, :, :0],
            torch.arange(Z) < torch.tensor([[len(sizes)] for sizes in SIZES]),
            layout.numbers,
        ),
    )


def energy(attention: Attention, query: Tensor, key: Tensor, place: int, count: int, covered: Tensor) -> list[Tensor]:
    """Compute the energy of one position for each head, written out from the formulas of the papers."""
    weight = attention.coverage_weight if attention.coverage != "none" else torch.zeros(1, dtype=torch.float64)
    kind = attention.kind
    if kind == "additive":
        return [attention.energy.weight[0] @ torch.tanh(attention.query.weight @ query + key + weight * covered)]
    if kind in ("scaled_dot", "multi_head"):
        heads = 2 if kind == "multi_head" else 1
        pairs = zip((attention.query.weight @ query).chunk(heads), key.chunk(heads), strict=True)
        weights = weight.expand(heads)
        return [(q @ k) / math.sqrt(len(k)) + w * covered for (q, k), w in zip(pairs, weights, strict=True)]
    assert kind in ("dot", "general", "local_p"), f"write the energies of the attention {kind} here"
    found = query @ key + weight[0] * covered
    if kind == "local_p":
        hidden = torch.tanh(attention.position_hidden.weight @ query)
        predicted = count * torch.sigmoid(attention.position_energy.weight[0] @ hidden)
        found = found - (place - predicted) ** 2 / 50
    return [found]


def softmax(energies: list[Tensor]) -> list[Tensor]:
    total = sum(energy.exp() for energy in energies)
    return [energy.exp() / total for energy in energies]


def rescaled(attention: Attention, query: Tensor, memory: Memory, coverage: Tensor, row: int) -> tuple[Tensor, Tensor]:
    """Return P(j) = P_w(j) P_s(s(j)) / sum_k P_w(k) P_s(s(k)) and the context of one query (H,) by loops."""
    numbers = [number for number, size in enumerate(SIZES[row]) for _ in range(size)]
    by_word = [energy(attention, query, memory.keys[row, j], j, len(numbers), coverage[j]) for j in range(len(numbers))]
    sentences = len(SIZES[row])
    nothing = torch.zeros((), dtype=torch.float64)
    by_sentence = [
        energy(attention.sentences, query, memory.sentences.keys[row, z], z, sentences, nothing)
        for z in range(sentences)
    ]
    log_of_sentence = [
        sum(heads) / len(heads)
        for heads in zip(*(softmax(list(head)) for head in zip(*by_sentence, strict=True)), strict=True)
    ]
    weights_by_head, contexts = [], []
    for number, head in enumerate(zip(*by_word, strict=True)):
        products = [weight * log_of_sentence[s] for weight, s in zip(softmax(list(head)), numbers, strict=True)]
        weights = [product / sum(products) for product in products]
        weights_by_head.append(torch.stack(weights))
        context = sum(weight * value for weight, value in zip(weights, memory.values[row], strict=False))
        if attention.kind == "multi_head":
            context = attention.value.weight.chunk(2)[number] @ context
        contexts.append(context)
    return torch.stack(weights_by_head).mean(dim=0), torch.cat(contexts)


@pytest.mark.parametrize("coverage", ["none", "sum"])
@pytest.mark.parametrize("kind", ATTENDING)
def test_the_rescaling_equals_loops_in_values_and_gradients(kind, coverage):
    attention = attention_of(kind, coverage=coverage)
    memory = memory_of(attention)
    queries = torch.randn(B, 2, H, dtype=torch.float64, requires_grad=True)
    covered = torch.rand(B, 2, S, dtype=torch.float64)
    context, log_weights = attention.attend(queries, memory, covered if coverage == "sum" else covered[:, :, :0])
    found, expected = [], []
    for row, sizes in enumerate(SIZES):
        for q in range(2):
            weights = log_weights[row, q].exp()
            reference = rescaled(attention, queries[row, q], memory, covered[row, q], row)
            torch.testing.assert_close(weights[: sum(sizes)], reference[0], rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(context[row, q], reference[1], rtol=1e-10, atol=1e-12)
            assert (log_weights[row, q, sum(sizes) :] == MASKED).all()
            found += [weights[: sum(sizes)], context[row, q]]
            expected += reference
    factors = [torch.randn_like(part) for part in found]
    inputs = [queries, *attention.parameters()]
    gradients, references = (
        torch.autograd.grad(
            sum((factor * part).sum() for factor, part in zip(factors, some, strict=True)), inputs, retain_graph=True
        )
        for some in (found, expected)
    )
    for one, other in zip(gradients, references, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-11)
        assert other.any()


@pytest.mark.parametrize("kind", ATTENDING)
def test_weights_have_full_support_and_sum_to_one(kind):
    attention = attention_of(kind).float()
    memory = memory_of(attention_of(kind))
    memory = Memory(
        *(tensor.float() if tensor.is_floating_point() else tensor for tensor in memory[:-1]), memory.sentences
    )
    sentences = memory.sentences._replace(keys=memory.sentences.keys.float() * 50)  # one sentence has nearly all weight
    log_weights = attention.attend(
        torch.randn(B, 3, H), memory._replace(sentences=sentences), memory.values[:, :3, :0]
    )[1]
    assert log_weights.isfinite().all()
    assert (log_weights[memory.mask.unsqueeze(1).expand(-1, 3, -1)] > MASKED / 2).all()
    torch.testing.assert_close(log_weights.exp().sum(dim=2), torch.ones(B, 3))


def test_an_empty_memory_has_no_weight():
    attention = attention_of("additive")
    memory = memory_of(attention)
    sentences = memory.sentences._replace(mask=torch.zeros(B, Z, dtype=torch.bool))
    memory = memory._replace(mask=torch.zeros(B, S, dtype=torch.bool), sentences=sentences)
    context, log_weights = attention.attend(torch.randn(B, 1, H, dtype=torch.float64), memory, memory.values[:, :1, :0])
    assert (log_weights.exp() == 0).all()
    assert (context == 0).all()


@pytest.mark.parametrize("kind", ATTENDING)
def test_one_sentence_is_not_rescaled(kind):
    attention = attention_of(kind)
    memory = memory_of(attention)
    sentences = memory.sentences._replace(
        mask=torch.arange(Z) < torch.ones(B, 1), numbers=torch.zeros(B, S, dtype=torch.long)
    )
    query, nothing = torch.randn(B, 2, H, dtype=torch.float64), memory.values[:, :2, :0]
    found = attention.attend(query, memory._replace(sentences=sentences), nothing)
    attention.sentences = None
    for one, other in zip(found, attention.attend(query, memory, nothing), strict=True):
        torch.testing.assert_close(one, other)


def test_no_attention_has_no_attention_to_sentences():
    attention = make_attention("none", query_size=H, memory_size=M, sentences=True)
    assert attention.sentences is None
    assert attention.sentence_keys(torch.randn(B, Z, M)).shape == (B, Z, 0)


def test_an_attention_to_sentences_requires_a_memory():
    message = "an attention to sentences requires a memory; use attend"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        attention_of("dot")(torch.randn(B, 1, H), torch.randn(B, S, M))


def test_sentences_are_selected_with_their_document():
    memory = memory_of(attention_of("general"))
    selected = memory.select(torch.tensor([2, 0, 0]))
    for one, other in zip(selected.sentences, memory.sentences, strict=True):
        assert torch.equal(one, other[[2, 0, 0]])
    assert torch.equal(selected.keys, memory.keys[[2, 0, 0]])
