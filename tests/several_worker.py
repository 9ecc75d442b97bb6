"""The program of each process of ``several``: seq2seq train with a record and with faults.

It appends to pairs-RANK.jsonl, for every update, the update, the epoch and the row numbers that this process computes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import datasets
import torch
import torch._dynamo  # the first step of an optimizer imports it, which takes seconds

from seq2seq.commands.app import main
from seq2seq.data.rows import Rows
from seq2seq.model import Seq2Seq
from seq2seq.training import processes
from seq2seq.training.update import Updater
from seq2seq.training.validation import Validator


def run(folder: Path, rank: int, environment: dict[str, str], arguments: list[str], faults: dict[str, Any]) -> None:
    """Run ``seq2seq`` in a new process; its output goes to out-RANK and err-RANK.

    Args:
        faults: ``kill_at``, ``stop_at``, ``fail_at``: updates made before SIGKILL, SIGTERM or an error; ``most``: positions
            that fit into memory; ``gradients``: save the weights before every update and its gradient; ``lost_after``:
            seconds in place of ``LOST_AFTER``; ``delay``: seconds that planning an epoch and scoring a validation take.
    """
    os.chdir(folder)
    os.environ.update(environment)
    for stream, name in ((1, "out"), (2, "err")):
        file = os.open(f"{name}-{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, stream)
    warnings.simplefilter("ignore")
    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    _inject(rank, faults)
    sys.argv = ["seq2seq", *arguments]
    main()


def _inject(rank: int, faults: dict[str, Any]) -> None:
    accumulate, step, forward = Updater._accumulate, Updater._step, Seq2Seq.forward

    def record(updater: Updater, parts: Any, **options: Any) -> Any:
        update, epoch = updater.progress.update, updater.progress.epoch
        with Path(f"pairs-{rank}.jsonl").open("a") as file:
            file.write(json.dumps([update, epoch, [int(row) for part in parts for row in part]]) + "\n")
        if update == faults.get("kill_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        if update == faults.get("stop_at"):
            os.kill(os.getpid(), signal.SIGTERM)
        if update == faults.get("fail_at"):
            raise ValueError("a wrong value")
        return accumulate(updater, parts, **options)

    def save(updater: Updater) -> Any:
        if faults.get("gradients"):
            weights = {name: p.detach().clone() for name, p in updater.model.named_parameters()}
            gradients = {name: p.grad for name, p in updater.model.named_parameters()}
            torch.save([weights, gradients], f"gradients-{updater.progress.update}.pt")
        return step(updater)

    def limited(model: Any, batch: Any, **options: Any) -> Any:
        if model.training and len(batch.src) * (batch.src.shape[1] + batch.tgt_out.shape[1]) > faults["most"]:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return forward(model, batch, **options)

    replaced: list[tuple[Any, str, Any]] = [(Updater, "_accumulate", record), (Updater, "_step", save)]
    if "most" in faults:
        replaced.append((Seq2Seq, "forward", limited))
    if "lost_after" in faults:
        replaced.append((processes, "LOST_AFTER", timedelta(seconds=faults["lost_after"])))
    if "delay" in faults:
        slow = [(Rows, "plan", Rows.plan), (Validator, "_result", Validator._result)]
        replaced += [(owner, name, _delayed(function, faults["delay"])) for owner, name, function in slow]
    for owner, name, function in replaced:
        setattr(owner, name, function)


def _delayed(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    def delayed(*arguments: Any, **options: Any) -> Any:
        time.sleep(seconds)
        return function(*arguments, **options)

    return delayed
