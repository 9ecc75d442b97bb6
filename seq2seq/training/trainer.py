"""The training loop.

::

    restore the saved state, if there is one
    run the largest batch once, to see whether it fits into memory
    for each epoch, for each group of train.accumulate batches:
        end the loop at train.max_updates, train.max_epochs or the end of train.patience
        start coverage, if it is due
        set the learning rate
        for each batch of the group: loss / target tokens of the group, backward
        unscale and clip the gradient, step the optimizer, update the average of the weights
        every train.log_every updates: log loss, learning rate, gradient norm, speed and memory
        every train.valid_every updates: validate, save the model if it is the best, save the state
        after SIGINT or SIGTERM: save the state and stop
    save the state, report the best validation score

The loss is summed over the target tokens of all batches of an update and divided by their number.
"""

from __future__ import annotations

import hashlib
import math
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from seq2seq.config import Config
from seq2seq.data.batching import Batch, plan_epoch
from seq2seq.data.corpus import Pair
from seq2seq.data.rows import Rows
from seq2seq.loss import Loss
from seq2seq.model import Seq2Seq
from seq2seq.model_dir import Tokenizers
from seq2seq.training.advice import advice_when_out_of_memory, non_finite_advice
from seq2seq.training.coverage_phase import CoveragePhase, planned_start
from seq2seq.training.display import Display
from seq2seq.training.metrics_log import MetricsLog
from seq2seq.training.optimizer import make_average, make_optimizer
from seq2seq.training.precision import Precision
from seq2seq.training.profile import Profile, peak_memory
from seq2seq.training.reporting import Reporter
from seq2seq.training.run_dir import claim_run
from seq2seq.training.schedule import learning_rate
from seq2seq.training.state import Progress, Stateful, has_state, load_state, save_state
from seq2seq.training.stopping import Stopped, stop_signals
from seq2seq.training.validation import Validator
from seq2seq.translator import Translator


class PendingUpdate(NamedTuple):
    """An update whose loss has not been checked yet; on a GPU it may not be computed yet."""

    number: int
    group: list[np.ndarray]  # row numbers of each batch
    tokens: int  # target tokens of the group
    values: Tensor  # (3,) on the CPU: sum of NLL, sum of the coverage loss, gradient norm
    copied: torch.cuda.Event | None  # end of the copy of ``values`` from a GPU


