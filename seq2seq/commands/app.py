"""The command line: seq2seq train | translate | evaluate | score | plot | selfcheck.

Heavy imports stand inside the commands that need them, so that ``--help`` answers at once. A user's error is one line
on the standard error and exit code 2.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
import typer.core

from seq2seq import __version__


class _Commands(typer.core.TyperGroup):
    """The commands; wrong usage is told in one line, like every other error of a user's."""

    def main(self, args: Sequence[str] | None = None, **options: Any) -> Any:  # type: ignore[override]
        try:
            result = super().main(args, **options | {"standalone_mode": False})
        except typer.Abort:
            typer.echo("interrupted", err=True)
            sys.exit(130)
        except Exception as error:
            if not hasattr(error, "format_message"):
                raise
            where = getattr(getattr(error, "ctx", None), "command_path", "seq2seq")
            message = error.format_message()
            if "\n" not in message:  # else it is the help itself, for a command without arguments
                message = f"error: {message.rstrip('.')}; {where} --help tells more"
            typer.echo(message, err=True)
            sys.exit(2)
        sys.exit(result if isinstance(result, int) else 0)


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # a wrong flag gets short plain lines, not a box
    help="Recurrent sequence to sequence.",
)


class TooLong(str, Enum):
    """What translate does with a source above the model's limit."""

    CUT = "cut"
    SPLIT = "split"


class Format(str, Enum):
    """What translate prints."""

    text = "text"
    jsonl = "jsonl"


class ReportFormat(str, Enum):
    """What evaluate prints."""

    text = "text"
    json = "json"


class Device(str, Enum):
    """Where the model runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


Model = Annotated[str, typer.Argument(help="A model directory, or a run directory.", metavar="MODEL")]
DeviceOption = Annotated[Device, typer.Option(help="Where to run; auto takes a GPU if there is one.")]
ThreadsOption = Annotated[int, typer.Option(min=0, help="CPU threads; 0 leaves it to torch.")]


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    help="Train a model: seq2seq train [KEY=VALUE ...]; seq2seq train --help lists the keys.",
)
def train(context: typer.Context) -> None:
    """Hand the arguments to Hydra."""
    from seq2seq.commands.train import train_command

    with _user_errors():
        train_command(context.args)


@app.command()
def translate(
    model: Model,
    input: Annotated[Path | None, typer.Option(help="Source lines; default: the standard input.")] = None,
    output: Annotated[Path | None, typer.Option(help="Where to write; default: the standard output.")] = None,
    beam_size: Annotated[int | None, typer.Option(min=1, help="Hypotheses kept; 1 is greedy.")] = None,
    n_best: Annotated[int, typer.Option(min=1, help="Translations a line; above 1 needs --format jsonl.")] = 1,
    length_penalty: Annotated[float | None, typer.Option(min=0, help="a of log P / |Y|^a.")] = None,
    max_length_ratio: Annotated[float | None, typer.Option(min=0, help="Longest output per source piece.")] = None,
    min_length: Annotated[int | None, typer.Option(min=0, help="Least pieces of the output.")] = None,
    too_long: Annotated[TooLong | None, typer.Option(help="What to do with sources above the model's limit.")] = None,
    batch_tokens: Annotated[int | None, typer.Option(min=1, help="Padded source pieces searched at once.")] = None,
    format: Annotated[
        Format, typer.Option(help="text, or jsonl: scores, pieces, alignment; a list with --n-best.")
    ] = Format.text,
    device: DeviceOption = Device.auto,
    threads: ThreadsOption = 0,
) -> None:
    """Translate lines. Flags not given take the model's saved search settings."""
    with _user_errors():
        if n_best > 1 and format is not Format.jsonl:
            raise ValueError("--n-best above 1 gives several translations a line and needs --format jsonl")
        from seq2seq.config import SearchConfig, from_container
        from seq2seq.data.corpus import as_line, read_lines
        from seq2seq.data.stream import chunks

        translator = _load(model, device, threads)
        given = {
            "beam_size": beam_size,
            "length_penalty": length_penalty,
            "max_length_ratio": max_length_ratio,
            "min_length": min_length,
            "too_long": too_long and too_long.value,
            "batch_tokens": batch_tokens,
        }
        changed = asdict(translator.search_config) | {k: v for k, v in given.items() if v is not None}
        translator.search_config = from_container(SearchConfig, changed, "search.")
        translator.check_n_best(n_best)
        if input and output and input.resolve() == output.resolve():
            raise ValueError(f"--input and --output are both {input}; write to another file")
        lines = read_lines(input) if input else read_lines(_standard_input(), "standard input")
        found_chunks = chunks(lines)
        start = next(found_chunks, [])  # an input that can't be read must not cost the old output
        with _output(output) as stream:
            first = 1
            for chunk in itertools.chain([start], found_chunks):
                if format is Format.text:
                    texts = translator.translate(chunk, first_line=first)
                else:
                    found = [
                        [t.as_dict() for t in best]
                        for best in translator.search(chunk, n_best=n_best, first_line=first)
                    ]
                    texts = [json.dumps(best if n_best > 1 else best[0], ensure_ascii=False) for best in found]
                for text in texts:
                    stream.write(as_line(text))
                stream.flush()
                first += len(chunk)


