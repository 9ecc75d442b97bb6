"""The readout: logits of the next token from the decoder's output and context."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from seq2seq.layers.cells import uniform_
from seq2seq.layers.dropout import SequenceDropout


class Readout(nn.Module):
    """Computes logits from s_t and c_t: V' (V [s_t; c_t] + b) + b' (See et al. 2017, eq. 4).

    If there is no context and H = E, it computes V' s_t + b' without dropout (Vaswani et al. 2017, section 3.4).

    Args:
        output_size: H.
        context_size: C, the width of c_t; 0 for a decoder whose output includes it.
        embedding_size: E, the input width of the output layer, so that it can share its weights with the embeddings.
        vocab_size: V.
        banned: ids that are never produced; their logits are set to a value so low that their probability is 0.
    """

    def __init__(
        self,
        *,
        output_size: int,
        context_size: int,
        embedding_size: int,
        vocab_size: int,
        banned: tuple[int, ...],
        dropout: float = 0.0,
        locked: bool = False,
    ) -> None:
        super().__init__()
        self.hidden: nn.Linear | None = None
        if context_size or output_size != embedding_size:
            self.hidden = nn.Linear(output_size + context_size, embedding_size)
        self.dropout = SequenceDropout(dropout, locked=locked)
        self.logits = nn.Linear(embedding_size, vocab_size)
        if self.hidden is not None:
            nn.init.xavier_uniform_(self.hidden.weight)
            nn.init.zeros_(self.hidden.bias)
        uniform_(self.logits.weight, 1 / math.sqrt(embedding_size))
        nn.init.zeros_(self.logits.bias)
        self.banned: Tensor
        self.register_buffer("banned", torch.tensor(banned), persistent=False)

    def features(self, outputs: Tensor, contexts: Tensor) -> Tensor:
        """Compute the input of the output layer: (..., H), (..., C) -> (..., E)."""
        if self.hidden is None:
            return outputs
        return self.dropout(self.hidden(torch.cat((outputs, contexts), dim=-1)))

    def forward(self, features: Tensor) -> Tensor:
        """Compute logits: (..., E) -> (..., V)."""
        logits: Tensor = self.logits(features)
        return logits.index_fill_(-1, self.banned, max(-1e9, torch.finfo(logits.dtype).min))
