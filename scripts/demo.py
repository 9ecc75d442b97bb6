"""Train the bundled task, score it, show ten translations and a command to try next.

python scripts/demo.py            the whole demonstration
python scripts/demo.py --short    a few updates, to check that everything runs
"""

import argparse
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import torch

from seq2seq.data.lines import read_lines
from seq2seq.translator import Translator

DATA = Path(__file__).resolve().parent.parent / "data" / "phrasebook"
SHOWN = 10
SHORT = ["name=demo_short", "train.max_updates=40", "train.valid_every=20", "data.valid_lines=20"]


def main() -> int:
    """Train in a separate process with the command of a user, then translate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="only a few updates")
    short = parser.parse_args().short
    overrides = SHORT if short else ["name=demo"]
    run = f"runs/{overrides[0].removeprefix('name=')}"
    if short:
        shutil.rmtree(run, ignore_errors=True)
    training = subprocess.Popen([sys.executable, "-m", "seq2seq", "train", *overrides])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the training process, which saves its state
    if training.wait():
        return training.returncode
    src, tgt = (list(read_lines(DATA / f"test.{language}")) for language in ("en", "fr"))
    rows = torch.randperm(len(src), generator=torch.Generator().manual_seed(1))[:SHOWN].tolist()
    translations = Translator.load(run).translate([src[row] for row in rows])
    print("\nTen sentences of the test set:")
    for row, translation in zip(rows, translations, strict=True):
        print(f"\n  source       {src[row]}\n  translation  {translation}")
        if translation != tgt[row]:
            print(f"  reference    {tgt[row]}")
    print("\nTranslate another sentence:")
    print(f'  echo "My sister is reading a beautiful book." | .venv/bin/seq2seq translate {run}')
    return 0


if __name__ == "__main__":
    sys.exit(main())
