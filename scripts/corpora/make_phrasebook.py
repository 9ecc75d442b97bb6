"""Write data/phrasebook: English-French pairs composed from a lexicon and a grammar.

    python scripts/corpora/make_phrasebook.py [--out data/phrasebook] [--seed N]

The same seed gives the same bytes on every machine. The words are in phrasebook/lexicon.py and
names.py, the grammar in grammar.py, the sentence patterns in actions.py, scenes.py, moments.py
and people.py.
"""

import argparse
import re
from collections import Counter
from pathlib import Path

from phrasebook import actions, moments, people, scenes
from phrasebook.composer import PATTERNS, Composer, Pattern
from phrasebook.grammar import Pair
from phrasebook.names import Names, core_names, rare_names, unseen_names

ROOMS = (actions, moments, people, scenes)  # importing them registers their patterns
TRAIN, VALID, TEST, UNSEEN = 12_000, 500, 500, 500
RARE = 1_500  # training pairs whose names occur only a few times each
MIN_SEEN = 10  # each word of valid and test occurs in at least this many training pairs
SEED = 1


def compose(composer: Composer, patterns: list[Pattern], count: int, answers: dict[str, str]) -> list[Pair]:
    """Make `count` new pairs; `answers` maps each English sentence made so far to its French translation."""
    deck = tuple(place for place, entry in enumerate(patterns) for _ in range(entry.weight))
    pairs: list[Pair] = []
    while len(pairs) < count:
        pair = patterns[composer.deal(deck)].make(composer)
        if pair.en not in answers:
            answers[pair.en] = pair.fr
            pairs.append(pair)
        known = answers[pair.en]
        assert known == pair.fr, f"{pair.en} has two French answers: {known} | {pair.fr}"
    return pairs


def words(pair: Pair) -> set[str]:
    """Return the words and punctuation marks of a pair, each with its language."""
    return {f"{field} {word}" for field in pair._fields for word in re.findall(r"\w+|[^\w\s]", getattr(pair, field))}


def held_out(pairs: list[Pair], others: list[Pair], count: int) -> tuple[list[Pair], list[Pair]]:
    """Hold out `count` pairs, so that each of their words still occurs in at least MIN_SEEN training pairs.

    Returns:
        The held-out pairs and the remaining ones.
    """
    seen = Counter(word for pair in pairs + others for word in words(pair))
    taken: list[Pair] = []
    left: list[Pair] = []
    for pair in pairs:
        if len(taken) < count and all(seen[word] > MIN_SEEN for word in words(pair)):
            taken.append(pair)
            seen.subtract(words(pair))
        else:
            left.append(pair)
    return taken, left


def splits(seed: int) -> dict[str, list[Pair]]:
    """Compose all splits; no English sentence occurs in two of them."""
    answers: dict[str, str] = {}
    patterns = sorted(PATTERNS, key=lambda entry: entry.make.__name__)  # whatever the imports' order
    copying = [entry for entry in patterns if entry.copies]

    def part(offset: int, names: Names, patterns: list[Pattern], count: int) -> list[Pair]:
        return compose(Composer(seed + offset, names), patterns, count, answers)

    core = part(0, core_names(), patterns, TRAIN - RARE + VALID + TEST)
    rare = part(1, rare_names(), copying, RARE)
    unseen = part(2, unseen_names(), copying, UNSEEN)
    order = Composer(seed + 3, core_names())
    order.shuffle(core)
    taken, left = held_out(core, rare, VALID + TEST)
    train = left + rare
    order.shuffle(train)
    return {
        "train": train,
        "valid": taken[:VALID],
        "test": taken[VALID:],
        "unseen_names": unseen,
    }


def write(out: Path, parts: dict[str, list[Pair]]) -> None:
    """Write each split as two parallel files."""
    out.mkdir(parents=True, exist_ok=True)
    for name, pairs in parts.items():
        for language in ("en", "fr"):
            lines = "".join(f"{getattr(pair, language)}\n" for pair in pairs)
            (out / f"{name}.{language}").write_bytes(lines.encode("utf-8"))


def main() -> None:
    """Read the command line and write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("data/phrasebook"))
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    write(arguments.out, splits(arguments.seed))


if __name__ == "__main__":
    main()
