"""The whole model: padding, gradients, tied embeddings, the effect of every option, and refused settings."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re

import pytest
import torch
from torch.utils._pytree import tree_leaves
from untrained import spread

from seq2seq.config import (
    ATTENTION_NAMES,
    BRIDGE_NAMES,
    CELL_NAMES,
    COPY_NAMES,
    COVERAGE_NAMES,
    DECODER_NAMES,
    ENCODER_NAMES,
    TIE_NAMES,
    ModelConfig,
)
from seq2seq.data.batching import Batch, collate
from seq2seq.layers.attention import ATTENTIONS
from seq2seq.layers.bridge import BRIDGES
from seq2seq.layers.cells import CELLS
from seq2seq.layers.pointer import POINTERS
from seq2seq.model import DECODERS, ENCODERS, Decoding, Seq2Seq
from seq2seq.text.tokenizer import BOS, EOS, PAD, UNK

SRC_SIZE, TGT_SIZE = 11, 13
SMALL = {"embedding_size": 6, "hidden_size": 8, "dropout": 0.0}
SRC = [[4, 5, 6, 7], [8], [9, 4], []]
TGT = [[5, 4], [6, 7, 8, 9, 10], [], [4]]
OOV = TGT_SIZE  # the first id of OOV pieces
COPIED = [[5, OOV, 5, OOV + 1], [OOV], [OOV, 4], []]  # target ids of SRC
COPYING = [
    {"copy": "pointer"},
    {"copy": "pointer", "copy_attention": "separate", "coverage": "sum"},
    {"copy": "pointer", "coverage": "fertility", "attention": "general"},
    {"copy": "copynet"},
    {"copy": "copynet", "attention": "none"},
    {"copy": "copynet", "coverage": "sum", "attention": "dot"},
    {"coverage": "sum"},
    {"coverage": "fertility", "attention": "scaled_dot"},
    {"copy": "pointer", "coverage": "sum", "attention": "multi_head"},
    {"copy": "pointer", "copy_attention": "separate", "coverage": "fertility", "attention": "local_p"},
]
WIDE = {"embedding_size": 8, "heads": 2}  # the widths that a Transformer requires
BOTH = {"encoder": "transformer", "decoder": "transformer"}
TRANSFORMERS = [
    *(
        WIDE | {"encoder": e, "decoder": d}
        for e, d in itertools.product(ENCODER_NAMES, DECODER_NAMES)
        if "transformer" in (e, d) and e != "hierarchical"
    ),
    WIDE | BOTH | {"copy": "pointer"},
    WIDE | BOTH | {"copy": "pointer", "copy_attention": "separate", "attention": "general"},
    WIDE | BOTH | {"copy": "copynet"},
    WIDE | {"encoder": "transformer", "copy": "pointer", "coverage": "fertility"},
    WIDE | {"encoder": "transformer", "attention": "none"},
    WIDE | {"decoder": "transformer", "copy": "pointer", "encoder_hidden_size": 6},
]
HIERARCHICAL = [
    {"encoder": "hierarchical"},
    {"encoder": "hierarchical", "encoder_layers": 2, "copy": "pointer", "coverage": "sum", "attention": "dot"},
    {
        "encoder": "hierarchical",
        "copy": "pointer",
        "copy_attention": "separate",
        "coverage": "fertility",
        "attention": "multi_head",
    },
    {"encoder": "hierarchical", "copy": "copynet", "cell": "gru", "coverage": "sum", "attention": "local_p"},
    {"encoder": "hierarchical", "attention": "none", "cell": "rnn_tanh"},
]
COPYING += TRANSFORMERS + HIERARCHICAL
EVERY_COPY = pytest.mark.parametrize("options", COPYING, ids=lambda options: "-".join(map(str, options.values())))
EVERY_PAIR = pytest.mark.parametrize(("cell", "attention"), list(itertools.product(CELL_NAMES, ATTENTION_NAMES)))


def make(*, shared: bool = False, **options) -> Seq2Seq:
    torch.manual_seed(1)
    config = ModelConfig(**(SMALL | options))
    model = Seq2Seq(config, src_size=TGT_SIZE if shared else SRC_SIZE, tgt_size=TGT_SIZE, shared=shared)
    if config.coverage != "none":  # with its initial weights of 0, coverage has no effect
        for parameter in model.decoder.attention.coverage_parameters():
            torch.nn.init.uniform_(parameter, -2, -1)
    return model


def batch(rows: slice | list[int] = slice(None), tgt: list[list[int]] = TGT) -> Batch:
    rows = list(range(len(SRC)))[rows] if isinstance(rows, slice) else rows
    src, tgt, copied = ([side[row] for row in rows] for side in (SRC, tgt, COPIED))
    segments = [[place // 2 for place in range(len(row))] for row in src]
    return collate(src, tgt, pad_id=PAD, bos_id=BOS, eos_id=EOS, copy_ids=copied, segments=segments)


def copied_batch() -> Batch:
    """Return a batch with targets that can be copied: OOV pieces, and pieces of the vocabulary that the source has."""
    return batch(tgt=[[5, OOV + 1, OOV, 4], [OOV, OOV, 7], [4, OOV], []])


def stepped(model: Seq2Seq, full: Batch) -> tuple[torch.Tensor, Decoding]:
    """Return the log-probabilities of the real target tokens, computed step by step."""
    decoding, found = model.encode(full), []
    for t in range(full.tgt_in.shape[1]):
        next_token, decoding = model.step(full.tgt_in[:, t], decoding)
        log_probs = next_token.log_probs()
        torch.testing.assert_close(log_probs.exp().sum(dim=1), torch.ones(len(full.src)), rtol=0, atol=1e-5)
        assert (log_probs[:, [PAD, BOS]] == -math.inf).all()
        found.append(log_probs.gather(1, full.tgt_out[:, t : t + 1]))
    return torch.cat(found, dim=1).flatten()[full.target_positions], decoding


def gradients(model: Seq2Seq) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@EVERY_PAIR
@pytest.mark.parametrize("layer_norm", [False, True])
def test_padding_and_other_rows_change_nothing(cell, attention, layer_norm):
    model = make(cell=cell, attention=attention, encoder_layers=2, decoder_layers=2, layer_norm=layer_norm).eval()
    together = model.log_probs(batch())
    alone = torch.cat([model.log_probs(batch([row])) for row in range(len(SRC))])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)

    full = batch()
    inside = torch.arange(full.src.shape[1]) < full.src_lengths.unsqueeze(1)
    assert not inside.all()
    noisy = full._replace(src=torch.where(inside, full.src, 7))
    assert torch.equal(model.log_probs(noisy), together)
    real = (
        torch.zeros(full.tgt_in.numel(), dtype=torch.bool)
        .index_fill(0, full.target_positions, True)
        .view_as(full.tgt_in)
    )
    noisy = full._replace(tgt_in=torch.where(real, full.tgt_in, 7), tgt_out=torch.where(real, full.tgt_out, 7))
    assert torch.equal(model.log_probs(noisy), together)


@EVERY_PAIR
def test_every_parameter_has_a_gradient(cell, attention):
    model = make(cell=cell, attention=attention, encoder_layers=2, decoder_layers=2)
    model(batch(), smoothing=0.1).total.backward()
    for name, gradient in gradients(model).items():
        assert gradient.isfinite().all(), name
        assert gradient.abs().sum() > 0, name


@EVERY_PAIR
def test_stepping_gives_the_probabilities_of_training(cell, attention):
    model = make(cell=cell, attention=attention, decoder_layers=2).eval()
    full = batch()
    found, _ = stepped(model, full)
    torch.testing.assert_close(found, model.log_probs(full), rtol=1e-5, atol=1e-5)


def test_the_loss_is_the_sum_of_log_probabilities():
    model = make().eval()
    loss = model(batch())
    torch.testing.assert_close(loss.total, -model.log_probs(batch()).sum())
    torch.testing.assert_close(model(batch(), smoothing=0.2).nll, loss.nll)
    assert (model(batch(), smoothing=0.2).total - loss.total).abs() > 0.01
    assert loss.tokens == sum(len(row) + 1 for row in TGT)


@pytest.mark.parametrize("attention", ["additive", "none"])
def test_the_loss_depends_on_the_source(attention):
    model = make(attention=attention).eval()
    full = batch()
    other = full._replace(src=full.src.flip(0), src_lengths=full.src_lengths.flip(0))
    assert (model.log_probs(full) - model.log_probs(other)).abs().max() > 1e-3


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("cell", CELL_NAMES)
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


@pytest.mark.parametrize("kind", TIE_NAMES)
def test_tied_embeddings_share_storage(kind):
    model = make(tie_embeddings=kind, shared=True)
    tgt = model.tgt_embedding.weight.data_ptr()
    assert (model.src_embedding.weight.data_ptr() == tgt) == (kind in ("inputs", "all"))
    assert (model.readout.logits.weight.data_ptr() == tgt) == (kind in ("output", "all"))
    untied = sum(parameter.numel() for parameter in make(shared=True).parameters())
    saved = {"none": 0, "inputs": 1, "output": 1, "all": 2}[kind] * TGT_SIZE * SMALL["embedding_size"]
    assert sum(parameter.numel() for parameter in model.parameters()) == untied - saved


@pytest.mark.parametrize("kind", TIE_NAMES)
def test_tied_embeddings_have_the_gradient_of_every_use(kind):
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
def test_tying_the_inputs_requires_a_shared_vocabulary(kind):
    message = (
        f"model.tie_embeddings={kind} requires one vocabulary, but tokenizer.shared is false; "
        "set tokenizer.shared=true, or model.tie_embeddings=output or none"
    )
    with pytest.raises(ValueError, match=message):
        make(tie_embeddings=kind)


# Options

BASE = {"encoder_layers": 2, "decoder_layers": 2, "dropout": 0.2}
OTHERS: dict[str, list] = {
    "encoder": ["hierarchical", "transformer"],
    "decoder": ["transformer"],
    "feedforward_size": [5],
    "cell": [cell for cell in CELL_NAMES if cell != "lstm"],
    "embedding_size": [7],
    "hidden_size": [10],
    "encoder_hidden_size": [10],
    "attention_size": [5],
    "encoder_layers": [1],
    "decoder_layers": [1],
    "bidirectional": [False],
    "residual": [True],
    "attention": [attention for attention in ATTENTION_NAMES if attention != "additive"],
    "heads": [2],
    "layer_norm": [True],
    "tie_embeddings": [kind for kind in TIE_NAMES if kind != "none"],
    "bridge": [kind for kind in BRIDGE_NAMES if kind != "linear"],
    "dropout": [0.0, 0.4],
    "embedding_dropout": [0.0, 0.4],
    "word_dropout": [0.3],
    "memory_dropout": [0.3],
    "dropout_kind": ["locked"],
    "recurrent_dropout": [0.3],
    "weight_drop": [0.3],
    "copy": [kind for kind in COPY_NAMES if kind != "none"],
    "copy_attention": ["separate"],
    "coverage": [kind for kind in COVERAGE_NAMES if kind != "none"],
}
NEEDED = {  # settings that an option requires
    "copy_attention": {"copy": "pointer"},
    "encoder": {"embedding_size": 8},
    "decoder": WIDE | {"encoder": "transformer"},
    "heads": {"attention": "multi_head"},
    "feedforward_size": WIDE | BOTH,
}


@pytest.mark.parametrize(
    ("names", "table"),
    [
        (ENCODER_NAMES, ENCODERS),
        (DECODER_NAMES, DECODERS),
        (CELL_NAMES, CELLS),
        (ATTENTION_NAMES, ATTENTIONS),
        (BRIDGE_NAMES, BRIDGES),
        (COPY_NAMES, ("none", *POINTERS)),
    ],
    ids=["encoder", "decoder", "cell", "attention", "bridge", "copy"],
)
def test_the_names_of_the_configuration_are_those_of_the_tables(names, table):
    missing, unknown = set(table) - set(names), set(names) - set(table)
    assert not missing, f"add {', '.join(sorted(missing))} to the names in seq2seq/config.py"
    assert not unknown, f"add {', '.join(sorted(unknown))} to the table in seq2seq/layers or seq2seq/model.py"


def test_every_option_is_tried():
    assert set(OTHERS) == {item.name for item in dataclasses.fields(ModelConfig)}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in OTHERS.items() for value in values])
def test_every_option_changes_the_loss(name, value):
    base = BASE | NEEDED.get(name, {})
    plain, other = make(shared=True, **base), make(shared=True, **(base | {name: value}))
    shapes = [{key: p.shape for key, p in model.named_parameters()} for model in (plain, other)]
    if shapes[0] == shapes[1]:  # then compare with the same parameters and random numbers
        other.load_state_dict(plain.state_dict())
    losses = []
    for model in (plain, other):
        spread(model)
        torch.manual_seed(2)
        losses.append(model(batch()).total)
    assert (losses[0] - losses[1]).abs() > 1e-5
    losses[1].backward()
    for key, gradient in gradients(other).items():
        assert gradient.abs().sum() > 0, key


@EVERY_COPY
def test_copying_and_coverage_only_add_parameters(options):
    """A model that copies and has coverage can therefore start with the weights of a plain model."""
    added = {"copy", "copy_attention", "coverage"}
    if options.get("decoder") == "transformer":
        added.add("attention")  # of the copy attention
    plain = make(**{key: value for key, value in options.items() if key not in added})
    model = make(**options)
    model.load_state_dict(plain.state_dict(), strict=False)
    if not added & set(options):
        return
    assert set(plain.state_dict()) < set(model.state_dict())
    if model.copies:
        return
    for parameter in model.decoder.attention.coverage_parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(model.eval().log_probs(batch()), plain.eval().log_probs(batch()))


def test_a_shared_copy_attention_is_the_default():
    named, default = make(copy="pointer", copy_attention="shared"), make(copy="pointer")
    assert named.state_dict().keys() == default.state_dict().keys()
    assert torch.equal(named.eval().log_probs(batch()), default.eval().log_probs(batch()))


@pytest.mark.parametrize("name", ["attention", "bridge"])
def test_kinds_without_parameters_differ_from_each_other(name):
    outcomes = []
    for value in ["none", "dot"] if name == "attention" else ["last", "zero"]:
        model = make(**{name: value})
        outcomes.append((model.state_dict(), model.eval().log_probs(batch())))
    (first, a), (second, b) = outcomes
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert (a - b).abs().max() > 1e-4


def test_sizes_are_those_of_the_named_parts():
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
        {"embedding_dropout": 0.5},
        {"word_dropout": 0.5},
        {"memory_dropout": 0.5},
        {"memory_dropout": 0.5, "dropout_kind": "locked"},
        {"recurrent_dropout": 0.5},
        {"weight_drop": 0.5},
    ],
)
def test_dropout_is_active_only_in_training(options):
    model, plain = make(**options), make()
    plain.load_state_dict(model.state_dict())
    expected = plain(batch()).total
    assert (model(batch()).total - expected).abs() > 1e-5
    assert torch.equal(model.eval()(batch()).total, expected)


def test_locked_dropout_on_embeddings_draws_one_mask_per_sentence():
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


def test_words_are_dropped_on_both_sides():
    model = make(word_dropout=0.5)
    seen = []
    model.word_dropout.register_forward_hook(lambda module, arguments, result: seen.append(result))
    model(batch())
    assert [dropped.shape[1] for dropped in seen] == [max(len(ids) + 1 for ids in rows) for rows in (SRC, TGT)]
    for dropped in seen:
        zeros = dropped == 0
        assert torch.equal(zeros.all(dim=2), zeros.any(dim=2))
        assert zeros.any()
        assert not zeros.all()


@pytest.mark.parametrize("attention", ["none", "dot", "general", "local_p"])
def test_an_attention_size_without_effect_is_refused(attention):
    message = (
        f"model.attention_size has no effect with model.attention={attention}; "
        "remove it, or set model.attention=additive, scaled_dot or multi_head"
    )
    with pytest.raises(ValueError, match=message):
        make(attention=attention, attention_size=5)


def test_heads_without_effect_are_refused():
    message = (
        "model.heads has no effect with model.attention=dot; remove it, or set model.attention=multi_head, "
        "or model.encoder or model.decoder to transformer"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make(attention="dot", heads=2)


@pytest.mark.parametrize("copy", ["none", "copynet"])
@pytest.mark.parametrize("copy_attention", ["shared", "separate"])
def test_a_copy_attention_without_a_pointer_is_refused(copy, copy_attention):
    message = f"model.copy_attention has no effect with model.copy={copy}; remove it, or set model.copy=pointer"
    with pytest.raises(ValueError, match=message):
        make(copy=copy, copy_attention=copy_attention)


@pytest.mark.parametrize("options", [{}, {"copy_attention": "separate"}])
def test_a_pointer_without_attention_is_refused(options):
    message = (
        "model.copy=pointer requires an attention, but model.attention is none; "
        "set model.attention=additive or model.copy=copynet"
    )
    with pytest.raises(ValueError, match=message):
        make(copy="pointer", attention="none", **options)


@pytest.mark.parametrize("coverage", ["sum", "fertility"])
def test_coverage_without_attention_is_refused(coverage):
    message = (
        f"model.coverage={coverage} requires an attention, but model.attention is none; "
        "set model.attention=additive or model.coverage=none"
    )
    with pytest.raises(ValueError, match=message):
        make(coverage=coverage, attention="none")


def refused(message: str, **options) -> None:
    """Check that a model with these options is refused with exactly this message."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make(**options)


