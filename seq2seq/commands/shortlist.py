"""The shortlist command: learn which target pieces a search may choose from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seq2seq.commands.options import Model, named_path


def shortlist(
    model: Model,
    src: Annotated[Path, typer.Option(parser=named_path, metavar="FILE", help="Source lines, best those of training.")],
    tgt: Annotated[Path, typer.Option(parser=named_path, metavar="FILE", help="Their target lines.")],
) -> None:
    """Learn the probable target pieces of each source piece, and save them with the model.

    translate --shortlist K then searches among K of them for each source piece, which is faster on a CPU.
    """
    import torch

    from seq2seq import model_dir
    from seq2seq.commands.streams import check_line_counts
    from seq2seq.data.lines import read_lines
    from seq2seq.shortlist import learn, save

    sources, targets = list(read_lines(src)), list(read_lines(tgt))
    check_line_counts(src, sources, tgt, targets)
    _, _, tokenizers = model_dir.load(model, torch.device("cpu"))
    pairs = zip(
        (segments.ids for segments in tokenizers.src.segment(sources)),
        (segments.ids for segments in tokenizers.tgt.segment(targets)),
        strict=True,
    )
    learned, count = learn(pairs, tokenizers)
    path = save(learned, model, tokenizers)
    typer.echo(f"learned from {count:,} pairs, saved in {path}; use it with seq2seq translate --shortlist 20", err=True)
