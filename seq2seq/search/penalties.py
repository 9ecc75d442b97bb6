"""Penalties of a finished hypothesis for its attention to the source; they change its score, not its log-probability."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, finfo


class Penalties(NamedTuple):
    """The weights of the penalties that are subtracted from a score; true if any is above 0."""

    coverage: float = 0.0  # beta in - beta sum_i log min(sum_t a_i^t, 1) (Wu et al. 2016, eq. 14)
    summary: float = 0.0  # beta in beta sum_i (max(sum_t a_i^t, 1) - 1) (Gehrmann et al. 2018, section 4.2)

    def __bool__(self) -> bool:
        return self.coverage > 0 or self.summary > 0

    def __call__(self, attended: Tensor, mask: Tensor) -> Tensor:
        """Compute the penalty of each hypothesis.

        Args:
            attended: (N, S), the sum of the weights of all steps.
            mask: (N, S), True = counted.

        Returns:
            The penalties (N,), finite and at least 0.
        """
        too_little = -attended.clamp(finfo(attended.dtype).tiny, 1).log()
        too_much = attended.clamp(min=1) - 1
        return ((self.coverage * too_little + self.summary * too_much) * mask).sum(dim=1)
