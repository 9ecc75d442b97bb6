"""Damage training runs and models at random, and check that nothing is lost.

python scripts/drill.py                         about a minute
python scripts/drill.py --long                  one to two hours; the disk is full once at every file operation
python scripts/drill.py --only kill --seed 7 --count 20

Kinds of damage:
    kill     SIGKILL during training, at a random moment or at a random file operation. The run is resumed until it ends;
             state, metrics and model must equal those of an undisturbed run bit for bit.
    write    A disk that is full from one of the file operations of training on: a small tmpfs where the rights allow one,
             otherwise a limit on the size of files. Training must end, or stop with one line and exit code 2, and leave no
             temporary file; the resumed run must equal the undisturbed one.
    flood    Hostile lines for translate: as many lines out as in.
    model    Damaged files of a model directory: one line and exit code 2, or the same translations as before.
    run      Damaged files of a run directory: one line and exit code 2, or the same state and model as before.

The exit code is 1 if anything fails.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import datasets
import torch
import torch._dynamo  # the first optimizer imports it, which takes 2 s; here once for all processes
from small_runs import EVERYTHING, config_of, metrics_of, same, saved_model, state_of, write_corpus

from seq2seq.commands.app import app
from seq2seq.commands.errors import one_line_errors
from seq2seq.config import Config
from seq2seq.training.train import train

LONGEST = 600.0  # seconds that a process may take on a busy machine
REPORT_EVERY = 60.0  # seconds between two lines on the progress
PAIRS = 40  # of the training set
CUT = {"train.max_updates": 12, "train.valid_every": 3}
BPE = {"tokenizer.type": "bpe", "tokenizer.vocab_size": 300}
COVERAGE = {"model.coverage": "sum", "loss.coverage_weight": 0.5, "train.patience": 1}
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": CUT,
    "everything": EVERYTHING,
    "accumulate": {**CUT, "train.accumulate": 3},
    "bpe dropout": {**CUT, **BPE, "tokenizer.dropout": 0.3},
    "coverage from an update": {**CUT, **COVERAGE, "loss.coverage_start": 5, "loss.coverage_warmup": 3},
    "coverage after patience": {**CUT, **COVERAGE, "loss.coverage_start": -1, "train.metric": "loss"},
    "plateau": {**CUT, "train.schedule": "plateau", "train.valid_every": 1, "train.metric": "chrf"},
    "copying": {**CUT, "model.copy": "pointer", "train.average": 0.9},
}
CLONE_NEWNS = 0x00020000  # of Linux's unshare: a mount namespace of one's own
DISK = 64 * 2**20  # bytes of the disk that is filled


class DrillError(Exception):
    """A result that is not allowed."""


class Ended(NamedTuple):
    """How a process ended."""

    code: int  # negative: the signal
    errors: str  # standard error

    def is_refusal(self) -> bool:
        """Return whether it ended with exit code 2 and one line about the error, after the lines of a report."""
        lines = self.errors.splitlines()
        found = [line for line in lines if line.startswith("error: ")]
        return self.code == 2 and len(found) == 1 and found == lines[-1:] and "Traceback" not in self.errors


class Reference(NamedTuple):
    """An undisturbed run."""

    config: Config
    seconds: float
    operations: int  # files opened for writing, renamed, created or removed


# ---- processes


def run_process(action: Callable[[], None], *, kill_after: float | None = None, longest: float = LONGEST) -> Ended:
    """Run an action in a forked process, and kill that process after a number of seconds if one is given."""
    reader, writer = os.pipe()
    process = os.fork()
    if not process:
        _run_and_exit(action, writer)
    os.close(writer)
    os.set_blocking(reader, False)
    start = time.monotonic()
    errors, code = b"", None
    with open(reader, "rb", buffering=0) as stream:
        while code is None:
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() - start > (longest if kill_after is None else kill_after):
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                if kill_after is None:
                    raise DrillError(f"a process did not end within {longest:.0f} s")
                code = -signal.SIGKILL
            while part := stream.read(2**16):
                errors += part
            time.sleep(0.002)
    return Ended(code, errors.decode(errors="replace"))


def _run_and_exit(action: Callable[[], None], errors: int) -> NoReturn:
    code = 1
    try:
        os.dup2(errors, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        action()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def training(config: Config, cache: Path) -> Callable[[], None]:
    """Make the action that trains with a separate cache, and reports errors like the command."""

    def action() -> None:
        datasets.config.HF_DATASETS_CACHE = cache
        with one_line_errors("train.batch_tokens"):
            train(config)

    return action


def watch_operations(react: Callable[[int], None]) -> None:
    """Call a function with the number of every file operation of this process that changes the disk."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        changes = event in ("os.rename", "os.mkdir", "os.remove", "os.truncate")
        if changes or (event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            count += 1
            react(count)

    sys.addaudithook(hook)


# ---- a disk that can be filled


class Disk:
    """A folder on a small file system of its own, or, if none can be mounted, on that of the drill.

    Attributes:
        mounted: whether it is a file system of its own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        mounts = (
            ["mount", "--make-rprivate", "/"],
            ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)],
        )
        self.mounted = False
        if ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0:  # the mount is this process's own, and ends with it
            self.mounted = not any(subprocess.run(each, capture_output=True, check=False).returncode for each in mounts)

    def fill(self, free: int) -> None:
        """Leave so many bytes free, or let this process write no larger files."""
        if not self.mounted:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (free, free))
            return
        space = os.statvfs(self.folder)
        if (size := space.f_bavail * space.f_frsize - free) > 0:
            with open(self.folder / "filler", "wb") as filler:
                os.posix_fallocate(filler.fileno(), 0, size)

    def clear(self) -> None:
        """Remove what ``fill`` wrote."""
        (self.folder / "filler").unlink(missing_ok=True)

    def unmount(self) -> None:
        """Unmount the file system."""
        if self.mounted:
            subprocess.run(["umount", str(self.folder)], check=False)


# ---- runs


class Drill:
    """The folder of a drill, its random numbers and its undisturbed runs."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.references: dict[str, Reference] = {}
        self.disk = Disk(folder / "disk")
        for name in ("digits", "words"):
            (folder / name).mkdir()
            write_corpus(folder / name, pairs=PAIRS)
        for path in (folder / "words").iterdir():  # words, so that subwords have something to merge
            text = path.read_text()
            for digit, word in ((" 1", "one"), (" 2", "two"), (" 3", "three")):
                text = text.replace(digit, word)
            path.write_text(text)

    def config(self, setting: str, run: Path, **changes: Any) -> Config:
        """Return the configuration of one of ``SETTINGS`` for a run directory, with some changes."""
        corpus = self.folder / ("words" if "bpe" in setting else "digits")
        return config_of(corpus, str(run), **{**SETTINGS[setting], **changes})

    def reference(self, setting: str) -> Reference:
        """Train an undisturbed run, once per setting."""
        if setting not in self.references:
            folder = self.folder / f"reference {setting}"
            folder.mkdir()
            config, counts = self.config(setting, folder / "run"), folder / "operations"

            def action() -> None:
                numbers = [0]
                watch_operations(numbers.append)
                training(config, folder / "cache")()
                counts.write_text(str(numbers[-1]))

            start = time.monotonic()
            ended = run_process(action)
            if ended.code:
                raise SystemExit(f"error: the undisturbed run with {setting} ended with {ended.code}: {ended.errors}")
            self.references[setting] = Reference(config, time.monotonic() - start, int(counts.read_text()))
        return self.references[setting]

    def trial(self, name: str) -> Path:
        """Create the folder of one trial."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder


def compare_runs(reference: Config, config: Config, *, metrics: bool = True) -> None:
    """Compare state, metrics and best model bit for bit."""
    if not same(state_of(reference), state_of(config)):
        raise DrillError("the final state differs from that of the undisturbed run")
    if metrics and metrics_of(reference) != metrics_of(config):
        raise DrillError("metrics.jsonl differs from that of the undisturbed run")
    if saved_model(reference) != saved_model(config):
        raise DrillError("the best model differs from that of the undisturbed run")


def finish(config: Config, folder: Path, reference: Config) -> None:
    """Train to the end without disturbance, and compare with the undisturbed run."""
    ended = run_process(training(config, folder / "cache"))
    if ended.code:
        raise DrillError(f"resuming ended with exit code {ended.code}: {last_line(ended.errors)}")
    compare_runs(reference, config)


def last_line(text: str) -> str:
    """Return the last line of a text, shortened."""
    return (text.splitlines() or ["nothing on standard error"])[-1][:300]


# ---- kinds of damage


def kill(drill: Drill, number: int) -> str:
    """Kill a training process up to three times, and resume."""
    setting = list(SETTINGS)[number % len(SETTINGS)]
    reference, folder = drill.reference(setting), drill.trial("kill")
    config = drill.config(setting, folder / "run")
    for _ in range(drill.random.randint(1, 3)):
        action, kill_after = training(config, folder / "cache"), None
        if drill.random.random() < 0.5:
            kill_after = drill.random.uniform(0, reference.seconds)
        else:
            action = _killed_at_operation(
                action, drill.random.randint(1, reference.operations), drill.random.choice([0, 0, 0.0002, 0.001, 0.005])
            )
        ended = run_process(action, kill_after=kill_after)
        if ended.code not in (0, -signal.SIGKILL, -signal.SIGALRM):
            raise DrillError(f"{setting}: after a kill, training ended with {ended.code}: {last_line(ended.errors)}")
    try:
        finish(config, folder, reference.config)
    except DrillError as failure:
        raise DrillError(f"{setting}: {failure}") from None
    return setting


def _killed_at_operation(action: Callable[[], None], number: int, delay: float) -> Callable[[], None]:
    """Kill the process at its n-th file operation, or a short time after it, while a library may be writing."""

    def react(count: int) -> None:
        if count == number and delay:
            signal.setitimer(signal.ITIMER_REAL, delay)  # nothing handles SIGALRM, so it ends the process like SIGKILL
        elif count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def killed() -> None:
        watch_operations(react)
        action()

    return killed


def write(drill: Drill, number: int) -> str:
    """Fill the disk of a training process at one of its file operations, and resume after there is space again."""
    setting = list(SETTINGS)[number % len(SETTINGS)]
    reference = drill.reference(setting)
    folder = drill.disk.folder / "write"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    operations = list(range(1, reference.operations + 1))
    random.Random(setting).shuffle(operations)
    operation = operations[number // len(SETTINGS) % len(operations)]
    free = drill.random.choice([0, drill.random.randint(1, 2**16)])
    config = drill.config(setting, folder / "run")

    def filled() -> None:
        watch_operations(lambda count: drill.disk.fill(free) if count == operation else None)
        training(config, folder / "cache")()

    ended = run_process(filled)
    drill.disk.clear()
    name = f"{setting}: a disk with {free} bytes free at operation {operation} of {len(operations)}"
    if ended.code and not ended.is_refusal():
        raise DrillError(f"{name} ended with {ended.code}: {last_line(ended.errors)}")
    leftovers = (path for path in folder.rglob("*") if path.suffix in (".tmp", ".incomplete") or path.stem[:3] == "tmp")
    if leftover := next(leftovers, None):
        raise DrillError(f"{name} left {leftover.relative_to(folder)}")
    try:
        finish(config, folder, reference.config)
    except DrillError as failure:
        raise DrillError(f"{name}: {failure}") from None
    return setting


SCRIPTS = (
    (0x41, 0x5A), (0x61, 0x7A), (0x30, 0x39), (0xC0, 0x24F), (0x370, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x5EA),
    (0x621, 0x64A), (0x905, 0x939), (0xE01, 0xE3A), (0x300, 0x36F), (0x3041, 0x3096), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
    (0x1F300, 0x1F6FF), (0x20000, 0x2A6DF), (0x2000, 0x206F), (0xFE00, 0xFE0F), (0xE000, 0xF8FF), (0x1, 0x9), (0xB, 0x1F),
    (0x7F, 0x9F), (0xFFF0, 0xFFFF), (0x10FFF0, 0x10FFFF), (0x20, 0x20), (0xA0, 0xA0), (0x0, 0x0),
)  # fmt: skip


def hostile_line(numbers: random.Random) -> bytes:
    """Make a line: empty, blank, random bytes, characters of one or of all scripts, or very long."""
    kind = numbers.randrange(8)
    if kind == 0:
        return (
            b""
            if numbers.random() < 0.5
            else numbers.choice([b" ", b"\t", "\u2028".encode(), "\u3000".encode(), b"\r"])
        )
    if kind == 1:
        return numbers.randbytes(numbers.randint(1, 60)).replace(b"\n", b"\r")
    if kind == 2 and numbers.random() < 0.05:
        return numbers.choice(["1", "1 ", "\u0301", "\ufffd", "\U0001f469\u200d", "é "]).encode() * numbers.randint(
            1000, 50000
        )
    if kind == 3:
        return (
            numbers.choice(["\u2028", "\u2029", "\x85", "\x0c", "\x1c", "\ufeff", "\0", "\r\r"]).join("0 12 3").encode()
        )
    scripts = [numbers.choice(SCRIPTS)] if kind == 4 else SCRIPTS
    return "".join(chr(numbers.randint(*numbers.choice(scripts))) for _ in range(numbers.randint(1, 60))).encode()


def flood(drill: Drill, number: int, *, lines: int) -> str:
    """Translate hostile lines."""
    setting = ("plain", "bpe dropout", "copying")[number % 3]
    model, folder = drill.reference(setting).config.run_dir, drill.trial("flood")
    content = b"".join(hostile_line(drill.random) + b"\n" for _ in range(lines))
    (folder / "in").write_bytes(content)
    form = ("text", "jsonl")[number // 3 % 2]
    ended = translate(model, folder, "--format", form, "--max-length-ratio", "0")
    out = (folder / "out").read_bytes() if (folder / "out").exists() else b""
    if ended.code or out.count(b"\n") != lines:
        kept = Path(tempfile.gettempdir(), f"drill-flood-{os.getpid()}-{number}")
        kept.write_bytes(content)
        raise DrillError(
            f"{setting}, {form}: {lines} lines in, {out.count(NEWLINE)} out, exit code {ended.code}: "
            f"{last_line(ended.errors)}; the lines are kept in {kept}"
        )
    return setting


NEWLINE = b"\n"


def translate(model: Path | str, folder: Path, *options: str) -> Ended:
    """Run ``seq2seq translate`` on the file ``in`` of a folder."""
    files = ["--input", str(folder / "in"), "--output", str(folder / "out")]

    def action() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2**34, 2**34))
        app(["translate", str(model), "--device", "cpu", *files, *options])

    return run_process(action)


def damage(numbers: random.Random, path: Path, others: list[Path]) -> str:
    """Damage a file; return a description."""
    content = path.read_bytes()
    kind = numbers.choice(
        ["flip", "flip", "truncate", "empty", "remove", "swap", "pipe", "folder", "device", "braces", "noise", "append"]
    )
    if kind in ("remove", "pipe", "folder", "device"):
        path.unlink()
    if kind == "flip":
        changed = bytearray(content)
        for _ in range(numbers.randint(1, 3)):
            changed[numbers.randrange(len(changed))] ^= 1 << numbers.randrange(8)
        path.write_bytes(changed)
    elif kind == "truncate":
        path.write_bytes(content[: numbers.randrange(len(content))])
    elif kind == "swap":
        path.write_bytes(numbers.choice(others).read_bytes())
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind != "remove":
        path.write_bytes(
            {"empty": b"", "braces": b"{}", "noise": numbers.randbytes(200), "append": content + numbers.randbytes(9)}[
                kind
            ]
        )
    return f"{path.parent.name}/{path.name}: {kind}"


def model(drill: Drill, number: int) -> str:
    """Damage a file of a model directory."""
    setting = ("plain", "bpe dropout")[number % 2]
    folder = drill.trial("model")
    intact = Path(drill.reference(setting).config.run_dir, "model")
    other = Path(drill.reference("everything").config.run_dir, "model")
    (folder / "in").write_text("".join(f"{a} {b} {a}\n" for a in range(10) for b in range(10)))
    if translate(intact, folder).code:
        raise DrillError("the intact model does not translate")
    expected = (folder / "out").read_bytes()
    (folder / "out").unlink()
    shutil.copytree(intact, folder / "model")
    files = sorted((folder / "model").iterdir())
    path = drill.random.choice(files)
    done = damage(drill.random, path, [file for file in [*files, *other.iterdir()] if file != path])
    ended = translate(folder / "model", folder)
    if ended.is_refusal() and len(ended.errors.splitlines()) == 1:
        return setting
    if ended.code:
        raise DrillError(f"{setting}, {done}: exit code {ended.code}: {last_line(ended.errors)}")
    if (folder / "out").read_bytes() != expected:
        raise DrillError(f"{setting}, {done}: other translations without an error")
    return setting


def run(drill: Drill, number: int) -> str:
    """Damage a file of a run that is not finished, and resume."""
    setting = ("everything", "plain", "bpe dropout")[number % 3]
    reference, folder = drill.reference(setting), drill.trial("run")
    config = drill.config(setting, folder / "run")
    stopped = drill.config(setting, folder / "run", **{"train.max_updates": 6})
    if code := run_process(training(stopped, folder / "cache")).code:
        raise DrillError(f"{setting}: the first half of the run ended with exit code {code}")
    files = sorted(path for path in Path(config.run_dir).rglob("*") if path.is_file() and path.stat().st_size)
    path = drill.random.choice(files)
    done = damage(drill.random, path, [file for file in files if file != path])
    ended = run_process(training(config, folder / "cache"))
    if ended.is_refusal():
        return setting
    if ended.code:
        raise DrillError(f"{setting}, {done}: exit code {ended.code}: {last_line(ended.errors)}")
    try:
        compare_runs(reference.config, config, metrics=path.name != "metrics.jsonl")
    except (DrillError, OSError, ValueError) as failure:
        raise DrillError(f"{setting}, {done}: {failure}") from None
    return setting


# ---- the table


class Size(NamedTuple):
    """The number of trials of a kind."""

    short: int
    long: int


SIZES = {"kill": Size(8, 100), "write": Size(8, 0), "flood": Size(3, 100), "model": Size(6, 60), "run": Size(4, 60)}


def perform(drill: Drill, counts: dict[str, int], lines: int) -> dict[str, list[str | None]]:
    """Do a number of trials of each kind; the results are None or a description of the failure.

    Args:
        counts: trials of each kind; 0: for each setting, as many as the training with the most file operations has.
        lines: lines of a flood.
    """
    trials: dict[str, Callable[[Drill, int], str]] = {
        "kill": kill,
        "write": write,
        "flood": lambda drill, number: flood(drill, number, lines=lines),
        "model": model,
        "run": run,
    }
    results: dict[str, list[str | None]] = {kind: [] for kind in counts}
    reported = time.monotonic()
    for kind, count in counts.items():
        most = count or len(SETTINGS) * max(drill.reference(setting).operations for setting in SETTINGS)
        for number in range(most):
            if time.monotonic() - reported > REPORT_EVERY:
                reported = time.monotonic()
                print(f"{kind}: {number} of {most}", file=sys.stderr, flush=True)
            try:
                trials[kind](drill, number)
                results[kind].append(None)
            except DrillError as failure:
                results[kind].append(str(failure))
                print(f"{kind} {number}: {failure}", file=sys.stderr, flush=True)
    return results


def main() -> int:
    """Run the drill and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="seed of the damage (default: 1)")
    parser.add_argument("--count", type=int, help="trials of each kind (default: 3 to 8; with --long 60 or more)")
    parser.add_argument("--long", action="store_true", help="more trials, and 1,000 lines per flood instead of 50")
    parser.add_argument("--only", action="append", choices=SIZES, help="one kind; may be given several times")
    arguments = parser.parse_args()
    sizes = {kind: SIZES[kind] for kind in arguments.only or SIZES}
    counts = {kind: arguments.count or (size.long if arguments.long else size.short) for kind, size in sizes.items()}
    torch.set_num_threads(1)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="drill-") as folder:
        drill = Drill(Path(folder), arguments.seed)
        try:
            results = perform(drill, counts, 1000 if arguments.long else 50)
        finally:
            drill.disk.unmount()
    print(f"{'kind':8} survived  failed")
    for kind, found in results.items():
        print(f"{kind:8} {found.count(None):8}  {len(found) - found.count(None):6}")
    if "write" in results:
        print(f"the full disk was {'a tmpfs' if drill.disk.mounted else 'a limit on the size of files'}")
    print(f"seed {arguments.seed}, {time.monotonic() - start:.0f} s")
    return int(any(failure for found in results.values() for failure in found))


if __name__ == "__main__":
    sys.exit(main())
