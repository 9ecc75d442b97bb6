"""Arguments of commands, their limits, and loading a model for a command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seq2seq.threads import check_threads

if TYPE_CHECKING:
    from seq2seq.translator import Translator


class Device(str, Enum):
    """Device of the model."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Mixture(str, Enum):
    """Mixture of the models of an ensemble."""

    LOG_LINEAR = "log-linear"
    LINEAR = "linear"


class ReportFormat(str, Enum):
    """Output format of scores."""

    TEXT = "text"
    JSON = "json"


class SearchPrecisionName(str, Enum):
    """Precision of the products of the output layer in search."""

    FP32 = "fp32"
    BF16 = "bf16"
    AUTO = "auto"


class UtilityName(str, Enum):
    """Utility of minimum Bayes risk."""

    NONE = "none"
    CHRF = "chrf"
    BLEU = "bleu"


MAX_BEAM = 1000
MAX_BATCH_TOKENS = 10_000_000
MAX_PIECES = 1_000_000


def at_most(limit: int, reason: str) -> Callable[[int | None], int | None]:
    """Make the check of an option that must not exceed a limit, for ``typer.Option(callback=...)``."""

    def check(value: int | None) -> int | None:
        if value is not None and value > limit:
            raise typer.BadParameter(f"it must be at most {limit:,}, but is {value}: {reason}")
        return value

    return check


def _checked_threads(number: int) -> int:
    check_threads(number, name="--threads")
    return number


def named_path(text: str) -> Path:
    """Make the path of an option, for ``typer.Option(parser=...)``; ``Path`` would read an empty text as a folder."""
    if not text.strip():
        raise typer.BadParameter("it must be the name of a file, but is empty")
    return Path(text)


Model = Annotated[str, typer.Argument(help="A model directory or a run directory.", metavar="MODEL")]
Models = Annotated[
    list[str],
    typer.Argument(
        help="A model directory or a run directory; several of them, with the same tokenizers, are an ensemble, which has "
        "the search settings of the first one.",
        metavar="MODEL...",
    ),
]
Weight = Annotated[
    list[float] | None,
    typer.Option(help="Weight of a model in the ensemble; once per model.", show_default="equal weights"),
]
MixtureOption = Annotated[
    Mixture,
    typer.Option(
        help="Mean of the models' probabilities: geometric and renormalised (log-linear), or arithmetic (linear)."
    ),
]
DeviceOption = Annotated[Device, typer.Option(help="Device of the model; auto uses a GPU if there is one.")]
ThreadsOption = Annotated[
    int,
    typer.Option(
        min=0,
        callback=_checked_threads,
        help="Number of CPU threads; 0 leaves the choice to PyTorch.",
    ),
]
BeamSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        callback=at_most(MAX_BEAM, "time and memory grow with the beam, and beams above 100 give worse translations"),
        help="Number of hypotheses in the beam; 1 is greedy search.",
    ),
]
NBest = Annotated[
    int,
    typer.Option(
        min=1,
        callback=at_most(MAX_BEAM, "a search finds at most as many translations as its beam holds"),
        help="Translations per line; above 1 requires --format jsonl.",
    ),
]
MinLength = Annotated[
    int | None,
    typer.Option(
        min=0,
        callback=at_most(MAX_PIECES, "no translation is as long"),
        help="Minimum length of a translation, in pieces.",
    ),
]
BatchTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        callback=at_most(MAX_BATCH_TOKENS, "a larger batch does not fit into memory"),
        help="Source pieces in a batch, padding included; lower it to save memory.",
    ),
]


Tag = Annotated[
    str | None,
    typer.Option(help="Tag before every source, for a model trained with tags (data.train.tag); de stands for <2de>."),
]
SrcField = Annotated[
    str | None,
    typer.Option(
        help="Source field of records: key, also nested (translation.en), or column name or number.", show_default="src"
    ),
]

