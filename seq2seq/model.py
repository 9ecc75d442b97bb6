"""The model: it encodes sources, computes the loss of known targets (training) and advances hypotheses (search)."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from seq2seq.config import ModelConfig
from seq2seq.config_checks import check_model
from seq2seq.data.batching import Batch
from seq2seq.layers import fast
from seq2seq.layers.attention import MASKED, Memory, SentenceMemory, make_attention
from seq2seq.layers.bridge import BridgeSizes, make_bridge
from seq2seq.layers.cells import StackedCell, uniform_
from seq2seq.layers.decoder import Decoder, DecoderState, RecurrentDecoder, StepOfDecoder, Unrolled
from seq2seq.layers.distribution import MAX_LOGITS, Copying, Distribution, TargetProb
from seq2seq.layers.dropout import SequenceDropout, WordDropout
from seq2seq.layers.encoder import EncodedSentences, Encoder, RecurrentEncoder
from seq2seq.layers.fast.next_token import FEW_ROWS, FastNextToken, OutputWeights, half_weights
from seq2seq.layers.fast.output import BANNED_LOGIT, output_loss
from seq2seq.layers.fast.prepared import Prepared
from seq2seq.layers.fast.short import ShortNextToken, ShortOutput, without_refused
from seq2seq.layers.hierarchical import HierarchicalEncoder
from seq2seq.layers.pointer import POINTERS, CopyNet, Pointer, first_positions
from seq2seq.layers.readout import Readout
from seq2seq.layers.transformer import TransformerDecoder, TransformerEncoder, TransformerSizes
from seq2seq.loss import Loss, coverage_loss, smoothed_nll, total_loss
from seq2seq.search.next_token import LogProbs, NextToken
from seq2seq.searchable import Provenance
from seq2seq.text.tokenizer import BOS, PAD, UNK


class Decoding(NamedTuple):
    """The state of a search: the memory of B sentences, and the decoder state of N = B*K hypotheses."""

    memory: Memory
    state: DecoderState
    size: int  # size of the extended vocabulary
    step: StepOfDecoder[Any]  # the decoder's step, prepared for this search
    output: OutputWeights | ShortOutput  # the output layer; short if the search may choose from some ids only

    @property
    def weights(self) -> Tensor:
        """Attention weights of the previous step: (N, S)."""
        return self.state.log_weights.exp()

    @property
    def mask(self) -> Tensor:
        """Source pieces, without padding and end of sentence: (B, S), True = piece."""
        real = self.memory.mask
        return torch.cat((real[:, 1:], torch.zeros_like(real[:, :1])), dim=1)

    def reorder(self, rows: Tensor) -> Decoding:
        """Select hypotheses, the same number of each sentence; the memory does not change."""
        return self._replace(state=self.state.select(rows))

    def keep(self, sentences: Tensor) -> Decoding:
        """Select sentences with all their hypotheses."""
        beam = len(self.state.log_weights) // len(self.memory.mask)
        rows = beam * sentences.unsqueeze(1) + torch.arange(beam, device=sentences.device)
        output = self.output.keep(sentences) if isinstance(self.output, ShortOutput) else self.output
        return self._replace(
            memory=self.memory.select(sentences), state=self.state.select(rows.flatten()), output=output
        )


class _Forced(NamedTuple):
    """The results of the teacher-forced unroll of a batch."""

    memory: Memory
    unrolled: Unrolled
    features: Tensor  # (R, E), inputs of the output layer at the real target positions
    target: Tensor  # (R,), target ids
    copying: Copying | None


class _RecurrentOptions(TypedDict):
    """Options of both the recurrent encoder and the decoder."""

    num_layers: int
    dropout: float
    locked: bool
    recurrent_dropout: float
    weight_drop: float
    residual: bool
    layer_norm: bool


class _AttentionOptions(TypedDict):
    """Options of both the decoder's attention and a separate one for copying."""

    query_size: int
    memory_size: int
    attention_size: int
    heads: int
    sentences: bool


