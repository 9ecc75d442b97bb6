"""Corpus scores with signatures: BLEU, chrF and TER, computed by sacreBLEU on raw text.

Papineni et al. 2002 (BLEU), Popović 2015 (chrF), Snover et al. 2006 (TER); Post 2018 on why the signature belongs to the
number. Knows lines of text only: no model, no files.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

log = logging.getLogger(__name__)

TOKENIZERS = tuple(BLEU.TOKENIZERS)  # sacreBLEU's, for BLEU alone

_TOKENIZED_LINES = 100  # so many lines ending in " ." look like tokenised text (sacreBLEU's own limit)

# What the tokenizers that are not part of sacreBLEU need.
_NEEDS = {
    "ja-mecab": 'the package sacrebleu[ja]; install it with pip install "sacrebleu[ja]"',
    "ko-mecab": 'the package sacrebleu[ko]; install it with pip install "sacrebleu[ko]"',
}
_NEEDS_MODEL = (
    "a SentencePiece model that sacrebleu downloads at its first use; use it once on a machine with a network"
)


class Score(NamedTuple):
    """One corpus score."""

    name: str  # as sacreBLEU prints it: BLEU, chrF2, TER
    score: float  # 0 to 100; TER may pass 100, and there lower is better
    signature: str  # everything that has to be known to compare the number with another
    details: dict[str, Any]  # BLEU: precisions, bp, ratio, sys_len, ref_len, counts, totals; TER: num_edits, ref_length


def score(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    metrics: Sequence[str] = ("bleu",),
    tokenize: str | None = None,
    lowercase: bool = False,
) -> list[Score]:
    """Score detokenised hypotheses against one or several streams of references.

    Args:
        hypotheses: one line a sentence.
        references: the streams, each as long as ``hypotheses``.
        metrics: names out of ``METRICS``.
        tokenize: one of ``TOKENIZERS``; acts on BLEU only. Default 13a.
        lowercase: ignore case, in every metric. (sacreBLEU's command ignores case in TER unless told otherwise.)

    Returns:
        One score a metric, in the order asked.

    Raises:
        ValueError: lengths differ, nothing to score, an unknown name, or a tokenizer that cannot run here.
    """
    _check_lines(hypotheses, references)
    check_names(metrics, tokenize)
    if "bleu" in metrics and tokenize != "none":
        _warn_if_tokenized(hypotheses)
    scores = []
    for name in metrics:
        measure, details = METRICS[name](lowercase, tokenize)
        result = measure.corpus_score(hypotheses, references)
        found = {field: getattr(result, field) for field in details}
        scores.append(Score(result.name, float(result.score), str(measure.get_signature()), found))
    return scores


def report(scores: Sequence[Score], format: str = "text") -> str:
    """Write scores as lines for people (two decimals) or as a JSON list with full precision."""
    if format not in FORMATS:
        raise ValueError(f"the format of a report must be one of {', '.join(FORMATS)}, but is {format}")
    return FORMATS[format](scores)


# Each metric by its name: from (lowercase, tokenize) to sacreBLEU's object and the details worth keeping of its result.


def _bleu(lowercase: bool, tokenize: str | None) -> tuple[Metric, tuple[str, ...]]:
    try:
        # force: whether text looks tokenised is said here, in one line
        measure = BLEU(lowercase=lowercase, tokenize=tokenize, force=True)
    except (ImportError, RuntimeError, OSError, SystemExit) as error:
        needed = _NEEDS.get(str(tokenize), _NEEDS_MODEL)
        raise ValueError(f"the tokenizer {tokenize} needs {needed}, or choose another with tokenize") from error
    return measure, ("precisions", "bp", "ratio", "sys_len", "ref_len", "counts", "totals")


def _chrf(lowercase: bool, tokenize: str | None) -> tuple[Metric, tuple[str, ...]]:
    return CHRF(lowercase=lowercase), ()


def _ter(lowercase: bool, tokenize: str | None) -> tuple[Metric, tuple[str, ...]]:
    return TER(case_sensitive=not lowercase), ("num_edits", "ref_length")


METRICS: dict[str, Callable[[bool, str | None], tuple[Metric, tuple[str, ...]]]] = {
    "bleu": _bleu,
    "chrf": _chrf,
    "ter": _ter,
}


def _check_lines(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
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


def check_names(metrics: Sequence[str], tokenize: str | None = None) -> None:
    """Raise ValueError for unknown names and for a tokenizer that no metric takes, before anything is translated."""
    if not metrics:
        raise ValueError(f"no metric was asked for; choose from {', '.join(METRICS)}")
    for name in metrics:
        if name not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)}, but is {name}")
    if tokenize is None:
        return
    if tokenize not in TOKENIZERS:
        raise ValueError(f"tokenize must be one of {', '.join(TOKENIZERS)}, but is {tokenize}")
    if "bleu" not in metrics:
        raise ValueError(
            f"tokenize={tokenize} cannot act on {' and '.join(metrics)}, only on bleu; leave it out or add metric bleu"
        )


def _warn_if_tokenized(hypotheses: Sequence[str]) -> None:
    tokenized = sum(line.endswith(" .") for line in hypotheses)
    if tokenized >= _TOKENIZED_LINES:
        log.warning(
            '%d of %d hypotheses end in " ."; BLEU compares only on detokenised text',
            tokenized,
            len(hypotheses),
        )


def _text(scores: Sequence[Score]) -> str:
    return "\n".join(f"{item.name} = {item.score:.2f}{_summary(item)}  {item.signature}" for item in scores)


def _summary(item: Score) -> str:
    if "precisions" not in item.details:
        return ""
    details = item.details
    precisions = "/".join(f"{value:.1f}" for value in details["precisions"])
    return (
        f" ({precisions} BP = {details['bp']:.3f} ratio = {details['ratio']:.3f} "
        f"hyp_len = {details['sys_len']} ref_len = {details['ref_len']})"
    )


def _json(scores: Sequence[Score]) -> str:
    return json.dumps([item._asdict() for item in scores], ensure_ascii=False, indent=2)


FORMATS: dict[str, Callable[[Sequence[Score]], str]] = {"text": _text, "json": _json}
