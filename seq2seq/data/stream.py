"""Group lines into chunks: large ones from a file, single lines from a slow pipe or a terminal."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

CHUNK = 2000  # maximum lines per chunk: enough to sort them by length, few enough that output appears steadily
CHUNK_CHARACTERS = 2_000_000  # maximum characters per chunk: their pieces take about 200 MB
_PAUSE = 0.02  # seconds; a chunk is returned if no line arrives for this time


class _ReadAhead:
    """Lines that a thread reads before they are taken, at most two chunks of them."""

    def __init__(self, lines: Iterator[str], size: int, characters: int, *, full: bool) -> None:
        self._lines = lines
        self._pause = None if full else _PAUSE
        self._size, self._characters = size, characters  # of a chunk
        self._waiting: deque[str] = deque()
        self._waiting_characters = 0
        self._exhausted = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            for line in self._lines:
                with self._changed:
                    while not self._has_place(len(line)):
                        self._changed.wait()
                    self._waiting.append(line)
                    self._waiting_characters += len(line)
                    self._changed.notify_all()
        except BaseException as caught:
            error = caught
        with self._changed:
            self._exhausted, self._error = True, error
            self._changed.notify_all()

    def _has_place(self, length: int) -> bool:
        if not self._waiting:
            return True
        return len(self._waiting) < 2 * self._size and self._waiting_characters + length <= 2 * self._characters

    def take_chunk(self) -> list[str]:
        """Return the lines of the next chunk, empty at the end; see ``chunks``.

        Raises:
            BaseException: the exception that ended the reading, after all lines before it were taken.
        """
        chunk: list[str] = []
        characters = 0
        with self._changed:
            while len(chunk) < self._size:
                ready = self._changed.wait_for(
                    lambda: self._waiting or self._exhausted, timeout=self._pause if chunk else None
                )
                if not ready or not self._waiting or (chunk and characters + len(self._waiting[0]) > self._characters):
                    break
                line = self._waiting.popleft()
                chunk.append(line)
                characters += len(line)
                self._waiting_characters -= len(line)
                self._changed.notify_all()
            if not chunk and self._error:
                raise self._error
        return chunk


def chunks(
    lines: Iterator[str], size: int = CHUNK, *, characters: int = CHUNK_CHARACTERS, full: bool = False
) -> Iterator[list[str]]:
    """Group lines into chunks of at most ``size`` lines and ``characters`` characters; a longer line is a chunk itself.

    A chunk starts with the next line, as soon as it is available, and includes the lines that can be read without
    waiting. A thread reads ahead by at most two chunks. An exception raised while reading is raised here, after the lines
    before it.

    Args:
        full: wait for lines until a chunk is full, so that the chunks do not depend on the speed of reading.
    """
    ahead = _ReadAhead(lines, size, characters, full=full)
    while chunk := ahead.take_chunk():
        yield chunk
