"""Patterns that describe and compare things and people, or say where they are."""

from phrasebook.composer import Composer, pattern, pronoun
from phrasebook.grammar import (
    NOTHING,
    PRONOUNS,
    Pair,
    Phrase,
    agree,
    asked,
    clause,
    described,
    elide,
    noun_phrase,
    number,
    of,
    placed,
    say,
    some,
    vowel_sound,
)
from phrasebook.lexicon import (
    ADJECTIVES,
    ANIMALS,
    BE,
    BUY,
    CLOTHES,
    COLORED,
    COMPARISONS,
    DESCRIPTIONS,
    DISH_ADJECTIVES,
    DISHES,
    DRINKS,
    FOOD,
    FURNITURE,
    HOBBIES,
    HOMES,
    JOBS,
    LIVE,
    MOODS,
    NATIONALITIES,
    PEOPLE,
    PERSON_ADJECTIVES,
    PLACES,
    PORTABLE,
    READING,
    ROOMS,
    SIGHTS,
    VEHICLES,
    Noun,
)


@pattern(16)
def is_so(c: Composer) -> Pair:
    """This box is heavy; the gardens were beautiful."""
    nouns, _, adjectives = c.deal(DESCRIPTIONS[:-1])
    plural = c.chance(0.35)
    kind = c.deal(("the", "the", "this"))
    if nouns in (COLORED, CLOTHES, VEHICLES) and c.chance(0.4):
        kind = c.deal(("my", "your", "his", "her", "our", "their"))
    subject = noun_phrase(kind, c.deal(nouns), plural=plural)
    state = described(subject, c.deal(adjectives))
    tense = c.deal(("simple", "simple", "imperfect"))
    return say(*clause(subject, BE, tense, state, negated=c.chance(0.25)))


@pattern(8)
def is_it_so(c: Composer) -> Pair:
    """Is the museum open?"""
    nouns, _, adjectives = c.deal(DESCRIPTIONS[:-1])
    subject = noun_phrase(c.deal(("the", "this")), c.deal(nouns), plural=c.chance(0.3))
    return say(*asked(subject, BE, "simple", described(subject, c.deal(adjectives))), "?")


@pattern(8)
def food_is_so(c: Composer) -> Pair:
    """The soup is cold."""
    subject = noun_phrase(c.deal(("the", "this")), c.deal(DISHES + DRINKS))
    state = described(subject, c.deal(DISH_ADJECTIVES))
    if c.chance(0.2):
        return say(*asked(subject, BE, "simple", state), "?")
    return say(*clause(subject, BE, c.deal(("simple", "imperfect")), state, negated=c.chance(0.2)))


@pattern(14)
def person_is_so(c: Composer) -> Pair:
    """My sister is very happy; the kings were rich."""
    subject = c.somebody() if c.chance(0.7) else PRONOUNS[c.deal(("he", "she", "they"))]
    state = described(subject, c.deal(PERSON_ADJECTIVES))
    if c.chance(0.4):
        state = Phrase(f"very {state.en}", f"très {state.fr}")
    kind = c.below(5)
    if kind == 0:
        return say(*asked(subject, BE, "simple", state), "?")
    tense = c.deal(("simple", "simple", "imperfect"))
    return say(*clause(subject, BE, tense, state, negated=kind == 1))


@pattern(8)
def because(c: Composer) -> Pair:
    """The waitress is not working because she is sick."""
    subject = c.somebody()
    again, mood = pronoun(subject), c.deal(MOODS)
    start = clause(subject, c.deal(HOBBIES), "going on", NOTHING, negated=True)
    end = clause(again, BE, "simple", described(again, mood))
    return say(f"{start.en} because {end.en}", f"{start.fr} parce que {end.fr}")


