"""The report on the training data: pairs kept and dropped, lengths, and overlap with the other splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seq2seq.config import DataConfig
from seq2seq.data.corpus import Pair, has_split, read_pairs
from seq2seq.data.limits import STANDARD_LIMIT, LengthLimit


@dataclass
class Lengths:
    """Lengths, in pieces, of one side of the pairs that were kept."""

    mean: float = 0.0
    median: int = 0
    p95: int = 0  # the 95th percentile
    max: int = 0

    @classmethod
    def of(cls, lengths: np.ndarray) -> Lengths:
        """Summarize an array of lengths."""
        median, p95 = np.percentile(lengths, [50, 95], method="inverted_cdf")
        return cls(float(lengths.mean()), int(median), int(p95), int(lengths.max()))


@dataclass
class Report:
    """Counts of the training pairs that were read, kept and dropped, and of their overlap with the other splits."""

    pairs_read: int = 0
    pairs_kept: int = 0
    empty: int = 0  # dropped because a side is blank
    too_long: str = "drop"  # data.too_long: whether pairs that are too long were dropped or cut
    too_long_source: int = 0  # a pair may be counted here and in the next
    too_long_target: int = 0
    max_source_length: int = 0  # the limits
    max_target_length: int = 0
    duplicates: int = 0  # repetitions of an earlier pair; they are kept
    src_lengths: Lengths = field(default_factory=Lengths)
    tgt_lengths: Lengths = field(default_factory=Lengths)
    src_unknown: float = 0.0  # share of unknown pieces, 0 to 1
    tgt_unknown: float = 0.0
    valid_share: float = (
        0.0  # data.valid_share: the share of pairs that were held out for validation, not read as train
    )
    overlap: dict[str, int] = field(default_factory=dict)  # see ``Repeats.overlap``
    length_limit: LengthLimit = STANDARD_LIMIT  # the limit learned from the kept pairs, see ``learn_limit``
    uncovered: float = 0.0  # share of the kept pairs whose target is longer than this limit, 0 to 1

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Report:
        """Restore a report from the result of ``as_dict``."""
        lengths = {side: Lengths(**values[side]) for side in ("src_lengths", "tgt_lengths")}
        limit = LengthLimit.from_dict(values["length_limit"])
        return cls(**{**values, **lengths, "length_limit": limit})

    def lines(self) -> list[str]:
        """Format the report as lines of text."""
        action = {"drop": "dropped", "cut": "cut"}[self.too_long]
        lines = [
            f"train: {self.pairs_read:,} pairs read, {self.pairs_kept:,} kept",
            f"  {self.empty:,} dropped for an empty side",
            f"  {self.too_long_source:,} {action} for a source above {self.max_source_length:,} pieces,"
            f" {self.too_long_target:,} for a target above {self.max_target_length:,}",
        ]
        dropped = max(self.too_long_source, self.too_long_target) if self.too_long == "drop" else 0
        if dropped > _MANY_DROPPED * self.pairs_read:
            lines.append(
                "  these are many pairs: set data.too_long=cut, or raise data.max_source_length and data.max_target_length"
            )
        lines.append(f"  {self.duplicates:,} repeat an earlier pair (kept)")
        sides = (("source", self.src_lengths, self.src_unknown), ("target", self.tgt_lengths, self.tgt_unknown))
        for side, lengths, unknown in sides:
            lines.append(
                f"  {side} length in pieces: mean {lengths.mean:.1f}, median {lengths.median},"
                f" 95th percentile {lengths.p95}, maximum {lengths.max}; {unknown:.2%} of the pieces are unknown"
            )
        limit = self.length_limit
        lines.append(
            f"  learned length limit: a translation has at most {limit.ratio:g} * source + {limit.extra} pieces"
            + (f", and at most {limit.maximum}" if limit.maximum is not None else "")
            + f"; {self.uncovered:.2%} of the kept pairs have a longer target"
        )
        for split in ("valid", "test"):
            if f"{split}_pairs" in self.overlap:
                pairs, same, sources = (self.overlap[f"{split}_{count}"] for count in _OVERLAPS)
                taken = split == "valid" and self.valid_share
                origin = f", held out from data.train by data.valid_share={self.valid_share:g}" if taken else ""
                lines.append(
                    f"{split}: {pairs:,} pairs{origin}; {same:,} of these pairs and {sources:,} of their sources also occur in train"
                )
        return lines


_MANY_DROPPED = 0.05  # the share of pairs dropped for their length above which the report gives advice
_OVERLAPS = ("pairs", "pairs_in_train", "sources_in_train")


class Repeats:
    """Count pairs that are repeated inside train, and pairs of valid and test that occur in train.

    Pairs are compared by 64-bit hashes, so memory grows with the number of lines only.
    """

    def __init__(self, data: DataConfig) -> None:
        self._held_out: dict[str, list[tuple[int, int]]] = {}
        for split in ("valid", "test"):
            if has_split(data, split):
                pairs = read_pairs(getattr(data, split), data, split)
                self._held_out[split] = [(hash(pair), hash(pair.src)) for pair in pairs]
        self._held_out_sources = {source for hashes in self._held_out.values() for _, source in hashes}
        self._found_sources: set[int] = set()
        self._pairs: set[int] = set()
        self.duplicates = 0

    def add(self, pairs: Iterable[Pair]) -> None:
        """Add pairs of train."""
        for pair in pairs:
            if not pair.src.strip() or not pair.tgt.strip():
                continue
            key = hash(pair)
            self.duplicates += key in self._pairs
            self._pairs.add(key)
            source = hash(pair.src)
            if source in self._held_out_sources:
                self._found_sources.add(source)

    def overlap(self) -> dict[str, int]:
        """Count the pairs and sources of valid and test that occur in the pairs added so far.

        Returns:
            For valid, if it is given: ``valid_pairs`` (all pairs of the split), ``valid_pairs_in_train`` and
            ``valid_sources_in_train``; the same for test. A pair with a blank side counts as not occurring in train.
        """
        counts: dict[str, int] = {}
        for split, hashes in self._held_out.items():
            same = sum(pair in self._pairs for pair, _ in hashes)
            sources = sum(source in self._found_sources for _, source in hashes)
            counts |= {f"{split}_{count}": n for count, n in zip(_OVERLAPS, (len(hashes), same, sources), strict=True)}
        return counts
