"""The score command: the log-probability of given target lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from seq2seq.commands.options import (
    Device,
    DeviceOption,
    Mixture,
    MixtureOption,
    Models,
    SrcField,
    Tag,
    ThreadsOption,
    Weight,
    load_translator,
    named_path,
)
from seq2seq.commands.streams import check_line_counts
from seq2seq.data.stream import CHUNK


def score(
    model: Models,
    src: Annotated[
        Path,
        typer.Option(
            parser=named_path, metavar="FILE", help="Source lines, or records (.jsonl, .json, .tsv, .csv, .parquet)."
        ),
    ],
    tgt: Annotated[
        Path | None, typer.Option(parser=named_path, metavar="FILE", help="Target lines or records.")
    ] = None,
    nbest: Annotated[
        Path | None,
        typer.Option(
            parser=named_path,
            metavar="FILE",
            help="Instead of --tgt: translations of every source line as translate --format jsonl writes them, also several "
            "with --n-best. Prints them with the scores of this model, best first; first_score is the score before.",
        ),
    ] = None,
    src_field: SrcField = None,
    tgt_field: Annotated[str | None, typer.Option(help="Target field of records.", show_default="tgt")] = None,
    tag: Tag = None,
    weight: Weight = None,
    mixture: MixtureOption = Mixture.LOG_LINEAR,
    device: DeviceOption = Device.AUTO,
    threads: ThreadsOption = 0,
) -> None:
    """Print the log-probability of every target line, or n-best lists with new scores.

    The logarithm is natural. The end of the sentence is part of the target.
    """
    from seq2seq.commands.nbest import read_n_best, rescore_n_best
    from seq2seq.commands.texts import read_texts

    if (tgt is None) == (nbest is None):
        raise ValueError(f"score requires one of --tgt FILE and --nbest FILE, but has {'both' if tgt else 'neither'}")
    if nbest is not None and tgt_field is not None:
        raise ValueError("--tgt-field applies to --tgt, but the translations are those of --nbest; remove it")
    sources = list(read_texts(src, src_field, "--src-field", "src"))
    lists = list(read_n_best(nbest)) if nbest else []
    targets = list(read_texts(tgt, tgt_field, "--tgt-field", "tgt")) if tgt else []
    check_line_counts(src, sources, tgt or nbest or src, targets if tgt else lists)
    translator = load_translator(model, device, threads, tag, weights=weight, mixture=mixture)
    for start in range(0, len(sources), CHUNK):
        part = slice(start, start + CHUNK)
        if nbest:
            for entries in rescore_n_best(translator, sources[part], lists[part], first_line=start + 1):
                typer.echo(json.dumps(entries, ensure_ascii=False))
        else:
            for token_log_probs in translator.score(sources[part], targets[part], first_line=start + 1):
                typer.echo(f"{sum(token_log_probs):.6f}")
    translator.log_notices()