def test_a_feedforward_size_without_a_transformer_is_refused():
    refused(
        "model.feedforward_size=7 has no effect with model.encoder=rnn and model.decoder=rnn; "
        "remove it, or set one of these to transformer",
        feedforward_size=7,
    )
    for side in ("encoder", "decoder"):
        make(**{"embedding_size": 8, side: "transformer", "feedforward_size": 7})


def test_sentences_with_a_transformer_decoder_are_refused():
    for options in ({}, {"copy": "pointer", "copy_attention": "separate"}, {"coverage": "sum"}):
        refused(
            "model.encoder=hierarchical re-scales the attention of a recurrent decoder, but model.decoder is transformer; "
            "set model.decoder=rnn, or model.encoder=rnn or transformer",
            **WIDE,
            **options,
            encoder="hierarchical",
            decoder="transformer",
        )
    refused(
        "model.feedforward_size=7 has no effect with model.encoder=hierarchical and model.decoder=rnn; "
        "remove it, or set one of these to transformer",
        encoder="hierarchical",
        feedforward_size=7,
    )
    message = "a hierarchical encoder requires Batch.segments; pass segments to collate"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make(encoder="hierarchical")(collate([[4]], [[4]], pad_id=PAD, bos_id=BOS, eos_id=EOS))


def test_residual_layers_of_a_hierarchical_encoder():
    """A sentence of one layer has none to add to."""
    refused(
        "model.residual requires more than one layer, but encoder and decoder have one each; "
        "set model.encoder_layers or model.decoder_layers above 1, or model.residual=false",
        encoder="hierarchical",
        residual=True,
    )
    model = make(encoder="hierarchical", encoder_layers=2, residual=True)
    other = make(encoder="hierarchical", encoder_layers=2)
    other.load_state_dict(model.state_dict())
    assert (model.log_probs(batch()) - other.log_probs(batch())).abs().max() > 1e-4


