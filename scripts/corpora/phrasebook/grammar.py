"""English and French grammar of the phrasebook: noun phrases, verbs, elision, numbers, times.

Every function is pure and returns both languages, so every English phrase has one French
translation. "You" is always vous, "they" always ils, simple past always passé composé.
"""

import re
from typing import NamedTuple

from phrasebook.lexicon import (
    BE,
    CAN,
    GO,
    HAVE,
    MUST,
    SPELLED,
    WANT,
    Adjective,
    Name,
    Noun,
    Verb,
    fr_plural,
)


class Phrase(NamedTuple):
    """A subject or object in both languages, with the features that other words agree with."""

    en: str
    fr: str
    gender: str = "m"
    plural: bool = False
    person: int = 3


class Pair(NamedTuple):
    """A complete English sentence and its French translation."""

    en: str
    fr: str


VOWELS = "aeiouàâäéèêëîïôöùûüœ"
ASPIRATED = ("hibou", "huit")  # h that allows no elision
NO_ELISION = ("onze", "oui")
ELIDING = "le|la|de|je|ne|que|me|se|Je|Le|La"


def vowel_sound(word: str) -> bool:
    """Whether the word before a French word is elided (l'ami, l'homme, but le hibou)."""
    low = word.lower()
    if low.startswith(ASPIRATED + NO_ELISION):
        return False
    return low[0] in VOWELS or low[0] == "h"


def elide(fr: str) -> str:
    """Shorten le, la, de, je, ne, que, me, se before a vowel sound, and si before il."""

    def shorten(match: re.Match[str]) -> str:
        word, follower = match.groups()
        return f"{word[:-1]}'" if vowel_sound(follower) else match.group(0)

    fr = re.sub(rf"(?<![\w'-])({ELIDING}) (?=(\w+))", shorten, fr)
    return re.sub(r"(?<!\w)([sS])i (?=ils?\b)", r"\1'", fr)


def say(en: str, fr: str, mark: str = ".") -> Pair:
    """Complete a sentence: capital letter, elision, final mark (in French, a space before ? and !)."""
    fr = elide(fr)
    fr_mark = mark if mark == "." else f" {mark}"
    return Pair(en[0].upper() + en[1:] + mark, fr[0].upper() + fr[1:] + fr_mark)


def a_or_an(word: str) -> str:
    """Return the English indefinite article before `word`."""
    return "an" if word[0] in "aeiouAEIOU" and not word.startswith(("uni", "use")) else "a"


def agree(adjective: Adjective, gender: str, plural: bool) -> str:
    """Return the French form of an adjective for a gender and a number."""
    form = adjective.feminine if gender == "f" else adjective.masculine
    return fr_plural(form) if plural else form


# Determiners: English singular and plural, French m, f, before a vowel, plural.
DETERMINERS = {
    "the": ("the", "the", "le", "la", "l'", "les"),
    "a": ("a", "some", "un", "une", "", "des"),
    "this": ("this", "these", "ce", "cette", "cet/cette", "ces"),
    "my": ("my", "my", "mon", "ma", "mon", "mes"),
    "his": ("his", "his", "son", "sa", "son", "ses"),
    "her": ("her", "her", "son", "sa", "son", "ses"),
    "our": ("our", "our", "notre", "notre", "notre", "nos"),
    "your": ("your", "your", "votre", "votre", "votre", "vos"),
    "their": ("their", "their", "leur", "leur", "leur", "leurs"),
    "any": ("a", "any", "de", "de", "d'", "de"),  # the object of a negated verb
    "bare": ("", "", "", "", "", ""),
}


def determiner(kind: str, gender: str, plural: bool, follower: str) -> str:
    """Return the French determiner before the word `follower`, with its space or apostrophe."""
    _, _, masculine, feminine, before_vowel, many = DETERMINERS[kind]
    word = many if plural else feminine if gender == "f" else masculine
    if not plural and before_vowel and vowel_sound(follower):
        word = before_vowel
        if kind == "this":
            word = "cette" if gender == "f" else "cet"
    return word if not word or word.endswith("'") else f"{word} "