@pattern(12)
def compares(c: Composer) -> Pair:
    """The train is faster than the boat; less, as ... as."""
    nouns, adjectives = c.deal(COMPARISONS)
    first = second = c.deal(nouns)
    while second == first:
        second = c.deal(nouns)
    adjective = c.deal(adjectives)
    one, other = noun_phrase("the", first), noun_phrase("the", second)
    be = ("is", "est")
    if c.chance(0.3):
        one, be = noun_phrase("the", first, plural=True), ("are", "sont")
        other = noun_phrase("the", second, plural=True)
    word = agree(adjective, one.gender, one.plural)
    kind = c.below(3)
    if kind == 0 and not adjective.more.startswith("more"):
        kind = 1
    if kind == 0:
        return say(
            f"{one.en} {be[0]} less {adjective.en} than {other.en}",
            f"{one.fr} {be[1]} moins {word} que {other.fr}",
        )
    if kind == 2:
        return say(
            f"{one.en} {be[0]} as {adjective.en} as {other.en}",
            f"{one.fr} {be[1]} aussi {word} que {other.fr}",
        )
    return say(
        f"{one.en} {be[0]} {adjective.more} than {other.en}",
        f"{one.fr} {be[1]} plus {word} que {other.fr}",
    )


@pattern(6)
def superlative(c: Composer) -> Pair:
    """This is the oldest church in the city."""
    noun = c.deal(PLACES)
    adjective = ADJECTIVES[c.deal(("old", "big", "small", "beautiful"))]
    most = "most beautiful" if adjective.en == "beautiful" else adjective.more[:-1] + "st"
    place = noun_phrase("the", noun, adjective)
    region = c.deal(
        (
            ("the city", "la ville"),
            ("the village", "le village"),
            ("the country", "le pays"),
            ("the island", "l'île"),
        )
    )
    where = "on" if region[0] == "the island" else "in"
    bare = noun_phrase("bare", noun, adjective).fr
    if noun.gender == "m" and vowel_sound(noun.fr):
        bare = f"{adjective.vowel} {noun.fr}"
    article = "la" if place.gender == "f" else "le"
    return say(
        f"this is the {most} {noun.en} {where} {region[0]}",
        f"c'est {article} plus {bare} {of(region[1])}",
    )


@pattern(14)
def thing_is_at(c: Composer) -> Pair:
    """The keys are under the newspaper; is my coat on the chair?"""
    noun = c.deal(PORTABLE + CLOTHES + READING[:5])
    subject = noun_phrase(c.deal(("the", "my", "your", "his", "her")), noun, plural=c.chance(0.25))
    where = placed(c.deal(("on", "under", "behind", "next to", "near")), noun_phrase("the", c.deal(FURNITURE)))
    if c.chance(0.35):
        where = placed("in", noun_phrase("the", c.deal(ROOMS + VEHICLES[:1] + COLORED[:1])))
    kind = c.below(4)
    if kind == 0:
        return say(*asked(subject, BE, "simple", where), "?")
    return say(*clause(subject, BE, c.deal(("simple", "imperfect")), where, negated=kind == 1))


@pattern(8)
def place_is_at(c: Composer) -> Pair:
    """The bank is opposite the church."""
    first = second = c.deal(PLACES)
    while second == first:
        second = c.deal(PLACES)
    where = placed(c.deal(("next to", "behind", "near", "opposite", "in front of")), noun_phrase("the", second))
    return say(*clause(noun_phrase("the", first), BE, "simple", where))


CONTAINERS = ROOMS[:1] + tuple(noun for noun in COLORED if noun.en in ("basket", "bag", "box"))
OUTSIDE = tuple(noun for noun in PLACES if noun.en in ("park", "garden", "zoo", "castle"))


@pattern(12)
def there_is(c: Composer) -> Pair:
    """There is a cat under the table; there are three apples in the basket."""
    kind = c.below(4)
    if kind == 3:
        noun = c.deal(SIGHTS[:4] + PLACES)
        where = placed(
            c.deal(("near", "behind", "opposite", "next to")),
            noun_phrase("the", second_place(c, noun)),
        )
        return say(
            f"there is {noun_phrase('a', noun).en} {where.en}",
            f"il y a {noun_phrase('a', noun).fr} {where.fr}",
        )
    where = placed(c.deal(("in", "in", "near")), noun_phrase("the", c.deal(ROOMS)))
    noun = c.deal((ANIMALS, PEOPLE[:8], FOOD, PORTABLE)[c.below(4)])
    if noun in ANIMALS:
        where = placed(c.deal(("in", "near", "behind")), noun_phrase("the", c.deal(OUTSIDE)))
    if noun in FOOD:
        where = placed("in", noun_phrase("the", c.deal(CONTAINERS)))
    if kind == 0:
        one = noun_phrase("a", noun, c.beside(noun) if c.chance(0.4) else None)
        return say(f"there is {one.en} {where.en}", f"il y a {one.fr} {where.fr}")
    if kind == 1:
        count = number(2 + c.below(9))
        return say(
            f"there are {count.en} {noun.en_plural} {where.en}",
            f"il y a {count.fr} {noun.fr_plural} {where.fr}",
        )
    many = elide(f"de {noun.fr_plural}")
    return say(f"there are no {noun.en_plural} {where.en}", f"il n'y a pas {many} {where.fr}")


