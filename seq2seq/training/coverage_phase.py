"""The start of coverage during a run: phase one trains without coverage, phase two with it (See et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from seq2seq.config import Config, LossConfig
from seq2seq.training.schedule import coverage_weight
from seq2seq.training.state import Progress


def planned_start(config: LossConfig) -> int | None:
    """Return the number of updates before coverage starts; None if it starts when train.patience is used up."""
    return None if config.coverage_start < 0 else config.coverage_start


class CoveragePhase:
    """Knows whether coverage has started, and starts it.

    Before coverage starts, the parameters that only coverage uses are frozen, and the coverage loss has weight 0. Only
    ``advance`` changes anything; the loop calls it before every update.

    Args:
        progress: the counters of the run; ``advance`` changes the start of coverage, the best score, and the counts for
            patience and for the schedule ``plateau``.
        parameters: the parameters that only coverage uses.
    """

    def __init__(self, config: Config, *, progress: Progress, parameters: Sequence[nn.Parameter]) -> None:
        self.config = config
        self.progress = progress
        self.parameters = parameters

    def has_started(self) -> bool:
        """Return whether the next update trains with coverage."""
        start = self.progress.covered_from
        return start is not None and self.progress.update >= start

    def is_pending(self) -> bool:
        """Return whether the model has coverage but no update so far was made with it.

        train.patience does not end such a run.
        """
        start = self.progress.covered_from
        return self.config.model.coverage != "none" and (start is None or start >= self.progress.update)

    def weight(self) -> float:
        """Return the weight of the coverage loss in the next update."""
        return coverage_weight(self.config.loss, self.progress.update + 1, self.progress.covered_from)

    def advance(self) -> bool:
        """Prepare the next update: start coverage if it is due.

        With loss.coverage_start=-1, coverage is due when train.patience is used up. The start of coverage discards the best
        score, since models without coverage no longer count, and restarts patience and the schedule ``plateau``.

        Returns:
            Whether coverage starts with the next update, after updates without it.
        """
        progress = self.progress
        waits = self.config.model.coverage != "none" and progress.covered_from is None
        if waits and progress.patience_has_ended(self.config.train.patience):
            progress.covered_from = progress.update
        for parameter in self.parameters:
            parameter.requires_grad_(self.has_started())
        starts = progress.update > 0 and progress.update == progress.covered_from
        if starts:
            progress.best, progress.best_update = None, 0
            progress.without_gain = progress.plateaus = 0
        return starts