def noun_phrase(kind: str, noun: Noun, adjective: Adjective | None = None, *, plural: bool = False) -> Phrase:
    """Build determiner, adjective and noun; `kind` is a key of DETERMINERS."""
    en_noun = noun.en_plural if plural else noun.en
    fr_noun = noun.fr_plural if plural else noun.fr
    en, fr = en_noun, fr_noun
    if adjective is not None:
        en = f"{adjective.en} {en_noun}"
        form = agree(adjective, noun.gender, plural)
        if not adjective.before:
            fr = f"{fr_noun} {form}"
        else:
            if noun.gender == "m" and not plural and vowel_sound(fr_noun):
                form = adjective.vowel
            fr = f"{form} {fr_noun}"
    if kind == "a" and plural and adjective is not None and adjective.before:
        fr = f"de {fr}"  # de vieux livres, not des
    else:
        fr = determiner(kind, noun.gender, plural, fr) + fr
    article = DETERMINERS[kind][plural]
    if article == "a":
        article = a_or_an(en)
    return Phrase(f"{article} {en}".strip(), elide(fr), noun.gender, plural)


def some(noun: Noun, *, negated: bool = False) -> Phrase:
    """An indefinite quantity of an uncountable noun: some bread, du pain; any bread, de pain."""
    if negated:
        return Phrase(f"any {noun.en}", elide(f"de {noun.fr}"), noun.gender)
    return Phrase(f"some {noun.en}", of(noun_phrase("the", noun).fr), noun.gender)


def contract(preposition: str, fr: str) -> str:
    """Put "de" or "à" before a noun phrase: du, des, au, aux."""
    forms = {"de": ("du", "des"), "à": ("au", "aux")}[preposition]
    for article, contracted in zip(("le ", "les "), forms, strict=True):
        if fr.startswith(article):
            return f"{contracted} {fr[len(article) :]}"
    return elide(f"{preposition} {fr}")


def of(fr: str) -> str:
    """A French noun phrase after "de"."""
    return contract("de", fr)


def to(fr: str) -> str:
    """A French noun phrase after "à"."""
    return contract("à", fr)


PLACINGS = {
    "on": "sur",
    "under": "sous",
    "behind": "derrière",
    "in front of": "devant",
    "in": "dans",
    "near": "près de",
    "next to": "à côté de",
    "opposite": "en face de",
}


def placed(en: str, where: Phrase) -> Phrase:
    """A place: preposition `en` and a noun phrase."""
    fr = PLACINGS[en]
    if fr.endswith(" de"):
        return Phrase(f"{en} {where.en}", fr.removesuffix("de") + of(where.fr))
    return Phrase(f"{en} {where.en}", f"{fr} {where.fr}")


PRONOUNS = {
    "I": Phrase("I", "je", "m", False, 1),
    "we": Phrase("we", "nous", "m", True, 1),
    "you": Phrase("you", "vous", "m", True, 2),
    "he": Phrase("he", "il", "m"),
    "she": Phrase("she", "elle", "f"),
    "they": Phrase("they", "ils", "m", True),
}


def named(name: Name) -> Phrase:
    """A person or a town as a noun phrase."""
    return Phrase(name.en, name.fr, name.gender or "m")


def slot(subject: Phrase) -> int:
    """Return the index of the present form of a subject (je, il, nous, vous, ils)."""
    if subject.person == 3:
        return 4 if subject.plural else 1
    if subject.person == 2:
        return 3
    return 2 if subject.plural else 0


def third_person(verb: Verb) -> str:
    """English third person singular: comes back, watches, carries."""
    if verb is HAVE:
        return "has"
    head, space, tail = verb.en.partition(" ")
    if head.endswith(("s", "x", "ch", "sh", "o")):
        head += "es"
    elif head.endswith("y") and head[-2] not in "aeiou":
        head = head[:-1] + "ies"
    else:
        head += "s"
    return head + space + tail


