"""Copying from the source: the weights of the positions and the gate (See et al. 2017; Gu et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import torch
from torch import Tensor, nn

from seq2seq.layers.attention import MASKED, Attention, Memory


class Pointer(nn.Module):
    """Computes p_gen = sigmoid(w_c . c_t + w_s . s_t + w_x . x_t + b) and the copy weights (See et al. 2017, eq. 8).

    Args:
        output_size: H.
        memory_size: M, not used.
        context_size: C, the width of c_t; 0 for a decoder whose output includes it.
        embedding_size: E.
        attention: a separate attention for copying, without coverage; None: the decoder's weights are used.
    """

    def __init__(
        self,
        *,
        output_size: int,
        memory_size: int,
        context_size: int,
        embedding_size: int,
        attention: Attention | None = None,
    ) -> None:
        super().__init__()
        self.gate = nn.Linear(output_size + context_size + embedding_size, 1)
        self.attention = attention
        nn.init.xavier_uniform_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def keys(self, values: Tensor) -> Tensor:
        """Project the values, once per sentence: (B, S, M) -> (B, S, A), or (B, S, 0) without a separate attention."""
        return values[:, :, :0] if self.attention is None else self.attention.keys(values)

    def sentence_keys(self, values: Tensor) -> Tensor:
        """Project the values of the sentences: (B, Z, M) -> (B, Z, A), or (B, Z, 0) without a separate attention."""
        return values[:, :, :0] if self.attention is None else self.attention.sentence_keys(values)

    def forward(
        self, outputs: Tensor, contexts: Tensor, embedded: Tensor, log_weights: Tensor, memory: Memory
    ) -> tuple[Tensor | None, Tensor]:
        """Compute the copy weights of Q outputs per sentence: T steps in training, K hypotheses in search.

        Args:
            outputs: s_t (B, Q, H).
            contexts: c_t (B, Q, C).
            embedded: x_t, the embeddings of the input tokens (B, Q, E).
            log_weights: log-weights of the decoder's attention (B, Q, S).

        Returns:
            Gate (B, Q), or None if one softmax covers vocabulary and positions; energies (B, Q, S).
        """
        gate = self.gate(torch.cat((outputs, contexts, embedded), dim=-1)).squeeze(-1)
        gate = gate.masked_fill(~memory.mask.any(dim=1, keepdim=True), inf)  # p_gen = 1 if the source is empty
        if self.attention is None:
            return gate, log_weights
        no_coverage, sentences = log_weights[:, :, :0], memory.sentences
        prior = self.attention.prior(outputs, sentences and sentences._replace(keys=sentences.copy_keys))
        return gate, self.attention.log_weights(outputs, memory.copy_keys, memory.mask, no_coverage, prior)


class CopyNet(nn.Module):
    """Computes energies psi(x_j) = tanh(W h_j + b) . s_t, which share one softmax with the logits (Gu et al. 2016, eq. 8).

    The selective read of Gu et al. is not implemented. The weights of sentences do not act on these energies, which are no
    attention. Of the arguments of ``Pointer``, it uses the first two.
    """

    def __init__(
        self,
        *,
        output_size: int,
        memory_size: int,
        context_size: int,
        embedding_size: int,
        attention: Attention | None = None,
    ) -> None:
        super().__init__()
        self.key = nn.Linear(memory_size, output_size)

    def keys(self, values: Tensor) -> Tensor:
        """Project the values, once per sentence: (B, S, M) -> (B, S, H)."""
        return torch.tanh(self.key(values))

    def sentence_keys(self, values: Tensor) -> Tensor:
        """Return no keys: (B, Z, M) -> (B, Z, 0)."""
        return values[:, :, :0]

    def forward(
        self, outputs: Tensor, contexts: Tensor, embedded: Tensor, log_weights: Tensor, memory: Memory
    ) -> tuple[Tensor | None, Tensor]:
        """Compute the copy energies; arguments and results as for ``Pointer``."""
        energies = torch.bmm(outputs, memory.copy_keys.transpose(1, 2))  # (B, Q, H) @ (B, H, S)
        energies = energies.to(torch.promote_types(energies.dtype, torch.float32))
        return None, energies.masked_fill(~memory.mask.unsqueeze(1), MASKED)


def first_positions(copy_ids: Tensor) -> Tensor:
    """Return for each position the first position of the source with the same id: (B, S) -> (B, S), also for S = 0."""
    if copy_ids.shape[1] == 0:
        return copy_ids
    return (copy_ids.unsqueeze(2) == copy_ids.unsqueeze(1)).byte().argmax(dim=2)


POINTERS: dict[str, Callable[..., Pointer | CopyNet]] = {"pointer": Pointer, "copynet": CopyNet}
