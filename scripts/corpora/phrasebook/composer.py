"""Seeded choice of words: a Composer deals subjects, objects and names to the patterns.

Words are dealt like cards, so every word of a table is used equally often. The patterns are in
actions.py, scenes.py, moments.py and people.py; they register themselves here.
"""

from collections.abc import Callable
from typing import NamedTuple

from dealer import Dealer

from phrasebook.grammar import PRONOUNS, Pair, Phrase, named, noun_phrase
from phrasebook.lexicon import (
    ACTIONS,
    BRING,
    CLEAN,
    CLOTHES,
    DESCRIPTIONS,
    EVENTS,
    FAMILY,
    FIND,
    FOOD,
    FORGET,
    LOSE,
    PEOPLE,
    PORTABLE,
    READING,
    REPAIR,
    SEARCH,
    SELL,
    WEAR,
    Adjective,
    Noun,
    Verb,
)
from phrasebook.names import Names

Deeds = tuple[tuple[Verb, tuple[Noun, ...]], ...]

OWNABLE = (SEARCH, LOSE, FORGET, FIND, CLEAN, REPAIR, SELL, WEAR, BRING)
NUMEROUS = frozenset(FOOD + READING + PORTABLE + CLOTHES)
SPOUSES = {"husband": "her", "wife": "his"}
AGELESS = ("child", "boy", "girl")


class Composer(Dealer):
    """Draws the words of the patterns."""

    def __init__(self, seed: int, names: Names) -> None:
        """Start with the unused words and the names that the sentences may contain."""
        super().__init__(seed)
        self.names = names

    def person(self) -> Phrase:
        """A first name."""
        return named(self.deal(self.names.people))

    def couple(self) -> tuple[Phrase, Phrase]:
        """Two different first names."""
        first = second = self.person()
        while second == first:
            second = self.person()
        return first, second

    def town(self) -> Phrase:
        """A town."""
        return named(self.deal(self.names.towns))

    def titled(self) -> Phrase:
        """Mr. or Mrs. and a surname."""
        surname = self.deal(self.names.surnames)
        if self.chance(0.5):
            return Phrase(f"Mr. {surname.en}", f"monsieur {surname.fr}", "m")
        return Phrase(f"Mrs. {surname.en}", f"madame {surname.fr}", "f")

    def relative(self, gender: str = "") -> Phrase:
        """My mother, your brother; of the given gender, if one is given."""
        owner = self.deal(("my", "my", "your", "his", "her", "our", "their"))
        family = tuple(noun for noun in FAMILY if noun.gender.startswith(gender))
        relative = self.deal(family)
        if relative.en in SPOUSES:
            owner = self.deal(("my", "your", SPOUSES[relative.en]))
        return noun_phrase(owner, relative)

    def somebody(self) -> Phrase:
        """A third person whose noun determines the gender."""
        kind = self.below(10)
        if kind < 5:
            return noun_phrase("the", self.deal(PEOPLE), plural=self.chance(0.2))
        if kind < 8:
            return self.relative()
        return self.person()

    def speaker(self) -> Phrase:
        """A subject pronoun."""
        return PRONOUNS[self.deal(("I", "we", "you", "he", "she", "they"))]

    def subject(self) -> Phrase:
        """Anyone who can act."""
        return self.speaker() if self.chance(0.45) else self.somebody()

    def asked_one(self) -> Phrase:
        """A subject that a question can be about: not the speaker."""
        if self.chance(0.55):
            return self.somebody()
        return PRONOUNS[self.deal(("you", "you", "he", "she", "they"))]

    def beside(self, noun: Noun) -> Adjective | None:
        """An adjective that fits a noun, or None if there is none."""
        fitting = [row[1] for row in DESCRIPTIONS if noun in row[0]]
        if not fitting:
            return None
        found = self.deal(fitting[self.below(len(fitting))])
        return None if found.en == "old" and noun.en in AGELESS else found

    def thing(self, noun: Noun, verb: Verb, owner: Phrase, adjectives: float = 0.3) -> Phrase:
        """A noun as the object of a verb, with a determiner that makes sense."""
        adjective = self.beside(noun) if self.chance(adjectives) else None
        plural = noun in NUMEROUS and verb is not WEAR and self.chance(0.3)
        kinds = ("the", "the", "a", "this") if noun not in PEOPLE else ("the", "the", "this")
        if verb in OWNABLE and self.chance(0.5):
            return noun_phrase(own(owner), noun, adjective, plural=plural)
        return noun_phrase(self.deal(kinds), noun, adjective, plural=plural)

    def deed(self, owner: Phrase, table: Deeds = ACTIONS, adjectives: float = 0.3) -> tuple[Verb, Phrase]:
        """A verb with an object."""
        verb, nouns = self.deal(table)
        if verb is WEAR and owner.gender == "m" and owner.person == 3:
            nouns = tuple(noun for noun in nouns if noun.en not in ("dress", "skirt"))
        return verb, self.thing(self.deal(nouns), verb, owner, adjectives)

    def event(self, owner: Phrase, adjectives: float = 0.3) -> tuple[Verb, Phrase]:
        """A verb with an object that describes an event, not a habit."""
        return self.deed(owner, EVENTS, adjectives)


def own(owner: Phrase) -> str:
    """Return the possessive of a subject: my for I, his for the man."""
    if owner.person == 3:
        if owner.plural:
            return "their"
        return "her" if owner.gender == "f" else "his"
    if owner.person == 2:
        return "your"
    return "our" if owner.plural else "my"


def pronoun(subject: Phrase) -> Phrase:
    """Return he, she or they for a subject that was named before, and any other subject unchanged."""
    if subject.person != 3:
        return subject
    if subject.plural:
        # They, agreeing with the noun before it.
        return Phrase("they", "elles" if subject.gender == "f" else "ils", subject.gender, True)
    return PRONOUNS["she" if subject.gender == "f" else "he"]


class Pattern(NamedTuple):
    """A way to make a sentence; `copies` is True if the sentence may contain unseen names."""

    make: Callable[[Composer], Pair]
    weight: int
    copies: bool


PATTERNS: list[Pattern] = []


def pattern(
    weight: int = 10, *, copies: bool = False
) -> Callable[[Callable[[Composer], Pair]], Callable[[Composer], Pair]]:
    """Register a pattern with its weight among all patterns."""

    def register(make: Callable[[Composer], Pair]) -> Callable[[Composer], Pair]:
        PATTERNS.append(Pattern(make, weight, copies))
        return make

    return register
