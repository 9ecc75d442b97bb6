"""Take lines in chunks: large ones from a file, single ones from a slow pipe or a terminal."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

CHUNK = 2000  # lines searched together at most; enough to sort by length, little enough to keep output flowing


def chunks(lines: Iterator[str], size: int = CHUNK) -> Iterator[list[str]]:
    """Group lines: wait for the first, then take along those that are there already, up to ``size``.

    A thread reads ahead by at most two chunks. What reading raises is raised here, behind the lines before it.
    """
    waiting: queue.Queue[list[str] | BaseException | None] = queue.Queue(maxsize=2 * size)

    def read() -> None:
        try:
            for line in lines:
                waiting.put([line])
            waiting.put(None)
        except BaseException as error:
            waiting.put(error)

    threading.Thread(target=read, daemon=True).start()
    end: BaseException | None = None
    open_ = True
    while open_:
        chunk: list[str] = []
        while len(chunk) < size:
            try:
                item = waiting.get(timeout=0.02 if chunk else None)
            except queue.Empty:
                break
            if not isinstance(item, list):
                end, open_ = item, False
                break
            chunk += item
        if chunk:
            yield chunk
    if end is not None:
        raise end
