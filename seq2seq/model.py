"""The model: encode a source, forward a known target for training, step for search."""

from __future__ import annotations

import math
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from seq2seq.batching import Batch
from seq2seq.config import ModelConfig
from seq2seq.layers.attention import Memory, NoAttention, make_attention
from seq2seq.layers.cells import StackedCell, uniform_
from seq2seq.layers.decoder import Bridge, Decoder, DecoderState, Readout
from seq2seq.layers.dropout import SequenceDropout
from seq2seq.layers.encoder import Encoder
from seq2seq.loss import Loss, smoothed_nll
from seq2seq.tokenizer import BOS, PAD


EMBEDDING_STD = 0.5  # with 1/sqrt(E), a small model spends its first epochs on making them larger


class Decoding(NamedTuple):
    """What search carries: what is constant per sentence, and what changes with every token."""

    memory: Memory
    state: DecoderState

    @property
    def weights(self) -> Tensor:
        """Where the last step looked among the source's pieces: (N, S); its end of sentence counts as padding."""
        mask = self.memory.mask
        inner = torch.cat((mask[:, 1:], torch.zeros_like(mask[:, :1])), dim=1)
        return self.state.weights * inner

    def reorder(self, rows: Tensor) -> Decoding:
        """Rows change places within their sentences: the memory stays."""
        return Decoding(self.memory, self.state.select(rows))

    def select(self, rows: Tensor) -> Decoding:
        """Any rows, repeated or left out."""
        return Decoding(self.memory.select(rows), self.state.select(rows))


class _Recurrent(TypedDict):
    """What encoder and decoder stack have in common."""

    dropout: float
    locked: bool
    recurrent_dropout: float
    weight_drop: float
    residual: bool


