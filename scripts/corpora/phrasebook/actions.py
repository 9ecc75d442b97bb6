"""Patterns about doing things: tenses, negation, questions, object pronouns, requests."""

from phrasebook.composer import Composer, own, pattern, pronoun
from phrasebook.grammar import (
    NOTHING,
    PRONOUNS,
    Pair,
    Phrase,
    asked,
    clause,
    elide,
    english,
    french,
    noun_phrase,
    number,
    participle,
    say,
    some,
    to,
)
from phrasebook.lexicon import (
    ACTIONS,
    ACTIVITIES,
    BUY,
    CLOTHES,
    COLD_DRINKS,
    COLORED,
    COMING,
    DISHES,
    DRINK,
    DRINKS,
    EAT,
    EVENTS,
    FIND,
    FOOD,
    FORGET,
    FUTURE_TIMES,
    GIVING,
    HABITS,
    HATE,
    HAVE,
    HOBBIES,
    HOT_DRINKS,
    KNOW,
    LANGUAGES,
    LASTING,
    LEARN,
    LIKE,
    LOSE,
    PAIRS,
    PAST_TIMES,
    PEOPLE,
    PORTABLE,
    PREFER,
    READ,
    READING,
    REPAIR,
    REQUESTS,
    SEARCH,
    SEE,
    SELL,
    SHOWS,
    SPEAK,
    VEHICLES,
    WEAR,
    WRITE,
    WRITING,
)


@pattern(16)
def going_on(c: Composer) -> Pair:
    """The girl is eating an apple."""
    subject = c.subject()
    verb, thing = c.deed(subject)
    return say(*clause(subject, verb, "going on", thing))


@pattern(20)
def past_event(c: Composer) -> Pair:
    """The girl lost her key (yesterday)."""
    subject = c.subject()
    verb, thing = c.event(subject)
    when = Phrase(*c.deal(PAST_TIMES)) if c.chance(0.3) else NOTHING
    rest = Phrase(f"{thing.en} {when.en}".strip(), f"{thing.fr} {when.fr}".strip())
    return say(*clause(subject, verb, "past", rest))


@pattern(16)
def future_event(c: Composer) -> Pair:
    """We will visit the castle (tomorrow); the doctor is going to buy a car."""
    subject = c.subject()
    tense = c.deal(("will", "going to"))
    verb, thing = c.deed(subject, COMING if tense == "will" else ACTIONS)
    when = Phrase(*c.deal(FUTURE_TIMES)) if c.chance(0.3) else NOTHING
    rest = Phrase(f"{thing.en} {when.en}".strip(), f"{thing.fr} {when.fr}".strip())
    return say(*clause(subject, verb, tense, rest))


@pattern(8)
def was_doing(c: Composer) -> Pair:
    """My uncle was washing the shirt."""
    subject = c.subject()
    verb, thing = c.deed(subject, LASTING)
    return say(*clause(subject, verb, "imperfect", thing))


@pattern(8)
def used_to(c: Composer) -> Pair:
    """She used to sing every day."""
    subject, verb = c.subject(), c.deal(HOBBIES)
    return say(*clause(subject, verb, "used to", Phrase(*c.deal(HABITS))))


@pattern(14)
def not_doing(c: Composer) -> Pair:
    """The waiter did not open the door."""
    subject = c.subject()
    tense = c.deal(("going on", "past", "will", "going to", "past"))
    verb, noun = c.deal({"past": EVENTS, "will": COMING}.get(tense, ACTIONS))
    things = noun_phrase(c.deal(("the", "the", "this")), c.deal(noun))
    return say(*clause(subject, verb, tense, things, negated=True))


@pattern(8)
def bought_none(c: Composer) -> Pair:
    """He did not buy any apples."""
    subject, verb_nouns = c.subject(), c.deal(((BUY, FOOD), (EAT, FOOD), (SELL, FOOD)))
    verb, nouns = verb_nouns
    noun = c.deal(nouns)
    thing = Phrase(f"any {noun.en_plural}", elide(f"de {noun.fr_plural}"))
    return say(*clause(subject, verb, "past", thing, negated=True))


