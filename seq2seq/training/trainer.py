"""The loop over updates, with validation, the best model kept, exact resume and stopping.

The loss is summed over the target tokens of an update and divided by their number, over all batches accumulated in it.
"""

from __future__ import annotations

import hashlib
import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from seq2seq import model_dir
from seq2seq.config import Config, TrainConfig
from seq2seq.data.batching import Batch, plan_epoch
from seq2seq.data.corpus import Pair
from seq2seq.data.rows import Rows
from seq2seq.loss import Loss
from seq2seq.metrics import scores as evaluate
from seq2seq.model import Seq2Seq
from seq2seq.model_dir import Tokenizers
from seq2seq.training.display import Display
from seq2seq.training.optimizer import make_average, make_optimizer
from seq2seq.training.precision import Precision
from seq2seq.training.profile import Profile, peak_memory
from seq2seq.training.run_dir import claim_run
from seq2seq.training.schedule import coverage_weight, learning_rate
from seq2seq.training.state import Metrics, Progress, Stateful, has_state, load_state, save_state
from seq2seq.training.stopping import Stopped, stop_signals
from seq2seq.translator import Translator


class Made(NamedTuple):
    """An update whose figures may still be on their way from the device."""

    number: int
    group: list[np.ndarray]
    tokens: int
    figures: Tensor  # on the CPU: sums of NLL and coverage, and the gradient norm
    arrived: torch.cuda.Event | None  # of the figures; none where they are there at once


