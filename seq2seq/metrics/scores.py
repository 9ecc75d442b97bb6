"""Corpus scores with signatures, on raw text: BLEU, chrF and TER by sacreBLEU; ROUGE and what else describes summaries.

Papineni et al. 2002 (BLEU), Popović 2015 (chrF), Snover et al. 2006 (TER); Post 2018 on why the signature belongs to
the number. ``rouge`` and ``summary`` hold the others. Knows lines of text only: no model, no files.
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

    name: str  # as it is printed: BLEU, chrF2, TER, ROUGE-1, copied
    score: float  # 0 to 100; TER may pass 100, and there lower is better; length-ratio is a quotient
    signature: str  # everything that has to be known to compare the number with another
    details: dict[
        str, Any
    ]  # BLEU: precisions, bp, ratio, sys_len, ref_len, counts, totals; TER: num_edits, ref_length;
    # ROUGE: low and high (95 % interval), precision, recall; of a summary: part, of


class Text(NamedTuple):
    """What a metric sees."""

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
    """Score detokenised hypotheses against one or several streams of references.

    Args:
        hypotheses: one line a sentence.
        references: the streams, each as long as ``hypotheses``.
        metrics: names out of ``METRICS``.
        tokenize: one of ``TOKENIZERS``; acts on BLEU only. Default: see ``find_tokenizer``.
        lowercase: ignore case, in every metric; rouge and summary always do. (sacreBLEU's command ignores case in TER
            unless told otherwise.)
        sources: what the hypotheses were made from; only ``summary`` reads them, and needs them.

    Returns:
        The scores of each metric, in the order asked: four for rouge, several for summary, else one each.

    Raises:
        ValueError: lengths differ, nothing to score, an unknown name, or a tokenizer that cannot run here.
    """
    check_lines(hypotheses, references, sources)
    check_names(metrics, tokenize, lowercase)
    if "summary" in metrics and sources is None:
        raise ValueError("the metric summary needs the source lines, but sources is missing; give them or leave it out")
    if "bleu" in metrics and tokenize != "none":
        warn_if_tokenized(hypotheses)
    text = Text(hypotheses, references, sources, tokenize or find_tokenizer(references), lowercase)
    return [found for name in metrics for found in METRICS[name](text)]


def find_tokenizer(references: Sequence[Sequence[str]]) -> str:
    """sacreBLEU's tokenizer for a text of this script: 13a; zh for Chinese; char for others without spaces.

    13a takes a clause of Chinese or Thai for one word, so that one wrong character spoils all of it.
    """
    return _TOKENIZER_OF[words.script(line for stream in references for line in stream)]


_TOKENIZER_OF = {"spaced": "13a", "han": "zh", "unspaced": "char"}


def report(scores: Sequence[Score], format: str = "text") -> str:
    """Write scores as lines for people (two decimals) or as a JSON list with full precision."""
    if format not in FORMATS:
        raise ValueError(f"the format of a report must be one of {', '.join(FORMATS)}, but is {format}")
    return FORMATS[format](scores)


# sacreBLEU's metrics: from (lowercase, tokenize) to its object and the details worth keeping of its result.


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


SACREBLEU: dict[str, Callable[[bool, str | None], tuple[Metric, tuple[str, ...]]]] = {
    "bleu": _bleu,
    "chrf": _chrf,
    "ter": _ter,
}


def _score_sacrebleu(name: str, text: Text) -> list[Score]:
    measure, details = SACREBLEU[name](text.lowercase, text.tokenize)
    result = measure.corpus_score(text.hypotheses, text.references)
    found = {field: getattr(result, field) for field in details}
    return [Score(result.name, float(result.score), str(measure.get_signature()), found)]


def _score_rouge(text: Text) -> list[Score]:
    signature = rouge.signature(len(text.references))
    found = rouge.score_rouge(text.hypotheses, text.references)
    fields = ("low", "high", "precision", "recall")
    return [
        Score(item.name, item.score, signature, {field: getattr(item, field) for field in fields}) for item in found
    ]


def _score_summary(text: Text) -> list[Score]:
    assert text.sources is not None
    signature = f"nrefs:{len(text.references)}|case:lc|tok:words|version:seq2seq-{__version__}"
    found = summary.measure(text.hypotheses, text.sources, text.references)
    return [Score(item.name, item.value, signature, {"part": item.part, "of": item.of}) for item in found]


def _score_exact(text: Text) -> list[Score]:
    """The share of lines that equal one of their references, white space aside."""

    def plain(line: str) -> str:
        return " ".join((line.lower() if text.lowercase else line).split())

    same = [plain(line) in map(plain, others) for line, *others in zip(text.hypotheses, *text.references, strict=True)]
    signature = f"nrefs:{len(text.references)}|case:{'lc' if text.lowercase else 'mixed'}|version:seq2seq-{__version__}"
    return [Score("exact", 100 * sum(same) / len(same), signature, {"part": sum(same), "of": len(same)})]


METRICS: dict[str, Callable[[Text], list[Score]]] = {
    **{name: partial(_score_sacrebleu, name) for name in SACREBLEU},
    "exact": _score_exact,
    "rouge": _score_rouge,
    "summary": _score_summary,
}


_CASELESS = ("rouge", "summary")


def check_lines(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], sources: Sequence[str] | None = None
) -> None:
    """Raise ValueError where there is nothing to score or lines do not match."""
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
    """Raise ValueError for unknown names and for an option that no metric takes, before anything is translated."""
    if not metrics:
        raise ValueError(f"no metric was asked for; choose from {', '.join(METRICS)}")
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
    if tokenize not in TOKENIZERS:
        raise ValueError(f"tokenize must be one of {', '.join(TOKENIZERS)}, but is {tokenize}")
    if "bleu" not in metrics:
        raise ValueError(
            f"tokenize={tokenize} cannot act on {' and '.join(metrics)}, only on bleu; leave it out or add metric bleu"
        )


def warn_if_tokenized(hypotheses: Sequence[str]) -> None:
    """Say so in the log if hypotheses look tokenised."""
    tokenized = sum(line.endswith(" .") for line in hypotheses)
    if tokenized >= _TOKENIZED_LINES:
        log.warning(
            '%d of %d hypotheses end in " ."; BLEU compares only on detokenised text',
            tokenized,
            len(hypotheses),
        )


def _text(scores: Sequence[Score]) -> str:
    shown = [item for item in scores if item.name not in _ONLY_IN_JSON]
    return "\n".join(f"{item.name} = {_number(item.score)}{_details(item.details)}  {item.signature}" for item in shown)


_ONLY_IN_JSON = ("repeated-1", "repeated-2", "repeated-4")  # people look at repeated trigrams


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


FORMATS: dict[str, Callable[[Sequence[Score]], str]] = {"text": _text, "json": _json}