def en_be(subject: Phrase, *, past: bool = False) -> str:
    """Am, is, are, was or were."""
    if subject.plural:
        return "were" if past else "are"
    if past:
        return "was"
    return "am" if subject.person == 1 else "is"


def en_parts(subject: Phrase, verb: Verb, tense: str) -> tuple[str, str, str]:
    """English auxiliary, the words after it, and the plain form of an affirmative statement."""
    third = subject.person == 3 and not subject.plural
    do, have = ("does", "has") if third else ("do", "have")
    be, was = en_be(subject), en_be(subject, past=True)
    if verb is BE:
        plain = {"simple": be, "imperfect": was}.get(tense, "")
        if plain:
            return plain, "", plain
    return {
        "simple": (do, verb.en, third_person(verb) if third else verb.en),
        "going on": (be, verb.en_ing, ""),
        "past": ("did", verb.en, verb.en_past),
        "used to": ("", "", f"used to {verb.en}"),
        "imperfect": (was, verb.en_ing, ""),
        "will": ("will", verb.en, ""),
        "going to": (be, f"going to {verb.en}", ""),
        "want": (do, f"want to {verb.en}", f"{'wants' if third else 'want'} to {verb.en}"),
        "can": ("can", verb.en, ""),
        "must": ("must", verb.en, ""),
        "would like": ("would", f"like to {verb.en}", ""),
        "since": (have, f"been {verb.en_ing}", ""),
    }[tense]


def english(subject: Phrase, verb: Verb, tense: str, negation: str = "") -> str:
    """English subject and verb; `negation` is "", "not" or "never"."""
    auxiliary, rest, plain = en_parts(subject, verb, tense)
    if not negation:
        words = plain or f"{auxiliary} {rest}"
    elif negation == "never" and tense == "simple" and verb is not BE:
        words = f"never {plain}"
    elif auxiliary == "can":
        words = f"cannot {rest}"
    else:
        words = f"{auxiliary} {negation} {rest}"
    return f"{subject.en} {words}".strip()


def english_question(subject: Phrase, verb: Verb, tense: str) -> str:
    """English auxiliary, subject and verb of a question."""
    auxiliary, rest, _ = en_parts(subject, verb, tense)
    return f"{auxiliary} {subject.en} {rest}".strip()


def imperfect(subject: Phrase, verb: Verb) -> str:
    """French imparfait."""
    ending = ("ais", "ait", "ions", "iez", "aient")[slot(subject)]
    stem = "ét" if verb is BE else verb.present[2].removesuffix("ons")
    if stem.endswith("ge") and ending.startswith("i"):
        stem = stem[:-1]
    return stem + ending


def future(subject: Phrase, verb: Verb) -> str:
    """French futur simple."""
    return verb.future + ("ai", "a", "ons", "ez", "ont")[slot(subject)]


def participle(verb: Verb, owner: Phrase) -> str:
    """French past participle agreeing with `owner`."""
    form = verb.participle + ("e" if owner.gender == "f" else "")
    return fr_plural(form) if owner.plural else form


