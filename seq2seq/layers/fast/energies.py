"""Fast twin of the additive energies, without gradients.

The tensor that compares all queries with all keys (B, Q, S, A) does not fit the cache. It is computed for a few sentences
at a time, in one buffer. As in ``layers.fast.decoder``, v . tanh(x) is computed as 2v . sigmoid(2x) minus the sum of v.
"""

from __future__ import annotations

import torch
from torch import Tensor

BUFFER = 2**18  # numbers in the buffer, unless one sentence needs more; 1 MiB in fp32


def additive_energies(
    queries: Tensor, keys: Tensor, energy: Tensor, coverage: Tensor | None, coverage_weight: Tensor | None
) -> Tensor:
    """Compute v . tanh(q_t + k_i + w cov_ti): (B, Q, A), (B, S, A) -> (B, Q, S).

    Args:
        energy: v (A,).
        coverage: coverage of the earlier steps (B, Q, S); None without coverage.
        coverage_weight: w (A,); None without coverage.
    """
    B, Q, A = queries.shape
    S = keys.shape[1]
    count = max(1, min(B, BUFFER // max(1, Q * S * A)))  # sentences at a time
    buffer = keys.new_empty(count, Q, S, A)
    energies = keys.new_empty(B, Q, S)
    doubled = 2 * energy
    for start in range(0, B, count):
        part = slice(start, start + count)
        compared = buffer[: min(count, B - start)]
        torch.add(queries[part].unsqueeze(2), keys[part].unsqueeze(1), out=compared)
        if coverage is not None and coverage_weight is not None:
            compared.addcmul_(coverage[part].to(keys.dtype).unsqueeze(3), coverage_weight)
        torch.mv(compared.mul_(2).sigmoid_().flatten(0, 2), doubled, out=energies[part].view(-1))
    return energies.sub_(energy.sum())
