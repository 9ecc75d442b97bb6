"""Training speed: target tokens a second, beside the plain path, a peer, and the machine's own matrix products.

python scripts/benchmark/train_speed.py                            sizes S and M, plain and with copying and coverage
python scripts/benchmark/train_speed.py --peer opennmt_py.sh       and a script that prints the peer's speed, run in turn

Updates are whole ones (batch on the CPU, forward, backward, clipping, Adam) over random ids of lengths like those of
Multi30k in batches of 2,048 tokens. The ways are run in turn, several times; time them on a quiet machine only. The floor
is what the same number of operations takes in products of the output layer's shape. Prints a table and a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import time
from collections.abc import Callable

import numpy as np
import torch
from common import KINDS, Updates, by_steps, machine, make_batch, make_model

from seq2seq.batching import Batch, plan_epoch
from seq2seq.model import Seq2Seq

VOCABULARY = 8000
SIZES = {"S": 256, "M": 512}  # hidden; embeddings are 256


def make_batches(count: int, kind: str) -> list[Batch]:
    """Random pairs with lengths like those of Multi30k: mean 15, most between 8 and 25."""
    numbers = np.random.default_rng(1)
    src = np.clip(numbers.normal(14.3, 4.5, 3000).round(), 3, 50).astype(int)
    tgt = np.clip((src + numbers.normal(0.7, 2.5, 3000)).round(), 3, 55).astype(int)
    plan = plan_epoch(src + 1, tgt + 1, batch_tokens=2048, seed=1, epoch=0)[:count]
    return [make_batch(src[rows].tolist(), tgt[rows].tolist(), kind=kind, vocabulary=VOCABULARY) for rows in plan]


def operations(model: Seq2Seq, batch: Batch, hidden: int) -> float:
    """Floating-point operations of an update's matrix products: forward, and twice that backward."""
    (B, S), T, E = batch.src.shape, batch.tgt_in.shape[1], 256
    encoder = B * S * 2 * 4 * (hidden // 2) * (E + hidden // 2) + B * S * hidden * hidden
    decoder = B * T * 4 * hidden * (E + 2 * hidden) + B * T * hidden * hidden + B * T * 2 * hidden * E
    attention = B * T * S * hidden * 2
    return 6.0 * (encoder + decoder + attention + batch.target_tokens * E * VOCABULARY)


def products_rate(rows: int) -> float:
    """Operations a second of the output layer's product."""
    features, weight = torch.randn(rows, 256), torch.randn(VOCABULARY, 256)
    started = time.perf_counter()
    for _ in range(5):
        features @ weight.T
    return 5 * 2.0 * rows * 256 * VOCABULARY / (time.perf_counter() - started)


def peer_speed(script: str, size: str, kind: str) -> float:
    """What a script prints for ``train SIZE KIND 60``: target_tokens_per_second_median."""
    done = subprocess.run(["bash", script, "train", size, kind, "60"], capture_output=True, text=True, check=True)
    return float(re.findall(r'"target_tokens_per_second_median": (\d+)', done.stdout)[-1])


def measure(size: str, kind: str, arguments: argparse.Namespace) -> dict[str, object]:
    """One row of the table."""
    model = make_model(kind, hidden=SIZES[size], vocabulary=VOCABULARY)
    updates, batches = Updates(model), make_batches(arguments.updates, kind)
    ways: dict[str, Callable[[], float]] = {"fused": lambda: updates.speed(batches)}
    if arguments.peer:
        ways["peer"] = lambda: peer_speed(arguments.peer, size, kind)
    found: dict[str, list[float]] = {name: [] for name in ("fused", "steps", "peer", "floor")}
    count = sum(operations(model, batch, SIZES[size]) for batch in batches)
    tokens = sum(batch.target_tokens for batch in batches)
    updates.make(batches[:2])  # warm up
    for _ in range(arguments.runs):
        for name, way in ways.items():
            found[name].append(way())
        with by_steps():
            found["steps"].append(updates.speed(batches))
        found["floor"].append(tokens / (count / products_rate(1900)))
    row: dict[str, object] = {"size": size, "kind": kind}
    for name, values in found.items():
        if values:
            row[name] = round(statistics.median(values))
            row[f"{name}_spread"] = [round(min(values)), round(max(values))]
    return row


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--updates", type=int, default=8, help="in a run")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--peer", help="script that is called with train SIZE KIND 60")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows = [measure(size, kind, arguments) for size in arguments.sizes for kind in arguments.kinds]
    print(f"target tokens a second, median of {arguments.runs} runs, {torch.get_num_threads()} threads")
    for row in rows:
        parts = [
            f"{name} {row[name]} {row[f'{name}_spread']}" for name in ("fused", "steps", "peer", "floor") if name in row
        ]
        print(f"{row['size']} {row['kind']:<6} " + "  ".join(parts))
    print(json.dumps({**machine(), "rows": rows}))


if __name__ == "__main__":
    main()
