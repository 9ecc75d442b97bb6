"""Measure decoding: sentences and target tokens per second, latency of one line, cold start and memory.

python scripts/benchmark/decode_speed.py
python scripts/benchmark/decode_speed.py --peer opennmt_py.sh --peer-updates 20
python scripts/benchmark/decode_speed.py --src-lengths 0 100 400 --batch-tokens 1024 16384 --sentences 40
python scripts/benchmark/decode_speed.py --candidates 300

The model has random weights and the size S or M of ``train_speed.py``; the sources have random lengths like those of
Multi30k, or all the given length. Every hypothesis has exactly ``--length`` pieces with the end of sentence, so that the
work does not depend on the weights. The ways are run in turn, several times; use a quiet machine. "plain" is the same
model without the fast twins of ``seq2seq.layers.fast``. The floor is the speed if decoding consisted of the products of
the output layer alone; "products" is the share of all matrix products in the time of the fast search, by torch's profiler.
"short" is the speed if every sentence chooses from its own random candidates (``--candidates``).
The latency is that of one sentence at a time; the cold start is that of the command translate with a trained ``--model``.
The peak of the memory is that of the process until the row was measured. A peer's script is called with ``translate SIZE
KIND UPDATES BEAM BATCH THREADS LENGTH``, as for ``train_speed.py``. Prints a table and a line of JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from machine import machine
from workload import KINDS, Size, make_batch, make_model

from seq2seq.data.batching import Batch, split_by_tokens
from seq2seq.layers.fast import plain_layers
from seq2seq.model import Seq2Seq
from seq2seq.search.beam import SearchOptions, beam_search
from seq2seq.text.tokenizer import BOS, EOS

SIZES = {"S": Size(256), "M": Size(512)}
PRODUCTS = {f"aten::{name}" for name in ("mm", "addmm", "addmm_", "bmm", "baddbmm", "mv", "addmv")}


def make_batches(lengths: np.ndarray, kind: str, batch_tokens: int) -> list[Batch]:
    """Group random sources of the given lengths into batches as ``Translator`` does."""
    order = np.argsort(lengths, kind="stable")
    groups = split_by_tokens(order, lengths + 1, batch_tokens)
    vocabulary = SIZES["S"].vocabulary
    return [make_batch(lengths[rows].tolist(), [1] * len(rows), kind=kind, vocabulary=vocabulary) for rows in groups]


def decode(
    model: Seq2Seq, batches: list[Batch], beam: int, length: int, *, candidates: int = 0, precision: str = "fp32"
) -> float:
    """Search all batches and return the seconds.

    Args:
        candidates: the number of target ids that each sentence may choose from, its own pieces included; 0: all.
    """
    options = SearchOptions(BOS, EOS, beam, min_length=length - 1, never_id=model.never_id)
    started = time.perf_counter()
    with model.evaluating():
        for batch in batches:
            allowed = allow(batch, candidates, model.vocab_size) if candidates else None
            state = model.encode(batch.to(model.device), allowed, precision)
            beam_search(model.step, state, [length] * len(batch.src), options)
    return time.perf_counter() - started


def allow(batch: Batch, candidates: int, size: int) -> torch.Tensor:
    """Choose random candidates for each sentence, the same at every call, and its own pieces: (B, V)."""
    chosen = torch.randint(size, (len(batch.src), candidates), generator=torch.Generator().manual_seed(1))
    allowed = torch.zeros(len(batch.src), size, dtype=torch.bool)
    return allowed.scatter_(1, chosen, True).scatter_(1, batch.src, True)


def products_rate(model: Seq2Seq, rows: int) -> float:
    """Return the rows per second of the product of the output layer, for batches of ``rows`` rows."""
    layer = model.readout.logits
    features = torch.randn(rows, layer.in_features, device=model.device)
    out = torch.empty(layer.out_features, rows, device=model.device)
    started, done = time.perf_counter(), 0
    with torch.no_grad():
        while (seconds := time.perf_counter() - started) < 1:
            torch.mm(layer.weight, features.t(), out=out)
            float(out[0, 0])
            done += rows
    return done / seconds


def products_share(run: Callable[[], float]) -> float:
    """Return the share of matrix products in the time of all operators."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run()
    times = {event.key: event.self_cpu_time_total for event in profile.key_averages()}
    return sum(time for key, time in times.items() if key in PRODUCTS) / sum(times.values())


