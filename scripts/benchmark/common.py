"""What the benchmarks share: a model, random batches, an update, and the plain path to compare with."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch

from seq2seq.config import ModelConfig, TrainConfig
from seq2seq.data.batching import Batch, collate
from seq2seq.layers.decoder import Decoder
from seq2seq.layers.distribution import Distribution
from seq2seq.loss import Loss, coverage_loss, smoothed_nll, total_loss
from seq2seq.model import Seq2Seq
from seq2seq.text.tokenizer import BOS, EOS, PAD
from seq2seq.training.optimizer import make_optimizer
from seq2seq.training.precision import Precision

KINDS: dict[str, dict[str, Any]] = {"plain": {}, "copy": {"copy": "pointer", "coverage": "sum"}}


class Size(NamedTuple):
    """Of a model with LSTM cells and additive attention."""

    hidden: int
    embedding: int = 256
    layers: int = 1  # of the encoder, and of the decoder
    vocabulary: int = 8000


def make_model(kind: str, size: Size) -> Seq2Seq:
    """A new model with random weights, always the same."""
    torch.manual_seed(1)
    config = ModelConfig(
        hidden_size=size.hidden,
        embedding_size=size.embedding,
        encoder_layers=size.layers,
        decoder_layers=size.layers,
        tie_embeddings="inputs",
        **KINDS[kind],
    )
    return Seq2Seq(config, src_size=size.vocabulary, tgt_size=size.vocabulary, shared=True)


def make_batch(src_lengths: Sequence[int], tgt_lengths: Sequence[int], *, kind: str, vocabulary: int) -> Batch:
    """Random ids, the same at every call; lengths without the end of sentence."""
    numbers = np.random.default_rng(1)
    src, tgt = (
        [numbers.integers(EOS + 1, vocabulary, length).tolist() for length in lengths]
        for lengths in (src_lengths, tgt_lengths)
    )
    return collate(src, tgt, pad_id=PAD, bos_id=BOS, eos_id=EOS, copy_ids=src if kind == "copy" else None)


class Updates:
    """Whole updates of a model as the trainer makes them: forward, backward, clipping, Adam."""

    def __init__(self, model: Seq2Seq, device: str = "cpu", precision: str = "fp32") -> None:
        self.model = model.to(device)
        self.precision = Precision(precision, model.device)
        self.optimizer = make_optimizer(TrainConfig(), model)

    def make(self, batches: Sequence[Batch]) -> float:
        """One update a batch; the seconds they took."""
        covers = self.model.decoder.attention.coverage != "none"
        scaler = self.precision.scaler
        started = self._now()
        for batch in batches:
            self.optimizer.zero_grad(set_to_none=True)
            with self.precision.autocast():
                loss = self.model(batch.to(self.model.device), smoothing=0.1, coverage_weight=1.0 if covers else 0.0)
            scaler.scale(loss.total / loss.tokens).backward()
            scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
            scaler.step(self.optimizer)
            scaler.update()
        return self._now() - started

    def speed(self, batches: Sequence[Batch]) -> float:
        """Target tokens a second."""
        return sum(batch.target_tokens for batch in batches) / self.make(batches)

    def _now(self) -> float:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


@contextmanager
def by_steps() -> Iterator[None]:
    """The plain path: unrolled step by step, all logits at once."""

    def forward(self: Seq2Seq, batch: Batch, *, smoothing: float = 0.0, coverage_weight: float = 0.0) -> Loss:
        forced = self._force(batch)
        distribution = Distribution(self.readout(forced.features), self.readout.banned, forced.copying)
        smoothed, nll = smoothed_nll(distribution.target(forced.target), smoothing)
        coverage = forced.features.new_zeros(0)
        if coverage_weight:
            coverage = coverage_loss(forced.trace.log_weights.exp(), forced.memory.fertility).flatten()
            coverage = coverage.index_select(0, batch.target_positions)
        return total_loss(smoothed, nll, coverage, coverage_weight=coverage_weight, tokens=batch.target_tokens)

    with mock.patch.object(Decoder, "fuses", False), mock.patch.object(Seq2Seq, "forward", forward):
        yield


def machine() -> dict[str, object]:
    """What figures depend on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"torch": torch.__version__, "machine": platform.machine(), "threads": torch.get_num_threads(), "gpu": gpu}
