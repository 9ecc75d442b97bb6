"""Compare cells, directions, attentions and kinds of dropout: train the bundled task once for each, with the same budget.

Every training differs from the first one in one part. Prints a table in Markdown: parameters, time of a training with its
validation, and the score of each seed on the validation pairs. Run it in the root of a checkout.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from machine import machine

from seq2seq.config import Config, from_container
from seq2seq.training.train import train
from seq2seq.translator import Translator

BASE = {"cell": "lstm", "dropout": 0.3}
PARTS: dict[str, dict[str, object]] = {
    "LSTM, both directions, additive, ordinary dropout": {},
    "GRU": {"cell": "gru"},
    "rnn_tanh": {"cell": "rnn_tanh"},
    "rnn_relu": {"cell": "rnn_relu"},
    "one direction": {"bidirectional": False},
    "no attention": {"attention": "none"},
    "general attention": {"attention": "general"},
    "multi_head attention": {"attention": "multi_head"},
    "local_p attention": {"attention": "local_p"},
    "locked dropout": {"dropout_kind": "locked"},
    "recurrent dropout": {"recurrent_dropout": 0.3},
    "weight drop": {"weight_drop": 0.3},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    print(json.dumps(machine()))
    print("| changed | parameters | seconds | BLEU of each seed | mean |\n| --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, changes in PARTS.items():
            start = time.perf_counter()
            scores: list[float] = []
            for seed in range(1, options.seeds + 1):
                run = Path(folder) / f"{len(scores)} {name}"
                scores.append(train(config_of(run, changes, seed, options)))
            seconds = (time.perf_counter() - start) / options.seeds
            shown = ", ".join(f"{score:.1f}" for score in scores)
            size = parameters_of(run)
            print(f"| {name} | {size:,} | {seconds:.0f} | {shown} | {statistics.mean(scores):.1f} |", flush=True)


def config_of(run: Path, changes: dict[str, object], seed: int, options: argparse.Namespace) -> Config:
    """Return the settings of a training: the bundled task without its test pairs, and one validation at the end."""
    files = {split: {side: f"{split}.{side}" for side in ("en", "fr")} for split in ("train", "valid")}
    named = {split: {"src": sides["en"], "tgt": sides["fr"]} for split, sides in files.items()}
    settings = {
        "name": "compare",
        "run_dir": str(run),
        "data": {"root": "data/phrasebook", **named},
        "tokenizer": {"vocab_size": 2000},
        "model": BASE | changes,
        "train": {
            "max_updates": options.updates,
            "valid_every": options.updates,
            "seed": seed,
            "threads": options.threads,
        },
    }
    return from_container(Config, settings, "")


def parameters_of(run: Path) -> int:
    """Return the number of parameters of the model of a run."""
    return sum(parameter.numel() for _, parameter in Translator.load(run).model.named_parameters())


if __name__ == "__main__":
    main()