class Trainer:
    """The loop over updates, with validation, saving and stopping."""

    def __init__(
        self,
        config: Config,
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
        self.tokenizers = tokenizers
        self.rows = rows
        self.valid = valid
        self.display = display
        self.optimizer = make_optimizer(config.train, model)
        self.precision = precision
        self.average = make_average(config.train, model)
        self.kept = cast(Seq2Seq, self.average.module) if self.average else model  # what is validated, saved and used
        self.parts: dict[str, Stateful] = {"model": model, "optimizer": self.optimizer}
        if self.average:
            self.parts["average"] = self.average
        if self.precision.scaler.is_enabled():
            self.parts["scaler"] = self.precision.scaler
        self.progress = Progress(covered_from=None if config.loss.coverage_start < 0 else config.loss.coverage_start)
        self.data = {
            "train": rows.fingerprint,
            "valid": hashlib.sha256(repr(list(map(tuple, valid))).encode()).hexdigest(),
        }
        if has_state(run / "last"):
            self.progress = load_state(run / "last", self.parts, self.data)
        claim_run(run, config)  # from here on nothing is refused
        self.metrics = Metrics(run / "metrics.jsonl", self.progress.metrics_size)
        self.translator = Translator(self.kept, tokenizers, config.search, warns=False)
        self.saved_at = self.progress.update
        self.made: Made | None = None
        self.norm = math.nan
        self.profile = Profile(model.device) if config.train.profile else None

    def run_updates(self) -> None:
        """Make updates until a limit, the patience or a signal ends them."""
        config, progress = self.config.train, self.progress
        if progress.update:
            self.display.say(f"starting behind update {progress.update:,}, epoch {progress.epoch + 1}")
        self._try_largest()
        if self.profile:
            self.model.part_ended = self.profile.passed
        self.display.start(progress.update, config.max_updates)
        with stop_signals() as signals:
            try:
                for group in self._groups():
                    self._update(group)
                    if progress.update % config.log_every == 0:
                        self._log()
                    if progress.update % config.valid_every == 0:
                        self._validate()
                        self._save()
                    if signals:
                        self._save()
                        name = signal.Signals(signals[0]).name
                        raise Stopped(
                            signals[0],
                            f"{name}: stopped behind update {progress.update:,}, everything is saved in {self.run}; "
                            "the same command continues",
                        )
                if self.saved_at < progress.update:
                    self._save()
                if progress.best is None:
                    self._validate()  # behind the saved state, as a longer run would not make it
                elif unseen := progress.update % config.valid_every:
                    self.display.say(
                        f"the last {unseen:,} updates were not validated, so that the model kept is without them; "
                        f"lower train.valid_every={config.valid_every}, or end the run on a multiple of it"
                    )
            finally:
                self.display.stop()
                if self.profile and self.profile.updates:
                    for line in self.profile.lines():
                        self.display.say(line)
        covered = progress.covered_from
        if self.config.model.coverage != "none" and (covered is None or covered >= progress.update):
            other = f"loss.coverage_start={covered}" if self.config.loss.coverage_start > 0 else "train.patience"
            self.display.say(f"coverage has never started; raise train.max_updates or lower {other}")
        self.display.say(
            f"trained for {progress.update:,} updates; best {self.config.train.metric} {progress.best:.2f} "
            f"at update {progress.best_update:,}, kept in {self.run / 'model'}"
        )

    def _plan(self) -> list[np.ndarray]:
        """The batches of this epoch."""
        config, rows, epoch = self.config.train, self.rows, self.progress.epoch
        rows.start_epoch(epoch)
        return plan_epoch(
            rows.src_lengths, rows.tgt_lengths, batch_tokens=config.batch_tokens, seed=config.seed, epoch=epoch
        )

    def _try_largest(self) -> None:
        """Find out whether the largest batch fits into memory, and say how much it takes; the run goes on as without."""

        def size(rows: np.ndarray) -> int:
            return len(rows) * int(self.rows.src_lengths[rows].max() + self.rows.tgt_lengths[rows].max())

        batch = self.rows.batch(max(self._plan(), key=size))
        self.model.train()
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.random.fork_rng(devices), _memory(self.config.train, batch):
            self._loss(batch.to(self.model.device), weight=1.0).total.backward()
        self.optimizer.zero_grad(set_to_none=True)
        peak = peak_memory(self.model.device) / 2**30
        self.display.say(
            f"the largest batch, {len(batch.src)} sentences of up to {batch.src.shape[1]} and {batch.tgt_out.shape[1]} "
            f"pieces, takes the memory to {peak:.1f} GiB; the optimizer comes on top"
        )

    def _loss(self, batch: Batch, *, weight: float) -> Loss:
        with self.precision.autocast():
            return self.model(batch, smoothing=self.config.loss.label_smoothing, coverage_weight=weight)

    def _groups(self) -> Iterator[list[np.ndarray]]:
        """The batches of each next update, until the run is to end."""
        config, progress = self.config.train, self.progress
        while True:
            plan = self._plan()
            while progress.position < len(plan):
                if progress.update >= config.max_updates or (config.max_epochs and progress.epoch >= config.max_epochs):
                    return
                if config.patience and progress.without_gain >= config.patience and not self._cover_now():
                    self.display.say(f"no gain in {progress.without_gain} validations, the limit of train.patience")
                    return
                group = plan[progress.position : progress.position + config.accumulate]
                progress.position += len(group)
                yield group
            progress.epoch += 1
            progress.position = 0

    def _cover_now(self) -> bool:
        """Where coverage waits for the patience to end, let it begin instead of stopping; nor stop before it begins."""
        progress = self.progress
        if self.config.model.coverage == "none":
            return False
        if progress.covered_from is None:
            progress.covered_from = progress.update
        return progress.covered_from >= progress.update

    def _coverage_weight(self) -> float:
        """The weight of the coverage loss in the next update; coverage learns nothing before it starts."""
        progress = self.progress
        covered = progress.covered_from is not None and progress.update >= progress.covered_from
        if progress.update and progress.update == progress.covered_from:
            self.display.say(f"coverage starts behind update {progress.update:,}; the best is now the best with it")
            progress.best, progress.best_update = None, 0
            progress.without_gain = progress.plateaus = 0  # the learning rate starts anew too
        for parameter in self.model.decoder.attention.coverage_parameters():
            parameter.requires_grad_(covered)
        return coverage_weight(self.config.loss, progress.update + 1, progress.covered_from)

    def _update(self, group: list[np.ndarray]) -> None:
        started = time.perf_counter()
        config, progress = self.config, self.progress
        weight = self._coverage_weight()
        rate = learning_rate(config.train, progress.update + 1, progress.plateaus)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        self.model.train()
        if self.profile:
            self.profile.start()
        batches = [self.rows.batch(rows).to(self.model.device) for rows in group]
        tokens = sum(batch.target_tokens for batch in batches)
        self._ended("data")
        losses = []
        self.optimizer.zero_grad(set_to_none=True)
        for batch in batches:
            with _memory(config.train, batch):
                loss = self._loss(batch, weight=weight)
                self._ended("output layer")
                self.precision.scaler.scale(loss.total / tokens).backward()
                self._ended("encoder")
            losses.append(loss)
        clip = config.train.clip_norm or math.inf
        self.precision.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.precision.scaler.step(self.optimizer)
        self.precision.scaler.update()
        if self.average:
            self.average.update_parameters(self.model)
        self._ended("optimizer")
        progress.update += 1
        nll = torch.stack([loss.nll for loss in losses]).sum()
        coverage = torch.stack([loss.coverage for loss in losses]).sum()
        figures, arrived = torch.stack((nll, coverage, norm.to(nll))).to("cpu", non_blocking=True), None
        if self.model.device.type == "cuda":
            arrived = torch.cuda.Event()
            arrived.record()
        progress.seconds += time.perf_counter() - started
        self._settle()  # the update before
        self.made = Made(progress.update, group, tokens, figures, arrived)
        if arrived is None:  # else the device works on while the next update is made ready
            self._settle()

    def _lower(self) -> str:
        """What to do about a run that has left the numbers."""
        lower, best = "lower train.learning_rate", self.progress.best_update
        if not self.saved_at:
            return lower
        origin = f" from its best model, of update {best:,}, with train.init_from={self.run}," if best else ""
        return f"set name to start anew{origin} and {lower}"

    def _ended(self, part: str) -> None:
        if self.profile:
            self.profile.end(part)

    def _settle(self) -> None:
        """Wait for the figures of the last update; nothing is written down before they are known to be good.

        Raises:
            ValueError: they are not finite.
        """
        if self.made is None:
            return
        started = time.perf_counter()
        (number, group, tokens, figures, arrived), progress = self.made, self.progress
        if arrived:
            arrived.synchronize()
        nll, coverage, self.norm = figures.tolist()
        progress.seconds += time.perf_counter() - started
        if not math.isfinite(nll) or (not math.isfinite(self.norm) and not self.precision.can_skip()):
            lines = self.rows.line_numbers(np.concatenate(group))
            raise ValueError(
                f"update {number}: the loss is {nll / tokens} and the gradient norm {self.norm} in the batch of "
                f"training lines {', '.join(map(str, lines[:20]))}{', ...' if len(lines) > 20 else ''}; "
                f"{self._lower()}{' or train.clip_norm' if self.config.train.clip_norm else ', set train.clip_norm'}"
            )
        progress.nll += nll
        progress.coverage += coverage
        progress.tokens += tokens
        self.made = None

    def _log(self) -> None:
        self._settle()
        progress = self.progress
        loss, coverage = progress.nll / progress.tokens, progress.coverage / progress.tokens
        speed, peak = progress.tokens / progress.seconds, peak_memory(self.model.device)
        progress.nll, progress.coverage, progress.tokens, progress.seconds = 0.0, 0.0, 0, 0.0
        self.metrics.write(
            {
                "update": progress.update,
                "epoch": progress.epoch + 1,
                "loss": loss,
                **({} if self.config.model.coverage == "none" else {"coverage_loss": coverage}),
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "gradient_norm": self.norm if math.isfinite(self.norm) else None,  # of an update that fp16 left out
                "tokens_per_second": round(speed, 1),
                "peak_memory": peak,
            }
        )
        text = f"epoch {progress.epoch + 1}  loss {loss:.3f}  {speed:,.0f} tok/s  {peak / 2**30:.1f} GiB"
        self.display.update(progress.update, text)

    def _validate(self) -> None:
        """Score the validation lines, keep the model if it is the best so far."""
        self._settle()
        progress, metric = self.progress, self.config.train.metric
        src, references = [pair.src for pair in self.valid], [pair.tgt for pair in self.valid]
        token_log_probs = [x for line in self.translator.score(src, references) for x in line]
        loss = -sum(token_log_probs) / len(token_log_probs)
        if not math.isfinite(loss):
            raise ValueError(f"the validation loss behind update {progress.update} is {loss}; {self._lower()}")
        hypotheses = self.translator.translate(src)
        bleu, chrf = evaluate.score(hypotheses, [references], metrics=("bleu", "chrf"))
        record = {"bleu": bleu.score, "chrf": chrf.score, "loss": loss}
        value = record[metric]
        gain = 0.0 if progress.best is None else value - progress.best
        if metric == "loss":
            gain = -gain
        better = progress.best is None or gain > 0 or (gain == 0 and loss < progress.best_loss)
        if better:
            progress.best, progress.best_loss = value, loss
            progress.best_update, progress.without_gain = progress.update, 0
            best = self.run / "model"
            model_dir.save_settings(best, model_dir.settings_of(self.config), self.tokenizers)
            model_dir.save_weights(best, self.kept)
        else:
            progress.without_gain += 1
            progress.plateaus += 1
        self.metrics.write(
            {
                "update": progress.update,
                **{f"valid_{name}": number for name, number in record.items()},
                "best": better,
                **signatures([bleu, chrf]),
            }
        )
        self.display.say(
            f"update {progress.update:,}  validation: BLEU {bleu.score:.2f}  chrF {chrf.score:.2f}  loss {loss:.3f}"
            + ("  (best)" if better else "")
        )

    def _save(self) -> None:
        self._settle()
        self.progress.metrics_size = self.metrics.size
        save_state(self.run / "last", self.progress, self.parts, self.data)
        self.saved_at = self.progress.update


@contextmanager
def _memory(config: TrainConfig, batch: Batch) -> Iterator[None]:
    """Say what to change where a batch does not fit."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError on a GPU
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        sentences, source, target = len(batch.src), batch.src.shape[1], batch.tgt_out.shape[1]
        raise ValueError(
            f"a batch of {sentences} sentences of up to {source} and {target} pieces does not fit into memory; lower "
            f"train.batch_tokens={config.batch_tokens} and raise train.accumulate={config.accumulate} by as much, "
            "or lower data.max_source_length and data.max_target_length"
        ) from error


def signatures(scores: Sequence[evaluate.Score]) -> dict[str, dict[str, str]]:
    """How each score was made, as the metrics file says it."""
    return {"signatures": {score.name: score.signature for score in scores}}
