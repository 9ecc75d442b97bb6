"""Recognizes that memory is missing."""

from __future__ import annotations

import torch


def is_out_of_memory(error: Exception) -> bool:
    """Return whether memory is missing: a GPU raises torch.OutOfMemoryError, a CPU another RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
