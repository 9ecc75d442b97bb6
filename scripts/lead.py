"""Print the lead baseline of summarization: the first sentence, cut to the mean length of the training targets in words.

python scripts/lead.py valid.jsonl --train train.jsonl --src-field document --tgt-field summary > lead.txt
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from seq2seq.commands.texts import read_texts
from seq2seq.data.lines import as_line
from seq2seq.text.words import sentences, words


def lead(sources: Iterable[str], train_targets: Sequence[str]) -> list[str]:
    """Return the first sentence of every source, cut to the mean length of the training targets in words."""
    length = round(statistics.mean(len(words(target)) for target in train_targets))
    leads = []
    for source in sources:
        sentence = next(iter(sentences(source)), "")
        kept, count = [], 0
        for token in sentence.split():
            count += len(words(token))
            if count > length:
                break
            kept.append(token)
        leads.append(" ".join(kept))
    return leads


def main() -> None:
    """Read the command line and print the baseline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", type=Path, help="source lines or records")
    parser.add_argument("--train", type=Path, required=True, help="target lines or records of the training data")
    parser.add_argument("--src-field", help="source field of records; default src")
    parser.add_argument("--tgt-field", help="target field of records; default tgt")
    arguments = parser.parse_args()
    sources = read_texts(arguments.input, arguments.src_field, "--src-field", "src")
    targets = read_texts(arguments.train, arguments.tgt_field, "--tgt-field", "tgt")
    sys.stdout.buffer.writelines(map(as_line, lead(sources, list(targets))))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
