"""Measure how training speed depends on source length, vocabulary and batch size.

The cost should grow in proportion, without a sudden rise.

python scripts/benchmark/scaling.py --output scaling.png

The model is an LSTM with hidden size 256, additive attention, copying and coverage. For each value, prints the seconds
of an update (the median of several runs, after one run to warm up) and the target tokens per second, then a line of
JSON. The picture requires ``pip install ".[plot]"``. Use a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import NamedTuple

import torch
from machine import machine
from workload import KINDS, Size, Updates, make_batch, make_model


class Point(NamedTuple):
    """The sizes of one measurement."""

    source: int = 15
    target: int = 15
    vocabulary: int = 8000
    rows: int = 64


SWEEPS: dict[str, list[Point]] = {
    "source": [Point(source=length, rows=16, target=20) for length in (10, 25, 50, 100, 200, 400, 800)],
    "vocabulary": [Point(vocabulary=size) for size in (1000, 4000, 8000, 16000, 32000, 64000)],
    "rows": [Point(rows=rows) for rows in (4, 16, 64, 128, 256)],
}
UNITS = {"source": "source pieces", "vocabulary": "words in the vocabulary", "rows": "sentences in a batch"}


def measure(point: Point, kind: str, runs: int) -> tuple[float, float]:
    """Return the median seconds of an update and the target tokens per second."""
    updates = Updates(make_model(kind, Size(256, vocabulary=point.vocabulary)))
    lengths = [point.source - 1] * point.rows, [point.target - 1] * point.rows
    batch = make_batch(*lengths, kind=kind, vocabulary=point.vocabulary)
    updates.make([batch])
    seconds = statistics.median(updates.make([batch]) for _ in range(runs))
    return seconds, batch.target_tokens / seconds


def draw(found: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Plot the seconds of an update against the size, on logarithmic axes, with a line for proportional growth."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(found), 3.6), layout="constrained")
    for axes, (name, rows) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        sizes, seconds = ([row[key] for row in rows] for key in ("size", "seconds"))
        axes.loglog(sizes, seconds, marker="o", label="measured")
        axes.loglog(sizes, [seconds[-1] * size / sizes[-1] for size in sizes], linestyle=":", label="proportional")
        axes.set(xlabel=UNITS[name], ylabel="seconds per update")
        axes.legend()
    figure.savefig(path)


def main() -> None:
    """Measure all points, print the tables and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=list(SWEEPS))
    parser.add_argument("--kind", choices=KINDS, default="copy")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--output", type=Path, help="file for the picture: .png, .svg or .pdf")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    found: dict[str, list[dict[str, float]]] = {}
    for name in arguments.sweeps:
        print(UNITS[name])
        found[name] = []
        for point in SWEEPS[name]:
            size = getattr(point, name)
            seconds, speed = measure(point, arguments.kind, arguments.runs)
            found[name].append({"size": size, "seconds": round(seconds, 5), "tokens_per_second": round(speed, 1)})
            print(f"{size:>8,}  {1000 * seconds:10.1f} ms  {speed:10,.0f} target tokens/s", flush=True)
    print(json.dumps({**machine(), "kind": arguments.kind, **found}))
    if arguments.output:
        draw(found, arguments.output)


if __name__ == "__main__":
    main()
