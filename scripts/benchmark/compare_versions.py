"""Compare two versions of this project: the losses of short trainings, the translations with their scores, the speed.

python scripts/benchmark/compare_versions.py OLD NEW
python scripts/benchmark/compare_versions.py OLD NEW --setting plain --setting deep
python scripts/benchmark/compare_versions.py OLD NEW --speed 5
python scripts/benchmark/compare_versions.py OLD NEW --model runs/one --src test.en.gz --lines 1000 --speed 3

OLD and NEW are checkouts. Each runs in a separate process, through its command line only, so that the two may have
different modules. Both train on the phrasebook of OLD, with one thread, and translate the first lines of its test file.
The new version also translates with the model that the old one trained. The defaults of each version apply to whatever
a setting does not state, so that a changed default counts as a difference.

Prints a table and exits with 1 if anything differs by more than the tolerance. Takes about a minute for each setting.
With --speed the two versions train in turn; use a quiet machine for it.

With --model, nothing is trained: both versions translate the lines of --src with each model, which the new version trained. The
old one gets a copy without the settings that it does not know or that are null. Texts may then differ only where scores
do by less than 1e-4. With --speed, all lines at once and single lines are translated in turn, by beams of 5 and 1, with
two threads.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from machine import machine

SCORE_TOLERANCE = 1e-5  # relative
TIE = 1e-4  # two texts with such a difference of their scores may replace each other
SINGLE_LINES = 100  # that are also translated one by one
WARM_UP = 5  # updates at the start of a training that do not count for its speed
SIZES = ("model.embedding_size=96", "model.hidden_size=128", "tokenizer.vocab_size=1000", "train.batch_tokens=768")


class Setting(NamedTuple):
    """A configuration to train, as overrides, and the relative difference that its losses may have."""

    overrides: tuple[str, ...]
    tolerance: float = 0.0


SETTINGS = {
    "plain": Setting(("model.cell=lstm", "tokenizer.type=unigram")),
    "pointer": Setting(
        (
            "model.cell=gru",
            "model.copy=pointer",
            "model.coverage=sum",
            "loss.coverage_weight=1",
            "tokenizer.type=word",
            "search.coverage_penalty=0.2",
        )
    ),
    "deep": Setting(
        (
            "model.cell=lstm",
            "model.encoder_layers=2",
            "model.decoder_layers=2",
            "model.residual=true",
            "model.attention=scaled_dot",
            "model.dropout_kind=locked",
            "model.recurrent_dropout=0.2",
            "tokenizer.type=bpe",
            "train.accumulate=2",
            "train.schedule=inverse_sqrt",
            "train.warmup=10",
        ),
        tolerance=1e-6,
    ),
    "copynet": Setting(
        (
            "model.cell=gru",
            "model.copy=copynet",
            "model.coverage=fertility",
            "model.attention=general",
            "loss.coverage_weight=0.5",
            "loss.label_smoothing=0.1",
            "tokenizer.type=unigram",
            "tokenizer.shared=false",
        )
    ),
}


KNOWN_SETTINGS = """
import dataclasses, json
from seq2seq import config
groups = {"model": config.ModelConfig, "tokenizer": config.TokenizerConfig, "search": config.SearchConfig}
print(json.dumps({name: [field.name for field in dataclasses.fields(kind)] for name, kind in groups.items()}))
"""
TRANSLATION_SPEED = """
import json, statistics, sys, time
import torch
from seq2seq.translator import Translator
model, beam, src, singles = sys.argv[1:]
torch.set_num_threads(2)
translator = Translator.load(model, device="cpu").with_search(beam_size=int(beam))
lines = open(src, encoding="utf-8", newline="\\n").read().splitlines()
translator.translate(lines[:5])
times = []
for line in lines[: int(singles)]:
    started = time.perf_counter()
    translator.translate([line])
    times.append(1000 * (time.perf_counter() - started))
