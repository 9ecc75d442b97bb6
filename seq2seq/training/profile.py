"""Where the time of an update goes.

The model tells when one of its parts has ended and hands over the tensor between this part and the next: going forward
that is the moment itself, going back it is when the tensor's gradient arrives.
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
        """An update begins."""
        self._last = self._now()
        self.updates += 1

    def end(self, part: str) -> None:
        """What was done since the last call was ``part``."""
        now = self._now()
        self.seconds[part] += now - self._last
        self._last = now

    def passed(self, part: str, tensor: Tensor) -> None:
        """``part`` has ended with ``tensor``, from which the next one starts; what comes back to it is the next's work."""
        if tensor.requires_grad:  # else this is no update
            self.end(part)
            following = PARTS[PARTS.index(part) + 1]
            tensor.register_hook(lambda _: self.end(following))

    def lines(self) -> list[str]:
        """A table for people."""
        total = sum(self.seconds.values())
        rows = [
            f"  {part:<13}{1000 * seconds / self.updates:9.1f} ms {seconds / total:6.1%}"
            for part, seconds in self.seconds.items()
        ]
        return [f"an update took {1000 * total / self.updates:.1f} ms, mean of {self.updates:,}:", *rows]

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # kernels run behind the program's back
        return time.perf_counter()


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that tensors have taken on a GPU; on a CPU the largest the process has been, 0 if none can tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes, others KiB
