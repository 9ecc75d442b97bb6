"""Patterns about circumstances: time, price, date, age, weather, going and coming."""

from phrasebook.composer import Composer, pattern
from phrasebook.grammar import (
    NOTHING,
    PRONOUNS,
    Pair,
    Phrase,
    asked,
    clause,
    date,
    described,
    noun_phrase,
    number,
    of,
    say,
    spoken_time,
    to,
    written_price,
    written_time,
)
from phrasebook.lexicon import (
    ACTIVITIES,
    ADJECTIVES,
    ARRIVE,
    BUY,
    CLOSE,
    CLOTHES,
    COUNTRIES,
    DAYS,
    FUTURE_TIMES,
    GET_UP,
    GO,
    GO_TO_BED,
    GOODS,
    HABITS,
    HOBBIES,
    LEAVE,
    LIVE,
    MONTHS,
    OPEN,
    PAST_TIMES,
    PLACES,
    READING,
    RETURN,
    SHOPS,
    STAY,
    TRANSPORT,
    WEATHER,
)


def digits(value: int) -> Phrase:
    """A number in digits, the same in both languages."""
    return Phrase(str(value), str(value))


def some_time(c: Composer) -> Phrase:
    """A time after "at", half of them in words."""
    hour, minute = 1 + c.below(12), 5 * c.below(12)
    if c.chance(0.5):
        return spoken_time(hour, minute)
    return written_time(hour, minute)


def some_price(c: Composer) -> Phrase:
    """A price: €3.50, 12 euros or twelve euros."""
    kind = c.below(3)
    if kind == 0:
        return written_price(1 + c.below(20), c.deal((20, 50, 75, 90, 95)))
    if kind == 1:
        value = digits(c.deal((5, 7, 8, 9, 10, 12, 14, 15, 18, 20, 25, 30, 35, 40, 45, 50)))
    else:
        value = number(c.deal((2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 60, 100)))
    return Phrase(f"{value.en} euros", f"{value.fr} euros")


def some_date(c: Composer) -> Phrase:
    """A date, with or without the day of the week: (on) Monday, May 3."""
    day = date(1 + c.below(31), c.deal(MONTHS))
    day = Phrase(day.en.replace("February 3", "February 2"), day.fr.replace("3 fév", "2 fév"))
    if c.chance(0.5):
        return Phrase(day.en, f"le {day.fr}")
    week = c.deal(DAYS)
    return Phrase(f"{week[0]}, {day.en}", f"le {week[1]} {day.fr}")


def at(time: Phrase) -> Phrase:
    """At a time."""
    return Phrase(f"at {time.en}", f"à {time.fr}")


@pattern(5)
def what_time(c: Composer) -> Pair:
    """It is a quarter past three."""
    hour, minute = 1 + c.below(12), 5 * c.below(12)
    time = spoken_time(hour, minute)
    kind = c.below(4)
    if kind == 0:
        return say(f"it is already {time.en}", f"il est déjà {time.fr}")
    if kind == 1:
        return say(f"it was {time.en}", f"il était {time.fr}")
    return say(f"it is {time.en}", f"il est {time.fr}")


@pattern(14)
def leaves_at(c: Composer) -> Pair:
    """The train leaves at 3:15; will the plane arrive at half past two?"""
    subject = noun_phrase(c.deal(("the", "our", "your")), c.deal(TRANSPORT))
    time, verb = at(some_time(c)), c.deal((LEAVE, ARRIVE))
    tense = c.deal(("simple", "past", "will", "going to"))
    if c.chance(0.25):
        return say(*asked(subject, verb, tense, time), "?")
    return say(*clause(subject, verb, tense, time))


@pattern(10)
def opens_at(c: Composer) -> Pair:
    """The museum opens at nine o'clock; at what time does the bank close?"""
    subject, verb = noun_phrase("the", c.deal(SHOPS)), c.deal((OPEN, CLOSE))
    if c.chance(0.4):
        en, fr = asked(subject, verb, "simple", NOTHING)
        return say(f"at what time {en}", f"à quelle heure {fr}", "?")
    return say(*clause(subject, verb, "simple", at(some_time(c))))


@pattern(12)
def daily_round(c: Composer) -> Pair:
    """She got up at half past six."""
    subject, verb = c.subject(), c.deal((GET_UP, GO_TO_BED))
    hour = (5 if verb is GET_UP else 8) + c.below(3)
    time = at(c.deal((spoken_time, written_time))(hour, 5 * c.below(12)))
    if subject.person != 3 and subject.en != "we":
        tense = c.deal(("simple", "will"))
    else:
        tense = c.deal(("simple", "past", "will"))
    return say(*clause(subject, verb, tense, time))