@pattern(10)
def asked_doing(c: Composer) -> Pair:
    """Did you close the window?"""
    subject = c.asked_one()
    tense = c.deal(("past", "will", "going to"))
    verb, thing = c.deed(subject, {"past": EVENTS, "will": COMING}.get(tense, ACTIONS))
    return say(*asked(subject, verb, tense, thing), "?")


@pattern(7)
def asked_now(c: Composer) -> Pair:
    """Is he reading the letter?"""
    subject = c.asked_one()
    verb, thing = c.deed(subject)
    return say(*asked(subject, verb, "going on", thing), "?")


@pattern(8)
def what_doing(c: Composer) -> Pair:
    """What is the teacher reading?"""
    subject = c.asked_one()
    verb = c.deal((EAT, DRINK, READ, WRITE, SEARCH, BUY, LOSE, FORGET, SEE))
    tense = "past" if verb in (LOSE, FORGET, SEE) or c.chance(0.4) else "going on"
    en, fr = asked(subject, verb, tense, NOTHING)
    return say(f"what {en}", fr.replace("est-ce qu", "qu'est-ce qu", 1), "?")


@pattern(8)
def who_did(c: Composer) -> Pair:
    """Who broke the glass?"""
    tense = c.deal(("past", "past", "will"))
    verb, thing = c.deed(PRONOUNS["he"], COMING if tense == "will" else EVENTS)
    someone = Phrase("who", "qui")
    return say(*clause(someone, verb, tense, thing), "?")


@pattern(8)
def why_doing(c: Composer) -> Pair:
    """Why is your brother crying?"""
    subject, verb = c.asked_one(), c.deal(ACTIVITIES)
    en, fr = asked(subject, verb, c.deal(("going on", "past")), NOTHING)
    return say(f"why {en}", f"pourquoi {fr}", "?")


@pattern(16)
def modal(c: Composer) -> Pair:
    """The tourists want to visit the church."""
    subject = c.subject()
    verb, thing = c.deed(subject)
    return say(*clause(subject, verb, c.deal(("want", "can", "must", "would like")), thing))


@pattern(8)
def modal_not(c: Composer) -> Pair:
    """He cannot find his key."""
    subject = c.subject()
    verb, nouns = c.deal(((FIND, PORTABLE), (SELL, VEHICLES), (READ, READING), (REPAIR, VEHICLES)))
    rest = noun_phrase(c.deal(("the", "this", own(subject))), c.deal(nouns))
    tense = "can" if verb is FIND else c.deal(("want", "can"))
    return say(*clause(subject, verb, tense, rest, negated=True))


CLITICS = {("m", False): "le", ("f", False): "la", ("m", True): "les", ("f", True): "les"}


@pattern(10)
def seeks_but(c: Composer) -> Pair:
    """The man is looking for the keys, but he cannot find them."""
    subject = c.subject()
    noun = c.deal(PORTABLE)
    thing = noun_phrase(c.deal(("the", own(subject))), noun, plural=c.chance(0.4))
    start = clause(subject, SEARCH, "going on", thing)
    again, tense = pronoun(subject), c.deal(("can", "simple"))
    it = "them" if thing.plural else "it"
    clitic = CLITICS[thing.gender, thing.plural]
    en = english(again, FIND, tense, "not")
    fr = french(again, FIND, tense, "pas", clitic=clitic)
    return say(f"{start.en}, but {en} {it}", f"{start.fr}, mais {fr}")


@pattern(10)
def bought_and(c: Composer) -> Pair:
    """She bought a dress and she will wear it tomorrow."""
    subject = c.subject()
    verb, nouns = c.deal(((WEAR, CLOTHES), (READ, READING[:2] + READING[3:5]), (EAT, FOOD)))
    plural = verb is EAT and c.chance(0.5)
    thing = noun_phrase("a", c.deal(nouns), plural=plural)
    start = clause(subject, BUY, "past", thing)
    again = pronoun(subject)
    clitic = CLITICS[thing.gender, plural]
    when = c.deal(FUTURE_TIMES[:1] + FUTURE_TIMES[4:])
    en = f"{english(again, verb, 'will')} {'them' if plural else 'it'} {when[0]}"
    fr = f"{french(again, verb, 'will', clitic=clitic)} {when[1]}"
    return say(f"{start.en} and {en}", f"{start.fr} et {fr}")


