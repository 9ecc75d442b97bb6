"""The plot command: draw the attention of one translation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seq2seq.commands.options import BeamSize, Device, DeviceOption, Model, ThreadsOption, load_translator, named_path
from seq2seq.commands.streams import check_output, model_files, output_stream

if TYPE_CHECKING:
    from seq2seq.plot import Picture
    from seq2seq.translator import Translator


def plot(
    model: Model,
    text: Annotated[str, typer.Option(help="Source text.")],
    output: Annotated[
        Path,
        typer.Option(
            parser=named_path, metavar="FILE", help="File of the picture; its name ends in .png, .svg or .pdf."
        ),
    ],
    target: Annotated[str | None, typer.Option(help="Target text to draw instead of the model's translation.")] = None,
    beam_size: BeamSize = None,
    device: DeviceOption = Device.AUTO,
    threads: ThreadsOption = 0,
) -> None:
    """Draw the attention of one translation.

    The picture also shows the copied pieces, p_gen and the coverage, if the model has them.
    """
    try:
        from seq2seq.plot import check_format, render
    except ImportError as error:
        raise ValueError(
            f'plot requires matplotlib ({error}); run pip install ".[plot]" in the checkout of seq2seq'
        ) from error

    kind = check_format(output)
    check_output(output, model_files(model))
    if target is not None and beam_size is not None:
        raise ValueError("--beam-size has no effect on a given --target; remove one of them")
    if target is not None and not target.strip():
        raise ValueError("--target is blank; give it at least one word, or remove it")
    translator = load_translator(model, device, threads).with_search(beam_size=beam_size)
    data = render(_picture(translator, text, target), kind)
    with output_stream(output) as stream:
        stream.write(data)


def _picture(translator: Translator, text: str, target: str | None) -> Picture:
    from seq2seq.plot import Picture
    from seq2seq.searchable import copied_positions

    found, provenance = translator.trace(text, target)
    copied_from = copied_positions(provenance.copied)
    score = f"score {found.score:.3f}, log P {found.log_prob:.2f}"
    return Picture(
        src_pieces=[*found.source_pieces, "</s>"],
        tgt_pieces=[*found.pieces, "</s>"],
        weights=provenance.weights.tolist(),
        copied_from=copied_from,
        p_gen=provenance.p_gen.tolist() if translator.model.copies else [],
        title=[
            f"source: {text}",
            f"{'translation' if target is None else 'given target'}: {found.translation}",
            f"{score}; framed: copied" if any(place is not None for place in copied_from) else score,
        ],
    )