started = time.perf_counter()
translator.translate(lines)
speed = len(lines) / (time.perf_counter() - started)
print(json.dumps([speed, statistics.median(times), sorted(times)[int(0.95 * len(times))]]))
"""


class Version:
    """A checkout of the project that is used through its command line.

    Args:
        name: "old" or "new".
        checkout: the top folder of the checkout.
        folder: receives the runs and the caches of this version; nothing is written into the checkout.
    """

    def __init__(self, name: str, checkout: Path, folder: Path) -> None:
        if not (checkout / "seq2seq" / "__init__.py").is_file():
            raise SystemExit(f"{checkout} is not a checkout of seq2seq: it has no file seq2seq/__init__.py")
        self.name = name
        self.checkout = checkout.resolve()
        self.folder = folder / name
        self.folder.mkdir()
        self.module = "seq2seq" if (self.checkout / "seq2seq" / "__main__.py").is_file() else "seq2seq.cli"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        self.environment = inherited | {
            "PYTHONPATH": str(self.checkout),
            "PYTHONPYCACHEPREFIX": str(self.folder / "bytecode"),
            "HF_HOME": str(self.folder / "huggingface"),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }

    def describe(self) -> str:
        """Return the name, the folder and the commit, marked if files have changed since."""
        command = ["git", "-C", str(self.checkout), "describe", "--always", "--dirty"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return f"{self.name}: {self.checkout} ({done.stdout.strip() or 'no git repository'})"

    def call(self, *arguments: str) -> None:
        """Run a command of the project, and end this program if it fails."""
        self._run(["-m", self.module, *arguments], self.environment)

    def run_code(self, code: str, *arguments: str) -> Any:
        """Run Python code with this version and return the JSON that it prints."""
        environment = {name: value for name, value in self.environment.items() if name != "OMP_NUM_THREADS"}
        return json.loads(self._run(["-c", code, *arguments], environment))

    def _run(self, arguments: Sequence[str], environment: dict[str, str]) -> str:
        """Run Python and return what it prints; end this program if it fails."""
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(
                f"the {self.name} version failed ({done.returncode}): {' '.join(command)}\n{done.stderr[-3000:]}"
            )
        return done.stdout

    def copy_known(self, model: Path, name: str) -> Path:
        """Copy a model without the settings that this version does not know, and without those that are null."""
        copied = self.folder / name
        shutil.copytree(model / "model" if (model / "model").is_dir() else model, copied)
        settings = json.loads((copied / "config.json").read_text("utf-8"))
        for group, known in self.run_code(KNOWN_SETTINGS).items():
            settings[group] = {
                key: value for key, value in settings[group].items() if key in known and value is not None
            }
        (copied / "config.json").write_text(json.dumps(settings), "utf-8")
        return copied

    def train(self, name: str, overrides: Sequence[str]) -> list[dict[str, Any]]:
        """Train and return the records of metrics.jsonl."""
        self.call("train", f"name={name}", f"run_dir={name}", *overrides)
        return read_jsonl(self.folder / name / "metrics.jsonl")

    def translate(self, model: Path, lines: Path, output: str) -> list[dict[str, Any]]:
        """Translate the lines of a file and return a record for each line."""
        files = ["--input", str(lines), "--output", output]
        self.call("translate", str(model), *files, "--format", "jsonl", "--device", "cpu", "--threads", "1")
        return read_jsonl(self.folder / output)


class Agreement(NamedTuple):
    """Two lists of translations, compared line by line."""

    equal: int  # texts
    lines: int
    scores: float  # the largest relative difference
    ties: int  # texts that differ although their scores do by less than ``TIE``

    @property
    def holds(self) -> bool:
        """Whether all texts are equal and all scores are within the tolerance."""
        return self.equal == self.lines and self.scores <= SCORE_TOLERANCE


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a file with one JSON object in each line."""
    with path.open(encoding="utf-8", newline="\n") as stream:
        return [json.loads(line) for line in stream]


def difference(one: float, two: float) -> float:
    """Return the relative difference of two numbers: 0 if they are equal, infinite if one of them is not finite."""
    if one == two:
        return 0.0
    relative = abs(one - two) / max(abs(one), abs(two))
    return relative if math.isfinite(relative) else math.inf


