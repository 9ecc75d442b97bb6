"""``train.precision=auto``: the precision that suits the device, chosen when a run starts and kept when it continues."""

from __future__ import annotations

import dataclasses

import torch

from seq2seq.config import Config, TrainConfig
from seq2seq.device import PrecisionChoice, cpu_supports
from seq2seq.files import expand_home
from seq2seq.training.precision import TYPES
from seq2seq.training.processes import Processes
from seq2seq.training.run_dir import read_run_settings
from seq2seq.training.state import has_state, new_run_advice

# By the type of the device, and by whether it computes products in bf16.
# cuda: BLEU on Multi30k is 37.94 in bf16 and 37.91 in fp32 (docs/results.md). No score was measured in fp16.
# cpu: with AMX, an update at hidden 256 is 1.26 (plain) to 1.39 times (copying and coverage) as fast in bf16.
PRECISION_CHOICES = {
    ("cuda", True): PrecisionChoice("bf16", "the GPU supports bf16, with the scores of fp32"),
    ("cuda", False): PrecisionChoice("fp32", "the GPU does not support bf16, and fp16 can overflow"),
    ("cpu", True): PrecisionChoice("bf16", "the CPU has AMX, with which bf16 is faster"),
    ("cpu", False): PrecisionChoice("fp32", "the CPU has no AMX, without which bf16 is not faster"),
}


def choose_precision(device: torch.device) -> PrecisionChoice:
    """Return the choice for a device. A GPU that only emulates bf16 does not support it."""
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bf16 = bool(cpu_supports("_is_amx_tile_supported"))
    return PRECISION_CHOICES[device.type, has_bf16]


def with_precision(
    config: Config, device: torch.device, processes: Processes | None = None
) -> tuple[Config, list[str]]:
    """Replace ``train.precision=auto`` by the precision of the run that the configuration continues, or by a choice.

    Args:
        processes: of the run, one by default. They use bf16 only if all of them choose it.

    Returns:
        The configuration, and a line about the precision; no line if the precision was given.

    Raises:
        ValueError: the saved configuration of the run is damaged.
    """
    if config.train.precision != "auto":
        return config, []
    processes = processes or Processes()
    saved = processes.from_first(lambda: _saved_precision(config))
    if saved is None:
        choice = _common_choice(processes.gather(choose_precision(device)))
    else:
        choice = PrecisionChoice(saved, "the run started with it")
    resolved = dataclasses.replace(config.train, precision=choice.name)
    return dataclasses.replace(config, train=resolved), [choice.line("train.precision")]


def _common_choice(choices: list[PrecisionChoice]) -> PrecisionChoice:
    """Return the choice of all processes, or fp32 with the reason of the first process that chooses it."""
    names = [choice.name for choice in choices]
    if len(set(names)) == 1:
        return choices[0]
    rank = names.index("fp32")
    return PrecisionChoice("fp32", f"in process {rank} {choices[rank].reason}")


def _saved_precision(config: Config) -> str | None:
    """Return the precision that the run directory was saved with; None if it holds no state or no such setting.

    A run of a version without this setting computed in its default. ``find_run`` reports a value that is no precision.
    """
    run = expand_home(config.run_dir)
    if not has_state(run / "last"):
        return None
    train = read_run_settings(run, advice=f"restore it, or {new_run_advice(run)}").get("train", {})
    saved = train.get("precision", TrainConfig().precision) if isinstance(train, dict) else None
    return saved if saved in TYPES else None
