"""The log of a run, metrics.jsonl: one JSON object per line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Protocol

from seq2seq.files import append, check_readable, lock, read_file, sync


class RunLog(Protocol):
    """Keeps the records of a run."""

    @property
    def size(self) -> int:
        """Size of all records in bytes."""

    def truncate(self, size: int) -> None:
        """Keep the first ``size`` bytes."""

    def write(self, record: dict[str, Any]) -> None:
        """Append a record."""

    def sync(self) -> None:
        """Wait until the records are on the disk."""

    def records(self) -> list[dict[str, Any]]:
        """Return all records."""

    def close(self) -> None:
        """End the log."""

    def discard(self) -> None:
        """End the log of a run that was refused."""


class NoLog:
    """The log of a process that is not the first of its run: it keeps nothing."""

    size = 0

    def truncate(self, size: int) -> None:
        """Do nothing."""

    def write(self, record: dict[str, Any]) -> None:
        """Ignore a record."""

    def sync(self) -> None:
        """Do nothing."""

    def records(self) -> list[dict[str, Any]]:
        """Return nothing."""
        return []

    def close(self) -> None:
        """Do nothing."""

    def discard(self) -> None:
        """Do nothing."""


class MetricsLog:
    """metrics.jsonl, open and locked for the whole run; every record is written immediately.

    Opening the file changes nothing in it. ``truncate`` removes the records that were written after the saved state,
    since the continued run writes them again.

    Raises:
        ValueError: the file is not a regular file, or another process has locked it, so that two processes would write
            into one run.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_new = not os.path.lexists(path)
        if not self._is_new:
            check_readable(path)
        self.file = open(path, "a+b", buffering=0)  # noqa: SIM115 (open for the whole run)
        if not lock(self.file):
            self.close()
            raise ValueError(
                f"another process is training in {path.parent}; wait until it ends, or set name to start a new run"
            )

    def truncate(self, size: int) -> None:
        """Keep the first ``size`` bytes, which belong to the saved state; 0 for a new run."""
        self.file.truncate(min(size, self.size))

    def write(self, record: dict[str, Any]) -> None:
        """Append a record, or nothing if the disk is full.

        Raises:
            OSError: the record cannot be written.
        """
        append(self.file.fileno(), (json.dumps(record) + "\n").encode(), path=self.path)

    def sync(self) -> None:
        """Wait until the records are on the disk."""
        sync(self.file.fileno(), path=self.path)

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return os.fstat(self.file.fileno()).st_size

    def records(self) -> list[dict[str, Any]]:
        """Read all records."""
        return [json.loads(line) for line in read_file(self.path).splitlines()]

    def close(self) -> None:
        """Close the file, which also unlocks it."""
        self.file.close()

    def discard(self) -> None:
        """Close the file, and remove it if it is new and empty: the run was refused."""
        if self._is_new and self.size == 0:
            self.path.unlink(missing_ok=True)
        self.close()
