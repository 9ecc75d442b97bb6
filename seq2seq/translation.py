"""The translation of a line: its score, its pieces and their origin in the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from seq2seq.data.line_terms import TermResult
from seq2seq.text.words import join_texts

UNCOVERED = 0.2  # a source piece with less attention, summed over all target pieces, is reported as uncovered


@dataclass
class CopiedFrom:
    """The source piece that a target piece was copied from."""

    source_piece: int  # its number, from 0
    start: int  # index of its first character in the line, from 0
    end: int  # index after its last character


@dataclass
class Translation:
    """One translation of a line. Log-probabilities are natural logarithms; lists have one entry per target piece.

    ``token_log_probs`` has one more entry than ``pieces``, for the end of the sentence (of each part if the line was
    split). ``alignment`` gives for each piece the number, from 0, of the source piece with the largest attention weight;
    it is empty if the model has no attention, like ``coverage`` and ``uncovered``. ``p_gen``, ``copied_from`` and
    ``copied_share`` are empty if the model does not copy.

    A source piece without attention need not be missing in the translation: it is often a word that the target language
    does not have. In 60 German translations of Multi30k, 6 % of the source pieces are uncovered, most of them articles,
    auxiliary verbs and "of".

    ``status``: ok; empty (blank line, not translated); source_cut or source_split (the source was longer than the model's
    limit, so the rest was dropped, or the parts were translated one by one); max_length (the maximum length ended the
    translation).
    """

    translation: str
    score: float = 0.0
    log_prob: float = 0.0
    token_log_probs: list[float] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    source_pieces: list[str] = field(default_factory=list)
    alignment: list[int] = field(default_factory=list)
    status: str = "ok"
    p_gen: list[float] = field(default_factory=list)  # probability of generating instead of copying
    copied_from: list[CopiedFrom | None] = field(default_factory=list)  # None: mostly generated
    copied_share: float | None = None  # share of copied pieces, 0 to 1
    forced_pieces: int = 0  # number of the first pieces that a target prefix forced
    utility: float | None = None  # with search.mbr: the mean chrF or BLEU against the other hypotheses
    coverage: list[float] = field(default_factory=list)  # attention to each source piece, summed over the target
    uncovered: list[list[int]] = field(default_factory=list)  # start and end in the line of pieces below ``UNCOVERED``
    limits: list[str] = field(default_factory=list)  # limits that were hit: max_source_length, max_length
    terms: list[TermResult] = field(default_factory=list)  # in the order of the source

    def as_dict(self) -> dict[str, Any]:
        """Convert to plain values, for JSON."""
        return asdict(self)


def join_parts(parts: Sequence[Translation], length_penalty: float) -> Translation:
    """Join the translations of a line's parts."""
    if len(parts) == 1:
        return parts[0]

    def normalized(log_prob: float, length: int) -> float:
        return log_prob / length**length_penalty

    lengths = [len(part.token_log_probs) for part in parts]
    log_prob = sum(part.log_prob for part in parts)
    penalties = sum(normalized(part.log_prob, n) - part.score for part, n in zip(parts, lengths, strict=True))
    merged = Translation(
        join_texts([part.translation for part in parts]),
        score=normalized(log_prob, sum(lengths)) - penalties,
        log_prob=log_prob,
        status="max_length" if any(part.status == "max_length" for part in parts) else parts[0].status,
        forced_pieces=parts[0].forced_pieces,
    )
    if parts[0].utility is not None:
        merged.utility = sum(part.utility or 0.0 for part in parts) / len(parts)
    for part in parts:
        offset = len(merged.source_pieces)
        merged.alignment += [offset + place for place in part.alignment]
        merged.copied_from += [
            place and CopiedFrom(offset + place.source_piece, place.start, place.end) for place in part.copied_from
        ]
        merged.limits += [name for name in part.limits if name not in merged.limits]
        for name in ("token_log_probs", "pieces", "source_pieces", "p_gen", "coverage", "uncovered", "terms"):
            getattr(merged, name).extend(getattr(part, name))
    if parts[0].copied_share is not None:
        merged.copied_share = sum(place is not None for place in merged.copied_from) / max(len(merged.pieces), 1)
    return merged


def uncovered_spans(coverage: Sequence[float], spans: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return start and end of every run of neighbouring uncovered pieces in the line."""
    found: list[list[int]] = []
    joins = False  # whether the piece before is uncovered
    for attention, (start, end) in zip(coverage, spans, strict=True):
        is_uncovered = attention < UNCOVERED and end > start  # a tag that was added has no characters
        if is_uncovered and joins:
            found[-1][1] = end
        elif is_uncovered:
            found.append([start, end])
        joins = is_uncovered
    return found


def explain_order(found: Sequence[Translation], length_penalty: float) -> list[dict[str, Any]]:
    """Explain the order of the translations of a line, best first.

    Args:
        length_penalty: a in score = log P / |Y|^a - penalty; |Y| counts the end of the sentence.

    Returns:
        For each translation: log_prob, length |Y|, normalised (log P / |Y|^a), penalty, score, and margin, the score of the
        first translation minus its score.
    """
    explained = []
    for each in found:
        length = len(each.token_log_probs)
        normalised = each.log_prob / max(length, 1) ** length_penalty
        explained.append(
            {
                "translation": each.translation,
                "log_prob": each.log_prob,
                "length": length,
                "normalised": normalised,
                "penalty": normalised - each.score,
                "score": each.score,
                "margin": found[0].score - each.score,
            }
        )
    return explained
