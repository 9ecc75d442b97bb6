"""Measure what each option of translating costs in speed, and how many texts it changes.

python scripts/benchmark/option_costs.py MODEL LINES
python scripts/benchmark/option_costs.py MODEL LINES --ensemble OTHER THIRD

The options run in turn, several times, with the search settings of the model; use a quiet machine. Time is that of
translating all lines, relative to the plain search of the same turn. Prefix and glossary are made of the model's own
translations: the first half of each as a prefix, and the glossary asks for a word of one of them, for each of twenty
words of the lines. Prints a table and a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from machine import machine

from seq2seq.data.lines import read_lines
from seq2seq.threads import set_threads
from seq2seq.translator import Translator

GLOSSARY_TERMS = 20
MOST_LINES = 0.05  # share of the lines that a term of the glossary may occur in

Run = Callable[[list[str]], list[str]]


def main() -> None:
    """Measure all options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model directory or a run directory")
    parser.add_argument("src", type=Path, help="file of source lines, also .gz")
    parser.add_argument("--lines", type=int, default=1000, help="lines of the file that are used")
    parser.add_argument("--ensemble", nargs="+", default=[], metavar="MODEL", help="other models of the ensembles")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", help="names of the options to measure")
    arguments = parser.parse_args()
    set_threads(arguments.threads, name="--threads")
    lines = list(islice(read_lines(arguments.src), arguments.lines))
    plain = Translator.load(arguments.model, device="cpu")
    base = plain.translate(lines)
    options = make_options(plain, lines, base, [arguments.model, *arguments.ensemble])
    if arguments.only:
        options = {name: run for name, run in options.items() if name in arguments.only}
    seconds: dict[str, list[float]] = {name: [] for name in ("plain", *options)}
    texts: dict[str, list[str]] = {}
    for _ in range(arguments.runs):
        for name, run in {"plain": plain.translate, **options}.items():
            started = time.perf_counter()
            texts[name] = run(lines)
            seconds[name].append(time.perf_counter() - started)
    rows = []
    for name, times in seconds.items():
        ratios = [one / other for one, other in zip(times, seconds["plain"], strict=True)]
        changed = sum(one != other for one, other in zip(texts[name], base, strict=True))
        rows.append(
            {
                "option": name,
                "sentences_per_second": round(len(lines) / statistics.median(times), 1),
                "time": round(statistics.median(ratios), 2),
                "changed_texts": changed,
            }
        )
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    print(json.dumps({**machine(), "lines": len(lines), "rows": rows}))


def make_options(plain: Translator, lines: list[str], texts: Sequence[str], models: Sequence[str]) -> dict[str, Run]:
    """Return a function for each option that translates the lines with it."""
    halves = [" ".join(text.split()[: len(text.split()) // 2]) for text in texts]
    glossary = make_glossary(lines, texts)

    def best(translator: Translator) -> Run:
        return lambda lines: [found[0].translation for found in translator.search(lines)]

    options: dict[str, Run] = {
        "beam 1": plain.with_search(beam_size=1).translate,
        "bf16": plain.with_search(precision="bf16").translate,
        "jsonl": best(plain),
        "sampling": plain.with_search(samples=1, seed=1).translate,
        "sampling, top-k 10": plain.with_search(samples=1, seed=1, top_k=10).translate,
        "sampling, top-p 0.9": plain.with_search(samples=1, seed=1, top_p=0.9).translate,
        "best of 10 samples by chrF": plain.with_search(samples=10, seed=1, mbr="chrf").translate,
        "n-best by chrF": plain.with_search(mbr="chrf").translate,
        "prefix": lambda lines: plain.translate(lines, prefixes=halves),
        "glossary": plain.with_terms(glossary).translate,
        "kept numbers": plain.with_terms(keep=["numbers"]).translate,
        "no repeated 3-gram": plain.with_search(no_repeat_ngram=3).translate,
        "repetition penalty 1.2": plain.with_search(repetition_penalty=1.2).translate,
        "forbidden word": plain.with_search(
            forbidden=" ".join(target for (target,) in list(glossary.values())[:1])
        ).translate,
    }
    for count in range(2, len(models) + 1):
        ensemble = Translator.load(models[:count], device="cpu")
        options[f"ensemble of {count}"] = ensemble.translate
        if count == len(models):
            linear = Translator.load(models[:count], device="cpu", mixture="linear")
            options[f"linear ensemble of {count}"] = linear.translate
    return options


def make_glossary(lines: Sequence[str], texts: Sequence[str]) -> dict[str, list[str]]:
    """Return a target term for each of the most frequent words that few lines have: the rarest word of a translation."""
    words = Counter(word for line in lines for word in set(line.lower().split()) if word.isalpha())
    targets = Counter(word for text in texts for word in text.split() if word.isalpha())
    glossary: dict[str, list[str]] = {}
    rare = [word for word, count in words.most_common() if count <= MOST_LINES * len(lines)]
    for word in rare[:GLOSSARY_TERMS]:
        text = next(text for line, text in zip(lines, texts, strict=True) if word in line.lower().split())
        found = sorted((target for target in text.split() if target.isalpha()), key=targets.__getitem__)
        if found:
            glossary[word] = found[:1]
    return glossary


if __name__ == "__main__":
    main()
