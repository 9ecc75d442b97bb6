"""Validation: scores the validation pairs, decides whether a model is the best so far, and saves the best one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from seq2seq import model_dir
from seq2seq.config import Config
from seq2seq.data.corpus import Pair
from seq2seq.data.limits import LengthLimit
from seq2seq.data.notices import Notices
from seq2seq.metrics import scores
from seq2seq.metrics.scores import Score
from seq2seq.model import Seq2Seq
from seq2seq.model_dir import Tokenizers
from seq2seq.text.tags import without_tag
from seq2seq.training.advice import non_finite_advice
from seq2seq.training.processes import Processes
from seq2seq.training.state import Progress
from seq2seq.translator import Translator

_SAMPLES = 3  # translations that each validation shows


class ValidationResult(NamedTuple):
    """The scores of one validation."""

    bleu: Score
    chrf: Score
    loss: float  # mean negative log-probability of a target piece, in nats; without label smoothing and coverage
    chosen: tuple[str, Score] | None = None  # train.metric and its score, unless it is one of the above
    cut: int = 0  # translations that were ended by the maximum length
    samples: tuple[tuple[str, str], ...] = ()  # translations and references of the first validation pairs

    def values(self) -> dict[str, float]:
        """Return the scores by the names that train.metric takes."""
        chosen = {self.chosen[0]: self.chosen[1].score} if self.chosen else {}
        return {"bleu": self.bleu.score, "chrf": self.chrf.score, "loss": self.loss, **chosen}

    def scores(self) -> list[Score]:
        """Return the scores of the translations."""
        return [self.bleu, self.chrf, *([self.chosen[1]] if self.chosen else [])]


def mean_loss(
    translator: Translator, sources: Sequence[str], references: Sequence[str], processes: Processes | None = None
) -> float:
    """Return the mean negative log-probability of a piece of the references, in nats.

    Args:
        processes: each of them scores a part of the lines; one by default.
    """

    def score(sources: Sequence[str], references: Sequence[str], *, first_line: int) -> list[list[float]]:
        return translator.score(sources, references)

    processes = processes or Processes()
    token_log_probs = [x for line in processes.map_lines(score, sources, references) for x in line]
    return -sum(token_log_probs) / len(token_log_probs)


def score_translations(
    hypotheses: Sequence[str], sources: Sequence[str], references: Sequence[str], *, metric: str, tags: Sequence[str]
) -> list[Score]:
    """Return BLEU, chrF and, if it is another score of translations, the metric ``train.metric``.

    Args:
        tags: of the model; a tag at the start of a source is not a part of the text that is compared.
    """
    others = [] if metric in ("bleu", "chrf", "loss") else [metric]
    texts = [without_tag(source, tags) for source in sources]
    return scores.score(hypotheses, [references], metrics=("bleu", "chrf", *others), sources=texts)


class Validator:
    """Validates a model, with the search that ``translate`` uses, on raw text.

    Args:
        model: the model that is validated and saved.
        tokenizers: of the model.
        run: the run directory; the best model is saved in its folder ``model``.
        progress: of the run; ``record`` changes its best score, patience and plateaus.
        pairs: the validation pairs.
        length_limit: the learned limit of the length of a translation; it is saved with the model.
        processes: of the run, one by default. Each of them translates a part of the lines.
    """

    def __init__(
        self,
        config: Config,
        *,
        run: Path,
        progress: Progress,
        model: Seq2Seq,
        tokenizers: Tokenizers,
        pairs: Sequence[Pair],
        length_limit: LengthLimit | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.config = config
        self.processes = processes or Processes()
        self.model = model
        self.run = run
        self.progress = progress
        self.translator = Translator(model, tokenizers, config.search, length_limit=length_limit)
        self.tags = tokenizers.src.tags
        self.sources = [pair.src for pair in pairs]
        self.references = [pair.tgt for pair in pairs]

    def score(self) -> ValidationResult:
        """Score the references with the model, then translate the sources and score the translations.

        Raises:
            ValueError: the loss is not finite.
        """
        loss = mean_loss(self.translator, self.sources, self.references, self.processes)
        if not math.isfinite(loss):
            raise ValueError(
                f"the validation loss after update {self.progress.update} must be finite, but is {loss}; "
                f"{non_finite_advice(self.run)}"
            )
        self.translator.notices = Notices(shown=False)
        hypotheses = self.processes.map_lines(self.translator.translate, self.sources)
        cut = sum(self.processes.gather(self.translator.notices.cut))
        return self.processes.from_first(lambda: self._result(hypotheses, loss, cut))

    def _result(self, hypotheses: Sequence[str], loss: float, cut: int) -> ValidationResult:
        """Score the translations."""
        metric = self.config.train.metric
        sources, references = self.sources, self.references
        bleu, chrf, *chosen = score_translations(hypotheses, sources, references, metric=metric, tags=self.tags)
        samples = tuple(zip(hypotheses[:_SAMPLES], self.references, strict=False))
        named = (metric, chosen[0]) if chosen else None
        return ValidationResult(bleu, chrf, loss, named, cut, samples)

    def is_better(self, result: ValidationResult) -> bool:
        """Return whether the result is better than the best so far in train.metric; the lower loss breaks ties.

        NaN, the score of a metric that has nothing to count, is worse than any number.
        """
        best = self.progress.best
        if best is None:
            return True
        metric = self.config.train.metric
        higher_is_better = metric != "loss" and scores.METRICS[metric].higher_is_better
        worst = -math.inf if higher_is_better else math.inf
        value, best = (worst if math.isnan(number) else number for number in (result.values()[metric], best))
        better = value > best if higher_is_better else value < best
        return better or (value == best and result.loss < self.progress.best_loss)

    def record(self, result: ValidationResult) -> bool:
        """Count the result in the progress of the run, and save the model if it is the best so far.

        Returns:
            Whether it is the best so far.
        """
        progress, better = self.progress, self.is_better(result)
        if better:
            progress.best, progress.best_loss = result.values()[self.config.train.metric], result.loss
            progress.best_update, progress.without_gain = progress.update, 0
            if self.processes.is_first:
                self._save_model()
        else:
            progress.without_gain += 1
            progress.plateaus += 1
        return better

    def _save_model(self) -> None:
        folder = self.run / "model"
        settings = model_dir.settings_of(self.config, self.translator.length_limit)
        model_dir.save_settings(folder, settings, self.translator.tokenizers)
        model_dir.save_weights(folder, self.model)