class Seq2Seq(nn.Module):
    """Encoder, decoder with attention, readout, and a pointer if the model copies.

    Args:
        config: sizes and kinds of the parts.
        src_size: size of the source vocabulary.
        tgt_size: V, size of the target vocabulary.
        shared: whether source and target share one vocabulary.
        max_source_length: maximum number of pieces of a source in search, without the end of sentence.
        tgt_tags: number of tags at the end of a shared vocabulary, which are never produced.

    Raises:
        ValueError: settings contradict each other; the message names the key to change.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        src_size: int,
        tgt_size: int,
        shared: bool,
        max_source_length: int = sys.maxsize,
        tgt_tags: int = 0,
    ) -> None:
        super().__init__()
        check_model(config, shared=shared)
        self.max_source_length = max_source_length
        locked = config.dropout_kind == "locked"
        embedding_dropout = config.dropout if config.embedding_dropout is None else config.embedding_dropout
        # the order of the parts determines the initial weights of a seed and the order of the optimizer's state
        self.src_embedding = _make_embedding(src_size, config.embedding_size)
        self.tgt_embedding = _make_embedding(tgt_size, config.embedding_size)
        self.embedding_dropout = SequenceDropout(embedding_dropout, locked=locked)
        self.word_dropout = WordDropout(config.word_dropout)
        self.memory_dropout = SequenceDropout(config.memory_dropout, locked=locked)
        self.encoder: Encoder = ENCODERS[config.encoder](config)
        self.decoder: Decoder[Any] = DECODERS[config.decoder](config, self.encoder)
        self.readout = Readout(
            output_size=config.hidden_size,
            context_size=self.decoder.context_size,
            embedding_size=config.embedding_size,
            vocab_size=tgt_size,
            banned=(PAD, BOS, *range(tgt_size - tgt_tags, tgt_size)),
            dropout=config.dropout,
            locked=locked,
        )
        self.pointer = _make_pointer(config, self.encoder, self.decoder)
        if config.tie_embeddings in ("output", "all"):
            self.readout.logits.weight = self.tgt_embedding.weight
        if config.tie_embeddings in ("inputs", "all"):
            self.src_embedding.weight = self.tgt_embedding.weight
        self.part_ended: Callable[[str, Tensor], None] = _ignore
        self._prepared = Prepared()

    @property
    def has_attention(self) -> bool:
        """Whether the model has attention weights."""
        return self.decoder.attends

    @property
    def vocab_size(self) -> int:
        """V, the size of the target vocabulary."""
        return self.tgt_embedding.num_embeddings

    @property
    def copies(self) -> bool:
        """Whether source pieces can be copied, which requires ``Batch.copy_ids``."""
        return self.pointer is not None

    @property
    def never_id(self) -> int | None:
        """UNK for a model that copies, which has an id for each source piece; else None."""
        return UNK if self.copies else None

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.src_embedding.weight.device

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Switch off dropout and gradients in this context; restore the mode afterwards."""
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.train(was_training)

    def encode(self, batch: Batch, allowed: Tensor | None = None, precision: str = "fp32") -> Decoding:
        """Encode the sources of a batch; return the initial state of a search. Targets are not read.

        Args:
            allowed, precision: see ``Searchable.encode``.
        """
        memory, state = self._start(batch)
        memory = memory._replace(copy_first=first_positions(memory.copy_ids))
        in_bf16 = precision == "bf16"
        output: OutputWeights | ShortOutput
        if allowed is None:
            output = self._output_weights(in_bf16=in_bf16, has_few_rows=len(batch.src) < FEW_ROWS)
        else:
            layer, banned = self.readout.logits, self.readout.banned
            output = ShortOutput.of(layer, banned=banned, allowed=allowed.to(self.device), in_bf16=in_bf16)
        step = self.decoder.search_step(self.tgt_embedding.weight)
        return Decoding(memory, state, self._extended_size(batch), step, output)

    def forward(self, batch: Batch, *, smoothing: float = 0.0, coverage_weight: float = 0.0) -> Loss:
        """Compute the loss of a batch, summed over its target tokens.

        Args:
            smoothing: e, the weight of label smoothing.
            coverage_weight: lambda, the weight of the coverage loss.
        """
        forced = self._force(batch)
        coverage = forced.features.new_zeros(0)
        if self.decoder.coverage != "none":
            coverage = coverage_loss(forced.unrolled.log_weights.exp(), forced.memory.fertility)
            coverage = coverage.flatten().index_select(0, batch.target_positions)
        if fast.enabled():
            smoothed, nll = output_loss(
                self.readout.logits,
                forced.features,
                forced.target,
                forced.copying,
                banned=self.readout.banned,
                smoothing=smoothing,
            )
        else:
            distribution = Distribution(self.readout(forced.features), self.readout.banned, forced.copying)
            smoothed, nll = smoothed_nll(distribution.target(forced.target), smoothing)
        return total_loss(smoothed, nll, coverage, coverage_weight=coverage_weight, tokens=batch.target_tokens)

    def log_probs(self, batch: Batch) -> Tensor:
        """Return the natural log-probability of each real target token: (R,), in fp32, sentence after sentence."""
        return self._target_probs(self._force(batch)).log_prob

    def distributions(self, batch: Batch) -> Iterator[Tensor]:
        """Yield all log-probabilities (r, V') at the real target positions, r rows at a time; see ``log_probs``.

        V' is V, or with copying the size of the extended vocabulary. r does not depend on copying.
        """
        size = self._extended_size(batch)
        for _, distribution in self._distributions(self._force(batch)):
            yield distribution.log_probs(size)

    def provenance(self, batch: Batch) -> Provenance:
        """Return the origin of each real target token."""
        forced = self._force(batch)
        weights = forced.unrolled.log_weights.exp()
        weights = weights.flatten(0, 1).index_select(0, batch.target_positions)
        copying = forced.copying
        if copying is None:  # this does not require the output layer
            return Provenance(weights, torch.ones_like(weights[:, 0]), torch.zeros_like(weights))
        found = self._target_probs(forced)
        route = found.route
        assert route is not None
        energies = copying.energies.masked_fill(copying.ids != forced.target.unsqueeze(1), MASKED)
        share = (route.copied - found.log_prob).exp().unsqueeze(1)
        copied = torch.where((route.copied > -math.inf).unsqueeze(1), share * energies.softmax(dim=1), 0.0)
        return Provenance(weights, torch.sigmoid(route.gate), copied)

    def step(self, tokens: Tensor, decoding: Decoding) -> tuple[NextToken, Decoding]:
        """Advance every hypothesis by its previous token (N,).

        Returns:
            The distribution of the next token, and the next state.
        """
        memory, state, size, advance, weights = decoding
        tokens = tokens.to(self.device)  # the first tokens of a search are on the CPU
        known = self._known(tokens)
        output, state = advance(known, state, memory)
        copying = first = None
        if self.pointer is not None:
            embedded = self.tgt_embedding(known)
            # (N, ...) -> (B, K, ...)
            queries = (
                x.unflatten(0, (len(memory.mask), -1)) for x in (output, state.context, embedded, state.log_weights)
            )
            gate, energies = self.pointer(*queries, memory)
            beam = energies.shape[1]
            ids = memory.copy_ids.repeat_interleave(beam, dim=0)  # (N, S)
            first = memory.copy_first.repeat_interleave(beam, dim=0)
            copying = Copying(None if gate is None else gate.flatten(0, 1), energies.flatten(0, 1), ids)
        features, banned = self.readout.features(output, state.context), self.readout.banned
        next_token: NextToken
        if not fast.enabled() or torch.is_grad_enabled():
            logits = self.readout(features)
            if isinstance(weights, ShortOutput):
                logits = logits.masked_fill(weights.mask(len(logits) // len(memory.mask)), BANNED_LOGIT)
            table = Distribution(logits, banned, copying).log_probs(size)
            next_token = LogProbs(without_refused(table) if isinstance(weights, ShortOutput) else table)
        elif isinstance(weights, ShortOutput):
            next_token = ShortNextToken(weights, features, copying=copying, first=first, size=size)
        else:
            next_token = FastNextToken(weights, features, banned=banned, copying=copying, first=first, size=size)
        return next_token, decoding._replace(state=state)

    def _output_weights(self, *, in_bf16: bool, has_few_rows: bool) -> OutputWeights:
        """Return the weights of the output layer for a search; ``has_few_rows``: whether it may have few rows."""
        layer, kept = self.readout.logits, self._prepared
        parameters = (layer.weight, layer.bias)
        bias = kept.get("bias", parameters, lambda: layer.bias.index_fill(0, self.readout.banned, BANNED_LOGIT))
        transposed = half = None
        if in_bf16:
            half = kept.get("half", parameters, lambda: half_weights(layer.weight, bias))
        if has_few_rows and self.device.type == "cpu":
            transposed = kept.get("transposed", parameters, lambda: layer.weight.t().contiguous())
        return OutputWeights(layer.weight, bias, transposed, half)

    def _extended_size(self, batch: Batch) -> int:
        """Return V, or with copying the size of the largest extended vocabulary of the batch."""
        return max(self.vocab_size, int(batch.copy_ids.max()) + 1) if self.copies else self.vocab_size

    def _start(self, batch: Batch) -> tuple[Memory, DecoderState]:
        """Encode the sources; return the memory and the initial state of the decoder."""
        encoded = self.encoder(self._drop(self.src_embedding(batch.src)), batch)
        values = self.memory_dropout(encoded.values)
        copy_keys = values[:, :, :0]
        if self.pointer is not None:
            if batch.copy_ids.shape != batch.src.shape:
                raise ValueError("a model that copies requires Batch.copy_ids; pass copy_ids to collate")
            copy_keys = self.pointer.keys(values)
        memory = Memory(
            values=values,
            keys=self.decoder.keys(values),
            mask=encoded.mask,
            summary=encoded.summary,
            fertility=self.decoder.fertility(values),
            copy_keys=copy_keys,
            copy_ids=batch.copy_ids,
            copy_first=batch.copy_ids[:, :0],  # only search reads it
            sentences=None if encoded.sentences is None else self._remember_sentences(encoded.sentences),
        )
        return memory, self.decoder.start(encoded, memory)

    def _remember_sentences(self, sentences: EncodedSentences) -> SentenceMemory:
        """Project the values of the sentences for the attentions."""
        values = self.memory_dropout(sentences.values)
        copy_keys = values[:, :, :0] if self.pointer is None else self.pointer.sentence_keys(values)
        return SentenceMemory(self.decoder.sentence_keys(values), copy_keys, sentences.mask, sentences.numbers)

    def _force(self, batch: Batch) -> _Forced:
        """Run the teacher-forced unroll, and select the real target positions."""
        memory, state = self._start(batch)
        self.part_ended("encoder", memory.values)
        embedded = self._drop(self._embed_target(batch.tgt_in))
        unrolled = self.decoder.unroll(embedded, state, memory)

        def select_real(tensor: Tensor) -> Tensor:  # (B, T, ...) -> (R, ...)
            return tensor.flatten(0, 1).index_select(0, batch.target_positions)

        copying = None
        if self.pointer is not None:
            gate, energies = self.pointer(*unrolled[:2], embedded, unrolled.log_weights, memory)
            sentences = batch.target_positions // batch.tgt_in.shape[1]  # sentence of each real target token
            ids = memory.copy_ids.index_select(0, sentences)
            copying = Copying(None if gate is None else select_real(gate), select_real(energies), ids)
        features = select_real(self.readout.features(unrolled.outputs, unrolled.contexts))
        self.part_ended("recurrence", features)
        return _Forced(memory, unrolled, features, select_real(batch.tgt_out), copying)

    def _drop(self, embedded: Tensor) -> Tensor:
        return self.word_dropout(self.embedding_dropout(embedded))

    def _target_probs(self, forced: _Forced) -> TargetProb:
        """Compute the probabilities of the target tokens; at most ``MAX_LOGITS`` logits are in memory at once."""
        parts = self._distributions(forced)
        return TargetProb.concatenate([part.target(forced.target[rows]) for rows, part in parts])

    def _distributions(self, forced: _Forced) -> Iterator[tuple[slice, Distribution]]:
        """Yield the distributions of at most ``MAX_LOGITS`` logits at a time, with their rows."""
        most = max(MAX_LOGITS // self.vocab_size, 1)
        for first in range(0, len(forced.target), most):
            rows = slice(first, first + most)
            copying = None if forced.copying is None else forced.copying.select(rows)
            yield rows, Distribution(self.readout(forced.features[rows]), self.readout.banned, copying)

    def _embed_target(self, tokens: Tensor) -> Tensor:
        """Embed target ids; OOV pieces are embedded as UNK."""
        return self.tgt_embedding(self._known(tokens))

    def _known(self, tokens: Tensor) -> Tensor:
        """Replace OOV pieces by UNK."""
        return tokens if self.pointer is None else tokens.masked_fill(tokens >= self.vocab_size, UNK)


def _ignore(part: str, tensor: Tensor) -> None:
    """Do nothing; a profiler replaces this function, which is called at the end of each part."""


def _make_embedding(size: int, width: int) -> nn.Embedding:
    """Make an embedding with small initial vectors. Ten times larger ones learn faster at first but generalise worse."""
    embedding = nn.Embedding(size, width, padding_idx=PAD)
    uniform_(embedding.weight, 1 / math.sqrt(width))
    with torch.no_grad():
        embedding.weight[PAD].zero_()
    return embedding


def _recurrent_options(config: ModelConfig, num_layers: int) -> _RecurrentOptions:
    return _RecurrentOptions(
        num_layers=num_layers,
        dropout=config.dropout,
        locked=config.dropout_kind == "locked",
        recurrent_dropout=config.recurrent_dropout,
        weight_drop=config.weight_drop,
        residual=config.residual,
        layer_norm=config.layer_norm,
    )


def _attention_options(config: ModelConfig, encoder: Encoder) -> _AttentionOptions:
    return _AttentionOptions(
        query_size=config.hidden_size,
        memory_size=encoder.hidden_size,
        attention_size=config.attention_size or config.hidden_size,
        heads=config.heads,
        sentences=encoder.has_sentences,
    )


def _transformer_sizes(config: ModelConfig, width: int, num_layers: int) -> TransformerSizes:
    return TransformerSizes(
        width=width,
        heads=config.heads,
        feedforward_size=config.feedforward_size or 4 * width,
        num_layers=num_layers,
        dropout=config.dropout,
        locked=config.dropout_kind == "locked",
    )


def _make_recurrent_encoder(config: ModelConfig, input_size: int | None = None) -> RecurrentEncoder:
    return RecurrentEncoder(
        config.cell,
        input_size=input_size or config.embedding_size,
        hidden_size=config.encoder_hidden_size or config.hidden_size,
        bidirectional=config.bidirectional,
        **_recurrent_options(config, config.encoder_layers),
    )


def _make_hierarchical_encoder(config: ModelConfig) -> Encoder:
    words = _make_recurrent_encoder(config)
    sentences = _make_recurrent_encoder(config, input_size=words.hidden_size)
    return HierarchicalEncoder(
        words, sentences, SequenceDropout(config.dropout, locked=config.dropout_kind == "locked")
    )


def _make_transformer_encoder(config: ModelConfig) -> Encoder:
    width = config.encoder_hidden_size or config.hidden_size
    return TransformerEncoder(_transformer_sizes(config, width, config.encoder_layers))


def _make_recurrent_decoder(config: ModelConfig, encoder: Encoder) -> Decoder[Any]:
    stack = StackedCell(
        config.cell,
        input_size=config.embedding_size,
        hidden_size=config.hidden_size,
        **_recurrent_options(config, config.decoder_layers),
    )
    attention = make_attention(config.attention, **_attention_options(config, encoder), coverage=config.coverage)
    sizes = BridgeSizes(
        memory_size=encoder.hidden_size,
        direction_size=encoder.direction_size,
        hidden_size=config.hidden_size,
        num_layers=config.decoder_layers,
        parts=stack.cell.parts,
    )
    return RecurrentDecoder(make_bridge(config.bridge, sizes), stack, attention, memory_size=encoder.hidden_size)


def _make_transformer_decoder(config: ModelConfig, encoder: Encoder) -> Decoder[Any]:
    sizes = _transformer_sizes(config, config.hidden_size, config.decoder_layers)
    return TransformerDecoder(sizes, memory_size=encoder.hidden_size)


ENCODERS: dict[str, Callable[[ModelConfig], Encoder]] = {
    "rnn": _make_recurrent_encoder,
    "hierarchical": _make_hierarchical_encoder,
    "transformer": _make_transformer_encoder,
}
DECODERS: dict[str, Callable[[ModelConfig, Encoder], Decoder[Any]]] = {
    "rnn": _make_recurrent_decoder,
    "transformer": _make_transformer_decoder,
}


def _make_pointer(config: ModelConfig, encoder: Encoder, decoder: Decoder[Any]) -> Pointer | CopyNet | None:
    if config.copy == "none":
        return None
    attention = None
    if config.copy_attention == "separate":
        attention = make_attention(config.attention, **_attention_options(config, encoder), weights_only=True)
    return POINTERS[config.copy](
        output_size=config.hidden_size,
        memory_size=encoder.hidden_size,
        context_size=decoder.context_size,
        embedding_size=config.embedding_size,
        attention=attention,
    )


def reads_sentences(config: ModelConfig) -> bool:
    """Return whether the encoder of a model reads the sentences of its sources, ``Batch.segments``."""
    with torch.device("meta"):
        return ENCODERS[config.encoder](config).has_sentences
