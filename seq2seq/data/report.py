"""The report on the training data: pairs kept and dropped, lengths, and overlap with the other splits."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seq2seq.config import DataConfig
from seq2seq.data.corpus import has_split, read_pairs
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
    duplicates_sample: int = 1  # 1: ``duplicates`` is exact; n: it is estimated from one pair in n, see ``Repeats``
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
        number = f"{self.duplicates:,}"
        if self.duplicates_sample > 1:
            number = f"about {number} (estimated from one pair in {self.duplicates_sample})"
        lines.append(f"  {number} repeat an earlier pair (kept)")
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


@dataclass
class Counts:
    """Counts of a part of the training pairs."""

    read: int = 0
    empty: int = 0
    too_long_source: int = 0
    too_long_target: int = 0
    src_unknown: int = 0  # unknown pieces of the kept pairs
    tgt_unknown: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))


EXACT = 2**26  # pairs that are compared at most; their hashes take 0.5 GiB


class Repeats:
    """Count pairs that are repeated inside train, and pairs of valid and test that occur in train.

    Pairs are compared by 64-bit hashes. Of more than ``most`` pairs of train, only those with a hash that is divisible by
    2, 4, 8, ... are compared with each other, as few as necessary. Equal pairs have equal hashes, so the number of repetitions
    among them times this divisor is an estimate without bias.

    Args:
        pairs: number of the pairs of train.
    """

    def __init__(self, data: DataConfig, pairs: int, *, most: int = EXACT) -> None:
        self.divisor = 1  # the count of duplicates is exact if this is 1
        while pairs > most * self.divisor:
            self.divisor *= 2
        self._held_out: dict[str, np.ndarray] = {}
        for split in ("valid", "test"):
            if has_split(data, split):
                texts = read_pairs(getattr(data, split), data, split)
                self._held_out[split] = np.array([_hashes(*pair) for pair in texts], dtype=np.uint64).reshape(-1, 2)
        none = np.empty(0, dtype=np.uint64)
        self._wanted = np.unique(np.concatenate([none, *map(np.ravel, self._held_out.values())]))
        self._compared, self._found = [none], [none]

    def add(self, sources: Iterable[str], targets: Iterable[str]) -> None:
        """Add pairs of train; those with a blank side are not counted."""
        texts = zip(sources, targets, strict=True)
        found = np.array([_hashes(*pair) for pair in texts if all(map(str.strip, pair))], dtype=np.uint64).reshape(
            -1, 2
        )
        self._compared.append(found[found[:, 0] % np.uint64(self.divisor) == 0, 0])
        self._found.append(np.intersect1d(found, self._wanted))

    def merge(self, other: Repeats) -> None:
        """Add the pairs that were added to ``other``."""
        self._compared += other._compared
        self._found += other._found

    def duplicates(self) -> int:
        """Return the number of repetitions of an earlier pair, or its estimate."""
        compared = np.concatenate(self._compared)
        return self.divisor * (len(compared) - len(np.unique(compared)))

    def overlap(self) -> dict[str, int]:
        """Count the pairs and sources of valid and test that occur in the pairs added so far.

        Returns:
            For valid, if it is given: ``valid_pairs`` (all pairs of the split), ``valid_pairs_in_train`` and
            ``valid_sources_in_train``; the same for test. A pair with a blank side counts as not occurring in train.
        """
        found = np.unique(np.concatenate(self._found))
        counts: dict[str, int] = {}
        for split, hashes in self._held_out.items():
            same, sources = np.isin(hashes, found).sum(axis=0).tolist()
            counts |= {f"{split}_{count}": n for count, n in zip(_OVERLAPS, (len(hashes), same, sources), strict=True)}
        return counts


def _hashes(src: str, tgt: str) -> tuple[int, int]:
    """Hash a pair and its source. The length of the source separates it from the target."""
    return _hash(f"{len(src)} {src}{tgt}"), _hash(src)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "big")
