"""The workload of the benchmarks: a model, random batches, training updates, and the plain path for comparison."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from seq2seq.config import ModelConfig, TrainConfig
from seq2seq.data.batching import Batch, collate
from seq2seq.model import Seq2Seq
from seq2seq.text.tokenizer import BOS, EOS, PAD
from seq2seq.training.optimizer import make_optimizer
from seq2seq.training.precision import Precision

KINDS: dict[str, dict[str, Any]] = {"plain": {}, "copy": {"copy": "pointer", "coverage": "sum"}}


class Size(NamedTuple):
    """The sizes of a model with LSTM cells and additive attention."""

    hidden: int
    embedding: int = 256
    layers: int = 1  # in the encoder and in the decoder
    vocabulary: int = 8000


def make_model(kind: str, size: Size, encoder: str = "rnn") -> Seq2Seq:
    """Make a model with random weights, the same at every call."""
    torch.manual_seed(1)
    config = ModelConfig(
        encoder=encoder,
        hidden_size=size.hidden,
        embedding_size=size.embedding,
        encoder_layers=size.layers,
        decoder_layers=size.layers,
        tie_embeddings="inputs",
        **KINDS[kind],
    )
    return Seq2Seq(config, src_size=size.vocabulary, tgt_size=size.vocabulary, shared=True)


def make_batch(
    src_lengths: Sequence[int], tgt_lengths: Sequence[int], *, kind: str, vocabulary: int, sentence: int = 20
) -> Batch:
    """Make a batch of random ids, the same at every call. The lengths do not count the end of sentence.

    Args:
        sentence: the number of pieces of each sentence of the sources, for an encoder that reads sentences.
    """
    numbers = np.random.default_rng(1)
    src, tgt = (
        [numbers.integers(EOS + 1, vocabulary, length).tolist() for length in lengths]
        for lengths in (src_lengths, tgt_lengths)
    )
    segments = [[place // sentence for place in range(length)] for length in src_lengths]
    copy_ids = src if kind == "copy" else None
    return collate(src, tgt, pad_id=PAD, bos_id=BOS, eos_id=EOS, copy_ids=copy_ids, segments=segments)


class Updates:
    """Makes complete updates of a model, as the trainer does: forward, backward, clipping, Adam."""

    def __init__(self, model: Seq2Seq, device: str = "cpu", precision: str = "fp32") -> None:
        self.model = model.to(device)
        self.precision = Precision(precision, model.device)
        self.optimizer = make_optimizer(TrainConfig(), model)

    def make(self, batches: Sequence[Batch]) -> float:
        """Make one update for each batch and return the seconds that all of them took."""
        covers = self.model.decoder.coverage != "none"
        scaler = self.precision.scaler
        started = self._now()
        for batch in batches:
            self.optimizer.zero_grad(set_to_none=True)
            with self.precision.tf32():
                with self.precision.autocast():
                    loss = self.model(
                        batch.to(self.model.device), smoothing=0.1, coverage_weight=1.0 if covers else 0.0
                    )
                scaler.scale(loss.total / loss.tokens).backward()
            scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
            scaler.step(self.optimizer)
            scaler.update()
        return self._now() - started

    def speed(self, batches: Sequence[Batch]) -> float:
        """Make one update for each batch and return the target tokens per second."""
        return sum(batch.target_tokens for batch in batches) / self.make(batches)

    def _now(self) -> float:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()
