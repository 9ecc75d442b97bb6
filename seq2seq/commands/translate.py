"""The translate command: source lines in, as many translated lines out, in the same order."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seq2seq.commands.options import BeamSize, Device, DeviceOption, Model, ThreadsOption, load_translator
from seq2seq.commands.streams import output_stream, standard_input

if TYPE_CHECKING:
    from seq2seq.translator import Translator


class TooLong(str, Enum):
    """Treatment of sources above the model's limit."""

    CUT = "cut"
    SPLIT = "split"


class Format(str, Enum):
    """Output format of translations."""

    TEXT = "text"
    JSONL = "jsonl"


def translate(
    model: Model,
    input: Annotated[Path | None, typer.Option(help="File of source lines. Default: standard input.")] = None,
    output: Annotated[Path | None, typer.Option(help="File to write. Default: standard output.")] = None,
    beam_size: BeamSize = None,
    n_best: Annotated[int, typer.Option(min=1, help="Translations per line; above 1 requires --format jsonl.")] = 1,
    length_penalty: Annotated[float | None, typer.Option(min=0, help="The a of score = log P / |Y|^a.")] = None,
    max_length_ratio: Annotated[
        float | None, typer.Option(min=0, help="Maximum length of a translation, in pieces per source piece.")
    ] = None,
    min_length: Annotated[int | None, typer.Option(min=0, help="Minimum length of a translation, in pieces.")] = None,
    too_long: Annotated[TooLong | None, typer.Option(help="Cut or split sources above the model's limit.")] = None,
    batch_tokens: Annotated[
        int | None, typer.Option(min=1, help="Source pieces in a batch, padding included; lower it to save memory.")
    ] = None,
    format: Annotated[
        Format, typer.Option(help="text, or jsonl with scores, pieces and alignment (a list per line with --n-best).")
    ] = Format.TEXT,
    device: DeviceOption = Device.AUTO,
    threads: ThreadsOption = 0,
) -> None:
    """Translate lines of text.

    Options that are not given keep the search settings saved with the model.
    """
    if n_best > 1 and format is not Format.JSONL:
        raise ValueError("--n-best above 1 gives several translations per line and requires --format jsonl")
    from seq2seq.data.corpus import as_line, read_lines
    from seq2seq.data.stream import chunks

    translator = load_translator(model, device, threads).with_search(
        beam_size=beam_size,
        length_penalty=length_penalty,
        max_length_ratio=max_length_ratio,
        min_length=min_length,
        too_long=too_long and too_long.value,
        batch_tokens=batch_tokens,
    )
    translator.check_n_best(n_best)
    if input and output and input.resolve() == output.resolve():
        raise ValueError(f"--input and --output are both {input}; write to another file")
    lines = read_lines(input) if input else read_lines(standard_input(), "standard input")
    remaining = chunks(lines)
    first_chunk = next(remaining, [])  # read before the output is opened: an unreadable input must not erase it
    with output_stream(output) as stream:
        for texts in _translated(translator, itertools.chain([first_chunk], remaining), format, n_best):
            for text in texts:
                stream.write(as_line(text))
            stream.flush()
    translator.log_notices()


def _translated(
    translator: Translator, line_chunks: Iterator[list[str]], format: Format, n_best: int
) -> Iterator[Sequence[str]]:
    """Yield the output lines of every chunk."""
    first_line = 1
    for chunk in line_chunks:
        if format is Format.TEXT:
            yield translator.translate(chunk, first_line=first_line)
        else:
            found = translator.search(chunk, n_best=n_best, first_line=first_line)
            records = [[translation.as_dict() for translation in best] for best in found]
            yield [json.dumps(best if n_best > 1 else best[0], ensure_ascii=False) for best in records]
        first_line += len(chunk)
