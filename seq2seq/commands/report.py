"""The report command: a page on one run, or on two runs side by side, and the picture of the learning curves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seq2seq.commands.options import Device, DeviceOption, ThreadsOption, named_path
from seq2seq.commands.streams import check_output, model_files, output_stream


def report(
    runs: Annotated[list[str], typer.Argument(help="A run directory, or two to compare.", metavar="RUN...")],
    output: Annotated[
        Path | None, typer.Option(parser=named_path, metavar="FILE", help="File of the page; its name ends in .html.")
    ] = None,
    curves: Annotated[
        Path | None,
        typer.Option(
            parser=named_path,
            metavar="FILE",
            help="File of the picture of the learning curves; its name ends in .png, .svg or .pdf.",
        ),
    ] = None,
    device: DeviceOption = Device.AUTO,
    threads: ThreadsOption = 0,
) -> None:
    """Write a report on a run, or on two runs side by side, as one HTML file that loads nothing.

    The page has the scores with signatures and intervals, the learning curves, the report on the training data, scores by
    source length and by unknown words, repeated and missing content, and sample translations with their attention. Scores
    are on the test pairs if the runs have translated them, else on the validation pairs.
    """
    try:
        from seq2seq.plot import check_format, render_panels
    except ImportError as error:
        raise ValueError(
            f'report requires matplotlib ({error}); run pip install ".[plot]" in the checkout of seq2seq'
        ) from error
    if len(runs) > 2:
        raise ValueError(f"report takes one run or two runs to compare, but is given {len(runs)}")
    if len(set(runs)) < len(runs):
        raise ValueError(f"{runs[0]} is named twice; name another run to compare it with")
    if output is None and curves is None:
        raise ValueError("report requires --output FILE, or --curves FILE for the learning curves alone")
    if output is not None and output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"the page's file must end in .html, but is {output}")
    kind = check_format(curves) if curves is not None else ""
    for path in (output, curves):
        if path is not None:
            check_output(path, [file for run in runs for file in model_files(run)])
    from seq2seq.sharing.curves import learning_curves
    from seq2seq.sharing.report import run_names, write_report
    from seq2seq.sharing.run_record import read_run
    from seq2seq.threads import set_threads

    set_threads(threads, name="--threads")
    records = [read_run(run) for run in runs]
    if curves is not None:
        picture = render_panels(learning_curves(dict(zip(run_names(records), records, strict=True))), kind)
        with output_stream(curves) as stream:
            stream.write(picture)
    if output is not None:
        page = write_report(records, device=device.value)
        with output_stream(output) as stream:
            stream.write(page.encode())
