"""Corpus scores with signatures, on raw text.

sacreBLEU computes BLEU (Papineni et al. 2002), chrF and chrF++ (Popović 2015 and 2017) and TER (Snover et al. 2006);
``error_rate``, ``rouge`` and ``summary`` compute the other metrics. ``METRICS`` lists all of them with their
properties. Post 2018 explains why a score must be reported with its signature.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from sacrebleu.metrics import base
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from seq2seq import __version__
from seq2seq.metrics import error_rate, rouge, summary
from seq2seq.metrics.resampling import BOOTSTRAP_SAMPLES, BOOTSTRAP_SEED, interval, percentages, resampled_sums
from seq2seq.text import words

log = logging.getLogger(__name__)

BLEU_TOKENIZERS = tuple(BLEU.TOKENIZERS)  # of sacreBLEU; they apply to BLEU only

_TOKENIZED_LINES = 100  # text in which this many lines end in " ." looks tokenised (the limit of sacreBLEU)

# Requirements of the tokenizers that are not part of sacreBLEU.
_REQUIRED = {
    "ja-mecab": 'the package sacrebleu[ja]; install it with pip install "sacrebleu[ja]"',
    "ko-mecab": 'the package sacrebleu[ko]; install it with pip install "sacrebleu[ko]"',
}
_REQUIRED_MODEL = (
    "a SentencePiece model that sacrebleu downloads at its first use; use it once on a machine with a network"
)


class Score(NamedTuple):
    """One corpus score."""

    name: str  # as printed: BLEU, chrF2, TER, ROUGE-1, copied
    score: float  # 0 to 100; TER, WER and CER may exceed 100; length-ratio is a ratio; NaN if there is nothing to count
    signature: str  # everything that must be equal for two scores to be comparable
    # low and high: the 95 % interval, if it was computed. BLEU: precisions, bp, ratio, sys_len, ref_len, counts, totals;
    # TER: num_edits, ref_length; ROUGE: precision, recall; exact, WER, CER and summary: part, of
    details: dict[str, Any]


@dataclass(frozen=True)
class MetricInput:
    """The input of a metric."""

    hypotheses: Sequence[str]
    references: Sequence[Sequence[str]]
    sources: Sequence[str] | None
    tokenize: str  # one of BLEU_TOKENIZERS
    lowercase: bool
    intervals: bool  # whether to compute the 95 % intervals
    metrics: tuple[str, ...]  # all metrics that are computed from this input

    @cached_property
    def rouge(self) -> dict[str, rouge.Rouge]:
        """The kinds of ROUGE that are among the metrics, computed together."""
        kinds = [name for name in self.metrics if name in rouge.ROUGE_KINDS]
        return rouge.score_rouge(self.hypotheses, self.references, kinds=kinds, intervals=self.intervals)

    @cached_property
    def summary(self) -> dict[str, summary.Measure]:
        """All measures of ``summary``, computed together."""
        assert self.sources is not None
        return {item.name: item for item in summary.measure(self.hypotheses, self.sources, self.references)}

    @cached_property
    def cased(self) -> list[Sequence[str]]:
        """The hypotheses and every stream of references, in lower case if case is ignored."""
        streams = [self.hypotheses, *self.references]
        return [[line.lower() for line in stream] for stream in streams] if self.lowercase else streams


class Metric(NamedTuple):
    """A metric and its properties: a row of ``METRICS``."""

    score: Callable[[MetricInput], Score]
    higher_is_better: bool | None  # None: neither direction is better, so train.metric does not take it
    always_ignores_case: bool = False
    requires_sources: bool = False
    # the counts of every line, (lines, 2), if the score is 100 * sum of the first / sum of the second
    counts: Callable[[MetricInput], np.ndarray] | None = None


def score(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    metrics: Sequence[str] = ("bleu",),
    tokenize: str | None = None,
    lowercase: bool = False,
    sources: Sequence[str] | None = None,
    intervals: bool = False,
) -> list[Score]:
    """Score detokenised hypotheses against one or several references.

    Args:
        hypotheses: the lines to score.
        references: one list of lines for each reference, each as long as ``hypotheses``.
        metrics: keys of ``METRICS`` or ``METRIC_GROUPS``.
        tokenize: one of ``BLEU_TOKENIZERS``; applies to BLEU only. Default: see ``find_tokenizer``.
        lowercase: ignore case in every metric; rouge and summary always do. (The command line of sacreBLEU ignores case
            in TER by default.)
        sources: the source lines of the hypotheses; required for the measures of summary and used by no other metric.
        intervals: compute the 95 % bootstrap interval of every metric except the measures of summary, with
            ``BOOTSTRAP_SAMPLES`` samples and the seed ``BOOTSTRAP_SEED``.

    Returns:
        The scores of the metrics in the given order: several for a group, one for any other.

    Raises:
        ValueError: the numbers of lines differ, there is nothing to score, a name is unknown, or a tokenizer cannot run
            because something is not installed.
    """
    check_lines(hypotheses, references, sources)
    check_names(metrics, tokenize, lowercase)
    for name in metrics:
        if sources is None and requires_sources([name]):
            raise ValueError(
                f"the metric {name} requires the source lines, but sources is None; give the sources or remove {name}"
            )
    if "bleu" in metrics and tokenize != "none":
        warn_if_tokenized(hypotheses)
    names = expand_groups(metrics)
    text = MetricInput(
        hypotheses, references, sources, tokenize or find_tokenizer(references), lowercase, intervals, names
    )
    return [METRICS[name].score(text) for name in names]


def expand_groups(metrics: Sequence[str]) -> tuple[str, ...]:
    """Replace the names of groups by the metrics in them.

    >>> expand_groups(["bleu", "rouge"])
    ('bleu', 'rouge1', 'rouge2', 'rougeL', 'rougeLsum')
    """
    return tuple(member for name in metrics for member in METRIC_GROUPS.get(name, (name,)))


def requires_sources(metrics: Sequence[str]) -> bool:
    """Return whether one of the metrics reads the source lines."""
    return any(METRICS[name].requires_sources for name in expand_groups(metrics) if name in METRICS)


def find_tokenizer(references: Sequence[Sequence[str]]) -> str:
    """Return the BLEU tokenizer for the script of the references.

    It is zh for Chinese, char for other scripts written without spaces, and 13a for the rest. 13a would treat a whole
    clause of Chinese or Thai as one word, so one wrong character would make the clause wrong.
    """
    return _TOKENIZER_OF[words.script(line for stream in references for line in stream)]


_TOKENIZER_OF = {"spaced": "13a", "han": "zh", "unspaced": "char"}


def report_scores(scores: Sequence[Score], format: str = "text") -> str:
    """Format scores as lines of text (two decimals) or as a JSON list (full precision)."""
    if format not in SCORE_FORMATS:
        raise ValueError(f"the format of a report must be one of {', '.join(SCORE_FORMATS)}, but is {format}")
    return SCORE_FORMATS[format](scores)


# The metrics of sacreBLEU: each function makes the metric object and names the details of its result to keep.


def _bleu(lowercase: bool, tokenize: str) -> tuple[base.Metric, tuple[str, ...]]:
    try:
        # force: turns off the warning of sacreBLEU; warn_if_tokenized gives it in one line
        measure = BLEU(lowercase=lowercase, tokenize=tokenize, force=True)
    except (ImportError, RuntimeError, OSError, SystemExit) as error:
        required = _REQUIRED.get(tokenize, _REQUIRED_MODEL)
        raise ValueError(f"the tokenizer {tokenize} requires {required}, or choose another with tokenize") from error
    return measure, ("precisions", "bp", "ratio", "sys_len", "ref_len", "counts", "totals")


def _chrf(lowercase: bool, tokenize: str, *, word_order: int = 0) -> tuple[base.Metric, tuple[str, ...]]:
    return CHRF(lowercase=lowercase, word_order=word_order), ()


def _ter(lowercase: bool, tokenize: str) -> tuple[base.Metric, tuple[str, ...]]:
    return TER(case_sensitive=not lowercase), ("num_edits", "ref_length")


SACREBLEU: dict[str, Callable[[bool, str], tuple[base.Metric, tuple[str, ...]]]] = {
    "bleu": _bleu,
    "chrf": _chrf,
    "chrf++": partial(_chrf, word_order=2),
    "ter": _ter,
}


def _score_sacrebleu(text: MetricInput, *, name: str) -> Score:
    measure, fields = SACREBLEU[name](text.lowercase, text.tokenize)
    details: dict[str, Any] = {}
    if text.intervals:
        statistics = measure._extract_corpus_statistics(text.hypotheses, text.references)
        result = measure._aggregate_and_compute(statistics)
        sums = resampled_sums(np.array(statistics))
        details = _bounds(np.array([measure._compute_score_from_stats(row).score for row in sums]))
        measure.n_bootstrap, measure.seed = BOOTSTRAP_SAMPLES, str(BOOTSTRAP_SEED)  # for the signature
    else:
        result = measure.corpus_score(text.hypotheses, text.references)
    details |= {field: getattr(result, field) for field in fields}
    return Score(result.name, float(result.score), str(measure.get_signature()), details)


def _score_rouge(text: MetricInput, *, kind: str) -> Score:
    found = text.rouge[kind]
    details = {} if found.interval is None else dict(zip(("low", "high"), found.interval, strict=True))
    details |= {"precision": found.precision, "recall": found.recall}
    return Score(found.name, found.score, rouge.signature(len(text.references), intervals=text.intervals), details)


def _score_summary(text: MetricInput, *, name: str) -> Score:
    found = text.summary[name]
    signature = f"nrefs:{len(text.references)}|case:lc|tok:words|version:seq2seq-{__version__}"
    return Score(name, found.value, signature, {"part": found.part, "of": found.of})


def _bounds(values: np.ndarray) -> dict[str, float]:
    low, high = interval(values)
    return {"low": low, "high": high}


# Metrics that count something in every line.


def _count_exact(text: MetricInput) -> np.ndarray:
    """Count the lines that equal one of their references, except for white space: 1 or 0, and 1, for every line."""
    hypotheses, *references = ([" ".join(line.split()) for line in stream] for stream in text.cased)
    return np.array([(line in others, 1) for line, *others in zip(hypotheses, *references, strict=True)], dtype=int)


def _count_errors(text: MetricInput, *, unit: str) -> np.ndarray:
    hypotheses, *references = text.cased
    return error_rate.count_errors(hypotheses, references, unit=unit)


def _counted(
    name: str,
    counts: Callable[[MetricInput], np.ndarray],
    *,
    higher_is_better: bool,
    settings: Callable[[], str],
) -> Metric:
    """Make the row of a metric that is 100 * sum of the first count / sum of the second count.

    Args:
        name: as printed.
        counts: returns the counts of every line, (lines, 2).
        settings: returns the end of the signature.
    """

    def score(text: MetricInput) -> Score:
        of_lines = counts(text)
        part, of = (int(value) for value in of_lines.sum(axis=0))
        details = _bounds(percentages(resampled_sums(of_lines))) if text.intervals else {}
        bootstrap = f"|bs:{BOOTSTRAP_SAMPLES}|seed:{BOOTSTRAP_SEED}" if text.intervals else ""
        case = "lc" if text.lowercase else "mixed"
        signature = f"nrefs:{len(text.references)}{bootstrap}|case:{case}|{settings()}"
        return Score(name, float(percentages(np.array([part, of]))), signature, details | {"part": part, "of": of})

    return Metric(score, higher_is_better, counts=counts)


def _error_rate(name: str, unit: str) -> Metric:
    counts = partial(_count_errors, unit=unit)
    return _counted(name, counts, higher_is_better=False, settings=partial(error_rate.settings, unit))


def _measure(name: str, higher_is_better: bool | None) -> Metric:
    score = partial(_score_summary, name=name)
    return Metric(score, higher_is_better, always_ignores_case=True, requires_sources=True)


# Which direction is better in a measure of summary; None if it depends on the task.
_MEASURE_DIRECTIONS: dict[str, bool | None] = {
    **dict.fromkeys(summary.MEASURES),
    **{f"repeated-{n}": False for n in summary.NGRAM_SIZES},
    "numbers": True,
    "names": True,
}

METRICS: dict[str, Metric] = {
    "bleu": Metric(partial(_score_sacrebleu, name="bleu"), True),
    "chrf": Metric(partial(_score_sacrebleu, name="chrf"), True),
    "chrf++": Metric(partial(_score_sacrebleu, name="chrf++"), True),
    "ter": Metric(partial(_score_sacrebleu, name="ter"), False),
    "wer": _error_rate("WER", "words"),
    "cer": _error_rate("CER", "characters"),
    "exact": _counted("exact", _count_exact, higher_is_better=True, settings=lambda: f"version:seq2seq-{__version__}"),
    **{kind: Metric(partial(_score_rouge, kind=kind), True, always_ignores_case=True) for kind in rouge.ROUGE_KINDS},
    **{name: _measure(name, direction) for name, direction in _MEASURE_DIRECTIONS.items()},
}

# Names that stand for several metrics.
METRIC_GROUPS: dict[str, tuple[str, ...]] = {"rouge": tuple(rouge.ROUGE_KINDS), "summary": summary.MEASURES}


def check_lines(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], sources: Sequence[str] | None = None
) -> None:
    """Raise ValueError if there is nothing to score or the numbers of lines differ."""
    if isinstance(references, str) or any(isinstance(stream, str) for stream in references):
        raise ValueError("references must be a list of streams of lines, but is one stream; put it into a list")
    if not hypotheses:
        raise ValueError("there is nothing to score: the hypotheses have 0 lines")
    if not references:
        raise ValueError("there is nothing to score against: 0 streams of references were given")
    for number, stream in enumerate(references, 1):
        if len(stream) != len(hypotheses):
            raise ValueError(
                f"there are {len(hypotheses)} hypotheses but {len(stream)} lines in reference {number}; "
                "they must match line by line"
            )
    if sources is not None and len(sources) != len(hypotheses):
        raise ValueError(
            f"there are {len(hypotheses)} hypotheses but {len(sources)} sources; they must match line by line"
        )


def check_names(metrics: Sequence[str], tokenize: str | None = None, lowercase: bool = False) -> None:
    """Raise ValueError for an unknown name or an option that affects no metric; callers check before they translate."""
    known = ", ".join([*METRICS, *METRIC_GROUPS])
    if not metrics:
        raise ValueError(f"metrics must name at least one of {known}, but is empty")
    for name in metrics:
        if name not in METRICS and name not in METRIC_GROUPS:
            raise ValueError(f"metric must be one of {known}, but is {name}")
    if lowercase and all(METRICS[name].always_ignores_case for name in expand_groups(metrics)):
        others = ", ".join(name for name, metric in METRICS.items() if not metric.always_ignores_case)
        raise ValueError(
            f"lowercase has no effect on {' and '.join(metrics)}, because case is always ignored there; "
            f"remove lowercase, or add one of {others}"
        )
    if tokenize is None:
        return
    if tokenize not in BLEU_TOKENIZERS:
        raise ValueError(f"tokenize must be one of {', '.join(BLEU_TOKENIZERS)}, but is {tokenize}")
    if "bleu" not in metrics:
        raise ValueError(
            f"tokenize={tokenize} has no effect on {' and '.join(metrics)}, only on bleu; "
            "remove tokenize, or add the metric bleu"
        )


def warn_if_tokenized(hypotheses: Sequence[str]) -> None:
    """Log a warning if the hypotheses look tokenised."""
    tokenized = sum(line.endswith(" .") for line in hypotheses)
    if tokenized >= _TOKENIZED_LINES:
        log.warning(
            '%d of %d hypotheses end in " ."; BLEU scores are comparable only on detokenised text',
            tokenized,
            len(hypotheses),
        )


def _text(scores: Sequence[Score]) -> str:
    is_whole_summary = set(summary.MEASURES) <= {item.name for item in scores}
    hidden = _ONLY_IN_JSON if is_whole_summary else ()
    shown = [item for item in scores if item.name not in hidden]
    return "\n".join(f"{item.name} = {_number(item.score)}{_details(item.details)}  {item.signature}" for item in shown)


# Of the whole summary, text shows only the customary repeated-3.
_ONLY_IN_JSON = ("repeated-1", "repeated-2", "repeated-4")


def _number(score: float) -> str:
    return "none" if math.isnan(score) else f"{score:.2f}"


def _details(details: dict[str, Any]) -> str:
    parts = ""
    if "low" in details:
        parts += f" [{details['low']:.2f}, {details['high']:.2f}]"
    if "precisions" in details:
        precisions = "/".join(f"{value:.1f}" for value in details["precisions"])
        parts += (
            f" ({precisions} BP = {details['bp']:.3f} ratio = {details['ratio']:.3f} "
            f"hyp_len = {details['sys_len']} ref_len = {details['ref_len']})"
        )
    if "of" in details:
        parts += f" ({details['part']:.12g} of {details['of']:.12g})"  # the denominator of length-ratio may be a mean
    return parts


def _json(scores: Sequence[Score]) -> str:
    found = [item._asdict() | ({"score": None} if math.isnan(item.score) else {}) for item in scores]
    return json.dumps(found, ensure_ascii=False, indent=2)


SCORE_FORMATS: dict[str, Callable[[Sequence[Score]], str]] = {"text": _text, "json": _json}
