"""Counts and times of the server, in the text format of Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # upper borders of the histogram


class Measures:
    """Counts since the start of the server.

    A batch is counted on the model thread, everything else in the event loop.
    """

    def __init__(self) -> None:
        self.by_status: Counter[str] = Counter()  # answers to requests to translate, by status code
        self.accepted = 0  # requests to translate that were not refused with status 429
        self.finished = 0  # of these, requests that were answered or whose client left
        self.vanished = 0  # of these, requests whose client left before the answer was complete
        self.lines = 0
        self.batches = 0
        self.busy_seconds = 0.0  # of the model thread
        self._buckets = [0] * (len(SECONDS) + 1)
        self._total_seconds = 0.0

    def count_batch(self, lines: int, seconds: float) -> None:
        """Count a batch that the model has translated."""
        self.lines += lines
        self.batches += 1
        self.busy_seconds += seconds

    def count_answer(self, status: int, seconds: float) -> None:
        """Count an answer to a request to translate."""
        self.by_status[str(status)] += 1
        self._buckets[bisect_left(SECONDS, seconds)] += 1
        self._total_seconds += seconds

    def seconds_for(self, lines: int) -> float:
        """Estimate how long the model takes for a number of lines."""
        return lines * self.busy_seconds / max(self.lines, 1)

    def text(self, *, waiting: int) -> str:
        """Return all measures in the text format of Prometheus.

        Args:
            waiting: the number of lines in the queue.
        """
        return "\n".join(self._lines(waiting)) + "\n"

    def _lines(self, waiting: int) -> Iterator[str]:
        yield from _family("requests", "counter", "Answers to requests to translate.", "code", self.by_status)
        counters: dict[str, tuple[str, float]] = {
            "requests_accepted": ("Requests to translate that were accepted.", self.accepted),
            "clients_vanished": ("Accepted requests whose client left before the answer.", self.vanished),
            "lines": ("Lines that were translated.", self.lines),
            "batches": ("Batches that were translated.", self.batches),
            "model_busy_seconds": ("Seconds in which the model translated.", self.busy_seconds),
        }
        for name, (text, value) in counters.items():
            yield from _family(name, "counter", text, "", {"": value})
        yield from _family("waiting_lines", "gauge", "Lines that wait for the model.", "", {"": waiting})
        unfinished = self.accepted - self.finished
        yield from _family(
            "requests_in_progress", "gauge", "Accepted requests without an answer.", "", {"": unfinished}
        )
        name = "seq2seq_request_seconds"
        yield f"# HELP {name} Time from the first byte of a request to translate to the end of its answer."
        yield f"# TYPE {name} histogram"
        count = 0
        for border, found in zip([*map(str, SECONDS), "+Inf"], self._buckets, strict=True):
            count += found
            yield f'{name}_bucket{{le="{border}"}} {count}'
        yield f"{name}_sum {self._total_seconds:.6f}"
        yield f"{name}_count {count}"


def _family(name: str, kind: str, text: str, label: str, values: Mapping[str, float]) -> Iterator[str]:
    name = f"seq2seq_{name}" + "_total" * (kind == "counter")
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for key, value in sorted(values.items()):
        yield f'{name}{{{label}="{key}"}} {value}' if label else f"{name} {value}"
