"""The gradients command: how much of a gradient is left after k steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seq2seq.commands.options import Device, ThreadsOption, at_most, load_translator
from seq2seq.commands.streams import check_line_counts, check_output, model_files, output_stream

if TYPE_CHECKING:
    from seq2seq.gradients import GradientCurve
    from seq2seq.plot import Panel
    from seq2seq.translator import Translator

MOST_DISTANCE = 10_000
SHOWN_DISTANCES = (0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)


def gradients(
    models: Annotated[list[str], typer.Argument(help="Model directories or run directories.", metavar="MODEL...")],
    src: Annotated[Path, typer.Option(help="Source lines.")],
    tgt: Annotated[
        Path | None, typer.Option(help="Target lines; without them, the translations of the first model.")
    ] = None,
    max_lines: Annotated[int, typer.Option(min=1, help="Measure on this many lines from the start.")] = 20,
    max_distance: Annotated[
        int,
        typer.Option(
            min=1, callback=at_most(MOST_DISTANCE, "time and memory grow with the distance"), help="Largest distance k."
        ),
    ] = 50,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Also measure each model with the initial weights of seed 1.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="File of all numbers.")] = None,
    plot: Annotated[Path | None, typer.Option(help="File of a picture; its name ends in .png, .svg or .pdf.")] = None,
    threads: ThreadsOption = 0,
) -> None:
    """Show how gradients vanish or explode over the steps of recurrent models.

    "state" is the norm of d state_t / d state_{t-k}, 1 at k = 0; "loss" is the norm of d loss_t / d input_{t-k} in the
    decoder. Both are means over all steps t, without dropout, on the CPU.
    """
    kind = _check_outputs(models, src, tgt, json_file, plot)
    from seq2seq.gradients import gradients_of_lines

    translators = [load_translator(model, Device.CPU, threads) for model in models]
    sources, targets = _read_pairs(translators[0], src, tgt, max_lines)
    found: dict[str, list[GradientCurve]] = {}
    for name, translator in zip(models, translators, strict=True):
        if untrained:
            found[f"{name} (untrained)"] = gradients_of_lines(
                _untrained(name, translator), sources, targets, max_distance=max_distance
            )
        found[name] = gradients_of_lines(translator, sources, targets, max_distance=max_distance)
        translator.log_notices()
    _print_table(found)
    if json_file is not None:
        content = {
            "lines": len(sources),
            "models": {name: [curve._asdict() for curve in curves] for name, curves in found.items()},
        }
        with output_stream(json_file) as stream:
            stream.write((json.dumps(content, indent=1) + "\n").encode())
    if plot is not None:
        from seq2seq.plot import render_panels

        data = render_panels(_panels(found), kind)
        with output_stream(plot) as stream:
            stream.write(data)


def _check_outputs(models: list[str], src: Path, tgt: Path | None, json_file: Path | None, plot: Path | None) -> str:
    """Check the names of models and files before anything is computed; return the format of the picture."""
    if len(set(models)) < len(models):
        raise ValueError("a model is named twice; name each model once")
    kind = ""
    if plot is not None:
        try:
            from seq2seq.plot import check_format
        except ImportError as error:
            raise ValueError(
                f'--plot requires matplotlib ({error}); run pip install ".[plot]" in the checkout of seq2seq'
            ) from error
        kind = check_format(plot)
    if json_file is not None and json_file == plot:
        raise ValueError(f"--json and --plot must be two files, but both are {plot}; rename one of them")
    inputs = [src, *([tgt] if tgt else []), *(path for model in models for path in model_files(model))]
    for output in (json_file, plot):
        if output is not None:
            check_output(output, inputs)
    return kind


def _read_pairs(translator: Translator, src: Path, tgt: Path | None, max_lines: int) -> tuple[list[str], list[str]]:
    """Read the first lines that are not blank, with their targets."""
    from seq2seq.data.lines import read_lines

    sources = list(read_lines(src))
    targets = [""] * len(sources)
    if tgt is not None:
        targets = list(read_lines(tgt))
        check_line_counts(src, sources, tgt, targets)
    pairs = [(source, target) for source, target in zip(sources, targets, strict=True) if source.strip()][:max_lines]
    if not pairs:
        raise ValueError(f"{src} has no line that is not blank; give it at least one")
    sources, targets = (list(side) for side in zip(*pairs, strict=True))
    return sources, targets if tgt is not None else translator.translate(sources)


def _untrained(name: str, translator: Translator) -> Translator:
    """Return a translator whose model has the initial weights of seed 1."""
    import torch

    from seq2seq.model_dir import build_model, find, load_settings
    from seq2seq.translator import Translator

    settings, tokenizers = load_settings(find(name))
    torch.manual_seed(1)
    return Translator(build_model(settings, tokenizers), translator.tokenizers, translator.search_config)


def _print_table(found: dict[str, list[GradientCurve]]) -> None:
    """Print the means at some distances: a block per model, a line per curve."""
    longest = max(len(curve.mean) for curves in found.values() for curve in curves)
    distances = [distance for distance in SHOWN_DISTANCES if distance < longest]
    for name, curves in found.items():
        typer.echo(name)
        typer.echo(f"  {'k':<32}" + "".join(f"{distance:>9}" for distance in distances))
        for curve in curves:
            label = curve.name + (f", layer {curve.layer}" if curve.layer else "")
            means = [f"{curve.mean[distance]:9.1e}" for distance in distances if distance < len(curve.mean)]
            typer.echo(f"  {label:<32}" + "".join(means))


def _panels(found: dict[str, list[GradientCurve]]) -> list[Panel]:
    """Group the curves for the picture: a panel per part, direction and quantity, a line per model and layer."""
    from seq2seq.plot import Panel

    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for name, curves in found.items():
        for curve in curves:
            layers = max(other.layer for other in curves if other.name == curve.name)
            label = f"{name}, layer {curve.layer}" if layers > 1 else name
            panels.setdefault(curve.name, {})[label] = (list(map(float, range(len(curve.mean)))), curve.mean)
    axes = ("distance k in steps", "mean norm of the gradient")
    return [Panel(title, *axes, lines, logarithmic=True) for title, lines in panels.items()]
