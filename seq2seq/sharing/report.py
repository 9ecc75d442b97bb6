"""Write the report on one run, or on two runs side by side: one HTML file that loads nothing and needs no script.

The page is made by Jinja with autoescape, so whatever stands in texts, names and settings stays text.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

import jinja2

from seq2seq import __version__
from seq2seq.data import corpus
from seq2seq.data.corpus import Pair
from seq2seq.data.lines import read_lines
from seq2seq.metrics import scores, significance
from seq2seq.metrics.scores import METRICS, Score
from seq2seq.plot import render_panels
from seq2seq.searchable import copied_positions
from seq2seq.sharing.analysis import (
    LENGTH_BOUNDS,
    REPEATED_NGRAM,
    UNKNOWN_BOUNDS,
    Content,
    GroupScores,
    compare_content,
    count_unknown_words,
    group_lines,
    score_groups,
)
from seq2seq.sharing.curves import learning_curves
from seq2seq.sharing.run_record import RunRecord
from seq2seq.text.tags import without_tag
from seq2seq.text.words import words
from seq2seq.training.run_dir import TEST_TRANSLATIONS
from seq2seq.translator import Translator

SAMPLES = 20
MOST_SHOWN_PIECES = 60  # on each side of a heat map
REPORT_METRICS = ("bleu", "chrf", "ter")


@dataclass(frozen=True)
class EvaluatedRun:
    """A run, its model, and its translations of the evaluated pairs."""

    name: str
    record: RunRecord
    translator: Translator
    hypotheses: list[str]
    scores: list[Score]
    content: Content

    @property
    def num_parameters(self) -> int:
        """The number of parameters of the model."""
        return sum(parameter.numel() for _, parameter in self.translator.model.named_parameters())


class HeatCell(NamedTuple):
    """A cell of a heat map."""

    percent: int  # attention weight
    is_copied: bool  # whether the target piece is mostly copied from this source piece


class HeatRow(NamedTuple):
    """A row of a heat map: a target piece, or the end of the sentence."""

    piece: str
    cells: list[HeatCell]
    p_gen: int | None  # per cent; None if the model does not copy


class HeatMap(NamedTuple):
    """The attention of a translation over the source."""

    source_pieces: list[str]
    rows: list[HeatRow]
    coverage: list[str]  # of each source piece: the sum of its weights
    is_cut: bool  # whether only the first pieces are shown


class SampleTranslation(NamedTuple):
    """A sample translation of one run."""

    run: str
    text: str
    status: str
    score: float
    heat_map: HeatMap | None  # None if the model has no attention
    differs: bool  # whether the heat map is of another translation, because the source was split


class Sample(NamedTuple):
    """A sample line and its translations."""

    number: int  # of the line, from 1
    source: str
    reference: str
    translations: list[SampleTranslation]


def write_report(runs: Sequence[RunRecord], *, device: str = "auto") -> str:
    """Evaluate one or two runs on the same pairs and return the page.

    The pairs are those of ``data.test`` if every run has translated them, else those of ``data.valid``, which are
    translated now.

    Raises:
        ValueError: there is no model, the texts cannot be read, or two runs have different ones.
    """
    names = run_names(runs)
    split = "test" if all((run.path / TEST_TRANSLATIONS).is_file() for run in runs) else "valid"
    pairs = _read_same_pairs(runs, split)
    metrics = _metrics(runs)
    found = [_evaluate(name, run, split, pairs, metrics, device) for name, run in zip(names, runs, strict=True)]
    systems, references = [run.hypotheses for run in found], [pair.tgt for pair in pairs]
    sources = _texts_of(pairs, found[0].translator)
    lengths = group_lines([len(words(source)) for source in sources], LENGTH_BOUNDS)
    values = {
        "title": " and ".join(names),
        "version": __version__,
        "runs": found,
        "split": split,
        "num_pairs": len(pairs),
        "curves": _curves_address(dict(zip(names, runs, strict=True))),
        "comparisons": _compare(found, references, metrics),
        "by_length": score_groups(lengths, systems, references),
        "by_unknown": _score_by_unknown_words(runs[0], systems, sources, references),
        "ngram": REPEATED_NGRAM,
        "pairs": pairs,
        "samples": list(_samples(found, pairs)),
        "most_shown": MOST_SHOWN_PIECES,
    }
    return _template().render(values)


def run_names(runs: Sequence[RunRecord]) -> list[str]:
    """Name runs by their folders, or by their paths if two folders have the same name."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = _number
    environment.filters["interval"] = interval_text
    environment.globals["zip"] = zip
    page = resources.files("seq2seq.sharing").joinpath("report.html").read_text(encoding="utf-8")
    return environment.from_string(page)


def _number(value: float, digits: int = 2) -> str:
    return "none" if math.isnan(value) else f"{value:,.{digits}f}"


def _read_same_pairs(runs: Sequence[RunRecord], split: str) -> list[Pair]:
    """Read the pairs to evaluate; those of all runs must be equal.

    Raises:
        ValueError: they cannot be read, or differ.
    """
    first, *others = [corpus.read_split(run.config.data, split) for run in runs]
    for run, pairs in zip(runs[1:], others, strict=True):
        if pairs != first:
            raise ValueError(
                f"two runs are compared on the same pairs, but data.{split} of {runs[0].path} and {run.path} differ; "
                "write a report on each run"
            )
    return first


