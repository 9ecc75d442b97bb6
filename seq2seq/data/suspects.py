"""Find training pairs that are probably mistakes: equal sides, an unusual ratio of lengths, an unexpected script."""

from __future__ import annotations

import functools
import math
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from seq2seq.data.sources import Pair

SHOWN = 3  # pairs of each kind that are shown
_SHORT = 10  # characters; the ratio of shorter texts says nothing
_LEAST_FACTOR = 3.0  # a ratio within this factor of the median is never unusual
_DEVIATIONS = 6.0  # standard deviations, estimated from the median deviation, that make a ratio unusual
_RARE = 0.02  # a script that fewer of the texts of a side have is unexpected


@dataclass
class Suspects:
    """The suspicious pairs of one kind."""

    kind: str
    count: int
    shown: list[tuple[int, str, str]]  # of the first ones: number of the pair, from 1, source and target


def find_suspects(read: Callable[[], Iterable[Pair]]) -> list[Suspects]:
    """Find suspicious pairs in two passes over the pairs: statistics, then the texts of the first ones.

    Memory holds 12 bytes for each pair.

    Args:
        read: returns the pairs, without tags, from the start.
    """
    equal: list[int] = []
    ratios = array("d")
    numbers = {"": 0}  # of the scripts, in the order in which they occur
    scripts = (array("H"), array("H"))  # numbers of the scripts of the sources and of the targets
    for number, pair in enumerate(read()):
        src, tgt = pair.src.strip(), pair.tgt.strip()
        if src and src == tgt:
            equal.append(number)
        ratios.append(math.log(len(tgt) / len(src)) if min(len(src), len(tgt)) >= _SHORT else math.nan)
        for side, text in zip(scripts, (src, tgt), strict=True):
            side.append(numbers.setdefault(main_script(text), len(numbers)))
    found = {
        "both sides equal": equal,
        "unusual ratio of lengths": _unusual(np.frombuffer(ratios)) if len(ratios) else [],
        "unexpected script of the source": _unexpected(scripts[0]) if len(ratios) else [],
        "unexpected script of the target": _unexpected(scripts[1]) if len(ratios) else [],
    }
    wanted = {number for numbers in found.values() for number in numbers[:SHOWN]}
    texts = dict(_pick(read(), wanted)) if wanted else {}
    return [
        Suspects(kind, len(numbers), [(number + 1, *texts[number]) for number in numbers[:SHOWN]])
        for kind, numbers in found.items()
    ]


def _pick(pairs: Iterable[Pair], wanted: set[int]) -> Iterator[tuple[int, Pair]]:
    for number, pair in enumerate(pairs):
        if number in wanted:
            yield number, pair
            if number == max(wanted):
                return


def _unusual(ratios: np.ndarray) -> list[int]:
    """Return the numbers of the pairs whose log ratio (N,) is far from the median; NaN is never far."""
    known = ratios[~np.isnan(ratios)]
    if not len(known):
        return []
    distance = np.abs(ratios - np.median(known))
    deviation = 1.4826 * float(np.median(np.abs(known - np.median(known))))  # of a normal distribution
    return np.flatnonzero(distance > max(math.log(_LEAST_FACTOR), _DEVIATIONS * deviation)).tolist()


def _unexpected(scripts: array[int]) -> list[int]:
    """Return the numbers of the texts in a script that few of the texts have; the script 0 stands for no letter."""
    found = np.frombuffer(scripts, dtype=np.uint16)
    counts = np.bincount(found)
    counts[:1] = 0
    rare = (counts < _RARE * counts.sum()) & (counts > 0)
    return np.flatnonzero(rare[found]).tolist()


def main_script(text: str) -> str:
    """Return the script of most letters of a text, such as LATIN or CYRILLIC; empty if it has no letter."""
    if text.isascii():
        return "LATIN" if any(map(str.isalpha, text)) else ""
    counts = Counter(script for script in map(_script_of, text) if script)
    return max(counts, key=lambda script: (counts[script], script)) if counts else ""


@functools.cache
def _script_of(character: str) -> str:
    """Return the script of a letter, the first word of its Unicode name; those of Japanese and Chinese are one: CJK."""
    if not character.isalpha():
        return ""
    script = unicodedata.name(character, "").partition(" ")[0]
    return "CJK" if script in ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "IDEOGRAPHIC") else script
