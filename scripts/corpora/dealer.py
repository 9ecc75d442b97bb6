"""Seeded random choice for the generators of corpora: the same seed gives the same choices on every machine."""

import random
from typing import TypeVar

Item = TypeVar("Item")


class Dealer:
    """Draws the entries of tables without replacement, so each entry is used equally often."""

    def __init__(self, seed: int) -> None:
        """Start with the unused entries of all tables."""
        self._random = random.Random(seed)
        self._decks: dict[object, list[int]] = {}

    def below(self, limit: int) -> int:
        """Return a whole number from 0 to limit - 1."""
        return int(self._random.random() * limit)

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self._random.random() < probability

    def deal(self, table: tuple[Item, ...]) -> Item:
        """Return the next entry of a table, which is shuffled again after all its entries were returned."""
        deck = self._decks.setdefault(table, [])
        if not deck:
            deck.extend(range(len(table)))
            self.shuffle(deck)
        return table[deck.pop()]

    def shuffle(self, items: list[Item]) -> None:
        """Shuffle in place with random() only, whose sequence is the same in all versions of Python."""
        for place in range(len(items) - 1, 0, -1):
            other = self.below(place + 1)
            items[place], items[other] = items[other], items[place]
