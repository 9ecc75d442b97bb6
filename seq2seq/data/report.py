"""The report on the training data: what was kept, how long it is, how it meets the other splits. Holds no rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seq2seq.config import DataConfig
from seq2seq.data.corpus import Pair, given, read_pairs


@dataclass
class Lengths:
    """Lengths in pieces of one side of the kept pairs."""

    mean: float = 0.0
    median: int = 0
    p95: int = 0  # 95 in 100 are at most so long
    max: int = 0

    @classmethod
    def of(cls, lengths: np.ndarray) -> Lengths:
        """Sum up an array of lengths."""
        median, p95 = np.percentile(lengths, [50, 95], method="inverted_cdf")
        return cls(float(lengths.mean()), int(median), int(p95), int(lengths.max()))


@dataclass
class Report:
    """What was read for training, what became of it, and how it meets the other splits."""

    pairs_read: int = 0
    pairs_kept: int = 0
    empty: int = 0  # dropped: a side is blank
    too_long: str = "drop"  # data.too_long: what happened to the next two, which a pair may both be
    too_long_source: int = 0
    too_long_target: int = 0
    max_source_length: int = 0  # the limits they exceeded
    max_target_length: int = 0
    duplicates: int = 0  # identical pairs beyond the first; kept
    src_lengths: Lengths = field(default_factory=Lengths)
    tgt_lengths: Lengths = field(default_factory=Lengths)
    src_unknown: float = 0.0  # share of the kept pieces
    tgt_unknown: float = 0.0
    overlap: dict[str, int] = field(default_factory=dict)  # see ``Repeats.overlap``

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Report:
        """The report that ``as_dict`` gave."""
        lengths = {side: Lengths(**values[side]) for side in ("src_lengths", "tgt_lengths")}
        return cls(**{**values, **lengths})

    def lines(self) -> list[str]:
        """The report for people."""
        done = {"drop": "dropped", "cut": "cut"}[self.too_long]
        lines = [
            f"train: {self.pairs_read:,} pairs read, {self.pairs_kept:,} kept",
            f"  {self.empty:,} dropped for an empty side",
            f"  {self.too_long_source:,} {done} for a source above {self.max_source_length:,} pieces,"
            f" {self.too_long_target:,} for a target above {self.max_target_length:,}",
        ]
        dropped = max(self.too_long_source, self.too_long_target) if self.too_long == "drop" else 0
        if dropped > _MANY * self.pairs_read:
            lines.append(
                "  that is much: set data.too_long=cut, or raise data.max_source_length, data.max_target_length"
            )
        lines.append(f"  {self.duplicates:,} repeat an earlier pair")
        sides = (("source", self.src_lengths, self.src_unknown), ("target", self.tgt_lengths, self.tgt_unknown))
        for side, lengths, unknown in sides:
            lines.append(
                f"  {side} pieces: mean {lengths.mean:.1f}, median {lengths.median}, 95% up to {lengths.p95},"
                f" longest {lengths.max}, unknown {unknown:.2%}"
            )
        for split in ("valid", "test"):
            if f"{split}_pairs" in self.overlap:
                pairs, same, sources = (self.overlap[f"{split}_{what}"] for what in _OVERLAPS)
                lines.append(f"{split}: {pairs:,} pairs, {same:,} of them and {sources:,} sources occur in train")
        return lines


_MANY = 0.05  # of the pairs: more that are dropped for their length deserve a word
_OVERLAPS = ("pairs", "pairs_in_train", "sources_in_train")


class Repeats:
    """Counts repetitions inside train and across the splits by 64-bit hashes; memory grows with the lines."""

    def __init__(self, data: DataConfig) -> None:
        self._others: dict[str, list[tuple[int, int]]] = {}
        for split in ("valid", "test"):
            if given(getattr(data, split)):
                pairs = read_pairs(getattr(data, split), data, split)
                self._others[split] = [(hash(pair), hash(pair.src)) for pair in pairs]
        self._asked_sources = {source for hashes in self._others.values() for _, source in hashes}
        self._met_sources: set[int] = set()
        self._pairs: set[int] = set()
        self.duplicates = 0

    def add(self, pairs: Iterable[Pair]) -> None:
        """Take in pairs of train."""
        for pair in pairs:
            if not pair.src.strip() or not pair.tgt.strip():
                continue
            key = hash(pair)
            self.duplicates += key in self._pairs
            self._pairs.add(key)
            source = hash(pair.src)
            if source in self._asked_sources:
                self._met_sources.add(source)

    def overlap(self) -> dict[str, int]:
        """Count what of the valid and test splits occurs in train, as far as that was added.

        Returns:
            For every split given: ``valid_pairs`` (how many there are), ``valid_pairs_in_train`` and
            ``valid_sources_in_train``; the same for test. Pairs with a blank side count as not occurring.
        """
        counts: dict[str, int] = {}
        for split, hashes in self._others.items():
            same = sum(pair in self._pairs for pair, _ in hashes)
            sources = sum(source in self._met_sources for _, source in hashes)
            counts |= {f"{split}_{what}": n for what, n in zip(_OVERLAPS, (len(hashes), same, sources), strict=True)}
        return counts
