"""One update: forward and backward passes of a group of batches, clipping, optimizer step, average of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from seq2seq.config import Config
from seq2seq.data.batching import Batch
from seq2seq.data.rows import Rows
from seq2seq.loss import Loss
from seq2seq.model import Seq2Seq
from seq2seq.training.advice import advice_when_out_of_memory
from seq2seq.training.optimizer import make_average, make_optimizer
from seq2seq.training.precision import Precision
from seq2seq.training.profile import Profile
from seq2seq.training.state import Stateful


class PendingUpdate(NamedTuple):
    """An update whose loss has not been checked yet; on a GPU it may not be computed yet."""

    number: int
    group: list[np.ndarray]  # row numbers of each batch
    tokens: int  # target tokens of the group
    values: Tensor  # (3,) on the CPU: sum of NLL, sum of the coverage loss, gradient norm
    copied: torch.cuda.Event | None  # end of the copy of ``values`` from a GPU

    def wait(self) -> list[float]:
        """Wait for a GPU, and return the sum of NLL, the sum of the coverage loss and the gradient norm."""
        if self.copied:
            self.copied.synchronize()
        numbers: list[float] = self.values.tolist()
        return numbers


class Updater:
    """Makes updates of a model, with the optimizer, precision and average of the configuration.

    Args:
        rows: the training pairs.
    """

    def __init__(self, config: Config, *, model: Seq2Seq, precision: Precision, rows: Rows) -> None:
        self.config = config
        self.model = model
        self.precision = precision
        self.rows = rows
        self.optimizer = make_optimizer(config.train, model)
        self.average = make_average(config.train, model)
        self.eval_model = cast(Seq2Seq, self.average.module) if self.average else model  # validated and saved
        self.profile = Profile(model.device) if config.train.profile else None

    def parts(self) -> dict[str, Stateful]:
        """Return the objects that an update changes, by name."""
        parts: dict[str, Stateful] = {"model": self.model, "optimizer": self.optimizer}
        if self.average:
            parts["average"] = self.average
        if self.precision.scaler.is_enabled():
            parts["scaler"] = self.precision.scaler
        return parts

    def try_batch(self, batch: Batch) -> None:
        """Run a batch forward and backward, to find out whether it fits into memory.

        The random state is restored afterwards.

        Raises:
            ValueError: it does not fit.
        """
        self.model.train()
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        advice = advice_when_out_of_memory(self.config.train, batch)
        with torch.random.fork_rng(devices), advice, self.precision.tf32():
            self._loss(batch.to(self.model.device), coverage_weight=1.0).total.backward()
        self.optimizer.zero_grad(set_to_none=True)

    def update(
        self, group: list[np.ndarray], *, number: int, learning_rate: float, coverage_weight: float
    ) -> PendingUpdate:
        """Make one update. On a GPU, it returns before the update is computed.

        Args:
            group: row numbers of each batch.
            number: number of the update, from 1.
        """
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = learning_rate
        self.model.train()
        if self.profile:
            self.profile.start()
        batches = [self.rows.batch(rows).to(self.model.device) for rows in group]
        tokens = sum(batch.target_tokens for batch in batches)
        self._end_part("data")
        losses = self._accumulate(batches, tokens=tokens, coverage_weight=coverage_weight)
        norm = self._step()
        self._end_part("optimizer")
        values, copied = self._copy_to_cpu(losses, norm)
        return PendingUpdate(number, group, tokens, values, copied)

    def _loss(self, batch: Batch, *, coverage_weight: float) -> Loss:
        with self.precision.autocast():
            return self.model(batch, smoothing=self.config.loss.label_smoothing, coverage_weight=coverage_weight)

    def _accumulate(self, batches: Sequence[Batch], *, tokens: int, coverage_weight: float) -> list[Loss]:
        """Compute the gradient of the loss per target token, summed over the batches.

        Args:
            tokens: target tokens of all batches.

        Returns:
            The loss of each batch.
        """
        losses = []
        self.optimizer.zero_grad(set_to_none=True)
        for batch in batches:
            with advice_when_out_of_memory(self.config.train, batch), self.precision.tf32():
                loss = self._loss(batch, coverage_weight=coverage_weight)
                self._end_part("output layer")
                self.precision.scaler.scale(loss.total / tokens).backward()
                self._end_part("encoder")
            losses.append(loss)
        return losses

    def _step(self) -> Tensor:
        """Clip the gradient, step the optimizer and update the average; return the gradient norm before clipping."""
        scaler = self.precision.scaler
        scaler.unscale_(self.optimizer)  # before clipping, which compares the norm with train.clip_norm
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.clip_norm or math.inf)
        scaler.step(self.optimizer)
        scaler.update()
        if self.average:
            self.average.update_parameters(self.model)
        return norm

    def _copy_to_cpu(self, losses: Sequence[Loss], norm: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
        """Start to copy the sums of the losses and the gradient norm to the CPU; see ``PendingUpdate``."""
        nll = torch.stack([loss.nll for loss in losses]).sum()
        coverage = torch.stack([loss.coverage for loss in losses]).sum()
        values = torch.stack((nll, coverage, norm.to(nll))).to("cpu", non_blocking=True)
        if self.model.device.type != "cuda":
            return values, None
        copied = torch.cuda.Event()
        copied.record()
        return values, copied

    def _end_part(self, part: str) -> None:
        if self.profile:
            self.profile.end(part)