@app.command()
def evaluate(
    model: Annotated[str | None, typer.Argument(help="A model to translate --src with.", metavar="[MODEL]")] = None,
    src: Annotated[Path | None, typer.Option(help="Source lines, with MODEL or for --metric summary.")] = None,
    hyp: Annotated[
        list[Path] | None,
        typer.Option(help="Translations to score, instead of MODEL and --src; given again: compared with the first."),
    ] = None,
    ref: Annotated[list[Path] | None, typer.Option(help="Reference lines; may be given several times.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="bleu, chrf, ter, exact, rouge or summary; may be given several times.")
    ] = None,
    tokenize: Annotated[
        str | None,
        typer.Option(
            help="sacreBLEU's tokenizer for BLEU: 13a, none, zh, char...; default: by the references' script."
        ),
    ] = None,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Ignore case.")] = False,
    format: Annotated[ReportFormat, typer.Option(help="text or json.")] = ReportFormat.text,
    device: DeviceOption = Device.auto,
    threads: ThreadsOption = 0,
) -> None:
    """Score translations, or a model on source and reference, or compare several translations."""
    with _user_errors():
        from seq2seq.data.corpus import read_lines
        from seq2seq.metrics import scores as scoring
        from seq2seq.metrics import significance

        metrics = tuple(metric or ["bleu"])
        given = _what_to_score(model, src, hyp or [], ref or [], "summary" in metrics)
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
            _check_counts(given[0], systems[0], path, lines)
        if not systems[0]:
            raise ValueError(f"there is nothing to score: {given[0]} has 0 lines")
        if len(systems) > 1:
            named = [(str(path), lines) for path, lines in zip(given, systems, strict=True)]
            found = significance.compare(named, references, metrics=metrics, tokenize=tokenize, lowercase=lowercase)
            typer.echo(significance.report_comparisons(found, format.value))
            return
        hypotheses = systems[0] if model is None else _load(model, device, threads).translate(systems[0])
        scores = scoring.score(
            hypotheses, references, metrics=metrics, tokenize=tokenize, lowercase=lowercase, sources=sources
        )
        typer.echo(scoring.report_scores(scores, format.value))


def _what_to_score(model: str | None, src: Path | None, hyp: list[Path], ref: list[Path], summary: bool) -> list[Path]:
    """The files evaluate starts from: --hyp, or what the model shall translate."""
    if not ref:
        raise ValueError("evaluate needs --ref FILE")
    if model is not None and len(hyp) > 1:
        raise ValueError(
            "several --hyp are compared with each other, but MODEL is given too; "
            "give what it translated as one more --hyp and leave MODEL out"
        )
    if (model is None) == (not hyp) or (model is not None and src is None):
        raise ValueError("evaluate takes either MODEL with --src FILE, or --hyp FILE")
    if hyp and summary and src is None:
        raise ValueError("the metric summary needs the source lines; add --src FILE")
    if hyp and src and not summary:
        raise ValueError("with --hyp only the metric summary reads --src; leave it out or add --metric summary")
    return hyp or [path for path in [src] if path]


@app.command()
def score(
    model: Model,
    src: Annotated[Path, typer.Option(help="Source lines.")],
    tgt: Annotated[Path, typer.Option(help="Target lines.")],
    device: DeviceOption = Device.auto,
    threads: ThreadsOption = 0,
) -> None:
    """Print the log-probability of every target line: natural log, whole sentence with its end."""
    with _user_errors():
        from seq2seq.data.corpus import read_lines

        sources, targets = list(read_lines(src)), list(read_lines(tgt))
        _check_counts(src, sources, tgt, targets)
        for token_log_probs in _load(model, device, threads).score(sources, targets):
            typer.echo(f"{sum(token_log_probs):.6f}")


@app.command()
def selfcheck(model: Model, device: DeviceOption = Device.auto, threads: ThreadsOption = 0) -> None:
    """Check on this very model that padding, batching, search and scoring agree; exit 1 if they do not."""
    with _user_errors():
        from seq2seq.selfcheck import run_checks

        checks = run_checks(_load(model, device, threads))
        for check in checks:
            typer.echo(f"{'ok    ' if check.passed else 'FAILED'}  {check.law}: {check.text}")
        if not all(check.passed for check in checks):
            raise typer.Exit(1)


@app.command()
def plot(
    model: Model,
    text: Annotated[str, typer.Option(help="The source.")],
    output: Annotated[Path, typer.Option(help="The picture: .png, .svg or .pdf.")],
    target: Annotated[str | None, typer.Option(help="Look at this target, not at the model's own translation.")] = None,
    beam_size: Annotated[int | None, typer.Option(min=1, help="Hypotheses kept; 1 is greedy.")] = None,
    device: DeviceOption = Device.auto,
    threads: ThreadsOption = 0,
) -> None:
    """Draw how a text was translated: where the model looked, what it copied, what it covered."""
    with _user_errors():
        try:
            from seq2seq.plot import Picture, check_format, render
        except ImportError as error:
            raise ValueError(f'plot needs matplotlib ({error}); pip install "seq2seq[plot]"') from error
        from seq2seq.config import SearchConfig, from_container
        from seq2seq.model import copied_places

        kind = check_format(output)
        if target is not None and beam_size is not None:
            raise ValueError("--beam-size has no effect on a given --target; leave one of them out")
        if target is not None and not target.strip():
            raise ValueError("--target is blank; give it at least one word, or leave it out")
        translator = _load(model, device, threads)
        changed = asdict(translator.search_config) | ({"beam_size": beam_size} if beam_size else {})
        translator.search_config = from_container(SearchConfig, changed, "search.")
        found, provenance = translator.trace(text, target)
        copies = translator.model.copies
        copied_from = copied_places(provenance.copied)
        score = f"score {found.score:.3f}, log P {found.log_prob:.2f}"
        picture = Picture(
            src_pieces=[*found.source_pieces, "</s>"],
            tgt_pieces=[*found.pieces, "</s>"],
            weights=provenance.weights.tolist(),
            copied_from=copied_from,
            p_gen=provenance.p_gen.tolist() if copies else [],
            title=[
                f"source: {text}",
                f"{'translation' if target is None else 'given target'}: {found.translation}",
                f"{score}; framed: copied" if any(place is not None for place in copied_from) else score,
            ],
        )
        data = render(picture, kind)
        with _output(output) as stream:
            stream.write(data)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"seq2seq {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")] = False,
) -> None:
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)


