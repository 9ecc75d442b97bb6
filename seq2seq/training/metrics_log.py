"""The log of a run, metrics.jsonl: one JSON object per line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO


class MetricsLog:
    """metrics.jsonl, open for the whole run and locked; every record is flushed at once.

    Opening the file removes the records that were written after the saved state, since the continued run writes them
    again.

    Args:
        size: bytes that belong to the saved state; 0 for a new run.

    Raises:
        ValueError: another process has locked the file, so that two processes would write into one run.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.file = open(path, "a+b")  # noqa: SIM115 (open for the whole run)
        if not _lock(self.file):
            self.close()
            raise ValueError(
                f"another process is training in {path.parent}; wait until it ends, or set name to start a new run"
            )
        self.file.truncate(min(size, os.fstat(self.file.fileno()).st_size))

    def write(self, record: dict[str, Any]) -> None:
        """Append a record."""
        self.file.write((json.dumps(record) + "\n").encode())
        self.file.flush()

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return os.fstat(self.file.fileno()).st_size

    def close(self) -> None:
        """Close the file, which also unlocks it."""
        self.file.close()


def _lock(file: BinaryIO) -> bool:
    """Lock the file until it is closed or the process ends; return False if another process has locked it.

    Returns True without a lock on Windows and on file systems without locks.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True
