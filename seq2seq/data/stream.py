"""Group lines into chunks: large ones from a file, single lines from a slow pipe or a terminal."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

CHUNK = 2000  # maximum lines per chunk: enough to sort them by length, few enough that output appears steadily


def chunks(lines: Iterator[str], size: int = CHUNK) -> Iterator[list[str]]:
    """Group lines into chunks of at most ``size``.

    A chunk starts with the next line, as soon as it is available, and includes the lines that can be read without
    waiting. A thread reads ahead by at most two chunks. An exception raised while reading is raised here, after the lines
    before it.
    """
    lines_read: queue.Queue[list[str] | BaseException | None] = queue.Queue(maxsize=2 * size)

    def read() -> None:
        try:
            for line in lines:
                lines_read.put([line])
            lines_read.put(None)
        except BaseException as error:
            lines_read.put(error)

    threading.Thread(target=read, daemon=True).start()
    end: BaseException | None = None
    more_to_come = True
    while more_to_come:
        chunk: list[str] = []
        while len(chunk) < size:
            try:
                item = lines_read.get(timeout=0.02 if chunk else None)
            except queue.Empty:
                break
            if not isinstance(item, list):
                end, more_to_come = item, False
                break
            chunk += item
        if chunk:
            yield chunk
    if end is not None:
        raise end