@pattern(10)
def costs(c: Composer) -> Pair:
    """The umbrella costs €12.50."""
    thing = noun_phrase(c.deal(("the", "this")), c.deal(CLOTHES + GOODS[:-1] + READING[:5]), plural=c.chance(0.2))
    price = some_price(c)
    verb = ("cost", "coûtent") if thing.plural else ("costs", "coûte")
    return say(f"{thing.en} {verb[0]} {price.en}", f"{thing.fr} {verb[1]} {price.fr}")


@pattern(6)
def how_much(c: Composer) -> Pair:
    """How much do these shoes cost?"""
    thing = noun_phrase(c.deal(("the", "this")), c.deal(CLOTHES + GOODS[:-1] + READING[:5]), plural=c.chance(0.4))
    do, verb = ("do", "coûtent") if thing.plural else ("does", "coûte")
    return say(f"how much {do} {thing.en} cost", f"combien {verb} {thing.fr}", "?")


@pattern(7)
def bought_for(c: Composer) -> Pair:
    """We bought this hat for 15 euros."""
    subject = c.subject()
    thing = noun_phrase(c.deal(("a", "this")), c.deal(CLOTHES + GOODS[:-1]))
    price = some_price(c)
    rest = Phrase(f"{thing.en} for {price.en}", f"{thing.fr} pour {price.fr}")
    return say(*clause(subject, BUY, "past", rest))


@pattern(12)
def on_date(c: Composer) -> Pair:
    """My uncle will arrive on Monday, May 3."""
    subject = c.somebody() if c.chance(0.7) else PRONOUNS[c.deal(("he", "she", "they", "we"))]
    day = some_date(c)
    verb = c.deal((LEAVE, ARRIVE, RETURN))
    rest = Phrase(f"on {day.en}", day.fr)
    return say(*clause(subject, verb, c.deal(("past", "will", "going to")), rest))


@pattern(6)
def birthday(c: Composer) -> Pair:
    """Her birthday is on June 12."""
    day = date(1 + c.below(28), c.deal(MONTHS))
    owner = c.deal(
        (
            ("my", "mon"),
            ("your", "votre"),
            ("his", "son"),
            ("her", "son"),
            ("our daughter's", "l'anniversaire de notre fille"),
        )
    )
    fr = owner[1] if "fille" in owner[1] else f"{owner[1]} anniversaire"
    return say(f"{owner[0]} birthday is on {day.en}", f"{fr} est le {day.fr}")


@pattern(8)
def weekly(c: Composer) -> Pair:
    """The bakery is closed on Mondays; she works on Fridays."""
    day = c.deal(DAYS)
    when = Phrase(f"on {day[0]}s", f"le {day[1]}")
    if c.chance(0.5):
        place = noun_phrase("the", c.deal(SHOPS))
        state = described(place, ADJECTIVES[c.deal(("open", "closed"))])
        return say(f"{place.en} is {state.en} {when.en}", f"{place.fr} est {state.fr} {when.fr}")
    return say(*clause(c.subject(), c.deal(HOBBIES), "simple", when, negated=c.chance(0.3)))


# Ages that suit: grandparents, a brother or sister, anyone else; in words, then in digits.
AGES = {
    "grand": ((60, 70, 80, 90), (60, 75, 80, 85)),
    "young": ((5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21), (10, 12, 14, 15, 18)),
    "any": ((18, 19, 20, 21, 25, 30, 40, 50, 60), (18, 20, 25, 30, 35, 40, 45, 50, 55)),
}


@pattern(12)
def age(c: Composer) -> Pair:
    """My brother is twelve years old."""
    subject = c.relative() if c.chance(0.5) else c.person()
    if c.chance(0.3):
        subject = PRONOUNS[c.deal(("he", "she"))]
    group = "grand" if "grand" in subject.en else "any"
    if subject.en.endswith((" brother", " sister")) or (" " not in subject.en and c.chance(0.6)):
        group = "young"
    spelled, written = AGES[group]
    years = digits(c.deal(written)) if c.chance(0.3) else number(c.deal(spelled))
    have = {"simple": "a", "will": "aura"}
    be = {"simple": "is", "will": "will be"}
    tense = c.deal(("simple", "simple", "will"))
    later = ("", "")
    if tense == "will":
        later = (" next year", " l'année prochaine")
    return say(
        f"{subject.en} {be[tense]} {years.en} years old{later[0]}",
        f"{subject.fr} {have[tense]} {years.fr} ans{later[1]}",
    )


WEATHER_NOW = ((" today", " aujourd'hui"), (" this morning", " ce matin"))


@pattern(8)
def weather(c: Composer) -> Pair:
    """It is raining in Paris; it was cold yesterday."""
    row, place = c.deal(WEATHER), ("", "")
    kind = c.below(3)
    if c.chance(0.75):
        if c.chance(0.5):
            town = c.town()
            place = (f" in {town.en}", f" à {town.fr}")
        else:
            land = c.deal(COUNTRIES)
            place = (f" in {land[0]}", f" {land[1]}")
    when = (
        c.deal(WEATHER_NOW),
        c.deal(((" yesterday", " hier"), (" last night", " hier soir"))),
        c.deal(((" tomorrow", " demain"), (" tonight", " ce soir"))),
    )[kind]
    return say(f"it {row[kind]}{place[0]}{when[0]}", f"il {row[kind + 3]}{place[1]}{when[1]}")


