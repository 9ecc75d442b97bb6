"""Mixed precision: autocast of the forward pass, and the loss scaling that fp16 requires."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Autocast and loss scaling (Micikevicius et al. 2018); fp32 uses neither, bf16 only autocast.

    Softmax, sums and the loss stay in fp32, as do the recurrence steps with a hand-written backward.

    Raises:
        ValueError: fp16 on a CPU.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name == "fp16" and device.type == "cpu":
            raise ValueError("train.precision=fp16 requires a GPU; on a CPU set train.precision=fp32 or bf16")
        self._device, self._type = device, TYPES[name]
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    @contextmanager
    def tf32(self) -> Iterator[None]:
        """Let the fp32 matrix products of a GPU use TF32 in this context, for forward and backward passes.

        The setting is global in torch, so it is restored: translations after a training are computed in fp32.
        """
        before = torch.get_float32_matmul_precision()
        if self._device.type == "cuda":
            torch.set_float32_matmul_precision("high")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    def autocast(self) -> torch.autocast:
        """Return the context manager for a forward pass."""
        return torch.autocast(self._device.type, self._type, enabled=self._type != torch.float32)

    def can_skip(self) -> bool:
        """Return whether a non-finite gradient may be caused by the loss scale.

        The scaler then skips the update and lowers the scale.
        """
        return self.scaler.is_enabled() and self.scaler.get_scale() > 1
