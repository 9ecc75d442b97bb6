"""The translate command, which writes one output line for every source line, in the same order."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seq2seq.commands.options import (
    BatchTokens,
    BeamSize,
    Device,
    DeviceOption,
    ForbiddenWords,
    GlossaryFile,
    Keep,
    MayRepeat,
    MinLength,
    Mixture,
    MixtureOption,
    Models,
    NBest,
    NoRepeatNgramSize,
    PrefixFile,
    RepetitionFactor,
    Samples,
    SearchPrecision,
    Seed,
    ShortlistSize,
    SrcField,
    Tag,
    Temperature,
    ThreadsOption,
    TopK,
    TopP,
    Utility,
    Weight,
    load_translator,
    named_path,
    print_precision,
    with_terms,
)
from seq2seq.commands.streams import check_output, model_files, named_file, output_stream, standard_input
from seq2seq.data.notices import MAX_NAMED
from seq2seq.version import __version__

if TYPE_CHECKING:
    from seq2seq.commands.texts import InputRecords, Prefixes
    from seq2seq.translation import Translation
    from seq2seq.translator import Translator

log = logging.getLogger(__name__)


class TooLong(str, Enum):
    """Treatment of sources above the model's limit."""

    CUT = "cut"
    SPLIT = "split"


class Format(str, Enum):
    """Output format of translations."""

    TEXT = "text"
    JSONL = "jsonl"


def translate(
    ctx: typer.Context,
    model: Models,
    input: Annotated[
        Path | None,
        typer.Option(
            parser=named_path,
            metavar="FILE",
            help="File of source lines, also gzip-compressed, or of records (.jsonl, .json, .tsv, .csv, .parquet). "
            "Default, and -: lines of standard input, or JSON lines with --src-field.",
        ),
    ] = None,
    src_field: SrcField = None,
    tag: Tag = None,
    output: Annotated[
        Path | None,
        typer.Option(
            parser=named_path,
            metavar="FILE",
            help="File to write, compressed if its name ends in .gz. Default, and -: standard output. FILE is written as "
            "FILE.partial and renamed when it is complete; if translate fails, the lines translated until then stay there.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue an interrupted --output FILE: keep the chunks of lines that FILE.partial holds, skip their input "
            "lines, and end with the same output as an uninterrupted run. Refused if FILE.partial was written with another "
            "model, other options or other lines. Without FILE.partial, start with the first line.",
        ),
    ] = False,
    beam_size: BeamSize = None,
    n_best: NBest = 1,
    length_penalty: Annotated[float | None, typer.Option(min=0, help="The a of score = log P / |Y|^a.")] = None,
    max_length_ratio: Annotated[
        float | None, typer.Option(min=0, help="Maximum length of a translation, in pieces per source piece.")
    ] = None,
    min_length: MinLength = None,
    too_long: Annotated[TooLong | None, typer.Option(help="Cut or split sources above the model's limit.")] = None,
    samples: Samples = None,
    seed: Seed = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    mbr: Utility = None,
    no_repeat_ngram: NoRepeatNgramSize = None,
    repetition_penalty: RepetitionFactor = None,
    may_repeat: MayRepeat = None,
    forbid: ForbiddenWords = None,
    prefix: PrefixFile = None,
    glossary: GlossaryFile = None,
    keep: Keep = None,
    shortlist: ShortlistSize = None,
    precision: SearchPrecision = None,
    batch_tokens: BatchTokens = None,
    format: Annotated[
        Format,
        typer.Option(
            help="text, or jsonl with scores, pieces and alignment (a list per line with --n-best), beside the other keys "
            "of an input record."
        ),
    ] = Format.TEXT,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="With --format jsonl: add under beam, for every hypothesis of the beam, its log_prob, length, normalised "
            "log_prob, penalty, score and margin, which is the score of the best one minus its score.",
        ),
    ] = False,
    weight: Weight = None,
    mixture: MixtureOption = Mixture.LOG_LINEAR,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Stop at a line that is not valid UTF-8. Default: replace its invalid bytes by U+FFFD."
        ),
    ] = False,
    device: DeviceOption = Device.AUTO,
    threads: ThreadsOption = 0,
) -> None:
    """Translate lines of text.

    Options that are not given keep the search settings saved with the model.
    """
    if n_best > 1 and format is not Format.JSONL:
        raise ValueError("--n-best above 1 gives several translations per line and requires --format jsonl")
    if explain and format is not Format.JSONL:
        raise ValueError("--explain adds values to every line and requires --format jsonl")
    if resume and prefix:
        raise ValueError("--resume can't continue with --prefix; translate without --resume")
    from seq2seq.commands.progress import output_is_terminal, show_progress
    from seq2seq.commands.resuming import ResumeRecord
    from seq2seq.commands.texts import InputRecords, Prefixes, check_no_field, has_records
    from seq2seq.data.lines import as_line, read_lines
    from seq2seq.data.records import Field
    from seq2seq.data.stream import chunks

    input, output = named_file(input), named_file(output)
    check_output(output, [input, prefix, glossary, *(path for each in model for path in model_files(each))])
    translator = load_translator(model, device, threads, tag, weights=weight, mixture=mixture).with_search(
        beam_size=beam_size,
        length_penalty=length_penalty,
        max_length_ratio=max_length_ratio,
        min_length=min_length,
        too_long=too_long and too_long.value,
        batch_tokens=batch_tokens,
        samples=samples,
        seed=seed,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        mbr=mbr and mbr.value,
        no_repeat_ngram=no_repeat_ngram,
        repetition_penalty=repetition_penalty,
        may_repeat=may_repeat,
        forbidden=forbid,
        shortlist=shortlist,
        precision=precision and precision.value,
    )
    if explain and translator.search_config.mbr != "none":
        raise ValueError(
            f"--explain compares scores, which don't decide with search.mbr={translator.search_config.mbr}; "
            "give --mbr none, or remove --explain"
        )
    print_precision(translator)
    translator = with_terms(translator, glossary, keep)
    translator.check_n_best(n_best)
    invalid = InvalidLines()
    on_invalid = None if strict else invalid.add
    source, name = (input, str(input)) if input else (standard_input(), "standard input")
    records = None
    if has_records(input) or (input is None and src_field is not None):
        records = InputRecords(source, name, Field(src_field or "src", "--src-field"))
        texts_read = records.texts()
    else:
        check_no_field(Path(name), src_field, "--src-field")
        texts_read = read_lines(source, name, on_invalid=on_invalid)
    prefixes = Prefixes(prefix, name) if prefix else None
    record = ResumeRecord(output, _options_of(ctx, translator), resume=resume)
    check_output(record.path, [input])
    record.skip(texts_read, lambda number: (invalid.pop(number), records and records.pop(lambda name: False)))
    remaining = chunks(texts_read, full=input is not None and input.is_file())
    first_chunk = next(remaining, [])  # read before the output is opened: an unreadable input must not erase it
    every_chunk = itertools.chain([first_chunk], remaining)
    shown = show_progress(None if records else input, done=record.lines, shown=not output_is_terminal(output))
    try:
        with shown as progress, output_stream(output, kept=record.size) as stream, record:
            record.write(size=stream.complete)
            for chunk, texts in _translated(
                translator,
                every_chunk,
                format,
                n_best,
                invalid,
                records,
                prefixes,
                explains=explain,
                first_line=record.lines + 1,
            ):
                stream.write(b"".join(map(as_line, texts)))
                record.write(chunk, stream.complete)
                progress.add(len(chunk))
        record.remove()
    finally:
        invalid.warn(name)
    translator.log_notices()


