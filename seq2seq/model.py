"""The model: encode a source, forward a known target for training, step for search."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from seq2seq.config import ModelConfig, check_model
from seq2seq.data.batching import Batch
from seq2seq.layers.attention import MASKED, Attention, Memory, NoAttention, make_attention
from seq2seq.layers.cells import StackedCell, uniform_
from seq2seq.layers.decoder import Bridge, Decoder, DecoderState, Readout, Trace
from seq2seq.layers.distribution import Copying, Distribution, TargetProb
from seq2seq.layers.dropout import SequenceDropout, WordDropout
from seq2seq.layers.encoder import Encoder
from seq2seq.layers.fast.output import ROOM, output_loss
from seq2seq.layers.pointer import CopyNet, Pointer
from seq2seq.loss import Loss, coverage_loss, total_loss
from seq2seq.text.tokenizer import BOS, PAD, UNK


class Decoding(NamedTuple):
    """What search carries: what is constant per sentence, and what changes with every token."""

    memory: Memory
    state: DecoderState
    size: int  # of the extended vocabulary

    @property
    def weights(self) -> Tensor:
        """Where the last step looked: (N, S)."""
        return self.state.log_weights.exp()

    @property
    def mask(self) -> Tensor:
        """What is a piece of the source: (N, S), neither padding nor its end of sentence."""
        real = self.memory.mask
        return torch.cat((real[:, 1:], torch.zeros_like(real[:, :1])), dim=1)

    def reorder(self, rows: Tensor) -> Decoding:
        """Rows change places within their sentences: the memory stays."""
        return self._replace(state=self.state.select(rows))

    def select(self, rows: Tensor) -> Decoding:
        """Any rows, repeated or left out."""
        return self._replace(memory=self.memory.select(rows), state=self.state.select(rows))


class Provenance(NamedTuple):
    """Where each real target token of a batch came from, sentence after sentence."""

    weights: Tensor  # (R, S), where the model looked
    p_gen: Tensor  # (R,), probability of generating; 1 without copying
    copied: Tensor  # (R, S), the share of the token's probability that copying each place brought


def copied_places(copied: Tensor) -> list[int | None]:
    """The place that each token was copied from, where copying brought most of its probability: (R, S) shares."""
    shares, places = copied.sum(dim=1).tolist(), copied.argmax(dim=1).tolist()
    return [place if share > 0.5 else None for share, place in zip(shares, places, strict=True)]


class _Forced(NamedTuple):
    """A batch read and unrolled over its known target."""

    memory: Memory
    trace: Trace
    features: Tensor  # (R, E), what the output layer sees
    target: Tensor  # (R,)
    copying: Copying | None


class _Recurrent(TypedDict):
    """What encoder and decoder stack have in common."""

    dropout: float
    locked: bool
    recurrent_dropout: float
    weight_drop: float
    residual: bool


class _Sizes(TypedDict):
    """Of an attention."""

    query_size: int
    memory_size: int
    attention_size: int


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
        check_model(config, shared=shared)
        memory_size = config.encoder_hidden_size or config.hidden_size
        locked = config.dropout_kind == "locked"
        recurrent = _Recurrent(
            dropout=config.dropout,
            locked=locked,
            recurrent_dropout=config.recurrent_dropout,
            weight_drop=config.weight_drop,
            residual=config.residual,
        )
        self.src_embedding = _embedding(src_size, config.embedding_size)
        self.tgt_embedding = _embedding(tgt_size, config.embedding_size)
        embedding_dropout = config.dropout if config.embedding_dropout is None else config.embedding_dropout
        self.embedding_dropout = SequenceDropout(embedding_dropout, locked=locked)
        self.word_dropout = WordDropout(config.word_dropout)
        self.memory_dropout = SequenceDropout(config.memory_dropout, locked=locked)
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
        sizes = _Sizes(
            query_size=config.hidden_size,
            memory_size=memory_size,
            attention_size=config.attention_size or config.hidden_size,
        )
        attention = make_attention(config.attention, **sizes, coverage=config.coverage)
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
        self.pointer: Pointer | CopyNet | None = None
        if config.copy == "pointer":
            own = make_attention(config.attention, **sizes) if config.copy_attention == "separate" else None
            assert own is None or isinstance(own, Attention)
            self.pointer = Pointer(
                output_size=config.hidden_size,
                memory_size=memory_size,
                embedding_size=config.embedding_size,
                attention=own,
            )
        elif config.copy == "copynet":
            self.pointer = CopyNet(output_size=config.hidden_size, memory_size=memory_size)
        self.passed: Callable[[str, Tensor], None] = _unwatched
        if config.tie_embeddings in ("output", "all"):
            self.readout.logits.weight = self.tgt_embedding.weight
        if config.tie_embeddings in ("inputs", "all"):
            self.src_embedding.weight = self.tgt_embedding.weight

    @property
    def has_attention(self) -> bool:
        """Whether the steps' weights say where the model looked."""
        return not isinstance(self.decoder.attention, NoAttention)

    @property
    def vocab_size(self) -> int:
        """V of the target side."""
        return self.tgt_embedding.num_embeddings

    @property
    def copies(self) -> bool:
        """Whether source pieces can be copied, so that batches must hold their target ids."""
        return self.pointer is not None

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.src_embedding.weight.device

    def encode(self, src: Tensor, lengths: Tensor, copy_ids: Tensor | None = None) -> Decoding:
        """Read sources, for search.

        Args:
            src: ids (B, S).
            lengths: (B,), on the CPU.
            copy_ids: (B, S), the target ids of the pieces; needed for copying alone.

        Returns:
            The memory and the state before the first token.
        """
        size = self.vocab_size if copy_ids is None else max(self.vocab_size, int(copy_ids.max()) + 1)
        return Decoding(*self._read(src, lengths, copy_ids), size)

    def forward(self, batch: Batch, *, smoothing: float = 0.0, coverage_weight: float = 0.0) -> Loss:
        """The loss of a batch, summed over its target tokens."""
        forced = self._force(batch)
        coverage = forced.features.new_zeros(0)
        if self.decoder.attention.coverage != "none":
            coverage = coverage_loss(forced.trace.log_weights.exp(), forced.memory.fertility)
            coverage = coverage.flatten().index_select(0, batch.target_positions)
        smoothed, nll = output_loss(
            self.readout.logits,
            forced.features,
            forced.target,
            forced.copying,
            banned=self.readout.banned,
            smoothing=smoothing,
        )
        return total_loss(smoothed, nll, coverage, coverage_weight=coverage_weight, tokens=batch.target_tokens)

    def log_probs(self, batch: Batch) -> Tensor:
        """Natural log-probability of every real target token: (R,), in fp32, sentence after sentence."""
        return self._found(self._force(batch)).log_prob

    def provenance(self, batch: Batch) -> Provenance:
        """Tell where every real target token came from."""
        forced = self._force(batch)
        weights = forced.trace.log_weights.exp()
        weights = weights.flatten(0, 1).index_select(0, batch.target_positions)
        copying = forced.copying
        if copying is None:  # then nothing depends on the output layer
            return Provenance(weights, torch.ones_like(weights[:, 0]), torch.zeros_like(weights))
        found = self._found(forced)
        route = found.route
        assert route is not None
        energies = copying.energies.masked_fill(copying.ids != forced.target.unsqueeze(1), MASKED)
        share = (route.copied - found.log_prob).exp().unsqueeze(1)
        copied = torch.where((route.copied > -math.inf).unsqueeze(1), share * energies.softmax(dim=1), 0.0)
        return Provenance(weights, torch.sigmoid(route.gate), copied)

    def step(self, tokens: Tensor, decoding: Decoding) -> tuple[Tensor, Decoding]:
        """Extend by one token: last tokens (N,) -> natural log-probabilities of the next (N, size), and the new state.

        What is never produced has minus infinity: even a beam wider than the vocabulary must not take it.
        """
        memory, state, size = decoding
        tokens = tokens.to(self.device)  # search does not know where the model is before its first answer
        embedded = self._embed_target(tokens)
        prepared = self.decoder.stack.prepare(tokens.shape[0])
        gates = self.decoder.stack.project(embedded)
        output, state = self.decoder.step(gates, state, memory, prepared)
        copying = None
        if self.pointer is not None:
            gate, energies = self.pointer(
                output.unsqueeze(1),
                state.context.unsqueeze(1),
                embedded.unsqueeze(1),
                state.log_weights.unsqueeze(1),
                memory,
            )
            copying = Copying(None if gate is None else gate.squeeze(1), energies.squeeze(1), memory.copy_ids)
        logits = self.readout(self.readout.features(output, state.context))
        log_probs = Distribution(logits, self.readout.banned, copying).log_probs(size)
        return log_probs, Decoding(memory, state, size)

    def _read(self, src: Tensor, lengths: Tensor, copy_ids: Tensor | None) -> tuple[Memory, DecoderState]:
        """The memory and the state before the first token."""
        encoded = self.encoder(self._drop(self.src_embedding(src)), lengths)
        values, attention = self.memory_dropout(encoded.values), self.decoder.attention
        top = encoded.final[:, -1, :, : self.encoder.direction_size]  # (B, D, M/D)
        copy_keys, nothing = values[:, :, :0], src[:, :0]
        if self.pointer is not None:
            assert copy_ids is not None, "copying needs the target ids of the source"
            copy_keys = self.pointer.keys(values)
        memory = Memory(
            values=values,
            keys=attention.keys(values),
            mask=encoded.mask,
            summary=top.flatten(1),
            fertility=attention.fertility(values),
            copy_keys=copy_keys,
            copy_ids=nothing if copy_ids is None else copy_ids,
        )
        return memory, self.decoder.start(self.bridge(encoded), memory)

    def _force(self, batch: Batch) -> _Forced:
        """Unroll over the known target, and pick its real tokens."""
        memory, state = self._read(batch.src, batch.src_lengths, batch.copy_ids)
        self.passed("encoder", memory.values)
        embedded = self._drop(self._embed_target(batch.tgt_in))
        trace = self.decoder.unroll(embedded, state, memory)

        def real(tensor: Tensor) -> Tensor:  # (B, T, ...) -> (R, ...): padding never reaches the output layer
            return tensor.flatten(0, 1).index_select(0, batch.target_positions)

        copying = None
        if self.pointer is not None:
            gate, energies = self.pointer(trace.outputs, trace.contexts, embedded, trace.log_weights, memory)
            ids = memory.copy_ids.index_select(0, batch.target_positions // batch.tgt_in.shape[1])
            copying = Copying(None if gate is None else real(gate), real(energies), ids)
        features = real(self.readout.features(trace.outputs, trace.contexts))
        self.passed("recurrence", features)
        return _Forced(memory, trace, features, real(batch.tgt_out), copying)

    def _drop(self, embedded: Tensor) -> Tensor:
        return self.word_dropout(self.embedding_dropout(embedded))

    def _found(self, forced: _Forced) -> TargetProb:
        """What is known of the target tokens; no more than ``ROOM`` logits are there at once."""
        most = max(ROOM // self.vocab_size, 1)
        found = []
        for first in range(0, len(forced.target), most):
            rows = slice(first, first + most)
            copying = None if forced.copying is None else forced.copying.select(rows)
            distribution = Distribution(self.readout(forced.features[rows]), self.readout.banned, copying)
            found.append(distribution.target(forced.target[rows]))
        return TargetProb.join(found)

    def _embed_target(self, tokens: Tensor) -> Tensor:
        """Embed what was produced; a source's own piece goes on as unknown."""
        if self.pointer is not None:
            tokens = tokens.masked_fill(tokens >= self.vocab_size, UNK)
        return self.tgt_embedding(tokens)


def _unwatched(part: str, tensor: Tensor) -> None:
    """What ``Seq2Seq.passed`` is until someone wants to know when its parts have ended."""


def _embedding(size: int, width: int) -> nn.Embedding:
    """Small, so that a rare word means little: ten times larger ones learn sooner at first and generalise worse."""
    embedding = nn.Embedding(size, width, padding_idx=PAD)
    uniform_(embedding.weight, 1 / math.sqrt(width))
    with torch.no_grad():
        embedding.weight[PAD].zero_()
    return embedding
