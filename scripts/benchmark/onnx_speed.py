"""Compare the ONNX export of a model with the model: the texts of all lines, and the time that a line takes.

Both translate line by line with the same number of threads. Prints the results as JSON and exits with code 1 if a text
differs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from machine import machine

from seq2seq.sharing.onnx_export import export_onnx
from seq2seq.sharing.onnx_search import OnnxTranslator
from seq2seq.threads import set_threads
from seq2seq.translator import Translator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model directory or a run directory")
    parser.add_argument("src", type=Path, help="file of source lines")
    parser.add_argument("--lines", type=int, default=1000, help="lines of the file that are used")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    set_threads(options.threads, name="--threads")
    lines = options.src.read_text(encoding="utf-8").split("\n")[: options.lines]
    translator = Translator.load(options.model, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "exported"
        export_onnx(options.model, exported)
        onnx = OnnxTranslator(exported, threads=options.threads)
        texts, timings = measure(lines, {"torch": translator.translate, "onnx": onnx.translate})
    differing = sum(one != other for one, other in zip(texts["torch"], texts["onnx"], strict=True))
    print(json.dumps({**machine(), "lines": len(lines), "texts_that_differ": differing, **timings}, indent=2))
    sys.exit(bool(differing))


def measure(
    lines: Sequence[str], systems: dict[str, Callable[[list[str]], list[str]]]
) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Translate every line with every system in turn; return the texts, and the milliseconds of a line by system."""
    for translate in systems.values():
        translate(list(lines[:5]))  # warm up
    texts: dict[str, list[str]] = {name: [] for name in systems}
    taken: dict[str, list[float]] = {name: [] for name in systems}
    for line in lines:
        for name, translate in systems.items():
            start = time.perf_counter()
            texts[name] += translate([line])
            taken[name].append(1000 * (time.perf_counter() - start))
    return texts, {f"{name}_ms_per_line": round(statistics.median(each), 2) for name, each in taken.items()}


if __name__ == "__main__":
    main()
