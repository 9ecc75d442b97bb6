"""The environment of the program, for reports of errors: versions, processor, threads, memory, GPU."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import torch

from seq2seq import __version__
from seq2seq.device import PrecisionChoice, cpu_supports, find_device
from seq2seq.training.auto_precision import choose_precision

PACKAGES: tuple[str, ...] = (
    *("numpy", "sentencepiece", "datasets", "hydra-core", "sacrebleu", "safetensors"),
    *("matplotlib", "fastapi", "uvicorn", "huggingface-hub", "onnx", "onnxruntime"),
)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY")


def describe_environment() -> dict[str, Any]:
    """Return plain values, for JSON; None where something is not there. No value is a path."""
    return {
        "seq2seq": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "packages": {name: _version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": {
            "capability": torch.backends.cpu.get_cpu_capability(),
            "amx": cpu_supports("_is_amx_tile_supported"),
            "avx512_bf16": cpu_supports("_is_avx512_bf16_supported"),
            "cores": os.cpu_count(),
        },
        "threads": {
            "torch": torch.get_num_threads(),
            **{name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        },
        "memory_gib": _memory(),
        "gpu": _gpus(),
        "precision": choose_precision(find_device("auto"))._asdict(),
    }


def environment_lines(found: dict[str, Any]) -> list[str]:
    """Format the values of ``describe_environment`` as lines of text."""
    cpu = found["cpu"]
    features = [name for name in ("amx", "avx512_bf16") if cpu[name]]
    memory = "unknown" if found["memory_gib"] is None else f"{found['memory_gib']} GiB"
    return [
        *(f"{name}: {found[name]}" for name in ("seq2seq", "python", "torch", "system")),
        f"cpu: {cpu['capability']}, {', '.join(features) or 'neither AMX nor AVX512-BF16'}; {cpu['cores']} cores",
        f"threads: {', '.join(f'{name} {value}' for name, value in found['threads'].items())}",
        f"memory: {memory}",
        f"gpu: {'; '.join(found['gpu']) or 'none'}",
        PrecisionChoice(**found["precision"]).line("train.precision"),
        *(f"{name}: {version or 'not installed'}" for name, version in found["packages"].items()),
    ]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _memory() -> float | None:
    """Return the memory of the machine in GiB; None where the system does not tell it."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def _gpus() -> list[str]:
    """Describe every GPU that torch can use."""
    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    version = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"
    return [f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, {version}" for gpu in found]