Samples = Annotated[
    int | None,
    typer.Option(
        min=0,
        callback=at_most(MAX_BEAM, "time and memory grow with the number of samples"),
        help="Draw this number of translations at random instead of a beam search; the best score comes first.",
    ),
]
Seed = Annotated[
    int | None, typer.Option(min=0, help="Seed of the samples; each also depends on the number of its line.")
]
Temperature = Annotated[
    float | None,
    typer.Option(min=0.01, help="With --samples: below 1, more probable pieces; above 1, less probable ones."),
]
TopK = Annotated[int | None, typer.Option(min=0, help="With --samples: draw from the k most probable pieces; 0: all.")]
TopP = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="With --samples: draw from the most probable pieces whose probabilities sum to p."),
]
Utility = Annotated[
    UtilityName | None,
    typer.Option(
        "--mbr",
        help="Minimum Bayes risk: choose the translation with the largest mean chrF or BLEU against the others of the "
        "beam or the samples.",
    ),
]
NoRepeatNgramSize = Annotated[
    int | None,
    typer.Option(
        "--no-repeat-ngram",
        min=0,
        callback=at_most(MAX_PIECES, "no translation is as long"),
        help="Block n-grams of pieces that a translation already has, of this n; 0: none.",
    ),
]
RepetitionFactor = Annotated[
    float | None,
    typer.Option(
        "--repetition-penalty", min=1, help="Multiply the log-probabilities of pieces that a translation already has."
    ),
]
MayRepeat = Annotated[
    str | None, typer.Option(metavar="WORDS", help="Words, separated by spaces, that these two do not affect.")
]
ForbiddenWords = Annotated[
    str | None,
    typer.Option(
        "--forbid",
        metavar="WORDS",
        help="Words, separated by spaces, that must not appear: the sequence of the pieces of each is blocked.",
    ),
]
SearchPrecision = Annotated[
    SearchPrecisionName | None,
    typer.Option(
        "--precision",
        help="Precision of the products of the output layer. bf16 is faster on a CPU with instructions for "
        "it, and changes few translations; auto chooses by the CPU and prints the reason.",
    ),
]
ShortlistSize = Annotated[
    int | None,
    typer.Option(
        "--shortlist",
        min=0,
        metavar="K",
        help="Choose from K probable target pieces for each source piece and the most frequent ones; see seq2seq "
        "shortlist. 0: from all pieces.",
    ),
]
PrefixFile = Annotated[
    Path | None,
    typer.Option(
        "--prefix",
        parser=named_path,
        metavar="FILE",
        help="File with the beginning of the translation of each line; the pieces of its text are forced. An empty line "
        "forces nothing.",
    ),
]


GlossaryFile = Annotated[
    Path | None,
    typer.Option(
        "--glossary",
        parser=named_path,
        metavar="FILE",
        help="File with a source term, a tab and a target term on each line. Where a source term occurs in a line, its "
        "translation has the target term, or one of them if the source term has several lines.",
    ),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        "--keep",
        metavar="KIND",
        help="Spans of the source that appear unchanged in the translation, exactly as often: urls, emails, tags, numbers, "
        "or a regular expression; may be given several times.",
    ),
]


def with_terms(translator: Translator, glossary: Path | None, keep: Sequence[str] | None) -> Translator:
    """Return the translator with the terms of a glossary and kept spans, if any are given."""
    from seq2seq.data.terms import read_glossary

    if glossary is None and not keep:
        return translator
    return translator.with_terms(read_glossary(glossary) if glossary else None, keep or ())


def print_precision(translator: Translator) -> None:
    """Print the precision of the search on standard error if it was chosen by the device."""
    if translator.search_config.precision == "auto":
        typer.echo(translator.precision.line("search.precision"), err=True)


def load_translator(
    model: str | Sequence[str],
    device: Device,
    threads: int,
    tag: str | None = None,
    *,
    weights: Sequence[float] | None = None,
    mixture: Mixture = Mixture.LOG_LINEAR,
) -> Translator:
    """Load a model, or several as an ensemble, for a command."""
    from seq2seq.threads import set_threads
    from seq2seq.translator import Translator

    set_threads(threads, name="--threads")
    translator = Translator.load(model, device=device.value, weights=weights or None, mixture=mixture.value)
    return translator if tag is None else translator.with_tag(tag)
