"""The Transformer: encoder and decoder of self-attention, attention to the source and feed-forward layers.

Vaswani et al. 2017 (arXiv 1706.03762) with pre-norm (Xiong et al. 2020, arXiv 2002.04745): each sublayer computes
x + dropout(f(norm(x))), and a final norm follows the last layer. Pre-norm trains without a long warmup. The input of the
first layer is sqrt(E) times the embedding, plus sinusoidal positions. The factor is needed because the embeddings start
with entries of about 1/sqrt(E), so that the output layer can share them, while those of the positions are of about 1.
Dropout of embeddings is applied before the positions are added, so it does not act on the positions.

``step`` (search) and ``unroll`` (training) run the same code over one position or all T. The keys and values of the
earlier positions are the state of the decoder; those of the source are in ``Memory.keys``, projected once per sentence and
shared by the K hypotheses of a sentence.

Shapes: Q is the number of positions that are computed at once: S in the encoder, T in the unroll, 1 in a step. P is the
number of positions before them. The width of the layers is M in the encoder and H in the decoder, equal to E; D is the
width of one head. The other letters are those of ``seq2seq.layers``.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seq2seq.layers.attention import MASKED, Memory, masked_log_softmax
from seq2seq.layers.decoder import StepOfDecoder, Unrolled, step_of_tokens
from seq2seq.layers.dropout import SequenceDropout
from seq2seq.layers.encoder import Encoded, Source

LONGEST_WAVE = 10_000  # times 2 pi; the longest wavelength of the positions (Vaswani et al. 2017, section 3.5)


class TransformerSizes(NamedTuple):
    """Sizes and dropout of the layers of an encoder or decoder."""

    width: int  # of the inputs and outputs of every layer
    heads: int
    feedforward_size: int  # of the hidden layer in each feed-forward layer
    num_layers: int  # L
    dropout: float = 0.0  # of the output of each sublayer
    locked: bool = False  # one mask per sentence instead of one per position


def positions(first: int, count: int, like: Tensor) -> Tensor:
    """Compute sinusoidal positions (Vaswani et al. 2017, section 3.5): (count, E), with dtype and device of ``like``.

    Entries 2i and 2i+1 of position p are sin and cos of p / 10000^(2i/E).

    Args:
        like: (..., E).
    """
    width = like.shape[-1]
    places = torch.arange(first, first + count, dtype=torch.float64, device=like.device).unsqueeze(1)
    even = torch.arange(0, width, 2, dtype=torch.float64, device=like.device)
    angles = places * torch.exp(even * (-math.log(LONGEST_WAVE) / width))  # (count, E/2), rounded up
    return torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1)[:, :width].to(like.dtype)


def with_positions(embedded: Tensor, first: int = 0) -> Tensor:
    """Scale the embeddings of positions ``first``, ``first`` + 1, ... by sqrt(E), and add the positions: (R, Q, E)."""
    return embedded * math.sqrt(embedded.shape[2]) + positions(first, embedded.shape[1], embedded)


def _linear(input_size: int, output_size: int) -> nn.Linear:
    """Make a linear layer with Xavier initialisation and zero bias."""
    linear = nn.Linear(input_size, output_size)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _split(projected: Tensor, parts: int, heads: int) -> Tensor:
    """Split projections into their parts and heads: (R, Q, parts*heads*D) -> (R, parts, heads, Q, D)."""
    return projected.unflatten(2, (parts, heads, -1)).permute(0, 2, 3, 1, 4)


def _join(attended: Tensor) -> Tensor:
    """Concatenate the heads: (R, heads, Q, D) -> (R, Q, heads*D)."""
    return attended.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Multi-head attention among the positions of one sequence (Vaswani et al. 2017, section 3.2.2)."""

    def __init__(self, sizes: TransformerSizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.inputs = _linear(sizes.width, 3 * sizes.width)  # queries, keys, values
        self.output = _linear(sizes.width, sizes.width)

    def forward(self, inputs: Tensor, past: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Attend from each position to the positions that the mask allows.

        Args:
            inputs: (R, Q, width).
            past: keys and values of the earlier positions (R, 2, heads, P, D), or None: there are none.
            mask: broadcastable to (R, heads, Q, P+Q), True = attended to; None: all positions.

        Returns:
            Outputs (R, Q, width), and the keys and values of all positions (R, 2, heads, P+Q, D).
        """
        projected = _split(self.inputs(inputs), 3, self.heads)
        queries, known = projected[:, 0], projected[:, 1:]
        if past is not None:
            known = torch.cat((past.to(known.dtype), known), dim=3)
        attended = F.scaled_dot_product_attention(queries, known[:, 0], known[:, 1], attn_mask=mask)
        return self.output(_join(attended)), known


class SourceAttention(nn.Module):
    """Multi-head attention of the decoder to the source.

    Args:
        memory_size: M.
    """

    def __init__(self, sizes: TransformerSizes, memory_size: int) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.query = _linear(sizes.width, sizes.width)
        self.memory = _linear(memory_size, 2 * sizes.width)  # keys, values
        self.output = _linear(sizes.width, sizes.width)

    def project(self, values: Tensor) -> Tensor:
        """Project the encoder's values to keys and values: (B, S, M) -> (B, 2, heads, S, D)."""
        return _split(self.memory(values), 2, self.heads)

    def forward(self, inputs: Tensor, known: Tensor, mask: Tensor) -> Tensor:
        """Attend to the source: inputs (B, Q, H), keys and values (B, 2, heads, S, D), mask (B, S) -> (B, Q, H)."""
        (queries,) = _split(self.query(inputs), 1, self.heads).unbind(1)
        attended = F.scaled_dot_product_attention(queries, known[:, 0], known[:, 1], attn_mask=mask[:, None, None])
        return self.output(_join(attended))

    def with_weights(self, inputs: Tensor, known: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Attend to the source; return also the log of the mean weights of the heads (B, Q, S), ``MASKED`` at padding.

        torch's attention returns no weights, so they are computed here, in fp32 or higher precision.
        """
        (queries,) = _split(self.query(inputs), 1, self.heads).unbind(1)
        keys, values = known.unbind(1)
        energies = torch.matmul(queries / math.sqrt(queries.shape[3]), keys.transpose(2, 3))  # (B, heads, Q, S)
        log_weights = masked_log_softmax(energies.flatten(1, 2), mask).unflatten(1, energies.shape[1:3])
        attended = torch.matmul(log_weights.exp().to(values.dtype), values)
        mean = torch.logsumexp(log_weights, dim=1) - math.log(self.heads)
        return self.output(_join(attended)), mean.masked_fill(~mask.unsqueeze(1), MASKED)


class FeedForward(nn.Sequential):
    """W_2 max(0, W_1 x + b_1) + b_2 at each position (Vaswani et al. 2017, eq. 2)."""

    def __init__(self, sizes: TransformerSizes) -> None:
        inside = _linear(sizes.width, sizes.feedforward_size)
        super().__init__(inside, nn.ReLU(), _linear(sizes.feedforward_size, sizes.width))


class EncoderLayer(nn.Module):
    """Self-attention over the source, then a feed-forward layer."""

    def __init__(self, sizes: TransformerSizes) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(sizes.width)
        self.attention = SelfAttention(sizes)
        self.feedforward_norm = nn.LayerNorm(sizes.width)
        self.feedforward = FeedForward(sizes)
        self.dropout = SequenceDropout(sizes.dropout, locked=sizes.locked)

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Compute the layer: (B, S, M), mask (B, S) -> (B, S, M)."""
        attended, _ = self.attention(self.attention_norm(inputs), None, mask[:, None, None])
        inputs = inputs + self.dropout(attended)
        return inputs + self.dropout(self.feedforward(self.feedforward_norm(inputs)))


class DecoderLayer(nn.Module):
    """Self-attention over the earlier target positions, attention to the source, then a feed-forward layer.

    Args:
        memory_size: M.
    """

    def __init__(self, sizes: TransformerSizes, memory_size: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(sizes.width)
        self.attention = SelfAttention(sizes)
        self.source_norm = nn.LayerNorm(sizes.width)
        self.source = SourceAttention(sizes, memory_size)
        self.feedforward_norm = nn.LayerNorm(sizes.width)
        self.feedforward = FeedForward(sizes)
        self.dropout = SequenceDropout(sizes.dropout, locked=sizes.locked)

    def forward(
        self, inputs: Tensor, past: Tensor, causal: Tensor | None, known: Tensor, mask: Tensor, *, weighs: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Compute the layer.

        Args:
            inputs: (R, Q, H), R = B sentences or N hypotheses.
            past: keys and values of the earlier target positions (R, 2, heads, P, D).
            causal: positions that each position may attend to (Q, P+Q), True = allowed; None: all.
            known: keys and values of the source (B, 2, heads, S, D).
            mask: source positions (B, S), True = real.
            weighs: also return the weights of the attention to the source.

        Returns:
            Outputs (R, Q, H), ``past`` with the new positions, and log-weights (R, Q, S) or None.
        """
        attended, past = self.attention(self.attention_norm(inputs), past, causal)
        inputs = inputs + self.dropout(attended)
        queries = self.source_norm(inputs).reshape(len(mask), -1, inputs.shape[2])  # (R, Q, H) -> (B, R/B * Q, H)
        log_weights = None
        if weighs:
            attended, log_weights = self.source.with_weights(queries, known, mask)
            log_weights = log_weights.reshape(*inputs.shape[:2], -1)
        else:
            attended = self.source(queries, known, mask)
        inputs = inputs + self.dropout(attended.reshape(inputs.shape))
        return inputs + self.dropout(self.feedforward(self.feedforward_norm(inputs))), past, log_weights


class TransformerEncoder(nn.Module):
    """L layers over the embedded source. Its summary is the mean of the values; it has no final states."""

    direction_size = None
    has_sentences = False

    def __init__(self, sizes: TransformerSizes) -> None:
        super().__init__()
        self.hidden_size = sizes.width
        self.layers = nn.ModuleList(EncoderLayer(sizes) for _ in range(sizes.num_layers))
        self.norm = nn.LayerNorm(sizes.width)

    def forward(self, embedded: Tensor, source: Source) -> Encoded:
        """Encode embedded pieces (B, S, E); ``source`` has their lengths."""
        lengths = source.src_lengths.to(embedded.device, non_blocking=True).unsqueeze(1)
        mask = torch.arange(embedded.shape[1], device=embedded.device) < lengths
        values = with_positions(embedded)
        for layer in self.layers:
            values = layer(values, mask)
        values = self.norm(values).masked_fill(~mask.unsqueeze(2), 0.0)
        return Encoded(values, mask, values.sum(dim=1) / lengths, None)


class TransformerState(NamedTuple):
    """The state of the Transformer decoder after P steps."""

    past: tuple[Tensor, ...]  # of each layer (N, 2, heads, P, D), the keys and values of the target positions
    context: Tensor  # (N, 0); the outputs include what was read from the source
    log_weights: Tensor  # (N, S), attention log-weights of the step: mean of the heads of the last layer

    def select(self, rows: Tensor) -> TransformerState:
        """Return the state of the given rows, in the given order."""
        past, *others = self
        return TransformerState(
            tuple(tensor.index_select(0, rows) for tensor in past),
            *(tensor.index_select(0, rows) for tensor in others),
        )


class TransformerDecoder(nn.Module):
    """L layers over the embedded target. Its attention weights are those of the last layer, the mean of the heads.

    Args:
        memory_size: M.
    """

    context_size = 0
    attends = True
    coverage = "none"
    unrolls_by_steps = False

    def __init__(self, sizes: TransformerSizes, *, memory_size: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.layers = nn.ModuleList(DecoderLayer(sizes, memory_size) for _ in range(sizes.num_layers))
        self.norm = nn.LayerNorm(sizes.width)

    def coverage_parameters(self) -> list[nn.Parameter]:
        """Return no parameters: there is no coverage."""
        return []

    def keys(self, values: Tensor) -> Tensor:
        """Project the values to the keys and values of every layer: (B, S, M) -> (B, L, 2, heads, S, D)."""
        return torch.stack([cast(DecoderLayer, layer).source.project(values) for layer in self.layers], dim=1)

    def sentence_keys(self, values: Tensor) -> Tensor:
        """Refuse sentences: the attention of this decoder is not re-scaled."""
        raise TypeError("a Transformer decoder does not attend to sentences")

    def fertility(self, values: Tensor) -> Tensor:
        """Return (B, 0), since there is no coverage."""
        return values[:, :0, 0]

    def start(self, encoded: Encoded, memory: Memory) -> TransformerState:
        """Return the initial state, without target positions."""
        width, heads = self.sizes.width, self.sizes.heads
        past = memory.values.new_zeros(len(memory.mask), 2, heads, 0, width // heads)
        log_weights = torch.full_like(memory.mask, MASKED, dtype=torch.float32)
        return TransformerState((past,) * len(self.layers), memory.values[:, 0, :0], log_weights)

    def step(self, embedded: Tensor, state: TransformerState, memory: Memory) -> tuple[Tensor, TransformerState]:
        """Advance by one step: embeddings of the previous tokens (N, E) -> outputs s_t (N, H) and the next state."""
        outputs, past, log_weights = self._advance(embedded.unsqueeze(1), state, memory)
        output = outputs.squeeze(1)
        return output, TransformerState(past, output[:, :0], log_weights.squeeze(1))

    def search_step(self, embeddings: Tensor) -> StepOfDecoder[TransformerState]:
        """See ``Decoder.search_step``."""
        return step_of_tokens(self.step, embeddings)

    def unroll(self, embedded: Tensor, state: TransformerState, memory: Memory) -> Unrolled:
        """Run the teacher-forced unroll over the embedded input tokens (B, T, E), all of them at once."""
        outputs, _, log_weights = self._advance(embedded, state, memory)
        return Unrolled(outputs, outputs[:, :, :0], log_weights)

    def _advance(
        self, embedded: Tensor, state: TransformerState, memory: Memory
    ) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        """Compute Q positions of R rows: embeddings (R, Q, E) -> outputs (R, Q, H), next ``past``, log-weights (R, Q, S)."""
        first, count = state.past[0].shape[3], embedded.shape[1]
        causal = None
        if count > 1:
            causal = torch.ones(count, first + count, dtype=torch.bool, device=embedded.device).tril(first)
        outputs = with_positions(embedded, first)
        past = []
        log_weights: Tensor | None = None
        for number, layer in enumerate(self.layers):
            is_last = number == len(self.layers) - 1
            outputs, known, log_weights = layer(
                outputs, state.past[number], causal, memory.keys[:, number], memory.mask, weighs=is_last
            )
            past.append(known)
        assert log_weights is not None
        return self.norm(outputs), tuple(past), log_weights
