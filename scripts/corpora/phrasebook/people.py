"""Patterns with names of people and towns; those marked `copies` may use unseen names.

In these patterns, no agreement and no elision depends on the name.
"""

from phrasebook.composer import Composer, pattern
from phrasebook.grammar import (
    NOTHING,
    PRONOUNS,
    Pair,
    Phrase,
    asked,
    clause,
    elide,
    noun_phrase,
    number,
    placed,
    say,
    some,
    to,
    written_time,
)
from phrasebook.lexicon import (
    ANIMALS,
    ARRIVE,
    BUY,
    CLOTHES,
    COLORED,
    DISHES,
    DRINK,
    DRINKS,
    EAT,
    FAMILY,
    FURNITURE,
    GIVE,
    GO,
    HOMES,
    INVITE,
    KNOW,
    LANGUAGES,
    LEAVE,
    LIVE,
    MAIL,
    PETS,
    PLACES,
    PORTABLE,
    READ,
    READING,
    RETURN,
    SEE,
    SEND,
    SHOW,
    SIGHTS,
    SPEAK,
    TRANSPORT,
    VEHICLES,
    VISIT,
    WAIT,
    WRITE,
)


def in_town(c: Composer) -> Phrase:
    """In a town."""
    town = c.town()
    return Phrase(f"in {town.en}", elide(f"à {town.fr}"))


@pattern(8, copies=True)
def named_buys(c: Composer) -> Pair:
    """Paul bought a new car."""
    verb, nouns = c.deal(((BUY, VEHICLES), (BUY, CLOTHES), (READ, READING), (SEE, ANIMALS)))
    noun = c.deal(nouns)
    thing = noun_phrase("a", noun, c.beside(noun))
    return say(*clause(c.person(), verb, c.deal(("past", "will", "want")), thing))


@pattern(8, copies=True)
def named_lives(c: Composer) -> Pair:
    """Paul lives in Lyon."""
    kind = c.below(4)
    if kind == 0:
        return say(*asked(c.person(), LIVE, "simple", in_town(c)), "?")
    if kind == 1:
        tense = c.deal(("simple", "want"))
        return say(*clause(c.person(), LIVE, tense, in_town(c), negated=True))
    return say(*clause(c.person(), LIVE, c.deal(("simple", "used to", "want")), in_town(c)))


@pattern(6, copies=True)
def titled_lives(c: Composer) -> Pair:
    """Mrs. Durand lives in Lyon."""
    return say(*clause(c.titled(), LIVE, c.deal(("simple", "used to")), in_town(c)))


@pattern(8, copies=True)
def named_owns(c: Composer) -> Pair:
    """Paul's cat is under the table."""
    owner = c.person()
    if c.chance(0.4):
        noun = c.deal(PETS)
    else:
        noun = c.deal(PORTABLE)
    thing = noun_phrase("the", noun)
    where = placed(c.deal(("on", "under", "behind", "next to")), noun_phrase("the", c.deal(FURNITURE)))
    return say(f"{owner.en}'s {noun.en} is {where.en}", f"{thing.fr} de {owner.fr} est {where.fr}")


@pattern(6, copies=True)
def named_relative(c: Composer) -> Pair:
    """Paul's sister lives in Lyon."""
    owner, noun = c.person(), c.deal(FAMILY[:6])
    where = in_town(c)
    return say(
        f"{owner.en}'s {noun.en} lives {where.en}",
        f"{noun_phrase('the', noun).fr} de {owner.fr} habite {where.fr}",
    )


INDOORS = tuple(noun for noun in PLACES if noun.en not in ("garden", "park"))


@pattern(8, copies=True)
def seen_titled(c: Composer) -> Pair:
    """I saw Mr. Durand at the market."""
    who = c.titled() if c.chance(0.6) else c.person()
    place = noun_phrase("the", c.deal(INDOORS))
    rest = Phrase(f"{who.en} at {place.en}", f"{who.fr} {to(place.fr)}")
    return say(*clause(c.speaker(), SEE, "past", rest, negated=c.chance(0.3)))


@pattern(6, copies=True)
def knows_named(c: Composer) -> Pair:
    """Do you know Paul Durand?"""
    who = c.person()
    surname = c.deal(c.names.surnames)
    who = Phrase(f"{who.en} {surname.en}", f"{who.fr} {surname.fr}")
    if c.chance(0.5):
        speaker = PRONOUNS[c.deal(("you", "he", "she", "they"))]
        return say(*asked(speaker, KNOW, "simple", who), "?")
    return say(*clause(c.speaker(), KNOW, "simple", who, negated=c.chance(0.5)))


@pattern(8, copies=True)
def train_to(c: Composer) -> Pair:
    """The train to Lyon leaves at 3:15."""
    noun, town = c.deal(TRANSPORT), c.town()
    subject = noun_phrase("the", noun)
    subject = Phrase(f"{subject.en} to {town.en}", f"{subject.fr} pour {town.fr}")
    time = written_time(1 + c.below(12), 5 * c.below(12))
    rest = Phrase(f"at {time.en}", f"à {time.fr}")
    return say(*clause(subject, LEAVE, c.deal(("simple", "past", "will")), rest))


@pattern(5, copies=True)
def is_called(c: Composer) -> Pair:
    """My brother's name is Paul."""
    name = c.person()
    who = c.relative(name.gender)
    return say(f"{who.en}'s name is {name.en}", f"{who.fr} s'appelle {name.fr}")


@pattern(8, copies=True)
def two_named(c: Composer) -> Pair:
    """Paul and Marie visited the castle."""
    one, two = c.couple()
    both = Phrase(f"{one.en} and {two.en}", f"{one.fr} et {two.fr}", "m", True)
    rest = noun_phrase("the", c.deal(SIGHTS))
    return say(*clause(both, VISIT, c.deal(("past", "will", "want")), rest))


