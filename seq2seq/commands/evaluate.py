"""The evaluate command: score translations, or a model, or compare several translations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seq2seq.commands.options import (
    Device,
    DeviceOption,
    Mixture,
    MixtureOption,
    ReportFormat,
    SrcField,
    Tag,
    ThreadsOption,
    Weight,
    load_translator,
    named_path,
)
from seq2seq.commands.streams import check_line_counts


def evaluate(
    model: Annotated[
        list[str] | None,
        typer.Argument(
            help="A model that translates the lines of --src; several of them, with the same tokenizers, are an ensemble.",
            metavar="[MODEL]...",
        ),
    ] = None,
    src: Annotated[
        Path | None,
        typer.Option(
            parser=named_path,
            metavar="FILE",
            help="Source lines or records, for MODEL or for --metric summary and its measures.",
        ),
    ] = None,
    hyp: Annotated[
        list[Path] | None,
        typer.Option(
            parser=named_path,
            metavar="FILE",
            help="Translations to score (lines or records), instead of MODEL and --src. With several, each is compared "
            "with the first.",
        ),
    ] = None,
    ref: Annotated[
        list[Path] | None,
        typer.Option(parser=named_path, metavar="FILE", help="Reference lines or records; may be given several times."),
    ] = None,
    src_field: SrcField = None,
    hyp_field: Annotated[str | None, typer.Option(help="Field of --hyp records.", show_default="translation")] = None,
    ref_field: Annotated[str | None, typer.Option(help="Field of --ref records.", show_default="tgt")] = None,
    tag: Tag = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="bleu, chrf, chrf++, ter, wer (words), cer (characters), exact, rouge1, rouge2, rougeL, rougeLsum, "
            "rouge (all four), summary (all its measures), or one measure of summary; may be given several times. "
            "WER counts insertions, deletions and substitutions; TER counts a moved block of words as one edit.",
            show_default="bleu",
        ),
    ] = None,
    tokenize: Annotated[
        str | None,
        typer.Option(
            help="sacreBLEU's tokenizer for BLEU (13a, none, zh, char, ...). Default: chosen by the references' script."
        ),
    ] = None,
    weight: Weight = None,
    mixture: MixtureOption = Mixture.LOG_LINEAR,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Ignore case.")] = False,
    format: Annotated[ReportFormat, typer.Option(help="Output format.")] = ReportFormat.TEXT,
    device: DeviceOption = Device.AUTO,
    threads: ThreadsOption = 0,
) -> None:
    """Score translations, or a model, against references.

    Give the translations as --hyp, or a model, or several as an ensemble, with the source lines as MODEL and --src.

    The numbers in brackets are the 95 % bootstrap interval (1000 samples, seed 12345).
    """
    from seq2seq.commands.texts import read_texts
    from seq2seq.metrics import scores as scoring
    from seq2seq.metrics import significance

    for name, value, needs in (
        ("--hyp-field", hyp_field, hyp),
        ("--src-field", src_field, src),
        ("--tag", tag, model),
        ("--weight", weight, model),
        ("--mixture", None if mixture is Mixture.LOG_LINEAR else mixture, model),
    ):
        if value not in (None, []) and not needs:
            raise ValueError(f"{name} has no effect without {_NEEDED[name]}; remove it")
    metrics = tuple(metric or ["bleu"])
    required_by = next((name for name in metrics if scoring.requires_sources([name])), None)
    given = _scored_files(model, src, hyp or [], ref or [], required_by)
    scoring.check_names(metrics, tokenize, lowercase)
    if len(given) > 1:
        significance.check_comparable(metrics)
    src_texts = list(read_texts(src, src_field, "--src-field", "src")) if src else []
    systems = [list(read_texts(path, hyp_field, "--hyp-field", "translation")) for path in hyp or []] or [src_texts]
    references = [list(read_texts(path, ref_field, "--ref-field", "tgt")) for path in ref or []]
    sources = src_texts if src else None
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
    if model:
        translator = load_translator(model, device, threads, tag, weights=weight, mixture=mixture)
        hypotheses = translator.translate(systems[0])
        translator.log_notices(advice="translate with a higher --max-length-ratio and evaluate with --hyp")
    scores = scoring.score(
        hypotheses, references, metrics=metrics, tokenize=tokenize, lowercase=lowercase, sources=sources, intervals=True
    )
    typer.echo(scoring.report_scores(scores, format.value))


_NEEDED = {"--hyp-field": "--hyp", "--src-field": "--src", "--tag": "MODEL", "--weight": "MODEL", "--mixture": "MODEL"}


def _scored_files(
    model: list[str] | None, src: Path | None, hyp: list[Path], ref: list[Path], required_by: str | None
) -> list[Path]:
    """Return the files to score: those of --hyp, or the source lines that the model translates first.

    Args:
        required_by: a metric that reads the source lines, if there is one.
    """
    if not ref:
        raise ValueError("evaluate requires --ref FILE")
    if model and len(hyp) > 1:
        raise ValueError(
            "several --hyp are compared with each other, but MODEL is given too; "
            "remove MODEL and give its translations as one more --hyp"
        )
    if (not model) == (not hyp) or (model and src is None):
        raise ValueError("evaluate takes either MODEL with --src FILE, or --hyp FILE")
    if hyp and required_by and src is None:
        raise ValueError(f"the metric {required_by} requires the source lines; add --src FILE")
    if hyp and src and not required_by:
        raise ValueError(
            "with --hyp only the metric summary and its measures read --src; remove --src, or add --metric summary"
        )
    return hyp or [path for path in [src] if path]