def french(
    subject: Phrase,
    verb: Verb,
    tense: str,
    negation: str = "",
    *,
    clitic: str = "",
    adverb: str = "",
) -> str:
    """French subject and verb: ne, clitic pronoun, verb, negation, adverb, infinitive.

    Args:
        negation: "", "pas" or "jamais".
        clitic: an object pronoun (le, la, les, lui, leur), put where French requires it.
        adverb: a word that follows the conjugated verb (souvent, toujours).
    """
    place = slot(subject)
    if verb.reflexive:
        clitic = ("me", "se", "nous", "vous", "se")[place]
    helpers = {"going to": GO, "want": WANT, "can": CAN, "must": MUST}
    tail = ""
    if tense in helpers:
        finite, tail = helpers[tense].present[place], f"{clitic} {verb.infinitive}".strip()
        clitic = ""
    elif tense == "would like":
        finite = "voudr" + ("ais", "ait", "ions", "iez", "aient")[place]
        tail, clitic = f"{clitic} {verb.infinitive}".strip(), ""
    elif tense == "past":
        finite = (BE if verb.with_etre else HAVE).present[place]
        tail = participle(verb, subject) if verb.with_etre else verb.participle
    elif tense in ("imperfect", "used to"):
        finite = imperfect(subject, verb)
    elif tense == "will":
        finite = future(subject, verb)
    else:
        finite = verb.present[place]
    words = (subject.fr, "ne" if negation else "", clitic, finite, negation, adverb, tail)
    return elide(" ".join(word for word in words if word))


def clause(subject: Phrase, verb: Verb, tense: str, rest: Phrase, *, negated: bool = False) -> Pair:
    """A complete clause, not yet a sentence."""
    en = english(subject, verb, tense, "not" if negated else "")
    fr = french(subject, verb, tense, "pas" if negated else "")
    return Pair(f"{en} {rest.en}".strip(), f"{fr} {rest.fr}".strip())


def asked(subject: Phrase, verb: Verb, tense: str, rest: Phrase) -> Pair:
    """A complete yes-or-no question, not yet a sentence."""
    en = f"{english_question(subject, verb, tense)} {rest.en}".strip()
    return Pair(en, elide(f"est-ce que {french(subject, verb, tense)} {rest.fr}".strip()))


NOTHING = Phrase("", "")


def described(subject: Phrase, adjective: Adjective) -> Phrase:
    """An adjective after "to be"."""
    return Phrase(adjective.en, agree(adjective, subject.gender, subject.plural))


def number(value: int, gender: str = "m") -> Phrase:
    """A spelled number; one and twenty-one agree in gender."""
    en, fr = SPELLED[value]
    if gender == "f" and value in (1, 21):
        fr += "e"
    return Phrase(en, fr, gender, value > 1)


def hours(hour: int) -> str:
    """French hours: une heure, deux heures, and midi for twelve."""
    if hour == 12:
        return "midi"
    return f"{number(hour, 'f').fr} {'heure' if hour == 1 else 'heures'}"


def spoken_time(hour: int, minute: int) -> Phrase:
    """A time in words, minute a multiple of five: a quarter past three, trois heures et quart; twelve is noon."""
    past = minute <= 30
    base = hour if past else hour % 12 + 1
    named_hour = "noon" if base == 12 else number(base).en
    if minute == 0:
        return Phrase(named_hour if base == 12 else f"{named_hour} o'clock", hours(base))
    count = minute if past else 60 - minute
    en = {15: "a quarter", 30: "half"}.get(count) or number(count).en
    if past:
        half = "et demi" if base == 12 else "et demie"
        fr = {15: "et quart", 30: half}.get(count) or number(count).fr
        return Phrase(f"{en} past {named_hour}", f"{hours(base)} {fr}")
    fr = "le quart" if count == 15 else number(count).fr
    return Phrase(f"{en} to {named_hour}", f"{hours(base)} moins {fr}")


def written_time(hour: int, minute: int) -> Phrase:
    """A time in digits: 3:15, 3 h 15."""
    return Phrase(f"{hour}:{minute:02}", f"{hour} h {minute:02}")


def written_price(euros: int, cents: int) -> Phrase:
    """A price in digits: €3.50, 3,50 €."""
    return Phrase(f"€{euros}.{cents:02}", f"{euros},{cents:02} €")


def date(day: int, month: tuple[str, str]) -> Phrase:
    """A day of a month: May 3, 3 mai; the first is 1er."""
    return Phrase(f"{month[0]} {day}", f"{'1er' if day == 1 else day} {month[1]}")
