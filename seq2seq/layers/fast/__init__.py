"""Fast twins of plain layers: the same results, with a hand-written backward or in-place arithmetic.

A plain layer looks its kind up by name: ``cells.FAST_CELLS``, ``decoder.FAST_ATTENTIONS``. A kind without a twin runs
plain. One test runs over these tables and compares values and gradients of every twin with those of the plain layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_enabled = True


def enabled() -> bool:
    """Whether layers may use their fast twins."""
    return _enabled


@contextmanager
def plain_layers() -> Iterator[None]:
    """Run the plain layers, step by step and differentiated by autograd; for tests and comparisons of speed."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before
