"""Mixed precision: which products are made in half precision, and the scaling of the loss that fp16 needs."""

from __future__ import annotations

import torch

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Autocast and a scaler of the loss (Micikevicius et al. 2018), which do nothing where they are not needed.

    Softmax, sums and the loss stay in fp32, and so do the steps of recurrences that have a backward of their own. On a GPU,
    fp32 products may use TF32.

    Raises:
        ValueError: fp16 on a CPU.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name == "fp16" and device.type == "cpu":
            raise ValueError("train.precision=fp16 needs a GPU; on a CPU set train.precision=fp32 or bf16")
        if device.type == "cuda":
            torch.set_float32_matmul_precision("high")
        self._device, self._type = device, TYPES[name]
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> torch.autocast:
        """The context of a forward pass."""
        return torch.autocast(self._device.type, self._type, enabled=self._type != torch.float32)

    def can_skip(self) -> bool:
        """Whether a gradient that is not finite may be the scale's fault: the update is left out, the scale lowered."""
        return self.scaler.is_enabled() and self.scaler.get_scale() > 1