def _texts_of(pairs: Sequence[Pair], translator: Translator) -> list[str]:
    """Return the sources without their tags."""
    return [without_tag(pair.src, translator.tokenizers.src.tags) for pair in pairs]


def _metrics(runs: Sequence[RunRecord]) -> tuple[str, ...]:
    chosen = [run.config.train.metric for run in runs if run.config.train.metric in METRICS]
    return tuple(dict.fromkeys([*REPORT_METRICS, *chosen]))


def _evaluate(
    name: str, run: RunRecord, split: str, pairs: Sequence[Pair], metrics: Sequence[str], device: str
) -> EvaluatedRun:
    translator = Translator.load(run.path, device=device)
    translator.notices.shown = False
    sources, references = [pair.src for pair in pairs], [pair.tgt for pair in pairs]
    if split == "test":
        path = run.path / TEST_TRANSLATIONS
        hypotheses = list(read_lines(path))
        if len(hypotheses) != len(pairs):
            raise ValueError(
                f"{path} has {len(hypotheses)} lines but data.test has {len(pairs)} pairs; they must match line by "
                f"line: translate data.test again, or remove {path} to report on data.valid"
            )
    else:
        hypotheses = translator.translate(sources)
    texts = _texts_of(pairs, translator)
    results = scores.score(hypotheses, [references], metrics=metrics, sources=texts, intervals=True)
    return EvaluatedRun(name, run, translator, hypotheses, results, compare_content(hypotheses, references))


def _compare(
    runs: Sequence[EvaluatedRun], references: Sequence[str], metrics: Sequence[str]
) -> list[significance.Comparison]:
    """Compare two runs by paired bootstrap resampling; empty for one run, or one line."""
    comparable = [metric for metric in metrics if not scores.requires_sources([metric])]
    if len(runs) < 2 or len(references) < 2:
        return []
    return significance.compare([(run.name, run.hypotheses) for run in runs], [references], metrics=comparable)


def _score_by_unknown_words(
    run: RunRecord, systems: Sequence[Sequence[str]], sources: Sequence[str], references: Sequence[str]
) -> list[GroupScores] | None:
    """Score the lines by their words that do not occur in the training sources of a run; None if those are not there."""
    try:
        counts = count_unknown_words(sources, corpus.training_text(run.config.data, "src"))
    except ValueError:
        return None
    return score_groups(group_lines(counts, UNKNOWN_BOUNDS), systems, references)


def _curves_address(runs: dict[str, RunRecord]) -> str:
    """Return the picture of the learning curves as the address of an image that holds its content."""
    picture = render_panels(learning_curves(runs), "svg")
    return f"data:image/svg+xml;base64,{base64.b64encode(picture).decode()}"


def _samples(runs: Sequence[EvaluatedRun], pairs: Sequence[Pair]) -> Iterator[Sample]:
    """Take samples at equal distances among the lines that are not blank."""
    rows = [row for row, pair in enumerate(pairs) if pair.src.strip()]
    count = min(SAMPLES, len(rows))
    for row in (rows[number * len(rows) // count] for number in range(count)):
        pair = pairs[row]
        translations = [_sample_translation(run, pair.src, run.hypotheses[row]) for run in runs]
        yield Sample(row + 1, pair.src, pair.tgt, translations)


def _sample_translation(run: EvaluatedRun, source: str, hypothesis: str) -> SampleTranslation:
    if not run.translator.model.has_attention:
        ((found,),) = run.translator.search([source])
        return SampleTranslation(run.name, hypothesis, found.status, found.score, None, differs=False)
    found, provenance = run.translator.trace(source)
    copied_from = copied_positions(provenance.copied)
    sources, targets = [*found.source_pieces, "</s>"], [*found.pieces, "</s>"]
    p_gen = provenance.p_gen.tolist() if run.translator.model.copies else [None] * len(targets)
    rows = [
        HeatRow(
            piece,
            [
                HeatCell(round(100 * weight), position == place)
                for position, weight in enumerate(weights[:MOST_SHOWN_PIECES])
            ],
            None if generated is None else round(100 * generated),
        )
        for piece, weights, place, generated in zip(
            targets, provenance.weights.tolist(), copied_from, p_gen, strict=True
        )
    ]
    coverage = [f"{value:.1f}" for value in provenance.weights.sum(dim=0).tolist()]
    heat_map = HeatMap(
        sources[:MOST_SHOWN_PIECES],
        rows[:MOST_SHOWN_PIECES],
        coverage[:MOST_SHOWN_PIECES],
        is_cut=max(len(sources), len(targets)) > MOST_SHOWN_PIECES,
    )
    differs = found.translation != hypothesis
    return SampleTranslation(run.name, hypothesis, found.status, found.score, heat_map, differs)


def interval_text(details: dict[str, Any]) -> str:
    """Format the 95 % interval of a score; empty if it has none."""
    return f"{details['low']:.2f} to {details['high']:.2f}" if "low" in details else ""