@pattern(9)
def if_weather(c: Composer) -> Pair:
    """If it rains tomorrow, we will stay at the hotel."""
    en, fr = c.deal(
        (
            ("rains", "pleut"),
            ("snows", "neige"),
            ("is cold", "fait froid"),
            ("is hot", "fait chaud"),
            ("is sunny", "y a du soleil"),
        )
    )
    subject = c.subject()
    place = noun_phrase("the", c.deal(PLACES))
    if c.chance(0.4):
        verb, where = STAY, ("at home", "à la maison")
    else:
        verb, where = GO, (f"to {place.en}", to(place.fr))
    end = clause(subject, verb, "will", Phrase(*where))
    return say(f"if it {en} tomorrow, {end.en}", f"s'il {fr} demain, {end.fr}")


def without_speaker(c: Composer) -> Phrase:
    """A subject whose French gender is known: not I, not you."""
    if c.chance(0.3):
        return PRONOUNS[c.deal(("he", "she", "they", "we"))]
    return c.somebody()


@pattern(14)
def goes_to(c: Composer) -> Pair:
    """The students went to the library yesterday; I want to go to the park."""
    place = noun_phrase("the", c.deal(PLACES))
    rest = Phrase(f"to {place.en}", to(place.fr))
    tense = c.deal(("going on", "past", "will", "want", "simple"))
    subject = without_speaker(c) if tense == "past" else c.subject()
    times = {"past": PAST_TIMES, "will": FUTURE_TIMES, "simple": HABITS}.get(tense)
    if times and (tense == "simple" or c.chance(0.4)):
        when = c.deal(times)
        rest = Phrase(f"{rest.en} {when[0]}", f"{rest.fr} {when[1]}")
    return say(*clause(subject, GO, tense, rest, negated=c.chance(0.2)))


@pattern(8)
def comes_from(c: Composer) -> Pair:
    """She came back from the market at noon."""
    place = noun_phrase("the", c.deal(PLACES))
    tense = c.deal(("past", "will", "going on"))
    subject = without_speaker(c) if tense == "past" else c.subject()
    return say(*clause(subject, RETURN, tense, Phrase(f"from {place.en}", of(place.fr))))


@pattern(12)
def countries(c: Composer) -> Pair:
    """My aunt lives in Japan; we are going to the United States; he came back from Canada."""
    name, inside, origin = c.deal(COUNTRIES)
    kind = c.below(4)
    if kind == 0:
        return say(
            *clause(
                c.subject(),
                LIVE,
                c.deal(("simple", "used to", "want")),
                Phrase(f"in {name}", inside),
            )
        )
    if kind == 1:
        tense = c.deal(("going on", "will", "past", "would like"))
        subject = without_speaker(c) if tense == "past" else c.subject()
        return say(*clause(subject, GO, tense, Phrase(f"to {name}", inside)))
    if kind == 2:
        return say(
            *clause(
                without_speaker(c),
                RETURN,
                c.deal(("past", "will", "going to")),
                Phrase(f"from {name}", origin),
            )
        )
    subject = c.asked_one()
    return say(*asked(subject, LIVE, "simple", Phrase(f"in {name}", inside)), "?")


@pattern(8)
def since(c: Composer) -> Pair:
    """He has been working for two hours."""
    subject, verb = c.subject(), c.deal(ACTIVITIES)
    units = (
        ("hour", "heure", "heures", "f"),
        ("month", "mois", "mois", "m"),
        ("minute", "minute", "minutes", "f"),
        ("day", "jour", "jours", "m"),
    )
    if verb.en in ("work", "study", "travel"):
        unit = c.deal(units)
    else:
        unit = c.deal((units[0], units[2]))
    few = (10, 15, 20, 30, 40) if unit[0] == "minute" else (2, 3, 4, 5, 6)
    count = number(c.deal(few))
    return say(
        *clause(
            subject,
            verb,
            "since",
            Phrase(f"for {count.en} {unit[0]}s", f"depuis {count.fr} {unit[2]}"),
        )
    )


@pattern(7)
def when_leaves(c: Composer) -> Pair:
    """When will the doctor come back?"""
    subject = c.somebody() if c.chance(0.5) else noun_phrase("the", c.deal(TRANSPORT))
    verb = c.deal((LEAVE, ARRIVE)) if subject.fr.endswith(("train", "bus", "bateau")) else RETURN
    verb = c.deal((verb, LEAVE, ARRIVE))
    tense = c.deal(("past", "will", "going to"))
    en, fr = asked(subject, verb, tense, NOTHING)
    return say(f"when {en}", f"quand {fr}", "?")
