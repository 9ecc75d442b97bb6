"""The extend command: add the pieces of a new text to the vocabularies of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seq2seq.commands.options import Model


def extend(
    model: Model,
    output: Annotated[Path, typer.Option("--output", help="The new model directory.", show_default=False)],
    corpus: Annotated[
        list[str], typer.Option("--corpus", help="Text for the shared or the source vocabulary.", show_default=False)
    ],
    tgt_corpus: Annotated[
        list[str] | None, typer.Option("--tgt-corpus", help="Text for a separate target vocabulary.")
    ] = None,
    pieces: Annotated[
        int, typer.Option("--pieces", min=1, help="Largest number of new pieces in a vocabulary.")
    ] = 1000,
) -> None:
    """Add the pieces of a new text to a model; train.init_from then trains it on that text."""
    from seq2seq.data.lines import read_lines
    from seq2seq.training.extension import extend_model

    texts = [[line for name in names for line in read_lines(Path(name))] for names in (corpus, tgt_corpus or [])]
    counts = extend_model(model, texts, output=output, most=pieces)
    sides = ("shared",) if len(counts) == 1 else ("source", "target")
    added = ", ".join(f"{count:,} pieces in the {side} vocabulary" for count, side in zip(counts, sides, strict=True))
    typer.echo(f"added {added}; to train it, set train.init_from={output}", err=True)
