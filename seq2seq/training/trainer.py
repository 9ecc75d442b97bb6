"""The training loop.

::

    restore the saved state, if there is one
    run the largest batch once, to see whether it fits into memory
    for each epoch, for each group of train.accumulate batches:
        end the loop at train.max_updates or train.max_epochs, or when train.patience is used up
        start coverage, if it is due
        set the learning rate
        for each batch of the group: loss / target tokens of the group, backward
        unscale and clip the gradient, step the optimizer, update the average of the weights
        check that loss and gradient norm are finite; on a GPU, during the next update
        every train.log_every updates: log loss, learning rate, gradient norm, speed and memory
        every train.valid_every updates: validate, save the model if it is the best, save the state
        after SIGINT or SIGTERM: save the state and stop
    save the state, report the best validation score

The loss is summed over the target tokens of all batches of an update and divided by their number. If several processes
train together, each computes a part of every batch and of the validation; see ``seq2seq.training.processes``.
"""

from __future__ import annotations

import hashlib
import math
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from seq2seq.config import Config
from seq2seq.data.corpus import Pair
from seq2seq.data.rows import Rows
from seq2seq.model import Seq2Seq
from seq2seq.model_dir import Tokenizers
from seq2seq.training.advice import non_finite_advice
from seq2seq.training.coverage_phase import CoveragePhase, planned_start
from seq2seq.training.display import Display
from seq2seq.training.metrics_log import NoLog
from seq2seq.training.precision import Precision
from seq2seq.training.processes import Processes, separate_random_numbers
from seq2seq.training.profile import peak_memory
from seq2seq.training.reporting import Reporter
from seq2seq.training.run_dir import find_changes, find_run, open_log, write_config
from seq2seq.training.schedule import learning_rate
from seq2seq.training.state import Progress, has_state, load_state, save_state
from seq2seq.training.stopping import Stopped, stop_signals
from seq2seq.training.tracking import make_tracker
from seq2seq.training.update import PendingUpdate, Updater
from seq2seq.training.validation import Validator