@pytest.mark.parametrize("options", [{}, {"copy": "pointer", "copy_attention": "separate", "coverage": "sum"}])
def test_a_document_of_one_sentence_equals_the_recurrent_encoder(options):
    """With the same weights, and a decoder that does not start from the encoder."""
    options = options | {"bridge": "zero", "encoder_layers": 2, "shared": True}
    flat, model = make(**options), make(**options, encoder="hierarchical")
    weights = {name.replace("encoder.", "encoder.words.", 1): weight for name, weight in flat.state_dict().items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert {name.split(".sentences")[0] for name in missing} <= {"encoder", "decoder.attention", "pointer.attention"}
    full = batch()
    one = full._replace(segments=torch.zeros_like(full.segments))
    torch.testing.assert_close(model.log_probs(one), flat.log_probs(one), rtol=1e-5, atol=1e-6)
    assert (model.log_probs(full) - flat.log_probs(full)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("cell", "gru", "gru"),
        ("residual", True, "true"),
        ("recurrent_dropout", 0.2, "0.2"),
        ("weight_drop", 0.1, "0.1"),
    ],
)
def test_settings_of_recurrent_layers_without_one_are_refused(name, value, text):
    options = WIDE | {name: value, "encoder_layers": 2, "decoder_layers": 2}
    refused(
        f"model.{name}={text} has no effect with model.encoder=transformer and model.decoder=transformer; "
        "remove it, or set one of these to rnn",
        **options,
        **BOTH,
    )
    for side in ("encoder", "decoder"):
        make(**options, **{side: "transformer"})


