"""Time and memory from the start of a training to its first update, on generated pairs.

Generates a corpus of random words whose frequencies follow Zipf's law, trains for one update with an empty cache, and prints
as JSON when each step ended and the peak of the memory of all processes. Memory that is mapped from files is not counted:
the system takes it back when it is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

WORDS = 50_000
WRITTEN_AT_ONCE = 10_000
STEPS = {"train: ": "pairs tokenized and counted", "trained for": "one update, validated and saved"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument(
        "--folder", type=Path, required=True, help="an empty folder for corpus, cache and run; needs 1 KB per pair"
    )
    parser.add_argument("--curve", type=Path, help="write the memory of each second, in MiB, to this file")
    parser.add_argument("settings", nargs="*", help="settings of the training, such as train.threads=1")
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"--folder must be empty, but {folder} is not")
    for name, pairs, seed in (("train", options.pairs, 1), ("valid", 100, 2)):
        write_pairs(folder / name, pairs, seed)
    steps, curve = train(folder, options.settings)
    if options.curve:
        options.curve.write_text("".join(f"{number}\n" for number in curve))
    size = sum((folder / f"train.{side}").stat().st_size for side in ("src", "tgt"))
    cache = sum(path.stat().st_size for path in (folder / "cache").rglob("*.arrow"))
    result: dict[str, Any] = {**machine(), "pairs": options.pairs, "text_mib": size >> 20, "cache_mib": cache >> 20}
    print(json.dumps({**result, "seconds": steps, "peak_mib": max(curve)}, indent=2))
    shutil.rmtree(folder)


def write_pairs(path: Path, pairs: int, seed: int) -> None:
    """Write the two files of a corpus: lines of 5 to 24 words."""
    random = np.random.Generator(np.random.PCG64(seed))
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    vocabulary = np.array(["".join(random.choice(letters, size=random.integers(2, 10))) for _ in range(WORDS)])
    shares = 1 / np.arange(1, WORDS + 1)
    cumulated = np.cumsum(shares / shares.sum())
    for side in ("src", "tgt"):
        with path.with_suffix(f".{side}").open("w") as file:
            for first in range(0, pairs, WRITTEN_AT_ONCE):
                lengths = random.integers(5, 25, size=min(WRITTEN_AT_ONCE, pairs - first))
                numbers = np.minimum(np.searchsorted(cumulated, random.random(int(lengths.sum()))), WORDS - 1)
                lines = np.split(vocabulary[numbers], np.cumsum(lengths)[:-1])
                file.writelines(f"{' '.join(line)}.\n" for line in lines)


def train(folder: Path, settings: list[str]) -> tuple[dict[str, float], list[int]]:
    """Train for one update; return the seconds from the start to the end of each step, and the memory of each second."""
    values = {"data": "files", "data.root": folder, "train.max_updates": 1, "name": "scale"}
    values |= {f"data.{split}.{side}": f"{split}.{side}" for split in ("train", "valid") for side in ("src", "tgt")}
    command = [
        sys.executable,
        "-m",
        "seq2seq",
        "train",
        *(f"{key}={value}" for key, value in values.items()),
        *settings,
    ]
    environment = {**os.environ, "HF_HOME": str(folder / "cache"), "HF_DATASETS_CACHE": str(folder / "cache")}
    start, curve = time.perf_counter(), [0]
    steps: dict[str, float] = {}
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)

    def measure() -> None:
        while process.poll() is None:
            curve.append(memory_mib(process.pid))
            time.sleep(1)

    threading.Thread(target=measure, daemon=True).start()
    assert process.stderr is not None
    for line in process.stderr:
        steps |= {
            step: round(time.perf_counter() - start, 1) for prefix, step in STEPS.items() if line.startswith(prefix)
        }
    if process.wait() != 0:
        sys.exit(f"the training ended with the code {process.returncode}")
    return steps, curve


def memory_mib(pid: int) -> int:
    """Return the memory of a process and its children in MiB, without files that are mapped to memory."""
    total = 0
    for process in [pid, *children(pid)]:
        try:
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
        except OSError:  # it has ended
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem")))
    return total >> 10


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


if __name__ == "__main__":
    main()
