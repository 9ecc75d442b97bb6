"""Corpus scores with signatures, on raw text.

BLEU (Papineni et al. 2002), chrF (Popović 2015) and TER (Snover et al. 2006) are computed by sacreBLEU; ``rouge`` and
``summary`` hold the other metrics. Post 2018 explains why a score must be reported with its signature.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from seq2seq import __version__
from seq2seq.metrics import rouge, summary
from seq2seq.text import words

log = logging.getLogger(__name__)

BLEU_TOKENIZERS = tuple(BLEU.TOKENIZERS)  # of sacreBLEU; they apply to BLEU only

_TOKENIZED_LINES = 100  # text with so many lines ending in " ." looks tokenised (the limit of sacreBLEU)

# Requirements of the tokenizers that are not part of sacreBLEU.
_NEEDS = {
    "ja-mecab": 'the package sacrebleu[ja]; install it with pip install "sacrebleu[ja]"',
    "ko-mecab": 'the package sacrebleu[ko]; install it with pip install "sacrebleu[ko]"',
}
_NEEDS_MODEL = (
    "a SentencePiece model that sacrebleu downloads at its first use; use it once on a machine with a network"
)


class Score(NamedTuple):
    """One corpus score."""

    name: str  # as printed: BLEU, chrF2, TER, ROUGE-1, copied
    score: float  # 0 to 100; TER may exceed 100, and lower is better; length-ratio is a ratio
    signature: str  # everything that must be equal for two scores to be comparable
    # BLEU: precisions, bp, ratio, sys_len, ref_len, counts, totals; TER: num_edits, ref_length; ROUGE: low and high (95 %
    # interval), precision, recall; exact and summary: part, of
    details: dict[str, Any]


class MetricInput(NamedTuple):
    """The input of a metric."""

    hypotheses: Sequence[str]
    references: Sequence[Sequence[str]]
    sources: Sequence[str] | None
    tokenize: str | None
    lowercase: bool


def score(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    metrics: Sequence[str] = ("bleu",),
    tokenize: str | None = None,
    lowercase: bool = False,
    sources: Sequence[str] | None = None,
) -> list[Score]:
    """Score detokenised hypotheses against one or several references.

    Args:
        hypotheses: the lines to score.
        references: one list of lines for each reference, each as long as ``hypotheses``.
        metrics: keys of ``METRICS``.
        tokenize: one of ``BLEU_TOKENIZERS``; applies to BLEU only. Default: see ``find_tokenizer``.
        lowercase: ignore case in every metric; rouge and summary always do. (The command line of sacreBLEU ignores case
            in TER by default.)
        sources: the source lines of the hypotheses; required for the metric summary and used by no other.

    Returns:
        The scores of each metric in the given order: four for rouge, several for summary, one for any other.

    Raises:
        ValueError: the numbers of lines differ, there is nothing to score, a name is unknown, or a tokenizer cannot run
            because something is not installed.
    """
    check_lines(hypotheses, references, sources)
    check_names(metrics, tokenize, lowercase)
    if "summary" in metrics and sources is None:
        raise ValueError(
            "the metric summary needs the source lines, but sources is missing; give the sources or leave summary out"
        )
    if "bleu" in metrics and tokenize != "none":
        warn_if_tokenized(hypotheses)
    text = MetricInput(hypotheses, references, sources, tokenize or find_tokenizer(references), lowercase)
    return [found for name in metrics for found in METRICS[name](text)]


def find_tokenizer(references: Sequence[Sequence[str]]) -> str:
    """Return the BLEU tokenizer for the script of the references.

    It is zh for Chinese, char for other scripts written without spaces, and otherwise 13a. 13a would treat a whole clause
    of Chinese or Thai as one word, so one wrong character would make the clause wrong.
    """
    return _TOKENIZER_OF[words.script(line for stream in references for line in stream)]


_TOKENIZER_OF = {"spaced": "13a", "han": "zh", "unspaced": "char"}


def report_scores(scores: Sequence[Score], format: str = "text") -> str:
    """Format scores as lines of text (two decimals) or as a JSON list (full precision)."""
    if format not in SCORE_FORMATS:
        raise ValueError(f"the format of a report must be one of {', '.join(SCORE_FORMATS)}, but is {format}")
    return SCORE_FORMATS[format](scores)


# The metrics of sacreBLEU: each function makes the metric object and names the details of its result to keep.


def _bleu(lowercase: bool, tokenize: str | None) -> tuple[Metric, tuple[str, ...]]:
    try:
        # force: turns off the warning of sacreBLEU; warn_if_tokenized gives it in one line
        measure = BLEU(lowercase=lowercase, tokenize=tokenize, force=True)
    except (ImportError, RuntimeError, OSError, SystemExit) as error:
        needed = _NEEDS.get(str(tokenize), _NEEDS_MODEL)
        raise ValueError(f"the tokenizer {tokenize} needs {needed}, or choose another with tokenize") from error
    return measure, ("precisions", "bp", "ratio", "sys_len", "ref_len", "counts", "totals")


def _chrf(lowercase: bool, tokenize: str | None) -> tuple[Metric, tuple[str, ...]]:
    return CHRF(lowercase=lowercase), ()


def _ter(lowercase: bool, tokenize: str | None) -> tuple[Metric, tuple[str, ...]]:
    return TER(case_sensitive=not lowercase), ("num_edits", "ref_length")


SACREBLEU: dict[str, Callable[[bool, str | None], tuple[Metric, tuple[str, ...]]]] = {
    "bleu": _bleu,
    "chrf": _chrf,
    "ter": _ter,
}


def _score_sacrebleu(name: str, text: MetricInput) -> list[Score]:
    measure, details = SACREBLEU[name](text.lowercase, text.tokenize)
    result = measure.corpus_score(text.hypotheses, text.references)
    found = {field: getattr(result, field) for field in details}
    return [Score(result.name, float(result.score), str(measure.get_signature()), found)]


def _score_rouge(text: MetricInput) -> list[Score]:
    signature = rouge.signature(len(text.references))
    found = rouge.score_rouge(text.hypotheses, text.references)
    fields = ("low", "high", "precision", "recall")
    return [
        Score(item.name, item.score, signature, {field: getattr(item, field) for field in fields}) for item in found
    ]


def _score_summary(text: MetricInput) -> list[Score]:
    assert text.sources is not None
    signature = f"nrefs:{len(text.references)}|case:lc|tok:words|version:seq2seq-{__version__}"
    found = summary.measure(text.hypotheses, text.sources, text.references)
    return [Score(item.name, item.value, signature, {"part": item.part, "of": item.of}) for item in found]


def _score_exact(text: MetricInput) -> list[Score]:
    """Compute the share of lines that equal one of their references, except for white space."""

    def normalize(line: str) -> str:
        return " ".join((line.lower() if text.lowercase else line).split())

    same = [
        normalize(line) in map(normalize, others)
        for line, *others in zip(text.hypotheses, *text.references, strict=True)
    ]
    signature = f"nrefs:{len(text.references)}|case:{'lc' if text.lowercase else 'mixed'}|version:seq2seq-{__version__}"
    return [Score("exact", 100 * sum(same) / len(same), signature, {"part": sum(same), "of": len(same)})]


METRICS: dict[str, Callable[[MetricInput], list[Score]]] = {
    **{name: partial(_score_sacrebleu, name) for name in SACREBLEU},
    "exact": _score_exact,
    "rouge": _score_rouge,
    "summary": _score_summary,
}


_CASELESS = ("rouge", "summary")


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
    if not metrics:
        raise ValueError(f"metrics must name at least one of {', '.join(METRICS)}, but is empty")
    for name in metrics:
        if name not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)}, but is {name}")
    if lowercase and all(name in _CASELESS for name in metrics):
        raise ValueError(
            f"lowercase cannot act on {' and '.join(metrics)}, which always ignore case; "
            f"leave it out or add one of {', '.join(name for name in METRICS if name not in _CASELESS)}"
        )
    if tokenize is None:
        return
    if tokenize not in BLEU_TOKENIZERS:
        raise ValueError(f"tokenize must be one of {', '.join(BLEU_TOKENIZERS)}, but is {tokenize}")
    if "bleu" not in metrics:
        raise ValueError(
            f"tokenize={tokenize} cannot act on {' and '.join(metrics)}, only on bleu; leave it out or add metric bleu"
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
    shown = [item for item in scores if item.name not in _ONLY_IN_JSON]
    return "\n".join(f"{item.name} = {_number(item.score)}{_details(item.details)}  {item.signature}" for item in shown)


_ONLY_IN_JSON = ("repeated-1", "repeated-2", "repeated-4")  # repeated-3 is the customary one in text


def _number(score: float) -> str:
    return "none" if math.isnan(score) else f"{score:.2f}"


def _details(details: dict[str, Any]) -> str:
    if "precisions" in details:
        precisions = "/".join(f"{value:.1f}" for value in details["precisions"])
        return (
            f" ({precisions} BP = {details['bp']:.3f} ratio = {details['ratio']:.3f} "
            f"hyp_len = {details['sys_len']} ref_len = {details['ref_len']})"
        )
    if "low" in details:
        return f" [{details['low']:.2f}, {details['high']:.2f}]"
    if "of" in details:
        return f" ({details['part']:g} of {details['of']:g})"
    return ""


def _json(scores: Sequence[Score]) -> str:
    found = [item._asdict() | ({"score": None} if math.isnan(item.score) else {}) for item in scores]
    return json.dumps(found, ensure_ascii=False, indent=2)


SCORE_FORMATS: dict[str, Callable[[Sequence[Score]], str]] = {"text": _text, "json": _json}
