"""Errors of released versions of public toolkits, whose tests did not find them: the same small computations here.

Each test computes the value that was wrong elsewhere. Where possible, it also computes the wrong value, to show that the
test would find the error. The comments name the toolkit.
"""

from __future__ import annotations

import math
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from seq2seq.config import BRIDGE_NAMES, CELL_NAMES, ModelConfig, SearchConfig, TokenizerConfig
from seq2seq.data.batching import Batch, collate
from seq2seq.data.copy_ids import source_copies
from seq2seq.layers.distribution import Copying, Distribution
from seq2seq.layers.encoder import RecurrentEncoder
from seq2seq.layers.fast import plain_layers
from seq2seq.loss import smoothed_nll
from seq2seq.model import Seq2Seq
from seq2seq.model_dir import Tokenizers
from seq2seq.search.beam import SearchOptions, beam_search
from seq2seq.search.penalties import Penalties
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tokenizer import BOS, EOS, PAD
from seq2seq.translator import Translator

SIZE = 12
SRC = [[4, 5, 6, 7, 8, 9, 4, 5], [6]]  # a long source, and a short one that is mostly padded
TGT = [[7, 4, 9], [5]]


def make(size: int = SIZE, **options) -> Seq2Seq:
    """Make a small model whose probabilities are far from uniform, so errors are visible."""
    torch.manual_seed(1)
    config = ModelConfig(**({"cell": "gru", "embedding_size": 6, "hidden_size": 8, "dropout": 0.0} | options))
    model = Seq2Seq(config, src_size=size, tgt_size=size, shared=True).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
    return model


def batch() -> Batch:
    return collate(SRC, TGT, pad_id=PAD, bos_id=BOS, eos_id=EOS, copy_ids=SRC)


def results_of(module: torch.nn.Module) -> list:
    """Record the results of the following calls of a module."""
    results: list = []
    module.register_forward_hook(lambda module, arguments, result: results.append(result))
    return results


# ---- coverage


def test_the_weight_of_coverage_in_the_attention_has_a_gradient():
    """The gradient of the coverage weight equals the slope of the loss."""
    # OpenNMT-py 3.5.1: coverage_attn creates a layer that is never called; its gradient is None.
    model = make(coverage="sum").double()
    weight = model.decoder.attention.coverage_weight
    model(batch()).total.backward()
    assert weight.grad is not None
    with torch.no_grad():
        losses = []
        for step in (1e-5, -2e-5):
            weight[0] += step
            losses.append(model(batch()).total.item())
    slope = (losses[0] - losses[1]) / 2e-5
    assert weight.grad[0].item() == pytest.approx(slope, rel=1e-5)
    assert abs(slope) > 1e-3


def test_the_coverage_loss_is_multiplied_by_its_weight():
    """Ten times the weight adds ten times the coverage loss."""
    # OpenNMT-py 3.5.1: lambda_coverage is only compared with 0; 0.1, 1 and 10 give the same loss.
    model = make(coverage="sum")
    with torch.no_grad():
        plain = model(batch())
        added = [(model(batch(), coverage_weight=weight).total - plain.total).item() for weight in (0.1, 1.0, 10.0)]
    coverage = plain.coverage.item()
    assert coverage > 0.5
    assert added == pytest.approx([0.1 * coverage, coverage, 10 * coverage], rel=1e-4)