class Seq2Seq(nn.Module):
    """Recurrent encoder, attention decoder.

    Args:
        config: sizes and kinds.
        src_size, tgt_size: vocabulary sizes; with ``shared`` they are one vocabulary.

    Raises:
        ValueError: settings that contradict each other, with the key to change.
    """

    def __init__(self, config: ModelConfig, *, src_size: int, tgt_size: int, shared: bool) -> None:
        super().__init__()
        _check(config, shared)
        memory_size = config.encoder_hidden_size or config.hidden_size
        locked = config.dropout_kind == "locked"
        recurrent = _Recurrent(
            dropout=config.dropout,
            locked=locked,
            recurrent_dropout=config.recurrent_dropout,
            weight_drop=config.weight_drop,
            residual=config.residual,
        )
        self.src_embedding = _embedding(src_size, config.embedding_size, std=EMBEDDING_STD)
        tied = config.tie_embeddings in ("output", "all")
        std = 1 / math.sqrt(config.embedding_size) if tied else EMBEDDING_STD  # logits of variance 1 at most
        self.tgt_embedding = _embedding(tgt_size, config.embedding_size, std=std)
        embedding_dropout = config.dropout if config.embedding_dropout is None else config.embedding_dropout
        self.embedding_dropout = SequenceDropout(embedding_dropout, locked=locked)
        self.encoder = Encoder(
            config.cell,
            input_size=config.embedding_size,
            hidden_size=memory_size,
            num_layers=config.encoder_layers,
            bidirectional=config.bidirectional,
            **recurrent,
        )
        stack = StackedCell(
            config.cell,
            input_size=config.embedding_size,
            hidden_size=config.hidden_size,
            num_layers=config.decoder_layers,
            **recurrent,
        )
        attention = make_attention(
            config.attention,
            query_size=config.hidden_size,
            memory_size=memory_size,
            attention_size=config.attention_size or config.hidden_size,
        )
        self.bridge = Bridge(
            config.bridge,
            stack=stack,
            num_layers=config.decoder_layers,
            memory_size=memory_size,
            direction_size=self.encoder.direction_size,
            parts=stack.cell.parts,
        )
        self.decoder = Decoder(stack, attention, memory_size=memory_size)
        self.readout = Readout(
            output_size=config.hidden_size,
            memory_size=memory_size,
            embedding_size=config.embedding_size,
            vocab_size=tgt_size,
            banned=(PAD, BOS),
            dropout=config.dropout,
            locked=locked,
        )
        if tied:
            self.readout.logits.weight = self.tgt_embedding.weight
        if config.tie_embeddings in ("inputs", "all"):
            self.src_embedding.weight = self.tgt_embedding.weight

    @property
    def has_attention(self) -> bool:
        """Whether the steps' weights say where the model looked."""
        return not isinstance(self.decoder.attention, NoAttention)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.src_embedding.weight.device

    def encode(self, src: Tensor, lengths: Tensor) -> Decoding:
        """Read sources: ids (B, S), lengths (B,) on the CPU -> memory and the state before the first token."""
        encoded = self.encoder(self.embedding_dropout(self.src_embedding(src)), lengths)
        top = encoded.final[:, -1, :, : self.encoder.direction_size]  # (B, D, M/D)
        memory = Memory(encoded.values, self.decoder.attention.keys(encoded.values), encoded.mask, top.flatten(1))
        return Decoding(memory, self.decoder.start(self.bridge(encoded), memory))

    def logits(self, batch: Batch) -> Tensor:
        """Teacher-forced logits at the real target positions: (R, V)."""
        memory, state = self.encode(batch.src, batch.src_lengths)
        embedded = self.embedding_dropout(self.tgt_embedding(batch.tgt_in))
        trace = self.decoder.unroll(embedded, state, memory)
        features = self.readout.features(trace.outputs, trace.contexts)
        # (B, T, E) -> (R, E): padding never reaches the output layer
        return self.readout(features.flatten(0, 1).index_select(0, batch.real))

    def forward(self, batch: Batch, *, smoothing: float = 0.0) -> Loss:
        """The loss of a batch, summed over its target tokens."""
        target = batch.tgt_out.flatten().index_select(0, batch.real)
        return smoothed_nll(self.logits(batch), target, banned=self.readout.banned, smoothing=smoothing)

    def log_probs(self, batch: Batch) -> Tensor:
        """Natural log-probability of every real target token: (R,), in fp32, sentence after sentence."""
        target = batch.tgt_out.flatten().index_select(0, batch.real)
        logits = self.logits(batch).float()
        return logits.gather(1, target.unsqueeze(1)).squeeze(1) - torch.logsumexp(logits, dim=-1)

    def step(self, tokens: Tensor, decoding: Decoding) -> tuple[Tensor, Decoding]:
        """Extend by one token: last tokens (N,) -> natural log-probabilities of the next (N, V), and the new state.

        What is never produced has minus infinity: even a beam wider than the vocabulary must not take it.
        """
        memory, state = decoding
        tokens = tokens.to(self.device)  # search does not know where the model is before its first answer
        embedded = self.tgt_embedding(tokens)
        prepared = self.decoder.stack.prepare(tokens.shape[0])
        gates = self.decoder.stack.project(embedded)
        output, state = self.decoder.step(gates, state, memory, prepared)
        features = self.readout.features(output, state.context)
        log_probs = torch.log_softmax(self.readout(features).float(), dim=-1)
        return log_probs.index_fill(-1, self.readout.banned, -float("inf")), Decoding(memory, state)


def _embedding(size: int, width: int, *, std: float) -> nn.Embedding:
    embedding = nn.Embedding(size, width, padding_idx=PAD)
    uniform_(embedding.weight, std)
    with torch.no_grad():
        embedding.weight[PAD].zero_()
    return embedding


def _check(config: ModelConfig, shared: bool) -> None:
    """Refuse what cannot act."""
    if config.tie_embeddings in ("inputs", "all") and not shared:
        raise ValueError(
            f"model.tie_embeddings={config.tie_embeddings} needs one vocabulary, but tokenizer.shared is false; "
            "set tokenizer.shared=true, or model.tie_embeddings=output or none"
        )
    if config.attention_size is not None and config.attention not in ("additive", "scaled_dot"):
        raise ValueError(
            f"model.attention_size has no effect with model.attention={config.attention}; "
            "leave it out, or set model.attention=additive or scaled_dot"
        )
    if config.residual and max(config.encoder_layers, config.decoder_layers) == 1:
        raise ValueError(
            "model.residual joins layers, but encoder and decoder have one each; "
            "set model.encoder_layers or model.decoder_layers above 1, or model.residual=false"
        )
    if config.dropout == 0 and not config.embedding_dropout and config.dropout_kind == "locked":
        raise ValueError("model.dropout_kind=locked has no effect with model.dropout=0; set model.dropout above 0")
