"""Every tensor of a training step and of a search step is on the device of the model; checked without a GPU.

The model is on the meta device of torch, whose tensors have no values. Fake tensors raise an error when such a tensor is
combined with one on the CPU. The tests run once with the code for the CPU and once with the code for a GPU.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from seq2seq.config import ModelConfig
from seq2seq.data.batching import Batch, collate
from seq2seq.layers.encoder import RecurrentEncoder
from seq2seq.layers.fast.encoder import FastRecurrence
from seq2seq.layers.hierarchical import SentenceLayout
from seq2seq.model import Decoding, Seq2Seq
from seq2seq.text.tokenizer import BOS, EOS, PAD

META = torch.device("meta")
V = 20
OOV = 3  # out-of-vocabulary source pieces
DROPOUTS = {
    "dropout_kind": "locked",
    "word_dropout": 0.2,
    "memory_dropout": 0.2,
    "recurrent_dropout": 0.2,
    "weight_drop": 0.2,
}


def build(copies: bool, **options: Any) -> tuple[Seq2Seq, Batch]:
    model = Seq2Seq(ModelConfig(embedding_size=8, hidden_size=8, **options), src_size=V, tgt_size=V, shared=True)
    copy_ids = [[4, 5, V + OOV - 1], [6, 7]] if copies else None
    ids: dict[str, Any] = {"pad_id": PAD, "bos_id": BOS, "eos_id": EOS}
    batch = collate([[4, 5, 6], [6, 7]], [[4, 5], [7, 8, 9]], copy_ids=copy_ids, segments=[[0, 1, 1], [0, 0]], **ids)
    moved = Batch(*(tensor.to(META) for tensor in batch))
    return model.to(META), moved._replace(src_lengths=batch.src_lengths, segments=batch.segments)


def _run_fast(encoder: RecurrentEncoder, layer: Any, sequence: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    values, final = FastRecurrence.apply(
        encoder.cell.fast, sequence, lengths.to(META), *encoder._weights(layer, len(sequence))
    )
    return values, final


@pytest.fixture(params=["cpu", "gpu"])
def branches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch, "autocast", lambda *args, **options: contextlib.nullcontext()
    )  # autocast does not support the meta device
    if request.param == "gpu":
        is_cuda = property(lambda tensor: tensor.device == META)
        monkeypatch.setattr(Tensor, "is_cuda", is_cuda, raising=False)
        monkeypatch.setattr(
            RecurrentEncoder, "_run_torch", _run_fast
        )  # the layers of cuDNN have no fake implementation


@pytest.mark.usefixtures("branches")
@pytest.mark.parametrize(
    ("layers", "dropouts"),
    [pytest.param(1, DROPOUTS, id="fused"), pytest.param(2, {}, id="by steps", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention": "none", "cell": "gru"},
        {"attention": "dot", "cell": "rnn_tanh", "bridge": "mean"},
        {"attention": "scaled_dot", "copy": "pointer", "copy_attention": "separate", "coverage": "sum"},
        {"attention": "general", "copy": "copynet", "coverage": "fertility", "cell": "gru"},
        {"copy": "pointer", "coverage": "fertility", "bridge": "last", "tie_embeddings": "all"},
        {"attention": "multi_head", "copy": "pointer", "coverage": "fertility", "layer_norm": True},
        {"attention": "local_p", "copy": "pointer", "coverage": "sum", "cell": "gru", "layer_norm": True},
        {"encoder": "transformer", "coverage": "sum"},
        {"decoder": "transformer", "copy": "pointer"},
        {"encoder": "hierarchical", "copy": "pointer", "copy_attention": "separate", "coverage": "fertility"},
    ],
    ids=str,
)
def test_all_tensors_are_on_the_device_of_the_model(
    options: dict[str, Any], layers: int, dropouts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if options.get("attention") == "none":
        dropouts = {name: value for name, value in dropouts.items() if name != "memory_dropout"}
    copies = "copy" in options
    model, batch = build(copies, **options, encoder_layers=layers, decoder_layers=layers, **dropouts)
    layout = SentenceLayout.of(batch.segments, batch.src_lengths)  # on the CPU; its sizes depend on values
    monkeypatch.setattr(SentenceLayout, "of", lambda segments, lengths: layout)
    with FakeTensorMode(allow_non_fake_inputs=True):
        loss = model(batch, smoothing=0.1, coverage_weight=1.0 if "coverage" in options else 0.0)
        loss.total.backward()
        model.eval()
        results = [loss.total, loss.nll, model.log_probs(batch), *model.provenance(batch)]
        step = model.decoder.search_step(model.tgt_embedding.weight)
        output = model._output_weights(in_bf16=False, has_few_rows=False)
        decoding = Decoding(*model._start(batch), V + OOV, step, output)
        for beam in (1, 2):
            next_token, decoding = model.step(torch.zeros(2 * beam, dtype=torch.long), decoding)
            results += [next_token.log_probs(), decoding.weights, decoding.mask]
            results += [
                *next_token.best(3, (1,)),
                next_token.at(torch.ones(2 * beam, 1, dtype=torch.long, device=META)),
            ]
            decoding = decoding.reorder(torch.ones(4, dtype=torch.long, device=META))
            decoding = decoding.keep(torch.ones(2, dtype=torch.long, device=META))
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert len(gradients) > 5
    assert {tensor.device for tensor in (*results, *gradients)} == {META}


@pytest.mark.usefixtures("branches")
def test_a_tensor_on_another_device_is_found() -> None:
    model, batch = build(copies=False)
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        pytest.raises(Exception, match="at least two devices, meta and cpu"),
    ):
        model(batch._replace(target_positions=torch.arange(7)))