def peer_speed(arguments: argparse.Namespace, kind: str, beam: int) -> float:
    """Return the sentences_per_second that the script of the peer prints."""
    numbers = (arguments.peer_updates, beam, 64, torch.get_num_threads(), arguments.length)
    command = ["bash", arguments.peer, "translate", arguments.size, kind, *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(re.findall(r'"sentences_per_second": ([0-9.]+)', done.stdout)[-1])


def measure(
    kind: str, beam: int, src_length: int, batch_tokens: int, arguments: argparse.Namespace
) -> dict[str, object]:
    """Measure one row of the table: all sentences in batches, then one line at a time."""
    model = make_model(kind, SIZES[arguments.size]).to(arguments.device)
    numbers = np.random.default_rng(1)
    lengths = np.clip(numbers.normal(14.3, 4.5, arguments.sentences).round(), 3, 50).astype(int)
    if src_length:
        lengths[:] = src_length
    batches = make_batches(lengths, kind, batch_tokens)
    lines = [make_batches(lengths[[row]], kind, batch_tokens) for row in range(min(arguments.lines, len(lengths)))]
    rows = beam * int(np.mean([len(batch.src) for batch in batches]))

    def floor() -> float:
        return products_rate(model, min(rows, 256)) / (beam * arguments.length)

    ways: dict[str, Callable[[], float]] = {
        "fast": lambda: len(lengths) / decode(model, batches, beam, arguments.length),
        "plain": lambda: _plainly(lambda: len(lengths) / decode(model, batches, beam, arguments.length)),
        "floor": floor,
    }
    if arguments.candidates:
        ways["short"] = lambda: (
            len(lengths) / decode(model, batches, beam, arguments.length, candidates=arguments.candidates)
        )
    if arguments.bf16:
        ways["bf16"] = lambda: len(lengths) / decode(model, batches, beam, arguments.length, precision="bf16")
    if arguments.peer:
        ways["peer"] = lambda: peer_speed(arguments, kind, beam)
    found: dict[str, list[float]] = {way: [] for way in ways}
    latencies: list[float] = []
    decode(model, batches[:1], beam, arguments.length)  # warm up
    for _ in range(arguments.runs):
        for way, run in ways.items():
            found[way].append(run())
        latencies += [decode(model, line, beam, arguments.length) for line in lines]
    row: dict[str, object] = {"kind": kind, "beam": beam, "src_length": src_length, "batch_tokens": batch_tokens}
    row["batch_sentences"] = round(statistics.mean(len(batch.src) for batch in batches), 1)
    for way, values in found.items():
        row[way] = round(statistics.median(values), 1)
        if way != "fast":
            ratios = [fast / value for fast, value in zip(found["fast"], values, strict=True)]
            row[f"to_{way}"] = round(statistics.median(ratios), 2)
    row["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    if arguments.device == "cpu":
        row["products"] = round(products_share(lambda: decode(model, batches, beam, arguments.length)), 2)
    row["tokens"] = round(statistics.median(found["fast"]) * arguments.length)
    row["line_p50_ms"], row["line_p95_ms"] = (round(1000 * float(np.quantile(latencies, q)), 1) for q in (0.5, 0.95))
    return row


def _plainly(run: Callable[[], float]) -> float:
    with plain_layers():
        return run()


def cold_start(model: str) -> float:
    """Return the seconds from the start of ``seq2seq translate`` to the translation of one line."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "seq2seq", "translate", model]
    subprocess.run(command, input="a man sleeps .\n", capture_output=True, text=True, check=True)
    return time.perf_counter() - started


def main() -> None:
    """Measure all rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="S")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--beams", nargs="+", type=int, default=[5, 1])
    parser.add_argument("--sentences", type=int, default=500)
    parser.add_argument("--lines", type=int, default=20, help="sentences that are also searched one at a time")
    parser.add_argument(
        "--src-lengths", nargs="+", type=int, default=[0], help="pieces of every source; 0: like Multi30k"
    )
    parser.add_argument("--length", type=int, default=15, help="pieces of every hypothesis")
    parser.add_argument("--batch-tokens", nargs="+", type=int, default=[4096])
    parser.add_argument(
        "--candidates", type=int, default=0, help="ids of a shortlist of each sentence; 0: no shortlist"
    )
    parser.add_argument("--bf16", action="store_true", help="also measure search.precision=bf16")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--model", help="a trained model, to measure the cold start of the command translate")
    parser.add_argument("--peer", help="script that measures the peer")
    parser.add_argument("--peer-updates", type=int, default=20, help="updates of the peer's checkpoint")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(f"sentences per second, median of {arguments.runs} runs, {torch.get_num_threads()} threads", flush=True)
    rows = []
    for row in itertools.product(arguments.kinds, arguments.beams, arguments.src_lengths, arguments.batch_tokens):
        rows.append(measure(*row, arguments))
        print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    result = {**machine(), "size": arguments.size, "device": arguments.device, "length": arguments.length, "rows": rows}
    if arguments.model:
        result["cold_start_s"] = round(statistics.median(cold_start(arguments.model) for _ in range(3)), 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
