"""Measure the peak memory and the time of one update on long documents, also of the plain path and of OpenNMT-py.

python scripts/benchmark/train_memory.py
python scripts/benchmark/train_memory.py --encoder hierarchical --source 2000
python scripts/benchmark/train_memory.py --peer VENV/bin/onmt_train

The model is an LSTM with one layer, hidden size 512, additive attention, copying and coverage, unless options change
it; sources have 400 pieces, targets 100. Each process first makes an update with a batch of two short sentences, then
one with the long documents. The result is the difference between the two peaks of resident memory, so that libraries,
weights and the state of Adam do not count, and the time of a second update with the long documents. A hierarchical encoder
reads them in sentences of 20 pieces. Prints a table and a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from machine import machine
from workload import KINDS, Size, Updates, make_batch, make_model

from seq2seq.layers.fast import plain_layers

WAYS = ("fused", "steps")


class Cost(NamedTuple):
    """The cost of one update with long documents."""

    peak: int  # bytes
    seconds: float | None = None  # None: not measured


def cost_here(way: str, arguments: argparse.Namespace) -> Cost:
    """Return the cost, measured in this process, which must not have made an update before."""
    size = Size(arguments.hidden, layers=arguments.layers, vocabulary=arguments.vocabulary)
    updates = Updates(make_model(arguments.kind, size, arguments.encoder))
    with plain_layers() if way == "steps" else nullcontext():
        before = 0
        for rows, source, target in ((2, 3, 3), (arguments.rows, arguments.source, arguments.target)):
            options = {"kind": arguments.kind, "vocabulary": arguments.vocabulary}
            batch = make_batch([source - 1] * rows, [target - 1] * rows, **options)
            updates.make([batch])
            peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            before, rise = peak, peak - before
        return Cost(rise, updates.make([batch]))


def peer_cost(program: str, arguments: argparse.Namespace) -> Cost:
    """Return the bytes that OpenNMT-py's training command needs for long documents, minus those for short ones."""
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = [f"w{number}" for number in range(arguments.vocabulary - 4)]
        (folder / "vocabulary").write_text("".join(f"{word}\t9\n" for word in words))
        for rows, source, target in ((2, 3, 3), (arguments.rows, arguments.source, arguments.target)):
            numbers = np.random.default_rng(1)
            for side, length in (
                ("src", source),
                ("tgt", target - 1),
            ):  # the peer appends the end of sentence to targets
                lines = (" ".join(numbers.choice(words, length)) for _ in range(20 * rows))
                (folder / side).write_text("".join(line + "\n" for line in lines))
            settings = {
                "save_data": f"{folder}/run",
                "src_vocab": f"{folder}/vocabulary",
                "share_vocab": True,
                "data": {"corpus": {"path_src": f"{folder}/src", "path_tgt": f"{folder}/tgt"}},
                "save_model": f"{folder}/model",
                **{"encoder_type": "brnn", "decoder_type": "rnn", "rnn_type": "LSTM", "input_feed": 1},
                **{
                    "word_vec_size": 256,
                    "hidden_size": arguments.hidden,
                    "layers": arguments.layers,
                    "global_attention": "mlp",
                    "share_embeddings": True,
                },
                **{
                    "batch_type": "sents",
                    "batch_size": rows,
                    "bucket_size": 20 * rows,
                    "num_workers": 0,
                    "dropout": [0.3],
                },
                **{"optim": "adam", "learning_rate": 0.001, "max_grad_norm": 5, "seed": 1},
                **{"train_steps": 2, "valid_steps": 100, "save_checkpoint_steps": 100, "report_every": 1},
            }
            if arguments.kind == "copy":
                settings |= {"copy_attn": True, "reuse_copy_attn": True, "coverage_attn": True, "lambda_coverage": 1.0}
            (folder / "run.yaml").write_text(json.dumps(settings))
            # a separate process, whose only child is the peer
            script = (
                "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=2);"
                "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
            )
            command = [sys.executable, "-c", script, program, "-config", f"{folder}/run.yaml"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{program} failed:\n{done.stderr[-3000:]}")
            peaks.append(1024 * int(done.stdout.split()[-1]))
    return Cost(peaks[1] - peaks[0])


def cost_in_new_process(way: str, argv: list[str]) -> Cost:
    """Return the cost of ``cost_here``, called in a new process."""
    done = subprocess.run([sys.executable, __file__, *argv, "--way", way], capture_output=True, text=True, check=True)
    return Cost(*json.loads(done.stdout))


def main() -> None:
    """Measure all ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, default="copy")
    parser.add_argument("--encoder", choices=("rnn", "hierarchical"), default="rnn")
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=1, help="in the encoder and in the decoder")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--source", type=int, default=400)
    parser.add_argument("--target", type=int, default=100)
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("--peer", help="path of the program onmt_train")
    parser.add_argument(
        "--way", choices=WAYS, help="measure only this one, in the same process, and print its cost as JSON"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # required by the peer
    if arguments.way:
        print(json.dumps(cost_here(arguments.way, arguments)))
        return
    ways: dict[str, Callable[[], Cost]] = {way: partial(cost_in_new_process, way, sys.argv[1:]) for way in WAYS}
    if arguments.peer:
        ways["peer"] = partial(peer_cost, arguments.peer, arguments)
    found = {way: measure() for way, measure in ways.items()}
    print(f"cost of an update: {arguments.rows} documents, source {arguments.source} pieces, target {arguments.target}")
    for way, cost in found.items():
        seconds = "" if cost.seconds is None else f"{cost.seconds:8.2f} s"
        ratio = found["fused"].peak / cost.peak
        print(f"{way:<6} {cost.peak / 2**20:8,.0f} MiB   ratio of fused to it {ratio:.3f}  {seconds}")
    costs = {way: cost._asdict() for way, cost in found.items()}
    print(json.dumps({**machine(), **vars(arguments), "costs": costs}))


if __name__ == "__main__":
    main()