def test_one_direction_of_a_transformer_is_refused():
    message = (
        "model.bidirectional=false has no effect with model.encoder=transformer; remove it, or set model.encoder=rnn"
    )
    refused(message, **WIDE, encoder="transformer", bidirectional=False)
    make(**WIDE, decoder="transformer", bidirectional=False)


@pytest.mark.parametrize("bridge", ["linear", "last"])
def test_a_bridge_from_final_states_of_a_transformer_is_refused(bridge):
    refused(
        f"model.bridge={bridge} requires an encoder with final states, but model.encoder is transformer; "
        "set model.bridge=mean or zero, or model.encoder=rnn",
        **WIDE,
        encoder="transformer",
        bridge=bridge,
    )


@pytest.mark.parametrize("bridge", BRIDGE_NAMES)
def test_a_bridge_to_a_transformer_is_refused(bridge):
    message = f"model.bridge={bridge} has no effect with model.decoder=transformer; remove it, or set model.decoder=rnn"
    for encoder in ("rnn", "transformer") if bridge in ("mean", "zero") else ("rnn",):
        refused(message, **WIDE, encoder=encoder, decoder="transformer", bridge=bridge)


@pytest.mark.parametrize(("encoder", "kind"), [("rnn", "linear"), ("transformer", "mean")])
def test_the_default_bridge_is_linear_from_final_states_and_mean_without_them(encoder, kind):
    options = {"embedding_size": 8, "encoder": encoder}
    default, named = make(**options), make(**options, bridge=kind)
    assert type(default.decoder.bridge) is BRIDGES[kind]
    assert torch.equal(default.eval().log_probs(batch()), named.eval().log_probs(batch()))