def test_the_coverage_loss_masks_the_padded_targets():
    """1.25 by hand; 1.5 if the costs are flattened step by step but the mask sentence by sentence."""
    # OpenNMT-py 3.5.1: exactly this error; it computed 0.834 instead of 1.673.
    weights = torch.tensor(  # two sentences, three steps, two positions
        [
            [[1.0, 0.0], [0.5, 0.5], [0.25, 0.75]],  # coverage (0, 0), (1, 0), (1.5, 0.5): costs 0, 0.5, 0.25 + 0.5
            [[0.5, 0.5], [0.5, 0.5], [1.0, 0.0]],  # only the first step is not padding: costs 0; at padding 1 and 1
        ]
    )
    model = make(coverage="sum")
    steps = iter(weights.unbind(dim=1))
    model.decoder.attention.log_weights = lambda query, keys, mask, coverage, *others: next(steps).log().unsqueeze(1)
    pairs = collate([[4], [5]], [[4, 5], []], pad_id=PAD, bos_id=BOS, eos_id=EOS)
    with plain_layers():
        assert model(pairs).coverage == 1.25

    costs = torch.tensor([[0.0, 0.5, 0.75], [0.0, 1.0, 1.0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    assert costs[mask].sum() == 1.25
    assert costs.T.flatten()[mask.flatten()].sum() == 1.5


def test_the_coverage_penalty_of_a_shorter_source_is_finite():
    """log 2 for a position with coverage 0.5; infinite if padding, with coverage 0, is counted."""
    # OpenNMT-py 3.5.1: the penalty is infinite for every source that is not the longest of its batch.
    attended = torch.tensor([[1.0, 0.5, 1.0, 2.0], [1.0, 0.5, 0.0, 0.0]])
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    assert Penalties(coverage=1.0)(attended, mask).tolist() == pytest.approx([math.log(2), math.log(2)])
    assert (-attended.clamp(max=1).log()).sum(dim=1).tolist() == pytest.approx([math.log(2), math.inf])

    translator = make_translator(coverage_penalty=1.0)
    together = [found[0].score for found in translator.search(LINES)]
    assert together == pytest.approx([translator.search([line])[0][0].score for line in LINES], abs=1e-4)
    assert all(map(math.isfinite, together))


# ---- copying


def test_the_probabilities_of_every_row_sum_to_one():
    """They sum to 1 in each row; to 1 + p_gen - p_gen' if the gate of a row is combined with weights of another row."""
    # OpenNMT-py 3.5.1: gates in the order of sentences were combined with weights in the order of steps; the sums were
    # 0.905 to 1.073.
    model = make(copy="pointer")
    pointer, logits = results_of(model.pointer), results_of(model.readout)
    with torch.no_grad():
        model.log_probs(batch())
    gate, energies = pointer[0]
    rows = batch().target_positions
    copying = Copying(gate.flatten()[rows], energies.flatten(0, 1)[rows], batch().copy_ids[rows // gate.shape[1]])
    distribution = Distribution(logits[0], model.readout.banned, copying)
    searched = distribution.log_probs(SIZE).exp()
    trained = torch.stack([distribution.target(torch.full_like(rows, i)).log_prob.exp() for i in range(SIZE)], dim=1)
    for probabilities in (searched, trained):
        torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(len(rows)), rtol=0, atol=1e-5)

    p_gen = torch.sigmoid(gate)
    sums = 1 + p_gen.flatten() - p_gen.T.flatten()
    assert sums.min() < 0.95
    assert sums.max() > 1.05


def test_a_separate_attention_for_copying_gives_padding_no_weight():
    """The weight of padding is 0; it is more than 0.5 for the short source if the energies are not masked."""
    # OpenNMT-py 3.5.1: a separate copy attention gave 50 % of its weight to padding.
    model = make(copy="pointer", copy_attention="separate")
    pairs = batch()
    pointed, attended = results_of(model.pointer), results_of(model.decoder.stack)
    with torch.no_grad(), plain_layers():
        decoding = model.encode(pairs)
        model.step(torch.full((2,), BOS), decoding)
        memory = decoding.memory
        output, _ = attended[0]
        no_coverage = output.new_zeros(2, 1, 0)
        energies = model.pointer.attention.energies(output.unsqueeze(1), memory.copy_keys, no_coverage)
        unmasked = energies.squeeze(1).softmax(dim=1)
    weights = pointed[0][1].squeeze(1).exp()
    assert (weights[~memory.mask] == 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))
    assert unmasked[1][~memory.mask[1]].sum() > 0.5


TEXT = ["the man sees the old dog .", "a dog and a small cat sleep ."]
LINES = ["Xylo sees the dog of Zarniwoop and a cat .", "Quibble sleep", "the Wombat", "Vortex and Jynx sleep ."]


def make_translator(**search) -> Translator:
    """Make a translator that copies words."""
    words = train_tokenizer(TEXT, TokenizerConfig(type="word", vocab_size=16))
    options = {"beam_size": 3, "min_length": 1, "max_length_ratio": 1.0, "max_length_extra": 2} | search
    model = make(words.size, copy="pointer")
    return Translator(model, Tokenizers(words, words), SearchConfig(**options))


def test_copied_words_come_from_their_source():
    """Every word outside the vocabulary occurs in the line. Ids would not show an error, because all lines use the same."""
    # OpenNMT-py 3.5.1: after finished sentences were removed, copies used the OOV table of another sentence.
    translator = make_translator()
    with torch.no_grad():
        translator.model.pointer.gate.bias.fill_(-100.0)  # it only copies
    results = translator.search(LINES, n_best=3)
    assert len({len(found[0].pieces) for found in results}) > 1  # sentences leave the search at different times
    tgt = translator.tokenizers.tgt
    tables = [source_copies(segments.pieces, tgt).oov for segments in tgt.segment(LINES)]
    copied = 0
    for line, table, found in zip(LINES, tables, results, strict=True):
        for one in found:
            assert set(one.pieces) <= set(line.split())
            copied += len(set(one.pieces) & set(table))
    assert copied >= len(LINES)

    assert [tgt.decode([tgt.size], table) for table in tables] == ["Xylo", "Quibble", "Wombat", "Vortex"]


def test_label_smoothing_acts_with_copying():
    """0.9996 by hand; 0.9808 without smoothing."""
    # OpenNMT-py 3.5.1: the loss of copying has no label smoothing; the setting is ignored without a warning.
    logits = torch.tensor([[1e-30, 0.2, 1e-30, 0.3, 0.5]]).log().index_fill(1, torch.tensor([PAD, BOS]), -1e9)
    copying = Copying(torch.zeros(1), torch.tensor([[0.25, 0.75]]).log(), torch.tensor([[4, 5]]))  # p_gen = 0.5
    target = Distribution(logits, torch.tensor([PAD, BOS]), copying).target(torch.tensor([4]))
    nll = -math.log(0.5 * 0.5 + 0.5 * 0.25)  # generated, and copied from the first position
    smooth = -(math.log(0.2) + math.log(0.3) + math.log(0.5)) / 3  # unk, eos and one word
    off, on = (smoothed_nll(target, e)[0].item() for e in (0.0, 0.1))
    assert off == pytest.approx(nll) == pytest.approx(0.9808, abs=1e-4)
    assert on == pytest.approx(0.9 * nll + 0.1 * smooth) == pytest.approx(0.9996, abs=1e-4)

    model = make(copy="pointer")
    losses = [model(batch(), smoothing=e).total.item() for e in (0.0, 0.1)]
    assert abs(losses[1] - losses[0]) > 0.1


# ---- encoder


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_the_encoder_does_not_read_padding(cell):
    """A source has the same values by itself and next to a longer one; they change if the layer reads padding."""
    # eole: the RNN encoder ignores the lengths; its outputs changed by 0.22.
    torch.manual_seed(1)
    encoder = RecurrentEncoder(cell, input_size=6, hidden_size=8, num_layers=1).eval()
    embedded, lengths = torch.randn(2, 9, 6), torch.tensor([9, 3])
    embedded[1, 3:] = 0  # the embedding of padding is 0
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.normal_(std=0.5)
        together = encoder(embedded, SimpleNamespace(src_lengths=lengths))
        alone = encoder(embedded[1:, :3], SimpleNamespace(src_lengths=lengths[1:]))
        unpacked, _ = encoder.layers[0](embedded)
    torch.testing.assert_close(together.values[1, :3], alone.values[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(together.final[1], alone.final[0], rtol=0, atol=1e-6)
    assert (together.values[1, 3:] == 0).all()
    assert (unpacked[1, :3] - alone.values[0]).abs().max() > 0.1


@pytest.mark.parametrize(("cell", "bridge"), list(product(CELL_NAMES, BRIDGE_NAMES)))
def test_a_unidirectional_encoder_works(cell, bridge):
    """Training and search work with every cell, depth and bridge."""
    # JoeyNMT: the unidirectional RNN encoder raises IndexError.
    for layers in (1, 2):
        model = make(cell=cell, bridge=bridge, bidirectional=False, encoder_layers=layers, decoder_layers=3 - layers)
        loss = model(batch()).total
        loss.backward()
        assert loss.isfinite()
        pairs = batch()
        found = beam_search(model.step, model.encode(pairs), [4, 3], SearchOptions(BOS, EOS, 2))
        assert [len(hypotheses) for hypotheses in found] == [2, 2]


# ---- translating


def test_empty_lines_are_kept():
    """As many lines are returned as given, also if some are empty."""
    # JoeyNMT: translate drops empty lines, so all later translations are paired with the wrong source.
    translator = make_translator()
    lines = [LINES[0], "", LINES[1]]
    first, last = translator.translate([line for line in lines if line])  # the result if empty lines are dropped
    assert translator.translate(lines) == [first, "", last]
    assert translator.translate(["", " ", *lines, ""]) == ["", "", first, "", last, ""]


def test_the_first_step_is_the_same_in_training_and_search():
    """The first token has one log-probability; it changes if the search applies the attention once before."""
    # Code of See et al.: in decoding, the attention is applied to the initial state first; in training, the context starts
    # at 0.
    model = make(coverage="sum")
    pairs = batch()
    first = pairs.tgt_out[:, :1]

    def step(context: Tensor | None) -> Tensor:
        decoding = model.encode(pairs)
        if context is not None:
            decoding = decoding._replace(state=decoding.state._replace(context=context))
        return model.step(pairs.tgt_in[:, 0], decoding)[0].at(first).squeeze(1)

    with torch.no_grad():
        trained = torch.stack([log_probs[0] for log_probs in model.log_probs(pairs).split([4, 2])])
        decoding = model.encode(pairs)
        assert not decoding.state.context.any()
        memory, query = decoding.memory, decoding.state.hidden[:, :1]
        coverage = decoding.state.coverage.unsqueeze(1)
        log_weights = model.decoder.attention.log_weights(query, memory.keys, memory.mask, coverage)
        context = model.decoder.attention.context(log_weights, memory).squeeze(1)
        torch.testing.assert_close(step(None), trained, rtol=1e-6, atol=1e-6)
        assert (step(context) - trained).abs().max() > 0.1
