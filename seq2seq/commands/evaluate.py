"""The evaluate command: score translations, or a model, or compare several translations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seq2seq.commands.options import Device, DeviceOption, ReportFormat, ThreadsOption, load_translator
from seq2seq.commands.streams import check_line_counts


def evaluate(
    model: Annotated[
        str | None, typer.Argument(help="A model that translates the lines of --src.", metavar="[MODEL]")
    ] = None,
    src: Annotated[Path | None, typer.Option(help="Source lines, for MODEL or for --metric summary.")] = None,
    hyp: Annotated[
        list[Path] | None,
        typer.Option(
            help="Translations to score, instead of MODEL and --src. If given several times, each is compared with the first."
        ),
    ] = None,
    ref: Annotated[list[Path] | None, typer.Option(help="Reference lines; may be given several times.")] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="bleu, chrf, ter, exact, rouge or summary; may be given several times.",
            show_default="bleu",
        ),
    ] = None,
    tokenize: Annotated[
        str | None,
        typer.Option(
            help="sacreBLEU's tokenizer for BLEU (13a, none, zh, char, ...). Default: chosen by the references' script."
        ),
    ] = None,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Ignore case.")] = False,
    format: Annotated[ReportFormat, typer.Option(help="Output format.")] = ReportFormat.TEXT,
    device: DeviceOption = Device.AUTO,
    threads: ThreadsOption = 0,
) -> None:
    """Score translations, or a model, against references.

    Give the translations as --hyp, or a model with the source lines as MODEL and --src.
    """
    from seq2seq.data.corpus import read_lines
    from seq2seq.metrics import scores as scoring
    from seq2seq.metrics import significance

    metrics = tuple(metric or ["bleu"])
    given = _scored_files(model, src, hyp or [], ref or [], "summary" in metrics)
    scoring.check_names(metrics, tokenize, lowercase)
    if len(given) > 1:
        significance.check_comparable(metrics)
    systems = [list(read_lines(path)) for path in given]
    references = [list(read_lines(path)) for path in ref or []]
    sources = list(read_lines(src)) if src and hyp else systems[0] if src else None
    others = [*zip(given[1:], systems[1:], strict=True), *zip(ref or [], references, strict=True)]
    if src and hyp and sources is not None:
        others.append((src, sources))
    for path, lines in others:
        check_line_counts(given[0], systems[0], path, lines)
    if not systems[0]:
        raise ValueError(f"there is nothing to score: {given[0]} has 0 lines")
    if len(systems) > 1:
        named = [(str(path), lines) for path, lines in zip(given, systems, strict=True)]
        found = significance.compare(named, references, metrics=metrics, tokenize=tokenize, lowercase=lowercase)
        typer.echo(significance.report_comparisons(found, format.value))
        return
    hypotheses = systems[0]
    if model is not None:
        translator = load_translator(model, device, threads)
        hypotheses = translator.translate(systems[0])
        translator.log_notices(advice="translate with a higher --max-length-ratio and evaluate with --hyp")
    scores = scoring.score(
        hypotheses, references, metrics=metrics, tokenize=tokenize, lowercase=lowercase, sources=sources
    )
    typer.echo(scoring.report_scores(scores, format.value))


def _scored_files(model: str | None, src: Path | None, hyp: list[Path], ref: list[Path], summary: bool) -> list[Path]:
    """The files to score: those of --hyp, or the source lines that the model translates first."""
    if not ref:
        raise ValueError("evaluate requires --ref FILE")
    if model is not None and len(hyp) > 1:
        raise ValueError(
            "several --hyp are compared with each other, but MODEL is given too; "
            "leave MODEL out and give its translations as one more --hyp"
        )
    if (model is None) == (not hyp) or (model is not None and src is None):
        raise ValueError("evaluate takes either MODEL with --src FILE, or --hyp FILE")
    if hyp and summary and src is None:
        raise ValueError("the metric summary requires the source lines; add --src FILE")
    if hyp and src and not summary:
        raise ValueError("with --hyp only the metric summary reads --src; leave it out or add --metric summary")
    return hyp or [path for path in [src] if path]