@pytest.mark.parametrize("coverage", ["sum", "fertility"])
def test_coverage_of_a_transformer_is_refused(coverage):
    refused(
        f"model.coverage={coverage} requires a recurrence over the target steps, but model.decoder is transformer, "
        "which computes all steps at once; set model.coverage=none or model.decoder=rnn",
        **WIDE,
        decoder="transformer",
        coverage=coverage,
    )
    make(**WIDE, encoder="transformer", coverage=coverage)


@pytest.mark.parametrize("options", [{"attention": "general"}, {"attention": "none"}, {"attention_size": 5}])
def test_the_kind_of_attention_of_a_transformer_is_refused(options):
    ((name, value),) = options.items()
    refused(
        f"model.{name}={value} has no effect with model.decoder=transformer; "
        "remove it, or set model.decoder=rnn or model.copy_attention=separate",
        **WIDE,
        **options,
        decoder="transformer",
    )
    if value != "none":
        model = make(**WIDE, **options, decoder="transformer", copy="pointer", copy_attention="separate")
        assert model.pointer.attention.kind == options.get("attention", "additive")
    make(**WIDE, **options, encoder="transformer")


@pytest.mark.parametrize(
    ("side", "sizes", "key"),
    [
        ("decoder", {"hidden_size": 12}, "model.hidden_size"),
        ("encoder", {"hidden_size": 12}, "model.hidden_size"),
        ("encoder", {"encoder_hidden_size": 12}, "model.encoder_hidden_size"),
    ],
)
def test_another_width_than_that_of_the_embeddings_is_refused(side, sizes, key):
    refused(
        f"{key} must equal model.embedding_size=8 with model.{side}=transformer, whose layers add their outputs to the "
        "embeddings, but is 12; set both to the same number",
        **WIDE,
        **sizes,
        **{side: "transformer"},
    )


