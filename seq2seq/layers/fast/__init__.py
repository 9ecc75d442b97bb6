"""Fast twins of plain layers: the same results, with a hand-written backward or in-place arithmetic.

The tables ``cells.FAST_CELLS`` and ``decoder.FAST_ATTENTIONS`` hold the twins under the names of their kinds. A kind without
a twin runs step by step. One test runs over these tables and compares values and gradients of every twin with those of
the plain layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_enabled = True


def enabled() -> bool:
    """Whether layers may use their fast twins."""
    return _enabled


def enabled_without_gradients(device: torch.device) -> bool:
    """Whether layers may use twins that have no backward pass; not under autocast, which would mix their types."""
    return _enabled and not torch.is_grad_enabled() and not torch.is_autocast_enabled(device.type)


@contextmanager
def plain_layers() -> Iterator[None]:
    """Use the plain layers, differentiated by autograd, in this context; for tests and measurements of speed."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before
