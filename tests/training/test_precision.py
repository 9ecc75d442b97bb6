"""Mixed precision: losses and gradients stay close to fp32, a run resumes, and a GPU trains in every precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_runs import assert_same_run, config_of, everything, metrics_of, write_corpus

from seq2seq.config import DECODER_NAMES, ModelConfig, TrainConfig
from seq2seq.data.batching import collate
from seq2seq.model import Seq2Seq
from seq2seq.text.tokenizer import BOS, EOS, PAD
from seq2seq.training.optimizer import make_optimizer
from seq2seq.training.precision import Precision
from seq2seq.training.train import train

CPU = torch.device("cpu")
MODELS = [
    {"cell": cell, "attention": attention, **extra}
    for cell, attention, extra in (
        ("lstm", "additive", {}),
        ("gru", "general", {"copy": "pointer", "coverage": "sum", "bridge": "last"}),
        ("rnn_tanh", "scaled_dot", {"copy": "copynet", "coverage": "fertility"}),
        ("rnn_relu", "dot", {"copy": "pointer", "copy_attention": "separate", "decoder_layers": 2}),
        ("lstm", "none", {"encoder_layers": 2, "weight_drop": 0.2}),
        (
            "lstm",
            "additive",
            {"encoder": "transformer", "decoder": "transformer", "decoder_layers": 2, "copy": "pointer"},
        ),
        ("gru", "additive", {"decoder": "transformer", "copy": "copynet"}),
        ("gru", "general", {"encoder": "transformer", "coverage": "sum"}),
        ("gru", "additive", {"encoder": "hierarchical", "copy": "pointer", "coverage": "sum"}),
    )
]


@pytest.mark.parametrize("settings", MODELS, ids=lambda settings: "-".join(map(str, settings.values())))
def test_half_precision_gives_nearly_the_same_loss_and_gradient(settings: dict[str, str]) -> None:
    torch.manual_seed(1)
    config = ModelConfig(embedding_size=32, hidden_size=32, dropout=0.0, **settings)  # type: ignore[arg-type]
    model = Seq2Seq(config, src_size=50, tgt_size=50, shared=True)
    src = [[4, 5, 6, 7, 8], [9, 10], [11] * 7]
    batch = collate(
        src,
        [[7, 8], [12, 13, 14], [4] * 5],
        pad_id=0,
        bos_id=2,
        eos_id=3,
        copy_ids=src if model.copies else None,
        segments=[[0, 0, 1, 1, 1], [0, 1], [0] * 7],
    )
    losses, gradients = [], []
    for name in ("fp32", "bf16"):
        model.zero_grad()
        with Precision(name, CPU).autocast():
            loss = model(batch, smoothing=0.1, coverage_weight=0.0 if config.coverage == "none" else 1.0)
        loss.total.backward()
        assert loss.total.dtype == loss.nll.dtype == torch.float32
        losses.append(loss.total.item())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert losses[0] != losses[1], "bf16 has an effect"
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.99


@pytest.mark.parametrize("decoder", DECODER_NAMES)
def test_log_probabilities_are_fp32_and_sum_to_one_in_half_precision(decoder: str) -> None:
    torch.manual_seed(1)
    config = ModelConfig(embedding_size=32, hidden_size=32, decoder=decoder)
    model = Seq2Seq(config, src_size=50, tgt_size=50, shared=True).eval()
    with torch.no_grad(), Precision("bf16", CPU).autocast():
        decoding = model.encode(collate([[4, 5]], [[]], pad_id=PAD, bos_id=BOS, eos_id=EOS))
        next_token, decoding = model.step(torch.tensor([BOS]), decoding)
    log_probs = next_token.log_probs()
    assert log_probs.dtype == decoding.state.log_weights.dtype == torch.float32
    assert log_probs.exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert decoding.weights.sum().item() == pytest.approx(1, abs=1e-5)


def test_exact_resume_in_half_precision(tmp_path: Path) -> None:
    write_corpus(tmp_path, pairs=160)
    bf16 = {"train.precision": "bf16"}
    unbroken, broken = everything(tmp_path, "unbroken", **bf16), everything(tmp_path, "broken", **bf16)
    train(unbroken)
    broken.train.max_updates = 5
    train(broken)
    broken.train.max_updates = unbroken.train.max_updates
    train(broken)
    assert_same_run(unbroken, broken)


def test_a_skipped_update_differs_from_a_failure() -> None:
    precision = Precision("fp32", CPU)
    assert not precision.can_skip()
    for scale, skips in ((4.0, True), (1.0, False)):
        precision.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        assert precision.can_skip() is skips


def test_tf32_is_restricted_to_the_updates_of_a_gpu() -> None:
    assert torch.get_float32_matmul_precision() == "highest"
    with Precision("fp32", CPU).tf32():
        assert torch.get_float32_matmul_precision() == "highest"
    gpu = Precision("fp32", torch.device("cuda"))
    assert torch.get_float32_matmul_precision() == "highest"
    inside = []
    with pytest.raises(KeyError), gpu.tf32():
        {}[inside.append(torch.get_float32_matmul_precision())]
    assert inside == ["high"]
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
@pytest.mark.parametrize("settings", MODELS, ids=lambda settings: "-".join(map(str, settings.values())))
def test_nothing_inside_an_update_waits_for_the_gpu(settings: dict[str, str]) -> None:
    config = ModelConfig(embedding_size=32, hidden_size=32, **settings)  # type: ignore[arg-type]
    model = Seq2Seq(config, src_size=50, tgt_size=50, shared=True).cuda()
    src = [[11] * 7, [4, 5, 6, 7, 8], [9, 10]]
    batch = collate(
        src,
        [[4] * 5, [7, 8], [12, 13]],
        pad_id=0,
        bos_id=2,
        eos_id=3,
        copy_ids=src if model.copies else None,
        segments=[[0] * 7, [0, 0, 1, 1, 1], [0, 1]],
    )
    optimizer = make_optimizer(TrainConfig(), model)
    for mode in ("default", "error"):  # the first pass initialises libraries
        torch.cuda.set_sync_debug_mode(mode)
        try:
            with Precision("bf16", model.device).autocast():
                loss = model(batch.to(model.device), smoothing=0.1)
            loss.total.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_a_gpu_trains_in_every_precision_and_resumes(tmp_path: Path, name: str) -> None:
    write_corpus(tmp_path, pairs=160)
    gpu = {"train.precision": name, "train.device": "cuda", "train.max_updates": 60, "train.log_every": 10}
    config = config_of(tmp_path, "run", **gpu)
    config.train.max_updates = 30
    train(config)
    config.train.max_updates = 60
    train(config)
    losses = [line["loss"] for line in metrics_of(config) if "loss" in line]
    assert len(losses) == 6
    assert losses[-1] < 0.9 * losses[0]