def compare_losses(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> float:
    """Return the largest relative difference of the losses of all updates; infinite if the updates are not the same."""
    found = [
        {
            (record["update"], key): record[key]
            for record in records
            for key in ("loss", "coverage_loss")
            if key in record
        }
        for records in (old, new)
    ]
    if not found[0] or found[0].keys() != found[1].keys():
        return math.inf
    return max(difference(value, found[1][key]) for key, value in found[0].items())


def compare_translations(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> Agreement:
    """Compare the texts and the scores of translations of the same lines."""
    if len(old) != len(new):
        return Agreement(0, max(len(old), len(new)), math.inf, 0)
    pairs = list(zip(old, new, strict=True))
    differing = [(one, two) for one, two in pairs if one["translation"] != two["translation"]]
    ties = sum(abs(one["score"] - two["score"]) < TIE for one, two in differing)
    worst = max(difference(one["score"], two["score"]) for one, two in pairs)
    return Agreement(len(pairs) - len(differing), len(pairs), worst, ties)


def overrides_of(setting: Setting, data: Path, updates: int) -> list[str]:
    """Return the arguments of ``train``: files, sizes and limits, then those of the setting."""
    files = [
        f"data.{split}.{side}=phrasebook/{split}.{suffix}"
        for split in ("train", "valid")
        for side, suffix in (("src", "en"), ("tgt", "fr"))
    ]
    limits = [f"train.max_updates={updates}", f"train.valid_every={updates}", "data.valid_lines=10"]
    machine_settings = ["train.threads=1", "train.device=cpu", "train.log_every=1", "train.resume=never"]
    return [f"data.root={data}", *files, *SIZES, *limits, *machine_settings, *setting.overrides]


def compare(name: str, old: Version, new: Version, *, updates: int, lines: Path) -> bool:
    """Train and translate with both versions, print one row of the table and return whether they agree."""
    setting = SETTINGS[name]
    overrides = overrides_of(setting, old.checkout / "data", updates)
    losses = compare_losses(*(version.train(name, overrides) for version in (old, new)))
    before, after = (version.translate(version.folder / name, lines, f"{name}.jsonl") for version in (old, new))
    trained = compare_translations(before, after)
    loaded = compare_translations(before, new.translate(old.folder / name, lines, f"{name}.loaded.jsonl"))
    agrees = losses <= setting.tolerance and trained.holds and loaded.holds
    print(
        f"{name:<8} {losses:>10.1e} {setting.tolerance:>9.0e} {row_of(trained)} {row_of(loaded)}"
        f"  {'ok' if agrees else 'DIFFERS'}",
        flush=True,
    )
    return agrees


def row_of(agreement: Agreement) -> str:
    """Return two columns of the table."""
    return f"{f'{agreement.equal} of {agreement.lines}':>12} {agreement.scores:>9.1e}"


def training_speed(records: Sequence[dict[str, Any]]) -> float:
    """Return the median of the target tokens per second of all updates except the first ones."""
    speeds = [record["tokens_per_second"] for record in records if "tokens_per_second" in record]
    return statistics.median(speeds[min(WARM_UP, len(speeds) // 2) :])


def measure(name: str, old: Version, new: Version, *, updates: int, turns: int) -> None:
    """Train with the two versions in turn and print the speed of each and the ratios new/old."""
    overrides = overrides_of(SETTINGS[name], old.checkout / "data", updates)
    speeds: dict[str, list[float]] = {"old": [], "new": []}
    for turn in range(turns):
        for version in (old, new):
            speeds[version.name].append(training_speed(version.train(f"{name}-speed-{turn}", overrides)))
    ratios = [after / before for before, after in zip(speeds["old"], speeds["new"], strict=True)]
    medians = [f"{statistics.median(values):>10,.0f}" for values in speeds.values()]
    listed = " ".join(f"{ratio:.3f}" for ratio in ratios)
    print(f"{name:<8} {' '.join(medians)} {statistics.median(ratios):>10.3f}  {listed}", flush=True)


def compare_models(arguments: argparse.Namespace, old: Version, new: Version, lines: Path) -> bool:
    """Translate with every model by both versions, print one row for each and return whether they agree."""
    agreed = True
    print(f"\n{'model':<20} {'lines':>6} {'equal texts':>12} {'ties':>6} {'scores':>9}")
    for number, model in enumerate(arguments.model):
        copied = old.copy_known(model, f"model{number}")
        written = (old.translate(copied, lines, f"{number}.jsonl"), new.translate(model, lines, f"{number}.jsonl"))
        found = compare_translations(*written)
        agreed = agreed and found.equal + found.ties == found.lines
        print(f"{model.name:<20} {found.lines:>6} {found.equal:>12} {found.ties:>6} {found.scores:>9.1e}", flush=True)
        for beam in ("5", "1") if arguments.speed else ():
            speeds: dict[str, list[list[float]]] = {"old": [], "new": []}
            for _ in range(arguments.speed):
                for version, path in ((old, copied), (new, model)):
                    given = (str(path), beam, str(lines), str(SINGLE_LINES))
                    speeds[version.name].append(version.run_code(TRANSLATION_SPEED, *given))
            for name, turns in speeds.items():
                speed, middle, slow = (statistics.median(each) for each in zip(*turns, strict=True))
                print(
                    f"  beam {beam}, {name}: {speed:,.0f} lines/s; one line {middle:.1f} ms, 95 % {slow:.1f} ms",
                    flush=True,
                )
    return agreed


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, metavar="OLD", help="checkout of the old version")
    parser.add_argument("new", type=Path, metavar="NEW", help="checkout of the new version")
    parser.add_argument(
        "--setting", action="append", choices=SETTINGS, help="may be given several times; default: all of them"
    )
    parser.add_argument("--updates", type=int, default=50, help="length of a training; default 50")
    parser.add_argument("--lines", type=int, default=50, help="lines to translate; default 50")
    parser.add_argument(
        "--speed", type=int, default=0, metavar="TURNS", help="also measure the training speed, so many times"
    )
    parser.add_argument(
        "--model",
        action="append",
        type=lambda path: Path(path).resolve(),
        help="a trained model; may be given several times",
    )
    parser.add_argument(
        "--src", type=Path, help="file of source lines, also .gz; default: the test file of the phrasebook"
    )
    arguments = parser.parse_args()
    for model in arguments.model or ():
        if not model.is_dir():
            parser.error(f"--model must be a folder of a model or of a run, but {model} is not a folder")
    for key, least in (("updates", 1), ("lines", 1), ("speed", 0)):
        if getattr(arguments, key) < least:
            parser.error(f"--{key} must be at least {least}, but is {getattr(arguments, key)}")
    return arguments


def main() -> None:
    """Compare all settings, print the tables and exit with 1 if the versions differ."""
    arguments = read_arguments()
    names = arguments.setting or list(SETTINGS)
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="compare-") as temporary:
        folder = Path(temporary)
        old, new = Version("old", arguments.old, folder), Version("new", arguments.new, folder)
        print(f"{facts['date']}, {facts['machine']}, {facts['cores']} cores, 1 thread used, torch {facts['torch']}")
        print(old.describe(), new.describe(), sep="\n")
        lines = folder / "lines"
        src: Path = arguments.src or old.checkout / "data" / "phrasebook" / "test.en"
        with gzip.open(src) if src.suffix == ".gz" else src.open("rb") as stream:
            lines.write_bytes(b"".join(islice(stream, arguments.lines)))
        if arguments.model:
            sys.exit(0 if compare_models(arguments, old, new, lines) else 1)
        print(
            f"\n{arguments.updates} updates, {arguments.lines} lines; largest relative differences of losses and scores"
        )
        print(f"{'':<8} {'':>10} {'':>9} {'both trained':>22} {'trained by old':>22}")
        print(f"{'setting':<8} {'losses':>10} {'tolerance':>9}" + 2 * f" {'equal texts':>12} {'scores':>9}")
        agreed = [compare(name, old, new, updates=arguments.updates, lines=lines) for name in names]
        if arguments.speed:
            print(f"\ntarget tokens per second, median of {arguments.speed} trainings of each version")
            print(f"{'setting':<8} {'old':>10} {'new':>10} {'new/old':>10}  of each turn")
            for name in names:
                measure(name, old, new, updates=arguments.updates, turns=arguments.speed)
    sys.exit(0 if all(agreed) else 1)


if __name__ == "__main__":
    main()