class Trainer:
    """The loop over updates, with logging, validation, saving and stopping.

    Args:
        run: the run directory. A state saved there is restored.
        rows: the training pairs.
        valid: the validation pairs.
        processes: that train the model together, one by default.

    Raises:
        ValueError: another run trains in the run directory, the saved state does not fit the settings or the data, the
            run directory cannot be written, or the processes have different data.
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
        processes: Processes | None = None,
    ) -> None:
        self.config = config
        self.processes = processes or Processes()
        self.run = run
        self.model = model
        self.rows = rows
        self.updater = Updater(config, model=model, precision=precision, rows=rows, processes=self.processes)
        self.parts = self.updater.parts()
        valid_fingerprint = hashlib.sha256(repr(list(map(tuple, valid))).encode()).hexdigest()
        self.data = {"train": rows.fingerprint, "valid": valid_fingerprint}
        self.progress = Progress(covered_from=planned_start(config.loss))
        self.pending: PendingUpdate | None = None
        # locks the run; nothing else of it is written before this
        self.metrics_log = open_log(run) if self.processes.is_first else NoLog()
        try:
            self.processes.check_same({"the training data": rows.fingerprint, "the validation data": valid_fingerprint})
            self._restore(display)
            tracker = config.train.track if self.processes.is_first else "none"
            self.tracker = make_tracker(tracker, run, self.progress.update)
        except BaseException:
            self.metrics_log.discard()
            raise
        self.updater.progress = self.progress
        self.reporter = Reporter(config, display=display, log=self.metrics_log, tracker=self.tracker)
        coverage_parameters = [p for p in model.decoder.coverage_parameters() if p.requires_grad]  # not frozen
        self.coverage = CoveragePhase(config, progress=self.progress, parameters=coverage_parameters)
        self.validator = Validator(
            config,
            run=run,
            progress=self.progress,
            model=self.updater.eval_model,
            tokenizers=tokenizers,
            pairs=valid,
            length_limit=rows.length_limit,
            processes=self.processes,
        )
        self.saved_update = self.progress.update
        self.gradient_norm = math.nan  # of the last checked update

    def _restore(self, display: Display) -> None:
        """Restore the saved state if there is one, write and print changed settings, and write the configuration.

        The settings are compared again, since another process may have written to the run before it was locked.

        Raises:
            ValueError: the state does not fit the settings or the data, or the run directory cannot be written.
        """
        processes, last = self.processes, self.run / "last"
        processes.from_first(lambda: find_run(self.config))
        changes = processes.from_first(lambda: find_changes(self.run, self.config))
        separate_random_numbers(processes.rank)
        if processes.from_first(lambda: has_state(last)):
            self.progress = load_state(last, parts=self.parts, data=self.data, processes=processes)
        processes.copy_from_first(self.parts)
        self.metrics_log.truncate(self.progress.metrics_size)
        if changes:
            for change in changes:
                display.print(f"changed after update {self.progress.update:,}: {change}")
            values = {change.key: {"before": change.before, "now": change.now} for change in changes}
            self.metrics_log.write({"update": self.progress.update, "changed": values})
            self._save()  # the record is part of the saved state before config.yaml holds the new settings
        processes.from_first(lambda: write_config(self.run, self.config))

    def run_updates(self) -> float:
        """Train until a limit is reached, train.patience is used up, or a signal arrives.

        Returns:
            The best validation score, in train.metric.

        Raises:
            ValueError: the loss is not finite, or a pair does not fit into memory.
            Stopped: SIGINT or SIGTERM; the state is saved.
        """
        progress, reporter, profile = self.progress, self.reporter, self.updater.profile
        reporter.start(progress)
        self.processes.start_updates()
        self._try_largest_batch()
        if profile:
            self.model.part_ended = profile.part_ended
        reporter.display.start(progress.update, self.config.train.max_updates)
        with stop_signals() as signals:
            try:
                self._loop(signals)
                self._finish()
            finally:
                reporter.display.stop()
                if profile and profile.updates:
                    for line in profile.lines():
                        reporter.display.print(line)
        self.processes.end_updates()
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
            (number,) = self.processes.highest([*signals, 0][:1])  # any process may have been sent a signal
            if number:
                self._save()
                raise Stopped(
                    number,
                    f"{signal.Signals(number).name}: stopped after update {progress.update:,}, everything is saved "
                    f"in {self.run}; the same command continues the run",
                )
        if not self._has_reached_limit():
            self.reporter.patience_ended(progress)

    def _finish(self) -> None:
        """Save the last updates; validate if there was no validation that counts."""
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
        """Return whether the run has ended by a limit or by train.patience, which does not count while coverage is pending."""
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
        config = self.config.train
        with self.processes.uneven_work():  # random segmentations tokenize all pairs
            return self.rows.plan(batch_tokens=config.batch_tokens, seed=config.seed, epoch=self.progress.epoch)

    def _try_largest_batch(self) -> None:
        """Try the largest batch, so that a run that does not fit into memory fails at its start; print the peak memory."""
        batch = self.updater.try_batch(self.rows.largest(self._plan_epoch()))
        self.reporter.largest_batch(batch, peak_memory(self.model.device))

    def _update(self, group: list[np.ndarray]) -> None:
        """Make one update from a group of batches."""
        started = time.perf_counter()
        progress, number = self.progress, self.progress.update + 1
        rate = learning_rate(self.config.train, number, progress.plateaus)
        weight = self.coverage.weight()
        update = self.updater.update(group, number=number, learning_rate=rate, coverage_weight=weight)
        progress.update = number
        progress.seconds += time.perf_counter() - started
        self._check_pending()  # checks the previous update; a GPU computes this one in the meantime
        self.pending = update
        if update.copied is None:
            self._check_pending()

    def _check_pending(self) -> None:
        """Wait for the values of the pending update, check them and add them to the progress.

        Runs before anything is logged, validated or saved.

        Raises:
            ValueError: the loss or the gradient norm is not finite.
        """
        if self.pending is None:
            return
        started = time.perf_counter()
        update, progress = self.pending, self.progress
        nll, coverage, self.gradient_norm = update.wait()
        progress.seconds += time.perf_counter() - started
        if not math.isfinite(nll) or (not math.isfinite(self.gradient_norm) and not self.updater.precision.can_skip()):
            lines = self.rows.line_numbers(np.concatenate(update.group))
            clipping = " or train.clip_norm" if self.config.train.clip_norm else ", or set train.clip_norm"
            raise ValueError(
                f"the loss and the gradient norm of update {update.number} must be finite, but are "
                f"{nll / update.tokens} and {self.gradient_norm} in the batch of training lines "
                f"{', '.join(map(str, lines[:20]))}{', ...' if len(lines) > 20 else ''}; "
                f"{non_finite_advice(self.run)}{clipping}"
            )
        progress.nll += nll
        progress.coverage += coverage
        progress.tokens += update.tokens
        self.pending = None

    def _log(self) -> None:
        """Report the updates since the last call."""
        self._check_pending()
        self.reporter.updates(
            self.progress,
            learning_rate=self.updater.optimizer.param_groups[0]["lr"],
            gradient_norm=self.gradient_norm,
            peak_memory=peak_memory(self.model.device),
        )
        self.progress.reset_sums()

    def _validate(self) -> None:
        """Validate, save the model if it is the best so far, and report the scores."""
        self._check_pending()
        self.processes.copy_from_first(self.parts)  # on different processors, the weights differ by rounding
        with self.processes.uneven_work():
            result = self.validator.score()
            is_best = self.validator.record(result)
        self.reporter.validation(self.progress.update, result, is_best=is_best)

    def _save(self) -> None:
        """Save the state of the run."""
        self._check_pending()
        self.metrics_log.sync()  # the saved state refers to these records
        self.progress.metrics_size = self.metrics_log.size
        save_state(self.run / "last", self.progress, parts=self.parts, data=self.data, processes=self.processes)
        self.saved_update = self.progress.update
