"""Measure training speed in target tokens per second, also of the plain path, a peer, and plain matrix products.

python scripts/benchmark/train_speed.py
python scripts/benchmark/train_speed.py --peer opennmt_py.sh
python scripts/benchmark/train_speed.py --device cuda --precision bf16 --sizes S M G --batch-tokens 16384

The first command measures sizes S and M, plain and with copying and coverage. The second one also runs a script that
prints the speed of a peer. The updates are complete (batch on the CPU, forward, backward, clipping, Adam), over random
ids with lengths like those of Multi30k, in batches of 2,048 tokens. The ways are run in turn, several times; use a
quiet machine. A ratio is the median, over the turns, of the fused speed divided by the other one. The floor is the
speed if all operations ran as fast as a matrix product of the output layer's shape. Prints a table and a line of JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import statistics
import subprocess
import time
from collections.abc import Callable

import numpy as np
import torch
from machine import machine
from workload import KINDS, Size, Updates, make_batch, make_model

from seq2seq.data.batching import Batch, plan_epoch
from seq2seq.layers.fast import plain_layers
from seq2seq.training.precision import TYPES

SIZES = {
    "S": Size(256),
    "M": Size(512),
    "S2": Size(256, layers=2),
    "M4": Size(512, layers=4),
    "G": Size(1024, embedding=1024, layers=4, vocabulary=32000),  # as in GNMT
}


def make_batches(count: int, kind: str, vocabulary: int, batch_tokens: int) -> list[Batch]:
    """Make random pairs with lengths like those of Multi30k: mean 15, most between 8 and 25."""
    numbers = np.random.default_rng(1)
    src = np.clip(numbers.normal(14.3, 4.5, 30000).round(), 3, 50).astype(int)
    tgt = np.clip((src + numbers.normal(0.7, 2.5, 30000)).round(), 3, 55).astype(int)
    plan = plan_epoch(src + 1, tgt + 1, batch_tokens=batch_tokens, seed=1, epoch=0)[:count]
    return [make_batch(src[rows].tolist(), tgt[rows].tolist(), kind=kind, vocabulary=vocabulary) for rows in plan]


def operations(size: Size, batch: Batch) -> float:
    """Return the floating-point operations of an update's matrix products: forward, and twice as many backward."""
    (B, S), T, (H, E, L, V) = batch.src.shape, batch.tgt_in.shape[1], size
    encoder = B * S * 2 * 4 * (H // 2) * (E + H // 2 + (L - 1) * (H + H // 2)) + B * S * H * H
    decoder = B * T * 4 * H * (E + 2 * H + (L - 1) * 2 * H) + B * T * H * H + B * T * 2 * H * E
    attention = B * T * S * H * 2
    return 6.0 * (encoder + decoder + attention + batch.target_tokens * E * V)


def products_rate(size: Size, rows: int, arguments: argparse.Namespace) -> float:
    """Return the operations per second of a product of the output layer's shape."""
    options = {"device": arguments.device, "dtype": TYPES[arguments.precision]}
    features, weight = (
        torch.randn(rows, size.embedding, **options),
        torch.randn(size.vocabulary, size.embedding, **options),
    )
    float((features @ weight.T)[0, 0])  # waits until the GPU is ready
    started, done = time.perf_counter(), 0
    while (seconds := time.perf_counter() - started) < 1:
        for _ in range(10):
            product = features @ weight.T
        float(product[0, 0])
        done += 10
    return done * 2.0 * rows * size.embedding * size.vocabulary / seconds


def computing(updates: Updates, batches: list[Batch]) -> float:
    """Return the share of the time during which kernels run on the GPU."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        seconds = updates.make(batches)
    kernels = (
        event
        for event in profile.key_averages()
        if event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation
    )
    return sum(event.self_device_time_total for event in kernels) / 1e6 / seconds


def peer_speed(script: str, size: str, kind: str) -> float:
    """Return the target_tokens_per_second_median that the script prints for ``train SIZE KIND 60``."""
    done = subprocess.run(["bash", script, "train", size, kind, "60"], capture_output=True, text=True, check=True)
    return float(re.findall(r'"target_tokens_per_second_median": (\d+)', done.stdout)[-1])


def measure(name: str, kind: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Measure one row of the table."""
    size = SIZES[name]
    updates = Updates(make_model(kind, size), arguments.device, arguments.precision)
    batches = make_batches(arguments.updates, kind, size.vocabulary, arguments.batch_tokens)
    ways: dict[str, Callable[[], float]] = {"fused": lambda: updates.speed(batches)}
    if arguments.peer:
        ways["peer"] = lambda: peer_speed(arguments.peer, name, kind)
    found: dict[str, list[float]] = {way: [] for way in ("fused", "steps", "peer", "floor")}
    count = sum(operations(size, batch) for batch in batches)
    tokens, source = (sum(of(batch) for batch in batches) for of in (_target_tokens, _source_tokens))
    updates.make(batches)  # the first update of each shape allocates memory
    for _ in range(arguments.runs):
        for title, way in ways.items():
            found[title].append(way())
        with plain_layers():
            found["steps"].append(updates.speed(batches))
        found["floor"].append(tokens / (count / products_rate(size, tokens // len(batches), arguments)))
    row: dict[str, object] = {"size": name, "kind": kind}
    for title, values in found.items():
        if values:
            row[title] = round(statistics.median(values))
            row[f"{title}_spread"] = [round(min(values)), round(max(values))]
            if title != "fused":
                ratios = [fused / value for fused, value in zip(found["fused"], values, strict=True)]
                row[f"to_{title}"] = round(statistics.median(ratios), 2)
    if arguments.device == "cuda":
        row["computing"] = round(computing(updates, batches), 3)
        row["source_and_target"] = round(statistics.median(found["fused"]) * (tokens + source) / tokens)
    return row


def _target_tokens(batch: Batch) -> int:
    return batch.target_tokens


def _source_tokens(batch: Batch) -> int:
    return int(batch.src_lengths.sum())


def print_row(row: dict[str, object]) -> None:
    """Print a row of the table."""
    parts = [f"fused {row['fused']} {row['fused_spread']}"] + [
        f"{name} {row[name]} {row[f'{name}_spread']} ratio {row[f'to_{name}']}"
        for name in ("steps", "peer", "floor")
        if name in row
    ]
    parts += [f"{name} {row[name]}" for name in ("computing", "source_and_target") if name in row]
    print(f"{row['size']} {row['kind']:<6} " + "  ".join(parts), flush=True)


def main() -> None:
    """Measure all rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["S", "M"])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--updates", type=int, default=8, help="updates in each run")
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=TYPES, default="fp32")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--peer", help="script that measures the peer; called with train SIZE KIND 60")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(f"target tokens per second, median of {arguments.runs} runs, {torch.get_num_threads()} threads", flush=True)
    rows = []
    for size, kind in itertools.product(arguments.sizes, arguments.kinds):
        rows.append(measure(size, kind, arguments))
        print_row(rows[-1])
    print(json.dumps({**machine(), "rows": rows}))


if __name__ == "__main__":
    main()