OBJECTS = (("him", "le"), ("her", "la"), ("them", "les"))


@pattern(10)
def sees_them(c: Composer) -> Pair:
    """I often see her; we do not know them."""
    subject = c.subject()
    en_object, clitic = c.deal(OBJECTS)
    verb = c.deal((KNOW, LIKE, SEE))
    if c.chance(0.4):
        fr = french(subject, verb, "simple", "pas", clitic=clitic)
        return say(f"{english(subject, verb, 'simple', 'not')} {en_object}", fr)
    if verb is not SEE:
        fr = french(subject, verb, "simple", clitic=clitic, adverb="bien" if verb is KNOW else "")
        return say(
            f"{english(subject, verb, 'simple')} {en_object}" + (" well" if verb is KNOW else ""),
            fr,
        )
    habit = c.deal(HABITS)
    fr = f"{french(subject, verb, 'simple', clitic=clitic)} {habit[1]}"
    return say(f"{english(subject, verb, 'simple')} {en_object} {habit[0]}", fr)


@pattern(10)
def gives_them(c: Composer) -> Pair:
    """The baker gave them some oranges; I will show her the letter."""
    subject, verb = c.subject(), c.deal(GIVING)
    en_object, clitic = c.deal((("him", "lui"), ("her", "lui"), ("them", "leur")))
    noun = c.deal(READING + COLORED)
    thing = noun_phrase(c.deal(("the", "a")), noun, plural=c.chance(0.3))
    tense = c.deal(("past", "will", "going to", "want"))
    en = f"{english(subject, verb, tense)} {en_object} {thing.en}"
    return say(en, f"{french(subject, verb, tense, clitic=clitic)} {thing.fr}")


@pattern(12)
def gives_to(c: Composer) -> Pair:
    """My aunt gave the keys to the neighbor."""
    subject, verb = c.subject(), c.deal(GIVING)
    thing = noun_phrase(c.deal(("the", "a", "this")), c.deal(PORTABLE + READING), plural=c.chance(0.3))
    person = noun_phrase("the", c.deal(PEOPLE), plural=c.chance(0.2))
    if person.en == subject.en:
        person = PHRASE_MOTHER
    tense = c.deal(("past", "past", "will", "want"))
    rest = Phrase(f"{thing.en} to {person.en}", f"{thing.fr} {to(person.fr)}")
    return say(*clause(subject, verb, tense, rest))


PHRASE_MOTHER = Phrase("my mother", "ma mère", "f")


@pattern(8)
def adverbs(c: Composer) -> Pair:
    """The nurse never drinks coffee."""
    subject = c.subject()
    verb, noun = c.deal(((EAT, DISHES), (DRINK, DRINKS), (BUY, DISHES)))
    drink = c.deal(noun)
    adverb = c.deal(("never", "often", "always"))
    if adverb == "never":
        fr = f"{french(subject, verb, 'simple', 'jamais')} {elide('de ' + drink.fr)}"
        return say(f"{english(subject, verb, 'simple', 'never')} {drink.en}", fr)
    word = {"often": "souvent", "always": "toujours"}[adverb]
    plain = english(subject, verb, "simple").removeprefix(subject.en)
    en = f"{subject.en} {adverb}{plain} {drink.en}"
    return say(en, f"{french(subject, verb, 'simple', adverb=word)} {some(drink).fr}")


@pattern(12)
def eats_some(c: Composer) -> Pair:
    """They are drinking some milk."""
    subject = c.subject()
    verb, nouns = c.deal(((EAT, DISHES), (DRINK, DRINKS), (BUY, DISHES + DRINKS)))
    tense = c.deal(("going on", "past", "will", "want", "would like"))
    return say(*clause(subject, verb, tense, some(c.deal(nouns))))


