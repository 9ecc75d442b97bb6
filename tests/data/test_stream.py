"""Chunks of lines: the order, the size, slow input, and errors while reading."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from seq2seq.data.stream import CHUNK, chunks


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 40])
def test_all_lines_in_order_in_chunks_of_at_most_size(count: int) -> None:
    lines = [str(number) for number in range(count)]
    found = list(chunks(iter(lines), size=7))
    assert [line for chunk in found for line in chunk] == lines
    assert all(1 <= len(chunk) <= 7 for chunk in found)


def test_lines_that_are_available_come_together() -> None:
    count = CHUNK + 100
    found = list(chunks(iter(["x"] * count)))
    assert sum(map(len, found)) == count
    assert len(found) <= 10, "a file is read in large chunks, so that batches can be sorted by length"


def test_a_line_is_returned_before_the_next_is_written() -> None:
    go_on = threading.Event()

    def slow() -> Iterator[str]:
        yield "one"
        assert go_on.wait(20), "the first line must be returned without waiting for the second"
        yield "two"

    stream = chunks(slow())
    assert next(stream) == ["one"]
    go_on.set()
    assert next(stream) == ["two"]
    assert next(stream, None) is None


def test_an_error_is_raised_after_the_lines_before_it() -> None:
    def broken() -> Iterator[str]:
        yield "one"
        yield "two"
        raise ValueError("line 3 is bad")

    found: list[str] = []
    with pytest.raises(ValueError, match="line 3 is bad"):
        found.extend(line for chunk in chunks(broken()) for line in chunk)
    assert found == ["one", "two"]


def test_an_interrupt_while_reading_is_raised() -> None:
    def interrupted() -> Iterator[str]:
        yield "one"
        raise KeyboardInterrupt

    stream = chunks(interrupted())
    assert next(stream) == ["one"]
    with pytest.raises(KeyboardInterrupt):
        next(stream)


def test_reading_ahead_is_bounded() -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield "x"

    stream = chunks(endless(), size=5)
    next(stream)
    deadline = time.monotonic() + 0.5
    while taken < 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert 10 <= taken <= 5 + 2 * 5 + 1, "at most two chunks wait in the queue, and one line waits for a place in it"


def test_long_lines_come_in_smaller_chunks() -> None:
    lines = ["a" * 40, "b" * 40, "c" * 40, "d" * 250, "e", "f" * 99, "g"]
    found = list(chunks(iter(lines), characters=100))
    assert [[line[0] for line in chunk] for chunk in found] == [["a", "b"], ["c"], ["d"], ["e", "f"], ["g"]]
    assert [line for chunk in found for line in chunk] == lines


def test_reading_ahead_is_bounded_by_characters() -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield "x" * 60

    stream = chunks(endless(), characters=100)
    assert next(stream) == ["x" * 60]
    time.sleep(0.2)
    assert taken <= 1 + 3 + 1, "three lines fit into two chunks, and one line waits for a place"