class Trainer:
    """The loop over updates, with logging, validation, saving and stopping.

    Args:
        run: the run directory. A state saved there is restored.
        rows: the training pairs.
        valid: the validation pairs.

    Raises:
        ValueError: the saved state does not fit the data, or the run directory cannot be written.
    """

    def __init__(
        self,
        config: Config,
        *,
        run: Path,
        model: Seq2Seq,
        precision: Precision,
        tokenizers: Tokenizers,
        rows: Rows,
        valid: Sequence[Pair],
        display: Display,
    ) -> None:
        self.config = config
        self.run = run
        self.model = model
        self.rows = rows
        self.precision = precision
        self.optimizer = make_optimizer(config.train, model)
        self.average = make_average(config.train, model)
        self.eval_model = cast(Seq2Seq, self.average.module) if self.average else model  # validated and saved
        self.parts: dict[str, Stateful] = {"model": model, "optimizer": self.optimizer}
        if self.average:
            self.parts["average"] = self.average
        if precision.scaler.is_enabled():
            self.parts["scaler"] = precision.scaler
        valid_fingerprint = hashlib.sha256(repr(list(map(tuple, valid))).encode()).hexdigest()
        self.data = {"train": rows.fingerprint, "valid": valid_fingerprint}
        self.progress = Progress(covered_from=planned_start(config.loss))
        if has_state(run / "last"):
            self.progress = load_state(run / "last", parts=self.parts, data=self.data)
        claim_run(run, config)  # after everything that may refuse to start the run
        self.metrics_log = MetricsLog(run / "metrics.jsonl", self.progress.metrics_size)
        self.reporter = Reporter(config, display=display, log=self.metrics_log)
        coverage_parameters = model.decoder.attention.coverage_parameters()
        self.coverage = CoveragePhase(config, progress=self.progress, parameters=coverage_parameters)
        limit = config.data.max_source_length
        translator = Translator(self.eval_model, tokenizers, config.search, max_source_length=limit, warns=False)
        self.validator = Validator(config, run=run, progress=self.progress, translator=translator, pairs=valid)
        self.saved_update = self.progress.update
        self.pending: PendingUpdate | None = None
        self.gradient_norm = math.nan  # of the last checked update
        self.profile = Profile(model.device) if config.train.profile else None

    def run_updates(self) -> float:
        """Train until a limit, patience or a signal ends the run.

        Returns:
            The best validation score, in train.metric.

        Raises:
            ValueError: the loss is not finite, or a batch does not fit into memory.
            Stopped: SIGINT or SIGTERM; the state is saved.
        """
        progress, reporter = self.progress, self.reporter
        reporter.start(progress)
        self._try_largest_batch()
        if self.profile:
            self.model.passed = self.profile.part_ended
        reporter.display.start(progress.update, self.config.train.max_updates)
        with stop_signals() as signals:
            try:
                self._loop(signals)
                self._finish()
            finally:
                reporter.display.stop()
                if self.profile and self.profile.updates:
                    for line in self.profile.lines():
                        reporter.display.print(line)
        if self.coverage.is_pending():
            reporter.coverage_never_started(progress.covered_from)
        reporter.end(progress, self.run)
        assert progress.best is not None
        return progress.best

    def _loop(self, signals: list[int]) -> None:
        """Make updates, with logging, validation and saving between them, until the run ends."""
        config, progress = self.config.train, self.progress
        for group in self._groups():
            if self.coverage.advance():
                self.reporter.coverage_starts(progress.update)
            self._update(group)
            if progress.update % config.log_every == 0:
                self._log()
            if progress.update % config.valid_every == 0:
                self._validate()
                self._save()
            if signals:
                self._save()
                raise Stopped(
                    signals[0],
                    f"{signal.Signals(signals[0]).name}: stopped after update {progress.update:,}, everything is saved "
                    f"in {self.run}; the same command continues the run",
                )
        if not self._has_reached_limit():
            self.reporter.patience_ended(progress)

    def _finish(self) -> None:
        """Save the last updates; validate if no validation counts yet."""
        progress = self.progress
        if self.saved_update < progress.update:
            self._save()
        if progress.best is None:
            self._validate()  # not part of the saved state, since a longer run would not validate here
        else:
            self.reporter.not_validated(progress.update % self.config.train.valid_every)

    def _has_reached_limit(self) -> bool:
        """Return whether train.max_updates or train.max_epochs ends the run."""
        config, progress = self.config.train, self.progress
        has_all_epochs = config.max_epochs > 0 and progress.epoch >= config.max_epochs
        return progress.update >= config.max_updates or has_all_epochs

    def _has_ended(self) -> bool:
        """Return whether a limit or patience ends the run. Patience does not end it while coverage is pending."""
        patience_has_ended = self.progress.patience_has_ended(self.config.train.patience)
        return self._has_reached_limit() or (patience_has_ended and not self.coverage.is_pending())

    def _groups(self) -> Iterator[list[np.ndarray]]:
        """Yield the row numbers of the batches of each update, until the run ends."""
        progress = self.progress
        while True:
            plan = self._plan_epoch()
            while progress.position < len(plan):
                if self._has_ended():
                    return
                group = plan[progress.position : progress.position + self.config.train.accumulate]
                progress.position += len(group)
                yield group
            progress.epoch += 1
            progress.position = 0

    def _plan_epoch(self) -> list[np.ndarray]:
        """Return the row numbers of each batch of the current epoch."""
        config, rows, epoch = self.config.train, self.rows, self.progress.epoch
        rows.start_epoch(epoch)
        return plan_epoch(
            rows.src_lengths, rows.tgt_lengths, batch_tokens=config.batch_tokens, seed=config.seed, epoch=epoch
        )

    def _try_largest_batch(self) -> None:
        """Run the largest batch forward and backward, to fail early if it does not fit, and report the peak memory.

        The random state is restored afterwards.
        """

        def size(rows: np.ndarray) -> int:
            return len(rows) * int(self.rows.src_lengths[rows].max() + self.rows.tgt_lengths[rows].max())

        batch = self.rows.batch(max(self._plan_epoch(), key=size))
        self.model.train()
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.random.fork_rng(devices), advice_when_out_of_memory(self.config.train, batch):
            self._loss(batch.to(self.model.device), coverage_weight=1.0).total.backward()
        self.optimizer.zero_grad(set_to_none=True)
        self.reporter.largest_batch(batch, peak_memory(self.model.device))

    def _loss(self, batch: Batch, *, coverage_weight: float) -> Loss:
        with self.precision.autocast():
            return self.model(batch, smoothing=self.config.loss.label_smoothing, coverage_weight=coverage_weight)

    def _update(self, group: list[np.ndarray]) -> None:
        """Make one update from a group of batches."""
        started = time.perf_counter()
        self._set_learning_rate()
        self.model.train()
        if self.profile:
            self.profile.start()
        batches = [self.rows.batch(rows).to(self.model.device) for rows in group]
        tokens = sum(batch.target_tokens for batch in batches)
        self._end_part("data")
        losses = self._accumulate(batches, tokens)
        norm = self._step()
        self._end_part("optimizer")
        self.progress.update += 1
        values, copied = self._copy_to_cpu(losses, norm)
        self.progress.seconds += time.perf_counter() - started
        self._check_pending()  # the previous update, while a GPU computes this one
        self.pending = PendingUpdate(self.progress.update, group, tokens, values, copied)
        if copied is None:
            self._check_pending()

    def _set_learning_rate(self) -> None:
        rate = learning_rate(self.config.train, self.progress.update + 1, self.progress.plateaus)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate

    def _accumulate(self, batches: Sequence[Batch], tokens: int) -> list[Loss]:
        """Compute the gradient of the loss per target token, summed over the batches.

        Args:
            tokens: target tokens of all batches.

        Returns:
            The loss of each batch.
        """
        losses, coverage_weight = [], self.coverage.weight()
        self.optimizer.zero_grad(set_to_none=True)
        for batch in batches:
            with advice_when_out_of_memory(self.config.train, batch):
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

    def _check_pending(self) -> None:
        """Wait for the values of the last update, check them and add them to the progress.

        Runs before anything is logged, validated or saved.

        Raises:
            ValueError: the loss or the gradient norm is not finite.
        """
        if self.pending is None:
            return
        started = time.perf_counter()
        (number, group, tokens, values, copied), progress = self.pending, self.progress
        if copied:
            copied.synchronize()
        nll, coverage, self.gradient_norm = values.tolist()
        progress.seconds += time.perf_counter() - started
        if not math.isfinite(nll) or (not math.isfinite(self.gradient_norm) and not self.precision.can_skip()):
            lines = self.rows.line_numbers(np.concatenate(group))
            clipping = " or train.clip_norm" if self.config.train.clip_norm else ", or set train.clip_norm"
            raise ValueError(
                f"the loss and the gradient norm of update {number} must be finite, but are {nll / tokens} and "
                f"{self.gradient_norm} in the batch of training lines {', '.join(map(str, lines[:20]))}"
                f"{', ...' if len(lines) > 20 else ''}; {non_finite_advice(self.run, progress)}{clipping}"
            )
        progress.nll += nll
        progress.coverage += coverage
        progress.tokens += tokens
        self.pending = None

    def _log(self) -> None:
        """Report the updates since the last call."""
        self._check_pending()
        self.reporter.updates(
            self.progress,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            gradient_norm=self.gradient_norm,
            peak_memory=peak_memory(self.model.device),
        )
        self.progress.reset_sums()

    def _validate(self) -> None:
        """Validate, save the model if it is the best so far, and report the scores."""
        self._check_pending()
        result = self.validator.score()
        is_best = self.validator.record(result)
        self.reporter.validation(self.progress.update, result, is_best=is_best)

    def _save(self) -> None:
        """Save the state of the run."""
        self._check_pending()
        self.progress.metrics_size = self.metrics_log.size
        save_state(self.run / "last", self.progress, parts=self.parts, data=self.data)
        self.saved_update = self.progress.update