def test_heads_that_do_not_divide_the_width_are_refused():
    for side, sizes in (("decoder", {}), ("encoder", {}), ("encoder", {"encoder_hidden_size": 8, "hidden_size": 10})):
        key = "model.encoder_hidden_size" if sizes else "model.hidden_size"
        message = f"model.heads must divide the width of a Transformer, {key}=8, but is 3; change one of them"
        refused(message, embedding_size=8, heads=3, **sizes, **{side: "transformer"})


def test_the_default_width_of_feedforward_layers_is_four_times_that_of_the_layers():
    model = make(**WIDE, **BOTH)
    for layers in (model.encoder.layers, model.decoder.layers):
        assert layers[0].feedforward[0].weight.shape == (32, 8)
    assert make(**WIDE, **BOTH, feedforward_size=5).encoder.layers[0].feedforward[0].weight.shape == (5, 8)


def test_residual_with_one_layer_is_refused():
    with pytest.raises(
        ValueError, match=r"model.residual requires more than one layer, but encoder and decoder have one each"
    ):
        make(residual=True)
    make(residual=True, encoder_layers=2)
    make(residual=True, decoder_layers=2)
    for side, other in (("encoder", "decoder"), ("decoder", "encoder")):
        options = WIDE | {side: "transformer", f"{side}_layers": 2, "residual": True}
        refused(
            f"model.residual requires more than one layer, but the recurrent {other} has one; "
            f"set model.{other}_layers above 1, or model.residual=false",
            **options,
        )
        make(**options, **{f"{other}_layers": 2})


def test_locked_dropout_without_dropout_is_refused():
    message = "model.dropout_kind=locked has no effect with model.dropout=0; set model.dropout above 0"
    with pytest.raises(ValueError, match=message):
        make(dropout_kind="locked")


def test_dropout_of_an_unused_memory_is_refused():
    message = "model.memory_dropout has no effect with model.attention=none and model.copy=none"
    with pytest.raises(ValueError, match=message):
        make(attention="none", memory_dropout=0.3, dropout_kind="locked")
    make(attention="none", copy="copynet", memory_dropout=0.3)


def test_widths_that_do_not_fit_are_refused():
    with pytest.raises(
        ValueError, match=r"^model\.attention=dot requires encoder and decoder of the same width, .*; set model"
    ):
        make(attention="dot", encoder_hidden_size=10)
    with pytest.raises(
        ValueError, match=r"^model\.bridge=last requires encoder and decoder of the same width, .*; set model\."
    ):
        make(bridge="last", encoder_hidden_size=10)
    with pytest.raises(ValueError, match="must be even, but is 7"):
        make(encoder_hidden_size=7)


# Copying and coverage


@EVERY_COPY
def test_stepping_gives_the_probabilities_of_training_with_copying_and_coverage(options):
    model = make(decoder_layers=2, **options).eval()
    full = copied_batch() if model.copies else batch()
    found, decoding = stepped(model, full)
    assert found.isfinite().all()
    torch.testing.assert_close(found, model.log_probs(full), rtol=1e-5, atol=1e-5)
    assert decoding.size == (OOV + 2 if model.copies else OOV)


