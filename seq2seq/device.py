"""The device that a model computes on."""

from __future__ import annotations

import torch


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