@pattern(9)
def eats_none(c: Composer) -> Pair:
    """We do not have any bread."""
    subject = c.subject()
    verb, nouns = c.deal(((EAT, DISHES), (DRINK, DRINKS), (HAVE, DISHES + DRINKS)))
    thing = some(c.deal(nouns), negated=True)
    tense = "simple" if verb is HAVE else c.deal(("past", "want"))
    return say(*clause(subject, verb, tense, thing, negated=True))


@pattern(10)
def likes(c: Composer) -> Pair:
    """The children like chocolate, but they hate fish."""
    subject, verb = c.subject(), c.deal((LIKE, HATE, PREFER))
    thing = c.deal(DISHES + DRINKS)
    rest = Phrase(thing.en, noun_phrase("the", thing).fr)
    if verb is LIKE and c.chance(0.5):
        return say(*asked(c.asked_one(), verb, "simple", rest), "?")
    return say(*clause(subject, verb, "simple", rest, negated=verb is LIKE and c.chance(0.5)))


QUANTITIES = (
    ("a glass of", "un verre de", COLD_DRINKS),
    ("a cup of", "une tasse de", HOT_DRINKS),
    ("a bottle of", "une bouteille de", COLD_DRINKS),
    ("a lot of", "beaucoup de", DISHES + DRINKS),
    ("a little", "un peu de", DISHES + DRINKS),
    ("too much", "trop de", DISHES + DRINKS),
)


@pattern(10)
def quantity(c: Composer) -> Pair:
    """I would like a glass of water; he bought a lot of cheese."""
    subject = c.subject()
    en, fr, nouns = c.deal(QUANTITIES)
    noun = c.deal(nouns)
    rest = Phrase(f"{en} {noun.en}", elide(f"{fr} {noun.fr}"))
    tense = "past" if en.startswith("too") else c.deal(("past", "want", "would like"))
    if en in ("a glass of", "a cup of"):
        verb = DRINK
    elif en.startswith("too"):
        verb = DRINK if noun in DRINKS else EAT
    else:
        verb = BUY
    return say(*clause(subject, verb, tense, rest))


@pattern(8)
def i_would_like(c: Composer) -> Pair:
    """I would like two pears, please."""
    count = number(2 + c.below(9))
    noun = c.deal(FOOD)
    subject = PRONOUNS[c.deal(("I", "we"))]
    if c.chance(0.4):
        drink = c.deal(DRINKS)
        thing = Phrase(f"some {drink.en}", some(drink).fr)
    else:
        thing = Phrase(f"{count.en} {noun.en_plural}", f"{count.fr} {noun.fr_plural}")
    word = "voudrais" if subject.person == 1 and not subject.plural else "voudrions"
    fr = f"{subject.fr} {word} {thing.fr}, s'il vous plaît"
    return say(f"{subject.en} would like {thing.en}, please", fr)


@pattern(9)
def could_you(c: Composer) -> Pair:
    """Could you open the window, please?"""
    verb, nouns = c.deal(REQUESTS)
    thing = noun_phrase(c.deal(("the", "this", "my")) if nouns is not PEOPLE else "the", c.deal(nouns))
    fr = f"est-ce que vous pourriez {verb.infinitive} {thing.fr}, s'il vous plaît"
    return say(f"could you {verb.en} {thing.en}, please", fr, "?")


@pattern(9)
def orders(c: Composer) -> Pair:
    """Close the door, please; do not open the box!"""
    verb, nouns = c.deal(REQUESTS)
    thing = noun_phrase(
        c.deal(("the", "this")),
        c.deal(nouns),
        plural=nouns in (READING, PORTABLE, CLOTHES) and c.chance(0.4),
    )
    you = verb.present[3]
    if c.chance(0.5):
        return say(f"do not {verb.en} {thing.en}", f"ne {you} pas {thing.fr}", "!")
    return say(f"{verb.en} {thing.en}, please", f"{you} {thing.fr}, s'il vous plaît")


