"""The device that a model computes on, and the precision that suits it."""

from __future__ import annotations

from typing import NamedTuple

import torch


class PrecisionChoice(NamedTuple):
    """A precision and the reason for it."""

    name: str
    reason: str

    def line(self, setting: str) -> str:
        """Format the choice for a setting whose value is auto as a line of text."""
        return f"{setting}=auto: {self.name}, because {self.reason}"


# Of the products of the output layer in search, by whether the CPU has instructions for bf16 (AMX or AVX512-BF16).
# With AVX512-BF16, a search is about 1.2 times as fast in bf16 (docs/results.md).
SEARCH_CHOICES = {
    True: PrecisionChoice("bf16", "the CPU has instructions for bf16, with which it is faster"),
    False: PrecisionChoice("fp32", "the CPU has no instructions for bf16, without which it is slower"),
}


def choose_search_precision(device: torch.device) -> PrecisionChoice:
    """Return the precision of a search with ``search.precision=auto``."""
    if device.type != "cpu":
        return PrecisionChoice("fp32", "the products of the output layer take little time on a GPU")
    return SEARCH_CHOICES[any(cpu_supports(name) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))]


def cpu_supports(name: str) -> bool | None:
    """Ask torch for a feature of the processor by the name of a function; None if this version of torch lacks it."""
    question = getattr(torch.cpu, name, None)
    return None if question is None else bool(question())


def find_device(name: str | torch.device) -> torch.device:
    """Return the device of that name; ``auto`` is the GPU if there is one.

    Args:
        name: auto, cpu, cuda, cuda:N, or a torch.device of one of these types.

    Raises:
        ValueError: an unknown name, or a GPU that does not exist.
    """
    if isinstance(name, str) and name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name) if isinstance(name, str | torch.device) else None
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"the device must be one of auto, cpu, cuda and cuda:N, but is {name}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"the device is {name}, but torch finds no GPU here; choose cpu or auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"the device is {name}, but the last GPU is cuda:{torch.cuda.device_count() - 1}")
    return device