@EVERY_COPY
def test_padding_and_other_rows_change_nothing_with_copying_and_coverage(options):
    model = make(**options).eval()
    full = copied_batch() if model.copies else batch()
    together = model(full, coverage_weight=0.5)
    singles = [
        full._replace(
            src=full.src[row : row + 1, :length],
            src_lengths=full.src_lengths[row : row + 1],
            tgt_in=full.tgt_in[row : row + 1],
            tgt_out=full.tgt_out[row : row + 1],
            target_positions=full.target_positions[full.target_positions // full.tgt_in.shape[1] == row]
            - row * full.tgt_in.shape[1],
            copy_ids=full.copy_ids[row : row + 1, :length],
            segments=full.segments[row : row + 1, :length],
        )
        for row, length in enumerate(full.src_lengths.tolist())
    ]
    alone = torch.cat([model.log_probs(single) for single in singles])
    torch.testing.assert_close(model.log_probs(full), alone, rtol=1e-5, atol=1e-6)
    totals = sum(model(single, coverage_weight=0.5).total for single in singles)
    torch.testing.assert_close(together.total, totals)
    coverages = sum(model(single).coverage for single in singles)
    torch.testing.assert_close(together.coverage, coverages, rtol=1e-5, atol=1e-6)


@EVERY_COPY
def test_every_parameter_has_a_gradient_with_copying_and_coverage(options):
    model = make(**options)
    full = copied_batch() if model.copies else batch()
    model(full, smoothing=0.1, coverage_weight=0.5).total.backward()
    for name, gradient in gradients(model).items():
        assert gradient.isfinite().all(), name
        assert gradient.abs().sum() > 0, name


@EVERY_COPY
def test_accumulated_batches_give_the_gradient_of_the_large_one_with_copying_and_coverage(options):
    model = make(**options)
    model(batch(), smoothing=0.1, coverage_weight=0.5).total.backward()
    expected = gradients(model)
    model.zero_grad()
    for rows in ([0], [1, 2], [3]):
        model(batch(rows), smoothing=0.1, coverage_weight=0.5).total.backward()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("copy", ["pointer", "copynet"])
def test_the_copy_ids_decide_what_is_copied(copy):
    model = make(copy=copy).eval()
    full = batch()
    other = full._replace(copy_ids=torch.where(full.copy_ids == 5, 6, full.copy_ids))
    before, after = (model.step(full.tgt_in[:, 0], model.encode(some))[0].log_probs().exp() for some in (full, other))
    moved = before[0, 5] - after[0, 5]
    assert moved > 1e-3
    torch.testing.assert_close(after[0, 6] - before[0, 6], moved)
    torch.testing.assert_close(before[1:], after[1:])


@pytest.mark.parametrize("copy", ["pointer", "copynet"])
def test_an_oov_piece_is_embedded_as_unknown(copy):
    model = make(copy=copy).eval()
    full = copied_batch()
    same = full._replace(tgt_in=full.tgt_in.masked_fill(full.tgt_in >= OOV, UNK))
    assert not torch.equal(full.tgt_in, same.tgt_in)
    assert torch.equal(model.log_probs(full), model.log_probs(same))
    decoding = model.encode(full)
    copied, unknown = (model.step(torch.full((len(SRC),), token), decoding)[0].log_probs() for token in (OOV + 1, UNK))
    assert torch.equal(copied, unknown)


def test_copying_requires_the_target_ids_of_the_source():
    full = batch()
    with pytest.raises(ValueError, match=r"^a model that copies requires Batch.copy_ids; pass copy_ids to collate$"):
        make(copy="pointer").encode(full._replace(copy_ids=full.copy_ids[:, :0]))


def test_the_loss_includes_weighted_coverage_and_the_nll_does_not():
    model = make(coverage="sum").eval()
    losses = {weight: model(batch(), coverage_weight=weight) for weight in (0.0, 0.1, 1.0, 10.0)}
    plain = losses[0.0]
    torch.testing.assert_close(plain.total, plain.nll)
    assert plain.coverage > 0.1
    for weight, loss in losses.items():
        torch.testing.assert_close(loss.total, plain.total + weight * plain.coverage)
        assert torch.equal(loss.nll, plain.nll)
        assert torch.equal(loss.coverage, plain.coverage)
    assert make().eval()(batch()).coverage == 0


def test_the_coverage_loss_is_the_formula_of_see_over_real_tokens():
    model = make(coverage="sum").eval()
    full = batch()
    expected = torch.zeros(())
    for weights in model.provenance(full).weights.split([3, 6, 1, 2]):  # numbers of tokens of the sentences
        expected += weights.minimum(weights.cumsum(dim=0) - weights).sum()
    torch.testing.assert_close(model(full).coverage, expected)


# Provenance


@EVERY_COPY
def test_scoring_and_provenance_respect_the_limit_of_logits(options, monkeypatch):
    model = make(**options).eval()
    full = copied_batch() if model.copies else batch()
    log_probs, provenance = model.log_probs(full), model.provenance(full)
    made = []
    model.readout.logits.register_forward_hook(lambda *called: made.append(called[2].numel()))
    monkeypatch.setattr("seq2seq.model.MAX_LOGITS", 5 * TGT_SIZE + 1)
    torch.testing.assert_close(model.log_probs(full), log_probs)
    torch.testing.assert_close(model.provenance(full), provenance)
    once = [5 * TGT_SIZE] * (full.target_tokens // 5) + [full.target_tokens % 5 * TGT_SIZE]
    assert made == once * (2 if model.copies else 1)


@EVERY_COPY
def test_provenance_equals_that_of_single_steps(options):
    model = make(**options).eval()
    full = copied_batch() if model.copies else batch()
    told = model.provenance(full)
    decoding, weights = model.encode(full), []
    for t in range(full.tgt_in.shape[1]):
        _, decoding = model.step(full.tgt_in[:, t], decoding)
        weights.append(decoding.weights)
    expected = torch.stack(weights, dim=1).flatten(0, 1)[full.target_positions]
    torch.testing.assert_close(told.weights, expected)
    rows = full.target_positions // full.tgt_in.shape[1]
    real = torch.arange(full.src.shape[1]) < full.src_lengths.unsqueeze(1)
    assert not told.copied[~real[rows]].any()
    if not model.copies:
        assert (told.p_gen == 1).all()
        assert not told.copied.any()
        return
    target = full.tgt_out.flatten()[full.target_positions]
    held = full.copy_ids[rows] == target.unsqueeze(1)
    assert torch.equal(told.copied > 0, held)
    share = told.copied.sum(dim=1)
    assert (share <= 1 + 1e-5).all()
    own = target >= OOV
    torch.testing.assert_close(share[own], torch.ones(int(own.sum())))
    assert ((told.p_gen > 0) & (told.p_gen < 1)).all()
    if model.has_attention and options["copy"] == "pointer" and "copy_attention" not in options:
        # by hand: (1 - p_gen) a_i / P(w)
        by_hand = (1 - told.p_gen).unsqueeze(1) * told.weights / model.log_probs(full).exp().unsqueeze(1)
        torch.testing.assert_close(told.copied, by_hand * held)


# State of a search


@EVERY_COPY
def test_decoding_reorders_hypotheses_and_keeps_sentences(options):
    model = make(**options).eval()
    full = batch()
    _, decoding = model.step(full.tgt_in[:, 0], model.encode(full))
    rows = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])  # two hypotheses per sentence
    reordered = decoding.reorder(rows)
    assert reordered.memory is decoding.memory
    tensors = [tree_leaves(state) for state in (reordered.state, decoding.state)]
    assert all(torch.equal(a, b[rows]) for a, b in zip(*tensors, strict=True))
    sentences = torch.tensor([3, 1])
    kept = reordered.keep(sentences)
    assert kept.size == reordered.size == decoding.size
    memories = [[t for t in tree_leaves(memory) if t is not None] for memory in (kept.memory, decoding.memory)]
    assert all(torch.equal(a, b[sentences]) for a, b in zip(*memories, strict=True))
    tensors = [tree_leaves(state) for state in (kept.state, decoding.state)]
    assert all(torch.equal(a, b[[3, 3, 1, 1]]) for a, b in zip(*tensors, strict=True))