def _options_of(ctx: typer.Context, translator: Translator) -> dict[str, str]:
    """Return every option that the output depends on, for ``ResumeRecord``; the input is compared by its lines."""
    from seq2seq.model_dir import fingerprint
    from seq2seq.text.tokenizer import hash_values

    options = {f"--{name.replace('_', '-')}": value for name, value in ctx.params.items() if name not in _NOT_RECORDED}
    paths, shortlist = ctx.params["model"], translator.search_config.shortlist > 0
    models = ", ".join(fingerprint(path, shortlist=shortlist and path == paths[0]) for path in paths)
    named = {"version of seq2seq": __version__, "model": models} | options
    named |= {"--device": translator.model.device, "--precision": translator.precision.name}
    if glossary := translator.terms.glossary:
        named["--glossary"] = f"one with the hash {hash_values(sorted(glossary.items()))[:16]}"
    return {name: str(getattr(value, "value", value)) for name, value in named.items()}


_NOT_RECORDED = ("model", "input", "output", "resume")


class InvalidLines:
    """The numbers of the lines that are not valid UTF-8."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[int] = []
        self._unused: set[int] = set()  # not yet passed to ``pop``

    def add(self, number: int) -> None:
        """Add a line; the thread that reads calls this before the line is available."""
        self.count += 1
        if len(self._first) < MAX_NAMED:
            self._first.append(number)
        self._unused.add(number)

    def pop(self, number: int) -> bool:
        """Return whether a line is invalid, and forget it."""
        if number not in self._unused:
            return False
        self._unused.remove(number)
        return True

    def warn(self, name: str) -> None:
        """Print how many lines are invalid and which are the first ones."""
        if not self.count:
            return
        some = ", ".join(map(str, self._first)) + ", ..." * (self.count > len(self._first))
        log.warning(
            "%s: %d line%s not valid UTF-8 (line%s %s); the invalid bytes were replaced by U+FFFD; convert the file to "
            "UTF-8, or give --strict to stop at such a line",
            name,
            self.count,
            " is" if self.count == 1 else "s are",
            "" if self.count == 1 else "s",
            some,
        )


def _translated(
    translator: Translator,
    line_chunks: Iterator[list[str]],
    format: Format,
    n_best: int,
    invalid: InvalidLines,
    records: InputRecords | None,
    prefixes: Prefixes | None,
    *,
    explains: bool,
    first_line: int,
) -> Iterator[tuple[list[str], Sequence[str]]]:
    """Yield every chunk with its output lines."""
    from seq2seq.translation import explain_order

    for chunk in line_chunks:
        marks = [invalid.pop(number) for number in range(first_line, first_line + len(chunk))]
        some = prefixes.take(len(chunk)) if prefixes else None
        if format is Format.TEXT:
            yield chunk, translator.translate(chunk, prefixes=some, first_line=first_line)
        else:
            searched = translator.num_hypotheses if explains else n_best
            found = translator.search(chunk, n_best=searched, prefixes=some, first_line=first_line)
            lines = []
            for best, mark in zip(found, marks, strict=True):
                beam = explain_order(best, translator.search_config.length_penalty) if explains else None
                lines.append(_json_line(best[:n_best], mark, n_best, records, beam))
            yield chunk, lines
        first_line += len(chunk)
    if prefixes:
        prefixes.check_end()


def _json_line(
    best: Sequence[Translation],
    invalid: bool,
    n_best: int,
    records: InputRecords | None,
    beam: list[dict[str, Any]] | None,
) -> str:
    """Write the translations of a line, or of a record with its other values, as JSON; the first one has the beam."""
    results = [translation.as_dict() | {"invalid_utf8": invalid} for translation in best]
    if beam is not None:
        results[0]["beam"] = beam
    if records is not None:
        values = records.pop(results[0].__contains__)
        results = [values | result for result in results]
    return json.dumps(results if n_best > 1 else results[0], ensure_ascii=False, default=str)
