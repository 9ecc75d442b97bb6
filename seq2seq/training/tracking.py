"""Curves of a run for TensorBoard, beside metrics.jsonl."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TRACK_FOLDER = "tensorboard"  # in the run directory


class Tracker(Protocol):
    """Receives every record of metrics.jsonl."""

    def write(self, record: dict[str, Any]) -> None:
        """Add the numbers of a record."""

    def close(self) -> None:
        """Write all that is pending."""


class NoTracker:
    """Keeps nothing."""

    def write(self, record: dict[str, Any]) -> None:
        """Ignore a record."""

    def close(self) -> None:
        """Do nothing."""


class TensorBoard:
    """Writes the numbers of records as scalars of TensorBoard.

    Args:
        folder: where TensorBoard finds them.
        update: updates made so far; later numbers of an earlier process are hidden.
    """

    def __init__(self, folder: Path, update: int) -> None:
        self.writer = _summary_writer()(str(folder), purge_step=update + 1 if update else None)
        self.update = update

    def write(self, record: dict[str, Any]) -> None:
        """Add the numbers of a record at its update, or at the last one."""
        self.update = record.get("update", self.update)
        for key, value in record.items():
            if key != "update" and isinstance(value, (int, float)):
                self.writer.add_scalar(key, value, self.update)

    def close(self) -> None:
        """Write all that is pending."""
        self.writer.close()


def check_tracker(name: str) -> None:
    """Check that the tracker ``train.track`` can be made.

    Raises:
        ValueError: its package is not installed.
    """
    if name == "tensorboard":
        _summary_writer()


def _summary_writer() -> type[SummaryWriter]:
    try:
        from torch.utils.tensorboard import SummaryWriter  # needs the extra package
    except ImportError as error:
        raise ValueError(
            'train.track=tensorboard requires the package tensorboard; run pip install ".[track]" in the checkout of seq2seq'
        ) from error
    return SummaryWriter


def make_tracker(name: str, run: Path, update: int) -> Tracker:
    """Make the tracker ``train.track``."""
    return TensorBoard(run / TRACK_FOLDER, update) if name == "tensorboard" else NoTracker()
