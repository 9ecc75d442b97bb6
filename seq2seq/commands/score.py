"""The score command: the log-probability of given target lines."""

from __future__ import annotations

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


def score(
    model: Models,
    src: Annotated[
        Path,
        typer.Option(
            parser=named_path, metavar="FILE", help="Source lines, or records (.jsonl, .json, .tsv, .csv, .parquet)."
        ),
    ],
    tgt: Annotated[Path, typer.Option(parser=named_path, metavar="FILE", help="Target lines or records.")],
    src_field: SrcField = None,
    tgt_field: Annotated[str | None, typer.Option(help="Target field of records.", show_default="tgt")] = None,
    tag: Tag = None,
    weight: Weight = None,
    mixture: MixtureOption = Mixture.LOG_LINEAR,
    device: DeviceOption = Device.AUTO,
    threads: ThreadsOption = 0,
) -> None:
    """Print the log-probability of every target line.

    The logarithm is natural. The end of the sentence is part of the target.
    """
    from seq2seq.commands.texts import read_texts

    sources = list(read_texts(src, src_field, "--src-field", "src"))
    targets = list(read_texts(tgt, tgt_field, "--tgt-field", "tgt"))
    check_line_counts(src, sources, tgt, targets)
    translator = load_translator(model, device, threads, tag, weights=weight, mixture=mixture)
    for token_log_probs in translator.score(sources, targets):
        typer.echo(f"{sum(token_log_probs):.6f}")
    translator.log_notices()
