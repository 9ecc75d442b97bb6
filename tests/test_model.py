"""The whole model: padding, gradients, tied embeddings, what every option changes and what is refused."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from seq2seq.batching import Batch, collate
from seq2seq.config import ATTENTIONS, CELLS, TIES, ModelConfig
from seq2seq.model import Decoding, Seq2Seq
from seq2seq.tokenizer import BOS, EOS, PAD

SRC_SIZE, TGT_SIZE = 11, 13
SMALL = {"embedding_size": 6, "hidden_size": 8, "dropout": 0.0}
SRC = [[4, 5, 6, 7], [8], [9, 4], []]
TGT = [[5, 4], [6, 7, 8, 9, 10], [], [4]]
EVERY_PAIR = pytest.mark.parametrize(("cell", "attention"), list(itertools.product(CELLS, ATTENTIONS)))


def make(*, shared: bool = False, **options) -> Seq2Seq:
    torch.manual_seed(1)
    config = ModelConfig(**(SMALL | options))
    return Seq2Seq(config, src_size=TGT_SIZE if shared else SRC_SIZE, tgt_size=TGT_SIZE, shared=shared)


def batch(rows: slice | list[int] = slice(None)) -> Batch:
    rows = list(range(len(SRC)))[rows] if isinstance(rows, slice) else rows
    src, tgt = [SRC[row] for row in rows], [TGT[row] for row in rows]
    return collate(src, tgt, pad_id=PAD, bos_id=BOS, eos_id=EOS)


def gradients(model: Seq2Seq) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@EVERY_PAIR
def test_padding_and_batch_mates_do_not_matter(cell, attention):
    model = make(cell=cell, attention=attention, encoder_layers=2, decoder_layers=2).eval()
    together = model.log_probs(batch())
    alone = torch.cat([model.log_probs(batch([row])) for row in range(len(SRC))])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)

    full = batch()
    inside = torch.arange(full.src.shape[1]) < full.src_lengths.unsqueeze(1)
    assert not inside.all()
    noisy = full._replace(src=torch.where(inside, full.src, 7))
    assert torch.equal(model.log_probs(noisy), together)
    real = torch.zeros(full.tgt_in.numel(), dtype=torch.bool).index_fill(0, full.real, True).view_as(full.tgt_in)
    noisy = full._replace(tgt_in=torch.where(real, full.tgt_in, 7), tgt_out=torch.where(real, full.tgt_out, 7))
    assert torch.equal(model.log_probs(noisy), together)


@EVERY_PAIR
def test_gradient_reaches_every_parameter(cell, attention):
    model = make(cell=cell, attention=attention, encoder_layers=2, decoder_layers=2)
    model(batch(), smoothing=0.1).total.backward()
    for name, gradient in gradients(model).items():
        assert gradient.isfinite().all(), name
        assert gradient.abs().sum() > 0, name


@EVERY_PAIR
def test_stepping_gives_the_probabilities_of_training(cell, attention):
    model = make(cell=cell, attention=attention, decoder_layers=2).eval()
    full = batch()
    decoding = model.encode(full.src, full.src_lengths)
    stepped = []
    for t in range(full.tgt_in.shape[1]):
        log_probs, decoding = model.step(full.tgt_in[:, t], decoding)
        torch.testing.assert_close(log_probs.exp().sum(dim=1), torch.ones(len(SRC)))
        assert (log_probs[:, [PAD, BOS]] == -float("inf")).all()
        stepped.append(log_probs.gather(1, full.tgt_out[:, t : t + 1]))
    stepped = torch.cat(stepped, dim=1).flatten()[full.real]
    torch.testing.assert_close(stepped, model.log_probs(full), rtol=1e-5, atol=1e-5)


def test_the_loss_is_the_sum_of_log_probabilities():
    model = make().eval()
    loss = model(batch())
    torch.testing.assert_close(loss.total, -model.log_probs(batch()).sum())
    torch.testing.assert_close(model(batch(), smoothing=0.2).nll, loss.nll)
    assert (model(batch(), smoothing=0.2).total - loss.total).abs() > 0.01
    assert loss.tokens == sum(len(row) + 1 for row in TGT)


@pytest.mark.parametrize("attention", ["additive", "none"])
def test_the_source_matters(attention):
    model = make(attention=attention).eval()
    full = batch()
    other = full._replace(src=full.src.flip(0), src_lengths=full.src_lengths.flip(0))
    assert (model.log_probs(full) - model.log_probs(other)).abs().max() > 1e-3


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("cell", CELLS)
def test_accumulated_batches_give_the_gradient_of_the_large_one(cell, smoothing):
    model = make(cell=cell)
    whole = model(batch(), smoothing=smoothing)
    (whole.total / whole.tokens).backward()
    expected = gradients(model)
    model.zero_grad()
    tokens = 0
    for rows in ([0], [1, 2], [3]):
        loss = model(batch(rows), smoothing=smoothing)
        loss.total.backward()
        tokens += loss.tokens
    assert tokens == whole.tokens
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient / tokens, expected[name], rtol=1e-5, atol=1e-6, msg=name)


# Tied embeddings


@pytest.mark.parametrize("kind", TIES)
def test_tied_embeddings_share_storage(kind):
    model = make(tie_embeddings=kind, shared=True)
    tgt = model.tgt_embedding.weight.data_ptr()
    assert (model.src_embedding.weight.data_ptr() == tgt) == (kind in ("inputs", "all"))
    assert (model.readout.logits.weight.data_ptr() == tgt) == (kind in ("output", "all"))
    untied = sum(parameter.numel() for parameter in make(shared=True).parameters())
    saved = {"none": 0, "inputs": 1, "output": 1, "all": 2}[kind] * TGT_SIZE * SMALL["embedding_size"]
    assert sum(parameter.numel() for parameter in model.parameters()) == untied - saved


@pytest.mark.parametrize("kind", TIES)
def test_tied_embeddings_learn_from_every_use(kind):
    model = make(tie_embeddings=kind, shared=True)
    pair = collate([[4, 5]], [[6, 7]], pad_id=PAD, bos_id=BOS, eos_id=EOS)
    model(pair).total.backward()
    rows = model.tgt_embedding.weight.grad.abs().sum(dim=1) > 0
    used = {BOS, 6, 7}
    if kind in ("inputs", "all"):
        used |= {4, 5, EOS}
    if kind in ("output", "all"):
        used |= set(range(TGT_SIZE)) - {PAD, BOS}
    assert {row for row in range(TGT_SIZE) if rows[row]} == used


@pytest.mark.parametrize("shared", [True, False])
def test_output_tying_works_with_one_vocabulary_or_two(shared):
    model = make(tie_embeddings="output", shared=shared)
    assert model.src_embedding.weight is not model.tgt_embedding.weight
    assert model.log_probs(batch()).isfinite().all()


@pytest.mark.parametrize("kind", ["inputs", "all"])
def test_tying_the_inputs_needs_one_vocabulary(kind):
    message = (
        f"model.tie_embeddings={kind} needs one vocabulary, but tokenizer.shared is false; "
        "set tokenizer.shared=true, or model.tie_embeddings=output or none"
    )
    with pytest.raises(ValueError, match=message):
        make(tie_embeddings=kind)


# Options

BASE = {"encoder_layers": 2, "decoder_layers": 2, "dropout": 0.2}
OTHERS: dict[str, list] = {
    "cell": [cell for cell in CELLS if cell != "lstm"],
    "embedding_size": [7],
    "hidden_size": [10],
    "encoder_hidden_size": [10],
    "attention_size": [5],
    "encoder_layers": [1],
    "decoder_layers": [1],
    "bidirectional": [False],
    "residual": [True],
    "attention": [attention for attention in ATTENTIONS if attention != "additive"],
    "tie_embeddings": [kind for kind in TIES if kind != "none"],
    "bridge": ["last", "mean", "zero"],
    "dropout": [0.0, 0.4],
    "embedding_dropout": [0.0, 0.4],
    "dropout_kind": ["locked"],
    "recurrent_dropout": [0.3],
    "weight_drop": [0.3],
}


def test_every_option_is_tried():
    assert set(OTHERS) == {item.name for item in dataclasses.fields(ModelConfig)}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in OTHERS.items() for value in values])
def test_every_option_acts(name, value):
    plain, other = make(shared=True, **BASE), make(shared=True, **(BASE | {name: value}))
    shapes = [{key: p.shape for key, p in model.named_parameters()} for model in (plain, other)]
    if shapes[0] == shapes[1]:  # then with the same parameters and the same draws
        other.load_state_dict(plain.state_dict())
    losses = []
    for model in (plain, other):
        torch.manual_seed(2)
        losses.append(model(batch()).total)
    assert (losses[0] - losses[1]).abs() > 1e-4
    losses[1].backward()
    for key, gradient in gradients(other).items():
        assert gradient.abs().sum() > 0, key


@pytest.mark.parametrize("name", ["attention", "bridge"])
def test_kinds_without_parameters_differ_from_each_other(name):
    outcomes = []
    for value in ["none", "dot"] if name == "attention" else ["last", "zero"]:
        model = make(**{name: value})
        outcomes.append((model.state_dict(), model.eval().log_probs(batch())))
    (first, a), (second, b) = outcomes
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert (a - b).abs().max() > 1e-4


def test_sizes_go_where_their_names_say():
    model = make(hidden_size=8, encoder_hidden_size=10, attention_size=5, embedding_size=6)
    assert model.decoder.stack.hidden_size == 8
    assert model.encoder.hidden_size == 10
    assert model.decoder.attention.query.weight.shape == (5, 8)
    assert model.decoder.attention.key.weight.shape == (5, 10)
    assert model.tgt_embedding.weight.shape == (TGT_SIZE, 6)
    assert model.src_embedding.weight.shape == (SRC_SIZE, 6)
    plain = make()
    assert plain.encoder.hidden_size == 8
    assert plain.decoder.attention.query.weight.shape == (8, 8)


@pytest.mark.parametrize(
    "options",
    [
        {"dropout": 0.5},
        {"dropout": 0.5, "dropout_kind": "locked"},
        {"recurrent_dropout": 0.5},
        {"weight_drop": 0.5},
    ],
)
def test_dropout_acts_in_training_only(options):
    model, plain = make(**options), make()
    plain.load_state_dict(model.state_dict())
    expected = plain(batch()).total
    assert (model(batch()).total - expected).abs() > 1e-3
    assert torch.equal(model.eval()(batch()).total, expected)


def test_locked_dropout_on_embeddings_is_one_mask_a_sentence():
    model = make(dropout=0.5, dropout_kind="locked", embedding_size=32, attention="none")
    seen = []
    model.embedding_dropout.register_forward_hook(lambda module, arguments, result: seen.append(result))
    model(batch())
    assert len(seen) == 2
    for dropped, rows in zip(seen, (SRC, TGT), strict=True):  # source, then target
        zeros = dropped == 0
        assert zeros.any()
        for row, ids in enumerate(rows):
            steps = zeros[row, : len(ids) + 1]
            assert (steps == steps[0]).all()
        assert not torch.equal(zeros[0, 0], zeros[1, 0])


@pytest.mark.parametrize("attention", ["none", "dot", "general"])
def test_an_attention_size_that_cannot_act_is_refused(attention):
    message = (
        f"model.attention_size has no effect with model.attention={attention}; "
        "leave it out, or set model.attention=additive or scaled_dot"
    )
    with pytest.raises(ValueError, match=message):
        make(attention=attention, attention_size=5)


def test_residual_between_no_layers_is_refused():
    with pytest.raises(ValueError, match=r"model.residual joins layers, but encoder and decoder have one each"):
        make(residual=True)
    make(residual=True, encoder_layers=2)
    make(residual=True, decoder_layers=2)


def test_locked_dropout_of_nothing_is_refused():
    message = "model.dropout_kind=locked has no effect with model.dropout=0; set model.dropout above 0"
    with pytest.raises(ValueError, match=message):
        make(dropout_kind="locked")


def test_widths_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"dot needs states of one width, .* set model.encoder_hidden_size=8"):
        make(attention="dot", encoder_hidden_size=10)
    with pytest.raises(ValueError, match=r"bridge=last hands states on as they are, .* set model.encoder_hidden_size"):
        make(bridge="last", encoder_hidden_size=10)
    with pytest.raises(ValueError, match="must be even, but is 7"):
        make(encoder_hidden_size=7)


# What search carries


def test_decoding_reorders_the_state_and_selects_everything():
    model = make().eval()
    full = batch()
    _, decoding = model.step(full.tgt_in[:, 0], model.encode(full.src, full.src_lengths))
    rows = torch.tensor([1, 1, 3, 0])
    reordered, selected = decoding.reorder(rows), decoding.select(rows)
    assert reordered.memory is decoding.memory
    for a, b, c in zip(reordered.state, selected.state, decoding.state, strict=True):
        assert torch.equal(a, c[rows])
        assert torch.equal(b, c[rows])
    for a, b in zip(selected.memory, decoding.memory, strict=True):
        assert torch.equal(a, b[rows])


def test_the_weights_shown_to_search_leave_out_the_end_of_the_source():
    model = make().eval()
    full = batch()
    _, decoding = model.step(full.tgt_in[:, 0], model.encode(full.src, full.src_lengths))
    assert isinstance(decoding, Decoding)
    for row, source in enumerate(SRC):
        assert torch.equal(decoding.weights[row, : len(source)], decoding.state.weights[row, : len(source)])
        assert not decoding.weights[row, len(source) :].any()
        assert decoding.state.weights[row, len(source)] > 0


def test_has_attention():
    assert [make(attention=attention).has_attention for attention in ATTENTIONS] == [False] + [True] * 4


def test_the_padding_embedding_is_zero():
    model = make()
    assert not model.src_embedding.weight[PAD].any()
    assert not model.tgt_embedding.weight[PAD].any()


@pytest.mark.gpu
def test_a_step_takes_the_first_tokens_from_anywhere():
    model = make().eval().to("cuda")
    full = batch().to(torch.device("cuda"))
    log_probs, _ = model.step(torch.full((len(SRC),), BOS), model.encode(full.src, full.src_lengths))
    assert log_probs.device.type == "cuda"
