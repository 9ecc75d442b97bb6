"""The time that each part of an update takes.

The model calls ``part_ended`` at the end of each of its parts, with the tensor that it passes to the next part. In the
forward pass, the part ends at the time of this call; in the backward pass, the next part ends when the gradient of this
tensor has been computed.
"""

from __future__ import annotations

import sys
import time

import torch
from torch import Tensor

try:
    import resource
except ModuleNotFoundError:  # Windows
    resource = None  # type: ignore[assignment]

PARTS = ("data", "encoder", "recurrence", "output layer", "optimizer")


class Profile:
    """Seconds spent in each part, forward and backward together.

    >>> profile = Profile(torch.device("cpu"))
    >>> profile.start()
    >>> profile.end("data")
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.updates = 0
        self._device = device
        self._last = 0.0

    def start(self) -> None:
        """Start an update."""
        self._last = self._now()
        self.updates += 1

    def end(self, part: str) -> None:
        """Add the time since the last call to ``part``."""
        now = self._now()
        self.seconds[part] += now - self._last
        self._last = now

    def part_ended(self, part: str, tensor: Tensor) -> None:
        """End ``part`` in the forward pass, and the part after it in the backward pass.

        Args:
            tensor: the output of ``part`` and input of the next part. Without a gradient, nothing is counted, since
                the model then validates or translates.
        """
        if tensor.requires_grad:
            self.end(part)
            following = PARTS[PARTS.index(part) + 1]
            tensor.register_hook(lambda _: self.end(following))

    def lines(self) -> list[str]:
        """Format the mean times as lines of a table."""
        total = sum(self.seconds.values())
        rows = [
            f"  {part:<13}{1000 * seconds / self.updates:9.1f} ms {seconds / total:6.1%}"
            for part, seconds in self.seconds.items()
        ]
        return [f"an update took {1000 * total / self.updates:.1f} ms, mean of {self.updates:,}:", *rows]

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # kernels run asynchronously
        return time.perf_counter()


def peak_memory(device: torch.device) -> int:
    """Return the peak memory in bytes: of tensors on a GPU, of the whole process on a CPU (0 if unknown)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS reports bytes, other systems KiB
