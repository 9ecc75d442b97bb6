"""The score command: the log-probability of given target lines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seq2seq.commands.options import Device, DeviceOption, Model, ThreadsOption, load_translator, named_path
from seq2seq.commands.streams import check_line_counts


def score(
    model: Model,
    src: Annotated[Path, typer.Option(parser=named_path, metavar="FILE", help="Source lines.")],
    tgt: Annotated[Path, typer.Option(parser=named_path, metavar="FILE", help="Target lines.")],
    device: DeviceOption = Device.AUTO,
    threads: ThreadsOption = 0,
) -> None:
    """Print the log-probability of every target line.

    The logarithm is natural. The end of the sentence is part of the target.
    """
    from seq2seq.data.corpus import read_lines

    sources, targets = list(read_lines(src)), list(read_lines(tgt))
    check_line_counts(src, sources, tgt, targets)
    translator = load_translator(model, device, threads)
    for token_log_probs in translator.score(sources, targets):
        typer.echo(f"{sum(token_log_probs):.6f}")
    translator.log_notices()