@pattern(10)
def has(c: Composer) -> Pair:
    """Our neighbors have two dogs; she does not have a car."""
    subject = c.subject()
    noun = c.deal(VEHICLES + PORTABLE + READING[:2])
    if c.chance(0.4):
        rest = noun_phrase("any", noun)
        return say(*clause(subject, HAVE, "simple", rest, negated=True))
    adjective = c.beside(noun) if c.chance(0.7) else None
    return say(*clause(subject, HAVE, "simple", noun_phrase("a", noun, adjective)))


@pattern(7)
def has_pairs(c: Composer) -> Pair:
    """My grandmother is wearing black shoes."""
    subject, noun = c.subject(), c.deal(PAIRS)
    adjective = c.beside(CLOTHES[0])
    thing = noun_phrase("a", noun, adjective, plural=True)
    thing = Phrase(thing.en.removeprefix("some "), thing.fr)
    verb, tense = c.deal(((WEAR, "going on"), (BUY, "past"), (WEAR, "imperfect")))
    return say(*clause(subject, verb, tense, thing))


@pattern(8)
def speaks(c: Composer) -> Pair:
    """Does your uncle speak German?"""
    subject = c.asked_one()
    en, fr = c.deal(LANGUAGES)
    kind = c.below(4)
    if kind == 0:
        return say(*asked(subject, SPEAK, "simple", Phrase(en, fr)), "?")
    if kind == 1:
        return say(*clause(subject, SPEAK, "simple", Phrase(en, fr), negated=True))
    learned = Phrase(en, elide(f"le {fr}"))
    return say(*clause(subject, LEARN, c.deal(("going on", "want", "past")), learned))


@pattern(12)
def that_relative(c: Composer) -> Pair:
    """Where are the letters that she wrote? with the French participle agreeing."""
    subject = c.subject()
    verb, nouns = c.deal(
        (
            (WRITE, WRITING),
            (BUY, CLOTHES + COLORED),
            (LOSE, PORTABLE),
            (READ, READING),
            (FIND, PORTABLE),
            (SELL, VEHICLES),
            (SEE, SHOWS[:1]),
        )
    )
    thing = noun_phrase("the", c.deal(nouns), plural=nouns != SHOWS[:1] and c.chance(0.4))
    auxiliary = french(subject, HAVE, "simple").removeprefix(subject.fr)
    if subject.person == 1 and not subject.plural:
        auxiliary = " ai"
    told = elide(f"{thing.fr} que {subject.fr}{auxiliary} {participle(verb, thing)}")
    told = told.replace("je ai ", "j'ai ")
    name = f"{thing.en} that {subject.en} {verb.en_past}"
    if c.chance(0.5) and verb is not SEE:
        be = ("are", "sont") if thing.plural else ("is", "est")
        return say(f"where {be[0]} {name}", f"où {be[1]} {told}", "?")
    liker = PRONOUNS[c.deal(("I", "we"))]
    start = clause(liker, LIKE, "simple", NOTHING)
    return say(f"{start.en} {name}", f"{start.fr} {told}")


@pattern(8)
def who_relative(c: Composer) -> Pair:
    """I know the woman who is reading the newspaper."""
    noun = c.deal(PEOPLE)
    who = noun_phrase("the", noun)
    verb, thing = c.deed(who, adjectives=0.0)
    inner = clause(Phrase("who", "qui"), verb, "going on", thing)
    speaker, seen = PRONOUNS[c.deal(("I", "we"))], c.deal((KNOW, SEE))
    start = clause(speaker, seen, "simple", who)
    return say(f"{start.en} {inner.en}", f"{start.fr} {inner.fr}")


@pattern(6)
def how_many(c: Composer) -> Pair:
    """How many books did you buy?"""
    subject, verb_nouns = c.asked_one(), c.deal(((BUY, FOOD + CLOTHES), (READ, READING[:7])))
    verb, nouns = verb_nouns
    noun = c.deal(nouns)
    en, fr = asked(subject, verb, "past", NOTHING)
    # The counted noun stands before the verb: livres lus, pommes achetées.
    agreed = participle(verb, Phrase("", "", noun.gender, True))
    fr = fr.removesuffix(verb.participle) + agreed
    return say(f"how many {noun.en_plural} {en}", f"combien de {noun.fr_plural} {fr}", "?")
