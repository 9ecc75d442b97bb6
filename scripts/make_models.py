"""Train small models on data of the project, and pack them as model directories in models/.

python scripts/make_models.py            three models, about fifteen minutes on two cores
python scripts/make_models.py --short    a few updates of each, to check that everything runs
python scripts/make_models.py numbers    only the named models

phrasebook translates English to French, bulletins writes headlines for reports and copies names, numbers writes numbers
in words. The runs stay in runs/models/, for seq2seq report, and a training that was interrupted continues there.
"""

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "corpora"))
from make_numbers import SEED, draw, write

from seq2seq.training.run_dir import TEST_TRANSLATIONS
from seq2seq.translator import Translator

RUNS, MODELS = Path("runs/models"), Path("models")
NUMBERS = [
    *(
        f"data.{split}.{side}={split}.{kind}"
        for split in ("train", "valid", "test")
        for side, kind in (("src", "num"), ("tgt", "en"))
    ),
    *("tokenizer.type=char", "tokenizer.vocab_size=100", "data.max_target_length=200", "search.beam_size=3"),
    *("model.embedding_size=32", "model.hidden_size=128", "model.tie_embeddings=none"),
    *("train.max_updates=1200", "train.batch_tokens=4096", "train.valid_every=300", "train.metric=exact"),
]
SETTINGS = {"phrasebook": [], "bulletins": ["experiment=bulletins"], "numbers": NUMBERS}
SHORT = [
    "train.max_updates=4",
    "train.valid_every=4",
    "data.valid_lines=4",
    "search.beam_size=1",
    "search.max_length_ratio=1",
]


def main() -> int:
    """Train the models one after the other and pack each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(SETTINGS)}; default: all of them")
    parser.add_argument("--short", action="store_true", help="only a few updates")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in SETTINGS]:
        parser.error(f"a model must be one of {', '.join(SETTINGS)}, but is {unknown[0]}")
    for name in arguments.names or SETTINGS:
        folder = f"{name}-short" if arguments.short else name
        if code := train(name, RUNS / folder, short=arguments.short):
            return code
        Translator.load(RUNS / folder).save(MODELS / folder)
        print(f"\n{MODELS / folder} is ready; its run with {TEST_TRANSLATIONS} is {RUNS / folder}")
    print(
        f"\nTry one:\n  .venv/bin/seq2seq serve {MODELS / folder}\n  .venv/bin/seq2seq report {RUNS / folder} --output report.html"
    )
    return 0


def train(name: str, run: Path, *, short: bool) -> int:
    """Train a model in a separate process with the command of a user; return its exit code."""
    settings = list(SETTINGS[name])
    if name == "numbers":
        data = RUNS / "numbers-data"
        write(data, draw(SEED))
        settings.append(f"data.root={data.resolve()}")
    settings += [f"name={name}", f"run_dir={run}", *(SHORT if short else [])]
    return subprocess.run([sys.executable, "-m", "seq2seq", "train", *settings], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
