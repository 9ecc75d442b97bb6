"""Copying from the source: where to copy from, and whether to (See et al. 2017; Gu et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seq2seq.layers.attention import MASKED, Attention, Memory, masked_log_softmax


class Pointer(nn.Module):
    """p_gen = sigmoid(w_c . c_t + w_s . s_t + w_x . x_t + b), and the weights to copy by (See et al. 2017, eq. 8).

    Args:
        attention: one of its own, without coverage; None: the weights of the decoder's attention.
    """

    def __init__(
        self, *, output_size: int, memory_size: int, embedding_size: int, attention: Attention | None = None
    ) -> None:
        super().__init__()
        self.gate = nn.Linear(output_size + memory_size + embedding_size, 1)
        self.attention = attention
        nn.init.xavier_uniform_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def keys(self, values: Tensor) -> Tensor:
        """Project the values once a sentence: (B, S, M) -> (B, S, A)."""
        return values[:, :, :0] if self.attention is None else self.attention.keys(values)

    def forward(
        self, outputs: Tensor, contexts: Tensor, embedded: Tensor, log_weights: Tensor, memory: Memory
    ) -> tuple[Tensor | None, Tensor]:
        """Point, for T steps at once.

        Args:
            outputs, contexts, embedded: s_t (B, T, H), c_t (B, T, M), x_t (B, T, E).
            log_weights: (B, T, S) of the decoder's attention.

        Returns:
            gate (B, T), or None where one softmax covers vocabulary and positions; energies (B, T, S).
        """
        gate = self.gate(torch.cat((outputs, contexts, embedded), dim=-1)).squeeze(-1)
        if self.attention is None:
            return gate, log_weights
        steps = [
            masked_log_softmax(self.attention.energies(output, memory.copy_keys, memory.mask[:, :0]), memory.mask)
            for output in outputs.unbind(dim=1)
        ]
        return gate, torch.stack(steps, dim=1)


class CopyNet(nn.Module):
    """psi(x_j) = tanh(W h_j) . s_t beside the logits in one softmax (Gu et al. 2016, eq. 8), without selective read."""

    def __init__(self, *, output_size: int, memory_size: int) -> None:
        super().__init__()
        self.key = nn.Linear(memory_size, output_size)

    def keys(self, values: Tensor) -> Tensor:
        """Project the values once a sentence: (B, S, M) -> (B, S, H)."""
        return torch.tanh(self.key(values))

    def forward(
        self, outputs: Tensor, contexts: Tensor, embedded: Tensor, log_weights: Tensor, memory: Memory
    ) -> tuple[Tensor | None, Tensor]:
        """As ``Pointer``."""
        energies = torch.bmm(outputs, memory.copy_keys.transpose(1, 2))  # (B, T, H) @ (B, H, S)
        energies = energies.to(torch.promote_types(energies.dtype, torch.float32))
        return None, energies.masked_fill(~memory.mask.unsqueeze(1), MASKED)
