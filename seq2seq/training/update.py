"""One update: forward and backward passes of a group of batches, clipping, optimizer step, average of the weights."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from seq2seq.config import Config
from seq2seq.data.batching import Batch
from seq2seq.data.rows import Rows
from seq2seq.loss import Loss
from seq2seq.model import Seq2Seq
from seq2seq.training.advice import pair_too_large
from seq2seq.training.memory import is_out_of_memory
from seq2seq.training.optimizer import make_average, make_optimizer
from seq2seq.training.precision import Precision
from seq2seq.training.processes import Processes
from seq2seq.training.profile import Profile
from seq2seq.training.state import Progress, Stateful

log = logging.getLogger(__name__)


class PendingUpdate(NamedTuple):
    """An update whose loss has not been checked yet; on a GPU it may not be computed yet."""

    number: int
    group: list[np.ndarray]  # row numbers of each batch, of all processes
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
        progress: of the run; holds the size above which batches are split, because they did not fit into memory.
        processes: of the run, one by default. Each of them computes a part of every batch.
    """

    def __init__(
        self,
        config: Config,
        *,
        model: Seq2Seq,
        precision: Precision,
        rows: Rows,
        progress: Progress | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.config = config
        self.processes = processes or Processes()
        self.progress = progress or Progress()
        self.model = model
        self.precision = precision
        self.rows = rows
        self.optimizer = make_optimizer(config.train, model)
        self.average = make_average(config.train, model)
        self.eval_model = cast(Seq2Seq, self.average.module) if self.average else model  # validated and saved
        self.profile = Profile(model.device) if config.train.profile else None
        self._misfit: tuple[int, int] | None = None  # sentences and positions of a batch that did not fit into memory

    def parts(self) -> dict[str, Stateful]:
        """Return the objects that an update changes, by name."""
        parts: dict[str, Stateful] = {"model": self.model, "optimizer": self.optimizer}
        if self.average:
            parts["average"] = self.average
        if self.precision.scaler.is_enabled():
            parts["scaler"] = self.precision.scaler
        return parts

    def try_batch(self, rows: np.ndarray) -> Batch:
        """Run a batch forward and backward, to find out whether it fits into memory; if not, larger ones will be split.

        The random state is restored afterwards.

        Args:
            rows: row numbers of the batch.

        Returns:
            The part of the batch that this process computes, or the largest part of that which fits on all processes.

        Raises:
            ValueError: even one pair does not fit.
        """
        self.model.train()
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        share = self.processes.share(rows)
        while True:
            part = self.rows.largest(self.rows.split(share if len(share) else rows, self.progress.most_positions))
            batch = self.rows.batch(part)
            with torch.random.fork_rng(devices), self._splitting(part):
                self._loss(batch.to(self.model.device), coverage_weight=1.0).total.backward()
            self.optimizer.zero_grad(set_to_none=True)
            if self._all_fit():
                return batch

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
        tokens = sum(int(self.rows.tgt_lengths[rows].sum()) for rows in group)
        shares = [share for share in map(self.processes.share, group) if len(share)]
        sums = None
        while sums is None:
            parts = [part for share in shares for part in self.rows.split(share, self.progress.most_positions)]
            sums = self._add_up(self._accumulate(parts, tokens=tokens, coverage_weight=coverage_weight))
        norm = self._step()
        self._end_part("optimizer")
        values, copied = self._copy_to_cpu(torch.cat((sums, norm.to(sums).unsqueeze(0))))
        return PendingUpdate(number, group, tokens, values, copied)

    def _loss(self, batch: Batch, *, coverage_weight: float) -> Loss:
        with self.precision.autocast():
            return self.model(batch, smoothing=self.config.loss.label_smoothing, coverage_weight=coverage_weight)

    def _accumulate(self, parts: Sequence[np.ndarray], *, tokens: int, coverage_weight: float) -> list[Loss]:
        """Compute the gradient of the loss per target token, summed over batches or parts of them.

        Args:
            parts: row numbers of each.
            tokens: target tokens of all, those of other processes included.

        Returns:
            The loss of each. If one does not fit into memory, ``_misfit`` is set and the rest is left out.

        Raises:
            ValueError: one pair does not fit.
        """
        losses = []
        self.optimizer.zero_grad(set_to_none=True)
        for part in parts:
            batch = self.rows.batch(part).to(self.model.device)
            self._end_part("data")
            with self._splitting(part):
                loss = self._loss(batch, coverage_weight=coverage_weight)
                self._end_part("output layer")
                self.precision.scaler.scale(loss.total / tokens).backward()
                self._end_part("encoder")
                losses.append(loss)
            if self._misfit:
                break
        if not parts:  # the scaler makes its scale in the first call, and the step requires it
            self.precision.scaler.scale(torch.zeros((), device=self.model.device))
        return losses

    def _add_up(self, losses: Sequence[Loss]) -> Tensor | None:
        """Add the gradients and the losses of all processes.

        A parameter without gradient on all processes stays without one, so that the optimizer does not change it.

        Returns:
            The sums of NLL and of the coverage loss (2,); None if a batch of a process does not fit into memory.
        """
        parameters = list(self.model.parameters())
        if not self._all_fit():
            return None
        sums = _sums(losses, self.model.device)
        has_gradient = self.processes.highest([p.grad is not None for p in parameters])
        trained = [parameter for parameter, has in zip(parameters, has_gradient, strict=True) if has]
        for parameter in trained:
            if parameter.grad is None:  # this process has no row of the batches
                parameter.grad = torch.zeros_like(parameter)
        self.processes.add_up([*(p.grad for p in trained if p.grad is not None), sums])
        return sums

    def _all_fit(self) -> bool:
        """Return whether the batches of all processes fitted into memory; if not, split such batches from now on."""
        if not any(self.processes.highest([self._misfit is not None])):
            return True
        misfits = [misfit for misfit in self.processes.gather(self._misfit) if misfit]
        sentences, positions = min(misfits, key=lambda misfit: misfit[1])
        self._misfit = None
        self.progress.most_positions = positions // 2
        log.warning(
            "a batch of %d sentences with %d positions does not fit into memory; from now on such batches are split, "
            "with the same gradient; train.batch_tokens=%d can be lowered, with a higher train.accumulate",
            sentences,
            positions,
            self.config.train.batch_tokens,
        )
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        return False

    @contextmanager
    def _splitting(self, rows: np.ndarray) -> Iterator[None]:
        """Note a batch that does not fit into memory in ``_misfit``; ``_all_fit`` then lowers the size of batches.

        Raises:
            ValueError: it does not fit and has one pair.
        """
        try:
            with self.precision.tf32():
                yield
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if len(rows) == 1:
                raise ValueError(
                    pair_too_large(self.rows.src_lengths[rows[0]], self.rows.tgt_lengths[rows[0]])
                ) from error
            self._misfit = len(rows), self.rows.positions(rows)

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

    def _copy_to_cpu(self, values: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
        """Start to copy the sums of the losses and the gradient norm to the CPU; see ``PendingUpdate``."""
        values = values.to("cpu", non_blocking=True)
        if self.model.device.type != "cuda":
            return values, None
        copied = torch.cuda.Event()
        copied.record()
        return values, copied

    def _end_part(self, part: str) -> None:
        if self.profile:
            self.profile.end(part)


def _sums(losses: Sequence[Loss], device: torch.device) -> Tensor:
    """Return the sums of NLL and of the coverage loss (2,)."""
    if not losses:
        return torch.zeros(2, device=device)
    return torch.stack(
        (torch.stack([loss.nll for loss in losses]).sum(), torch.stack([loss.coverage for loss in losses]).sum())
    )
