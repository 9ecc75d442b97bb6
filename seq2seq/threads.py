"""The number of CPU threads, with a limit."""

from __future__ import annotations

import os

THREADS_PER_CORE = 4


def max_threads() -> int:
    """Return the largest number of threads that can be set: 64, or 4 per core on larger machines."""
    return max(64, THREADS_PER_CORE * (os.cpu_count() or 1))


def check_threads(number: int, *, name: str) -> None:
    """Check a number of CPU threads.

    Args:
        name: of the setting or flag, for the message.

    Raises:
        ValueError: the number exceeds ``max_threads``. More threads than cores make training and translating slower,
            and OpenMP crashes the process when the system refuses to create a thread.
    """
    if number > max_threads():
        raise ValueError(
            f"{name} must be at most {max_threads()} on this machine with {os.cpu_count()} cores, but is {number}: "
            "more threads than cores are slower, and too many crash the process"
        )


def set_threads(number: int, *, name: str) -> None:
    """Set the number of CPU threads of PyTorch; 0 leaves the choice to PyTorch.

    Raises:
        ValueError: as in ``check_threads``.
    """
    check_threads(number, name=name)
    if number:
        import torch  # late, because the command line checks numbers without torch

        torch.set_num_threads(number)