def _load(model: str, device: Device, threads: int) -> Any:
    import torch

    from seq2seq.translator import Translator

    if threads:
        torch.set_num_threads(threads)
    return Translator.load(model, device=device.value)


def _check_counts(first: Path, lines: list[str], second: Path, others: list[str]) -> None:
    if len(lines) != len(others):
        raise ValueError(f"{first} has {len(lines)} lines but {second} has {len(others)}; they must match line by line")


def _standard_input() -> BinaryIO:
    """A stream of its own: Python aborts if it ends while a thread waits in ``sys.stdin``."""
    if sys.stdin is None:
        raise ValueError("standard input is closed; give --input")
    try:
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    except OSError:  # no real file, as in tests
        return sys.stdin.buffer


@contextmanager
def _output(path: Path | None) -> Iterator[BinaryIO]:
    if path is None:
        if sys.stdout is None:
            raise ValueError("standard output is closed; give --output")
        yield sys.stdout.buffer
        return
    try:
        stream = path.open("wb")
    except OSError as error:
        raise ValueError(f"{path} can't be written: {error.strerror}") from error
    with stream:
        yield stream


@contextmanager
def _user_errors() -> Iterator[None]:
    """Print what a user can mend as one line, and leave with 2."""
    try:
        yield
    except ValueError as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from error
    except RuntimeError as error:
        if "out of memory" not in str(error) and "can't allocate memory" not in str(error):  # a GPU's, a CPU's
            raise
        message = "a batch does not fit into memory; lower --batch-tokens, or search.batch_tokens of the configuration"
        typer.echo(f"error: {message}", err=True)
        raise typer.Exit(2) from error
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on; keep the exit quiet
        raise typer.Exit(0) from None
    except OSError as error:  # a full disk, say
        typer.echo(f"error: {error.filename or 'the output'} can't be used: {error.strerror or error}", err=True)
        raise typer.Exit(2) from error


def main() -> None:
    """Run a command."""
    run: Callable[[], None] = app
    run()
