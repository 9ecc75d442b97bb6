"""Describe the machine that a benchmark runs on."""

from __future__ import annotations

import datetime
import os
import platform

import torch


def machine() -> dict[str, object]:
    """Return the date and the properties of the machine that measurements depend on."""
    return {
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