@pattern(5, copies=True)
def where_named(c: Composer) -> Pair:
    """Where does Paul live? Where is Mrs. Durand going?"""
    person = c.person() if c.chance(0.4) else c.titled()
    verb, tense = c.deal(((LIVE, "simple"), (GO, "going on")))
    en, fr = asked(person, verb, tense, NOTHING)
    return say(f"where {en}", elide(f"où {fr}"), "?")


@pattern(6, copies=True)
def titled_wants(c: Composer) -> Pair:
    """Mr. Durand wants to buy a house in Lyon."""
    home = noun_phrase("a", c.deal(HOMES[:2]))
    where = in_town(c)
    rest = Phrase(f"{home.en} {where.en}", f"{home.fr} {where.fr}")
    who = c.titled() if c.chance(0.5) else c.person()
    return say(*clause(who, BUY, c.deal(("past", "want", "would like")), rest))


@pattern(8, copies=True)
def named_gives(c: Composer) -> Pair:
    """Paul gave a book to Marie."""
    giver, taker = c.couple()
    thing = noun_phrase(c.deal(("a", "the")), c.deal(READING + COLORED))
    rest = Phrase(f"{thing.en} to {taker.en}", f"{thing.fr} à {taker.fr}")
    return say(*clause(giver, c.deal((GIVE, SHOW, SEND)), c.deal(("past", "will")), rest))


@pattern(7, copies=True)
def named_eats(c: Composer) -> Pair:
    """Mrs. Durand does not want any meat."""
    verb, nouns = c.deal(((EAT, DISHES), (DRINK, DRINKS)))
    who = c.titled() if c.chance(0.5) else c.person()
    negated = c.chance(0.5)
    tense = c.deal(("past", "want"))
    return say(*clause(who, verb, tense, some(c.deal(nouns), negated=negated), negated=negated))


@pattern(7, copies=True)
def waits_for_named(c: Composer) -> Pair:
    """We are waiting for Paul in front of the station."""
    who = c.person() if c.chance(0.5) else c.titled()
    where = placed(c.deal(("in front of", "near", "behind")), noun_phrase("the", c.deal(PLACES)))
    rest = Phrase(f"{who.en} {where.en}", f"{who.fr} {where.fr}")
    return say(*clause(c.speaker(), WAIT, c.deal(("going on", "will")), rest))


@pattern(6, copies=True)
def far_from(c: Composer) -> Pair:
    """Corzac is ten kilometers from Lamnay; is Lyon far from Paris?"""
    one = two = c.town()
    while two == one:
        two = c.town()
    if c.names.well_known:
        return say(f"is {one.en} far from {two.en}", f"est-ce que {one.fr} est loin de {two.fr}", "?")
    if c.chance(0.5):
        value = number(c.deal((5, 6, 7, 8, 9, 10, 12, 15, 20, 30, 40, 50, 60, 70, 80, 90, 100)))
    else:
        kilometers = str(c.deal((10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 75)))
        value = Phrase(kilometers, kilometers)
    return say(
        f"{one.en} is {value.en} kilometers from {two.en}",
        f"{one.fr} est à {value.fr} kilomètres de {two.fr}",
    )


@pattern(6, copies=True)
def writes_to_named(c: Composer) -> Pair:
    """I wrote a letter to Mrs. Durand."""
    who = c.titled() if c.chance(0.7) else c.person()
    noun = c.deal(MAIL)
    thing = noun_phrase("a", noun, c.beside(noun) if c.chance(0.4) else None)
    rest = Phrase(f"{thing.en} to {who.en}", f"{thing.fr} à {who.fr}")
    verb = c.deal((WRITE, SEND))
    return say(*clause(c.speaker(), verb, c.deal(("past", "will", "must")), rest))


@pattern(6, copies=True)
def named_speaks(c: Composer) -> Pair:
    """Paul speaks German."""
    language = Phrase(*c.deal(LANGUAGES))
    who = c.person() if c.chance(0.7) else c.titled()
    if c.chance(0.3):
        return say(*asked(who, SPEAK, "simple", language), "?")
    return say(*clause(who, SPEAK, "simple", language, negated=c.chance(0.3)))


@pattern(6, copies=True)
def invites_named(c: Composer) -> Pair:
    """The doctor invited Paul and Marie."""
    one, two = c.couple()
    both = Phrase(f"{one.en} and {two.en}", f"{one.fr} et {two.fr}")
    host = c.speaker() if c.chance(0.6) else c.relative()
    return say(*clause(host, INVITE, c.deal(("past", "will", "want")), both))


@pattern(7, copies=True)
def goes_to_town(c: Composer) -> Pair:
    """We are going to Lyon with Paul."""
    town, friend = c.town(), c.person()
    rest = Phrase(f"to {town.en} with {friend.en}", f"à {town.fr} avec {friend.fr}")
    return say(*clause(c.speaker(), GO, c.deal(("going on", "will", "want")), rest))


@pattern(8)
def named_went(c: Composer) -> Pair:
    """Marie came back from Lyon."""
    person, town = c.person(), c.town()
    verb = c.deal((GO, RETURN, ARRIVE))
    if verb is GO:
        rest = Phrase(f"to {town.en}", f"à {town.fr}")
    elif verb is RETURN:
        rest = Phrase(f"from {town.en}", elide(f"de {town.fr}"))
    else:
        rest = Phrase(f"in {town.en}", f"à {town.fr}")
    if c.chance(0.2):
        person = PRONOUNS[c.deal(("he", "she", "they"))]
    return say(*clause(person, verb, c.deal(("past", "will")), rest))
