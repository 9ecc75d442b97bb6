"""The news desk gives names and figures to the kinds of event, and composes their sentences into reports.

The kinds of event are in the other modules, which register them here. Each kind returns a report and the only
headline that follows from it.
"""

from collections.abc import Callable
from typing import NamedTuple

from dealer import Dealer, Item

from bulletins.names import MEN, WOMEN, Names, listed

Slot = tuple[str, ...]  # wordings of one sentence

ROOM = 210  # maximum number of characters after which a report gets no further extra sentence
FEWEST = 3  # minimum number of sentences of a report
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("March", "April", "May", "June", "July", "August", "September", "October", "November")
TRADES = listed(
    """
    Bakeries Boats Carpets Ceramics Cycles Electrics Energy Foods Furniture Glass Instruments Lighting Motors Optics
    Paints Pumps Robotics Seeds Textiles Tiles Tools Toys
    """
)


class Bulletin(NamedTuple):
    """A report, its headline and its topic."""

    report: str
    headline: str
    desk: str = ""  # the module of its kind of event; set by make_bulletins


class Person(NamedTuple):
    """A person and the pronouns."""

    name: str
    last: str
    he: str
    his: str


def a(noun: str) -> str:
    """Return a noun with its indefinite article."""
    vowel = noun[0].lower() in "aeiou" and not noun.startswith(("uni", "use", "one"))
    return f"an {noun}" if vowel or noun.startswith(("8", "11", "18", "hour")) else f"a {noun}"


def upper(text: str) -> str:
    """Return a text with a capital first letter."""
    return text[0].upper() + text[1:]


class Desk(Dealer):
    """Draws the names and figures of the kinds of event."""

    def __init__(self, seed: int, names: Names) -> None:
        """Start with the unused names that the reports may contain."""
        super().__init__(seed)
        self._names = names

    def count(self, low: int, high: int, step: int = 1) -> int:
        """Return low plus a multiple of step, both limits included."""
        return low + step * self.below((high - low) // step + 1)

    def pick(self, table: tuple[Item, ...]) -> Item:
        """Return an entry of a table."""
        return table[self.below(len(table))]

    def two(self, table: tuple[Item, ...]) -> tuple[Item, Item]:
        """Return two different entries of a table."""
        first = second = self.pick(table)
        while second == first:
            second = self.pick(table)
        return first, second

    def town(self) -> str:
        """Brannaford."""
        return self.deal(self._names.towns)

    def surname(self) -> str:
        """Kelbrook."""
        return self.deal(self._names.surnames)

    def street(self) -> str:
        """Kelbrook Lane."""
        return f"{self.surname()} {self.pick(('Street', 'Road', 'Lane', 'Avenue'))}"

    def river(self) -> str:
        """River Selmel."""
        return f"River {self.deal(self._names.rivers)}"

    def company(self, trade: str = "") -> str:
        """Calatide Optics."""
        return f"{self.deal(self._names.companies)} {trade or self.pick(TRADES)}"

    def person(self) -> Person:
        """Nora Kelbrook."""
        last = self.surname()
        if self.chance(0.5):
            return Person(f"{self.deal(WOMEN)} {last}", last, "she", "her")
        return Person(f"{self.deal(MEN)} {last}", last, "he", "his")

    def name(self) -> str:
        """Return the full name of a person."""
        return self.person().name

    def day(self) -> str:
        """A day of the week."""
        return self.pick(DAYS)

    def date(self) -> str:
        """12 May."""
        return f"{self.count(1, 30)} {self.pick(MONTHS)}"

    def time(self) -> str:
        """14:30, between six in the morning and ten at night."""
        return f"{self.count(6, 22)}:{self.count(0, 55, 5):02}"

    def quote(self, role: str, *words: str) -> str:
        """Return a quotation of a person with a role."""
        return f'"{self.pick(words)}," said {role} {self.name()}.'

    def tell(self, headline: str, facts: tuple[Slot, ...], before: Slot, after: Slot) -> Bulletin:
        """Compose a report.

        Args:
            headline: the headline, which follows from the facts.
            facts: sentences that together contain all facts of the headline, in this order.
            before: sentences, one of which may begin the report.
            after: sentences for the end of the report, as many as its length permits; empty ones are skipped.
        """
        told = [self.pick(slot) for slot in facts]
        if self.chance(0.5):
            told.insert(0, self.pick(before))
        extras = list(after)
        self.shuffle(extras)
        for extra in filter(None, extras):
            if len(told) < FEWEST or len(" ".join([*told, extra])) <= ROOM:
                told.append(extra)
        return Bulletin(" ".join(map(upper, told)), upper(headline))


Event = Callable[[Desk], Bulletin]
EVENTS: list[Event] = []


def event(make: Event) -> Event:
    """Register a kind of event."""
    EVENTS.append(make)
    return make
