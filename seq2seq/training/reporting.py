"""Reports of a run: progress lines on the terminal and records in metrics.jsonl."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seq2seq.config import Config
from seq2seq.data.batching import Batch
from seq2seq.metrics.scores import Score
from seq2seq.training.display import Display
from seq2seq.training.metrics_log import RunLog
from seq2seq.training.state import Progress
from seq2seq.training.tracking import NoTracker, Tracker
from seq2seq.training.validation import ValidationResult


class Reporter:
    """Prints the progress of a run and writes its records to metrics.jsonl."""

    def __init__(self, config: Config, *, display: Display, log: RunLog, tracker: Tracker | None = None) -> None:
        self.config = config
        self.display = display
        self.log = log
        self.tracker = tracker or NoTracker()

    def record(self, values: dict[str, Any]) -> None:
        """Write a record to metrics.jsonl and to the tracker."""
        self.log.write(values)
        self.tracker.write(values)

    def start(self, progress: Progress) -> None:
        """Print the update after which the run continues, if it continues."""
        if progress.update:
            self.display.print(f"continuing after update {progress.update:,}, epoch {progress.epoch + 1}")

    def largest_batch(self, batch: Batch, peak_memory: int) -> None:
        """Print the size of the largest batch and the peak memory after its forward and backward pass."""
        self.display.print(
            f"the largest batch has {len(batch.src)} sentences of up to {batch.src.shape[1]} source and "
            f"{batch.tgt_out.shape[1]} target pieces; peak memory {peak_memory / 2**30:.1f} GiB, without the optimizer"
        )

    def updates(self, progress: Progress, *, learning_rate: float, gradient_norm: float, peak_memory: int) -> None:
        """Write and print the means since the previous call, and the values of the last update."""
        loss, coverage = progress.nll / progress.tokens, progress.coverage / progress.tokens
        speed = progress.tokens / progress.seconds
        self.record(
            {
                "update": progress.update,
                "epoch": progress.epoch + 1,
                "loss": loss,
                **({} if self.config.model.coverage == "none" else {"coverage_loss": coverage}),
                "learning_rate": learning_rate,
                "gradient_norm": _as_json(gradient_norm),  # fp16 skips an update whose gradient is not finite
                "tokens_per_second": round(speed, 1),
                "peak_memory": peak_memory,
            }
        )
        text = f"epoch {progress.epoch + 1}  loss {loss:.3f}  {speed:,.0f} tok/s  {peak_memory / 2**30:.1f} GiB"
        text += f"  gradient norm {gradient_norm:.2f}"
        self.display.update(progress.update, text)

    def validation(self, update: int, result: ValidationResult, *, is_best: bool) -> None:
        """Write and print the scores of a validation."""
        self.record(
            {
                "update": update,
                **{f"valid_{name}": _as_json(number) for name, number in result.values().items()},
                "valid_cut": result.cut,
                "best": is_best,
                **signatures(result.scores()),
            }
        )
        chosen = f"  {result.chosen[1].name} {result.chosen[1].score:.2f}" if result.chosen else ""
        self.display.print(
            f"update {update:,}  validation: BLEU {result.bleu.score:.2f}  chrF {result.chrf.score:.2f}{chosen}  "
            f"loss {result.loss:.3f}" + ("  (best)" if is_best else "")
        )
        for translation, reference in result.samples:
            self.display.print(f"  translation: {translation}")
            self.display.print(f"  reference:   {reference}")
        if result.cut:
            self.display.print(f"  {result.cut:,} of the validation translations were cut at the maximum length")

    def test(self, results: Sequence[Score], loss: float | None) -> None:
        """Write and print the scores of the test files.

        Args:
            loss: the loss on the test files; None if it is not train.metric.
        """
        values = {result.name: result.score for result in results}
        if loss is not None:
            values["loss"] = loss
        self.record({f"test_{name}": _as_json(value) for name, value in values.items()} | signatures(results))
        for result in results:
            self.display.print(f"test {result.name} = {result.score:.2f}  {result.signature}")
        if loss is not None:
            self.display.print(f"test loss = {loss:.3f}")

    def coverage_starts(self, update: int) -> None:
        """Print that coverage starts."""
        self.display.print(
            f"coverage starts after update {update:,}; the best score so far is discarded; "
            "from now on only models with coverage are compared"
        )

    def patience_ended(self, progress: Progress) -> None:
        """Print why the run ends."""
        self.display.print(
            f"stopping early: no improvement in {progress.without_gain} validations "
            f"(train.patience={self.config.train.patience})"
        )

    def not_validated(self, updates: int) -> None:
        """Print that the last updates were not validated; nothing if there are none."""
        every = self.config.train.valid_every
        if updates:
            self.display.print(
                f"the last {updates:,} updates were not validated, so the saved model does not include them; "
                f"lower train.valid_every={every}, or end the run at a multiple of it"
            )

    def coverage_never_started(self, start: int | None) -> None:
        """Print that the run ended before coverage started."""
        setting = "train.patience" if self.config.loss.coverage_start < 0 else f"loss.coverage_start={start}"
        self.display.print(f"coverage never started; raise train.max_updates or lower {setting}")

    def end(self, progress: Progress, run: Path) -> None:
        """Print a table of the validations, the best score, and where its model is saved."""
        for line in self._validations(progress.best_update):
            self.display.print(line)
        self.display.print(
            f"trained for {progress.update:,} updates; best {self.config.train.metric} {progress.best:.2f} "
            f"at update {progress.best_update:,}, saved in {run / 'model'}"
        )

    def _validations(self, best_update: int) -> list[str]:
        """Return a table of all validations of the run, from metrics.jsonl."""
        records = [record for record in self.log.records() if "valid_loss" in record]
        names = [key for key in records[0] if key.startswith("valid_") and key != "valid_cut"] if records else []
        lines = (
            ["  ".join([f"{'update':>9}", *(f"{name.removeprefix('valid_'):>10}" for name in names)])]
            if records
            else []
        )
        for record in records:
            numbers = ["-" if record.get(name) is None else f"{record[name]:.3f}" for name in names]
            best = "  (best)" if record["update"] == best_update else ""
            lines.append("  ".join([f"{record['update']:>9,}", *(f"{number:>10}" for number in numbers)]) + best)
        return lines


def _as_json(number: float) -> float | None:
    """Replace NaN and infinity, which JSON does not have, by None."""
    return number if math.isfinite(number) else None


def signatures(scores: Sequence[Score]) -> dict[str, dict[str, str]]:
    """The signatures of scores, as an entry of a record of metrics.jsonl."""
    return {"signatures": {score.name: score.signature for score in scores}}