@EVERY_COPY
def test_hypotheses_of_a_sentence_share_its_memory(options):
    model = make(**options).eval()
    full = batch()
    _, decoding = model.step(full.tgt_in[:, 0], model.encode(full))
    rows, tokens = torch.arange(4).repeat_interleave(3), torch.arange(4, 16) % TGT_SIZE
    shared, state = model.step(tokens, decoding.reorder(rows))
    repeated = decoding._replace(memory=decoding.memory.select(rows), state=decoding.state.select(rows))
    expected, expected_state = model.step(tokens, repeated)
    torch.testing.assert_close(shared.log_probs(), expected.log_probs())
    torch.testing.assert_close(state.weights, expected_state.weights)


@EVERY_COPY
def test_probabilities_sum_to_one_after_sentences_have_left(options):
    model = make(**options).eval()
    full = batch()
    next_token, decoding = model.step(full.tgt_in[:, 0], model.encode(full))
    sentences = torch.tensor([2, 0])
    again, _ = model.step(full.tgt_in[:, 1], decoding)
    left, _ = model.step(full.tgt_in[sentences, 1], decoding.keep(sentences))
    assert left.log_probs().shape[1] == next_token.log_probs().shape[1]
    torch.testing.assert_close(left.log_probs(), again.log_probs()[sentences])
    torch.testing.assert_close(left.log_probs().exp().sum(dim=1), torch.ones(2), rtol=0, atol=1e-5)


def test_search_reads_the_weights_of_the_last_step_and_the_mask_of_pieces():
    model = make().eval()
    full = batch()
    decoding = model.encode(full)
    assert isinstance(decoding, Decoding)
    assert not decoding.weights.any()  # there is no previous step yet
    _, decoding = model.step(full.tgt_in[:, 0], decoding)
    torch.testing.assert_close(decoding.weights.sum(dim=1), torch.ones(len(SRC)))
    for row, source in enumerate(SRC):
        assert decoding.mask[row].tolist() == [place < len(source) for place in range(full.src.shape[1])]
        assert decoding.weights[row, len(source)] > 0  # the end of sentence is attended to, but it is not a piece
        assert not decoding.weights[row, len(source) + 1 :].any()


def test_copies():
    assert [make(copy=copy).copies for copy in COPY_NAMES] == [False, True, True]
    assert make(coverage="sum").vocab_size == TGT_SIZE


def test_has_attention():
    for attention in ATTENTION_NAMES:
        assert make(attention=attention).has_attention == (attention != "none")


def test_the_padding_embedding_is_zero():
    model = make()
    assert not model.src_embedding.weight[PAD].any()
    assert not model.tgt_embedding.weight[PAD].any()


@pytest.mark.gpu
def test_a_step_accepts_first_tokens_on_another_device():
    model = make().eval().to("cuda")
    full = batch().to(torch.device("cuda"))
    next_token, _ = model.step(torch.full((len(SRC),), BOS), model.encode(full))
    assert next_token.log_probs().device.type == "cuda"