def second_place(c: Composer, other: Noun) -> Noun:
    """A place of another kind than `other`."""
    noun = c.deal(PLACES)
    while noun == other:
        noun = c.deal(PLACES)
    return noun


@pattern(6)
def is_there_food(c: Composer) -> Pair:
    """Is there any milk in the kitchen?"""
    noun = c.deal(DISHES + DRINKS)
    kitchen = c.deal((("in the kitchen", "dans la cuisine"), ("on the table", "sur la table")))
    if c.chance(0.5):
        return say(
            f"there is no {noun.en} {kitchen[0]}",
            f"il n'y a pas {elide('de ' + noun.fr)} {kitchen[1]}",
        )
    return say(
        f"is there any {noun.en} {kitchen[0]}",
        f"est-ce qu'il y a {some(noun).fr} {kitchen[1]}",
        "?",
    )


@pattern(9)
def job(c: Composer) -> Pair:
    """My sister is a lawyer."""
    subject = c.relative() if c.chance(0.6) else PRONOUNS[c.deal(("he", "she"))]
    if c.chance(0.4):
        subject = c.person()
    en, masculine, feminine = c.deal(JOBS)
    word = Phrase(en, feminine if subject.gender == "f" else masculine)
    kind = c.below(5)
    if kind == 0:
        return say(*asked(subject, BE, "simple", word), "?")
    return say(*clause(subject, BE, c.deal(("simple", "simple", "imperfect")), word, negated=kind == 1))


@pattern(8)
def where_is(c: Composer) -> Pair:
    """Excuse me, where is the station?"""
    if c.chance(0.5):
        place = noun_phrase("the", c.deal(PLACES))
        if c.chance(0.5):
            return say(f"excuse me, where is {place.en}", f"excusez-moi, où est {place.fr}", "?")
        return say(f"where is {place.en}", f"où est {place.fr}", "?")
    plural = c.chance(0.4)
    thing = noun_phrase(
        c.deal(("my", "your", "his", "her", "our", "their")),
        c.deal(PORTABLE + CLOTHES),
        plural=plural,
    )
    be = ("are", "sont") if plural else ("is", "est")
    return say(f"where {be[0]} {thing.en}", f"où {be[1]} {thing.fr}", "?")


@pattern(7)
def lives_where(c: Composer) -> Pair:
    """He lives in a small house near the station."""
    subject, noun = c.subject(), c.deal(HOMES)
    home = noun_phrase("a", noun, c.beside(noun))
    near = placed(c.deal(("near", "next to", "behind", "opposite")), noun_phrase("the", c.deal(PLACES[:12])))
    if noun.en in ("village", "city"):
        near = NOTHING
    rest = Phrase(f"in {home.en} {near.en}".strip(), f"dans {home.fr} {near.fr}".strip())
    return say(*clause(subject, LIVE, c.deal(("simple", "used to", "want")), rest))


@pattern(8)
def nationality(c: Composer) -> Pair:
    """This singer is Italian; she bought a German car."""
    adjective = c.deal(NATIONALITIES)
    if c.chance(0.5):
        subject = noun_phrase(c.deal(("the", "this")), c.deal(PEOPLE), plural=c.chance(0.3))
        if c.chance(0.4):
            subject = PRONOUNS[c.deal(("he", "she", "they"))]
        return say(*clause(subject, BE, "simple", described(subject, adjective), negated=c.chance(0.2)))
    noun = c.deal(VEHICLES + READING[:4])
    subject = c.subject()
    return say(*clause(subject, BUY, c.deal(("past", "will", "want")), noun_phrase("a", noun, adjective)))
