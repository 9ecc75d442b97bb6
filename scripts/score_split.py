"""Score the model of a run, or the lead baseline, on a split of the data of the run.

python scripts/score_split.py runs/aeslc --metric rouge --metric summary
python scripts/score_split.py runs/aeslc --lead --metric rouge      the first sentence, cut to the mean target length

Meant for records (JSONL, TSV); ``seq2seq evaluate`` scores parallel files too.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from seq2seq.commands.streams import check_output, output_stream
from seq2seq.config import Config, from_container
from seq2seq.data import corpus
from seq2seq.data.corpus import Pair
from seq2seq.metrics import scores as evaluate
from seq2seq.text.words import sentences, words
from seq2seq.translator import Translator


def lead(pairs: Sequence[Pair], train: Sequence[Pair]) -> list[str]:
    """Return the first sentence of every source, cut to the mean length of the training targets in words."""
    length = round(statistics.mean(len(words(pair.tgt)) for pair in train))
    leads = []
    for pair in pairs:
        sentence = next(iter(sentences(pair.src)), "")
        kept, count = [], 0
        for token in sentence.split():
            count += len(words(token))
            if count > length:
                break
            kept.append(token)
        leads.append(" ".join(kept))
    return leads


def main() -> None:
    """Read the command line and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("--split", choices=("train", "valid", "test"), default="valid")
    parser.add_argument("--metric", action="append", help="as in seq2seq evaluate; default bleu")
    parser.add_argument("--lead", action="store_true", help="score the lead baseline instead of the run's model")
    parser.add_argument("--beam-size", type=int, help="default: the beam size saved with the model")
    parser.add_argument("--output", type=Path, help="file for the hypotheses, one per line")
    arguments = parser.parse_args()
    metrics = arguments.metric or ["bleu"]
    evaluate.check_names(metrics)
    if arguments.lead and arguments.beam_size is not None:
        raise ValueError("--beam-size has no effect with --lead, which uses no model; remove one of them")
    config: Config = from_container(Config, yaml.safe_load((arguments.run / "config.yaml").read_text(encoding="utf-8")))
    pairs = corpus.read_split(config.data, arguments.split)
    if arguments.output:
        sources = corpus.sources(getattr(config.data, arguments.split), config.data, arguments.split)
        check_output(arguments.output, itertools.chain.from_iterable(sources))
    if arguments.lead:
        hypotheses = lead(pairs, corpus.read_split(config.data, "train"))
    else:
        translator = Translator.load(arguments.run).with_search(beam_size=arguments.beam_size)
        translator.warns = False  # training has already reported the sources that are too long
        hypotheses = translator.translate([pair.src for pair in pairs])
    if arguments.output:
        with output_stream(arguments.output) as stream:
            stream.write(b"".join(map(corpus.as_line, hypotheses)))
    scores = evaluate.score(
        hypotheses,
        [[pair.tgt for pair in pairs]],
        metrics=metrics,
        sources=[pair.src for pair in pairs],
        intervals=True,
    )
    print(evaluate.report_scores(scores))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
