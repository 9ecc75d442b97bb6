"""The bundled phrasebook: reproducible bytes, disjoint splits, and the grammar on examples by hand."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from phrasebook.grammar import (
    PRONOUNS,
    Phrase,
    asked,
    clause,
    date,
    described,
    elide,
    french,
    named,
    noun_phrase,
    number,
    of,
    placed,
    say,
    some,
    spoken_time,
    to,
    written_price,
    written_time,
)
from phrasebook.lexicon import (
    ADJECTIVES,
    BE,
    BUY,
    CLOSE,
    EAT,
    FIND,
    GET_UP,
    GIVE,
    GO,
    HAVE,
    LEAVE,
    LIVE,
    READ,
    WRITE,
    Name,
    Noun,
    Verb,
    nouns,
)
from phrasebook.names import Names, core_names, rare_names, unseen_names

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data" / "phrasebook"
COUNTS = {"train": 12_000, "valid": 500, "test": 500, "unseen_names": 500}


def noun(entry: str) -> Noun:
    return nouns(entry)[0]


BOOK, CAR, MAN = noun("book livre m"), noun("car voiture f"), noun("man/men homme m")
HOTEL, SCHOOL, OWL = noun("hotel hôtel m"), noun("school école f"), noun("owl hibou/hiboux m")
WOMEN = noun_phrase("the", noun("woman/women femme f"), plural=True)
BREAD, WATER, BANK = noun("bread pain m"), noun("water eau f"), noun("bank banque f")
GIRL = noun_phrase("the", noun("girl fille f"))
NOTHING = Phrase("", "")


@pytest.fixture(scope="module")
def splits() -> dict[str, list[tuple[str, str]]]:
    """Read the committed pairs of each split."""
    found = {}
    for name in COUNTS:
        sides = [(DATA / f"{name}.{side}").read_text(encoding="utf-8").split("\n") for side in ("en", "fr")]
        assert [side.pop() for side in sides] == ["", ""], f"{name} must end in a newline"
        found[name] = list(zip(*sides, strict=True))
    return found


def words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)


def test_generator_writes_the_committed_bytes(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "corpora" / "make_phrasebook.py"
    subprocess.run([sys.executable, str(script), "--out", str(tmp_path)], check=True, timeout=60)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_bytes() for path in DATA.iterdir()}
    assert sorted(made) == sorted(committed) == sorted(f"{name}.{side}" for name in COUNTS for side in ("en", "fr"))
    assert [name for name in made if made[name] != committed[name]] == []
    assert sum(map(len, committed.values())) <= 1_000_000


def test_counts_and_no_english_sentence_twice(splits: dict[str, list[tuple[str, str]]]) -> None:
    assert {name: len(pairs) for name, pairs in splits.items()} == COUNTS
    # Every English sentence occurs once in all splits, so the splits are disjoint and it has one translation.
    counts = Counter(en for pairs in splits.values() for en, _ in pairs)
    assert [en for en, count in counts.items() if count > 1] == []


def test_every_word_of_valid_and_test_occurs_in_training(splits: dict[str, list[tuple[str, str]]]) -> None:
    for side in (0, 1):
        known = Counter(word for pair in splits["train"] for word in set(words(pair[side])))
        for name in ("valid", "test"):
            assert [w for pair in splits[name] for w in words(pair[side]) if known[w] < 10] == []


def all_names(names: Names) -> set[str]:
    return {
        form for group in (names.people, names.surnames, names.towns) for name in group for form in (name.en, name.fr)
    }


def test_unseen_names_occur_nowhere_in_training(splits: dict[str, list[tuple[str, str]]]) -> None:
    unseen = {name.lower() for name in all_names(unseen_names())}
    for name in ("train", "valid", "test"):
        assert unseen & {word.lower() for pair in splits[name] for text in pair for word in words(text)} == set()
    for en, fr in splits["unseen_names"]:
        copied = [word for word in words(en) if word.lower() in unseen]
        assert copied, f"no unseen name in {en}"
        assert sorted(copied) == sorted(word for word in words(fr) if word.lower() in unseen)


def test_words_of_unseen_names_are_otherwise_known(splits: dict[str, list[tuple[str, str]]]) -> None:
    unseen = all_names(unseen_names())
    for side in (0, 1):
        known = {word for pair in splits["train"] for word in words(pair[side])}
        new = {word for pair in splits["unseen_names"] for word in words(pair[side])} - unseen - known
        assert new == set()


@pytest.mark.parametrize("names", [rare_names(), unseen_names()], ids=["rare", "unseen"])
def test_no_agreement_or_elision_depends_on_names_that_are_copied(names: Names) -> None:
    for group in (names.people, names.surnames, names.towns):
        for name in group:
            assert name.en == name.fr
            assert re.fullmatch(r"[BCDFGJKLMNPQRSTVWXZ]\w+", name.en), name.en


def test_groups_of_names_are_large_and_disjoint(splits: dict[str, list[tuple[str, str]]]) -> None:
    groups = [all_names(core_names()), all_names(rare_names()), all_names(unseen_names())]
    assert len(set.union(*groups)) == sum(map(len, groups))
    known = {word for pair in splits["train"] for word in words(pair[0])}
    training = [core_names(), rare_names()]
    assert len(known & {name.en for names in training for name in names.people}) >= 150
    assert len(known & {name.en for names in training for name in names.towns}) >= 80
    unseen = unseen_names()
    assert min(map(len, (unseen.people, unseen.surnames, unseen.towns))) >= 60


FAULTS_FR = (
    r"\b(de|à) les?\b(?! \w+er\b)",  # du, des, au, aux
    r"(?i)\b(le|la|de|je|ne|que|me|se) [aeiouyàâéèêëîïôûœ]",  # l', d', j', n', qu'
    r"(?i)\bde (des|du)\b",
    r"\bsi ils?\b",
    r"(?i)\b[mts]a [aeiouéèêâôœ]",  # mon amie
    r"\bce ([aeiouéèêâôœ]|homme|hôtel)",
    r"\b(beau|vieux|nouveau) (homme|hôtel|hôpital|ami|avion|oiseau|écrivain|ours|étudiant)\b",
    r"pas (des|du|de la|de l'|une?) ",
    r"  |^ | $",
    r"[^ ][?!]",  # a space before both
    r" [.,']|' ",
)
FAULTS_EN = (
    r"(?i)\ba [aeio]",
    r"(?i)\ban (?![aeio]|umb|unc)",
    r"  |^ | $| [.,?!]",
    r"\b(he|she|it) (have|do|are|were)\b",
    r"(?<!and )\b(we|they|you) (has|does|is|was)\b",
    r"\bany \w+ (is|are)\b",
)


@pytest.mark.parametrize(("side", "faults"), [(0, FAULTS_EN), (1, FAULTS_FR)], ids=["en", "fr"])
def test_no_typical_fault_in_any_sentence(
    splits: dict[str, list[tuple[str, str]]], side: int, faults: tuple[str, ...]
) -> None:
    sentences = [pair[side] for pairs in splits.values() for pair in pairs]
    for fault in faults:
        assert [text for text in sentences if re.search(fault, text)] == [], fault
    marks = re.compile(r"[A-ZÀÉ€].*[^\s.,][.]|[A-ZÀÉ].*[?!]")
    assert [text for text in sentences if not marks.fullmatch(text)] == []
    assert all(3 <= len(words(text)) <= 20 for text in sentences)


@pytest.mark.parametrize(
    ("kind", "entry", "adjective", "plural", "en", "fr"),
    [
        ("the", "car voiture f", "white", False, "the white car", "la voiture blanche"),
        ("the", "car voiture f", "white", True, "the white cars", "les voitures blanches"),
        ("a", "friend ami m", "old", False, "an old friend", "un vieil ami"),
        ("a", "apartment appartement m", "beautiful", False, "a beautiful apartment", "un bel appartement"),
        ("this", "hotel hôtel m", "new", False, "this new hotel", "ce nouvel hôtel"),
        ("the", "bird oiseau m", "beautiful", True, "the beautiful birds", "les beaux oiseaux"),
        ("a", "house maison f", "old", False, "an old house", "une vieille maison"),
        ("a", "book livre m", "old", True, "some old books", "de vieux livres"),
        ("a", "skirt jupe f", "blue", True, "some blue skirts", "des jupes bleues"),
        ("this", "man/men homme m", None, False, "this man", "cet homme"),
        ("this", "school école f", None, False, "this school", "cette école"),
        ("this", "man/men homme m", None, True, "these men", "ces hommes"),
        ("my", "school école f", None, False, "my school", "mon école"),
        ("my", "scarf/scarves écharpe f", "old", False, "my old scarf", "ma vieille écharpe"),
        ("her", "brother frère m", None, False, "her brother", "son frère"),
        ("their", "key clé f", None, True, "their keys", "leurs clés"),
        ("the", "owl hibou/hiboux m", None, False, "the owl", "le hibou"),
        ("the", "egg œuf m", None, False, "the egg", "l'œuf"),
        ("a", "university université f", None, False, "a university", "une université"),
        ("the", "horse cheval m", "gray", True, "the gray horses", "les chevaux gris"),
    ],
)
def test_noun_phrase(kind: str, entry: str, adjective: str | None, plural: bool, en: str, fr: str) -> None:
    made = noun_phrase(kind, noun(entry), ADJECTIVES[adjective] if adjective else None, plural=plural)
    assert (made.en, made.fr) == (en, fr)


def test_contractions_and_elision() -> None:
    bank, hotel, school = (noun_phrase("the", one).fr for one in (BANK, HOTEL, SCHOOL))
    book, books = noun_phrase("the", BOOK).fr, noun_phrase("the", BOOK, plural=True).fr
    assert [of(book), of(books), of(bank), of(hotel)] == ["du livre", "des livres", "de la banque", "de l'hôtel"]
    assert [to(book), to(books), to(bank), to(school)] == ["au livre", "aux livres", "à la banque", "à l'école"]
    assert of(noun_phrase("a", MAN).fr) == "d'un homme"
    assert of(noun_phrase("the", OWL).fr) == "du hibou"
    assert [elide("le chat de Anne"), elide("le chat de Marie")] == ["le chat d'Anne", "le chat de Marie"]
    assert elide("si il pleut, je ne ai pas ce que elle aime") == "s'il pleut, je n'ai pas ce qu'elle aime"
    assert placed("next to", noun_phrase("the", HOTEL)).fr == "à côté de l'hôtel"
    assert placed("opposite", noun_phrase("the", BOOK)).fr == "en face du livre"
    assert (some(BREAD).fr, some(WATER).fr) == ("du pain", "de l'eau")
    assert some(WATER, negated=True) == Phrase("any water", "d'eau", "f")


@pytest.mark.parametrize(
    ("subject", "verb", "tense", "negated", "en", "fr"),
    [
        ("he", EAT, "going on", False, "he is eating", "il mange"),
        ("we", EAT, "imperfect", False, "we were eating", "nous mangions"),
        ("they", EAT, "used to", False, "they used to eat", "ils mangeaient"),
        ("I", BUY, "past", False, "I bought", "j'ai acheté"),
        ("I", BUY, "past", True, "I did not buy", "je n'ai pas acheté"),
        ("she", GO, "past", False, "she went", "elle est allée"),
        ("they", LEAVE, "past", True, "they did not leave", "ils ne sont pas partis"),
        ("she", GET_UP, "past", False, "she got up", "elle s'est levée"),
        ("I", GET_UP, "will", False, "I will get up", "je me lèverai"),
        ("we", BUY, "will", False, "we will buy", "nous achèterons"),
        ("you", GO, "will", False, "you will go", "vous irez"),
        ("he", READ, "going to", True, "he is not going to read", "il ne va pas lire"),
        ("she", READ, "can", True, "she cannot read", "elle ne peut pas lire"),
        ("you", CLOSE, "must", False, "you must close", "vous devez fermer"),
        ("they", WRITE, "want", True, "they do not want to write", "ils ne veulent pas écrire"),
        ("I", LIVE, "simple", True, "I do not live", "je n'habite pas"),
        ("I", LIVE, "would like", False, "I would like to live", "je voudrais habiter"),
        ("he", HAVE, "simple", True, "he does not have", "il n'a pas"),
        ("he", READ, "since", False, "he has been reading", "il lit"),
        ("you", BE, "imperfect", True, "you were not", "vous n'étiez pas"),
    ],
)
def test_tenses_and_negation(subject: str, verb: Verb, tense: str, negated: bool, en: str, fr: str) -> None:
    assert tuple(clause(PRONOUNS[subject], verb, tense, NOTHING, negated=negated)) == (en, fr)


def test_agreement_of_participle_and_adjective_with_the_subject() -> None:
    assert french(WOMEN, GO, "past") == "les femmes sont allées"
    assert french(WOMEN, EAT, "past") == "les femmes ont mangé"
    assert clause(WOMEN, BE, "simple", described(WOMEN, ADJECTIVES["happy"])).fr == "les femmes sont heureuses"
    assert clause(GIRL, BE, "imperfect", described(GIRL, ADJECTIVES["proud"])).en == "the girl was proud"
    assert french(named(Name("Marie", "Marie", "f")), LEAVE, "past") == "Marie est partie"


def test_object_pronouns_stand_before_their_verb() -> None:
    he, i = PRONOUNS["he"], PRONOUNS["I"]
    assert french(he, FIND, "simple", "pas", clitic="la") == "il ne la trouve pas"
    assert french(i, BUY, "past", clitic="lui") == "je lui ai acheté"
    assert french(he, FIND, "can", "pas", clitic="les") == "il ne peut pas les trouver"
    assert french(he, BUY, "will", clitic="le") == "il l'achètera"
    assert french(he, GIVE, "going to", clitic="leur") == "il va leur donner"


def test_questions_take_est_ce_que() -> None:
    en, fr = asked(PRONOUNS["they"], READ, "past", noun_phrase("the", BOOK))
    assert say(en, fr, "?") == ("Did they read the book?", "Est-ce qu'ils ont lu le livre ?")
    en, fr = asked(GIRL, BE, "simple", described(GIRL, ADJECTIVES["tall"]))
    assert say(en, fr, "?") == ("Is the girl tall?", "Est-ce que la fille est grande ?")


@pytest.mark.parametrize(
    ("made", "en", "fr"),
    [
        (spoken_time(3, 15), "a quarter past three", "trois heures et quart"),
        (spoken_time(3, 30), "half past three", "trois heures et demie"),
        (spoken_time(12, 45), "a quarter to one", "une heure moins le quart"),
        (spoken_time(12, 30), "half past noon", "midi et demi"),
        (spoken_time(11, 55), "five to noon", "midi moins cinq"),
        (spoken_time(1, 0), "one o'clock", "une heure"),
        (spoken_time(4, 35), "twenty-five to five", "cinq heures moins vingt-cinq"),
        (spoken_time(9, 10), "ten past nine", "neuf heures dix"),
        (written_time(3, 5), "3:05", "3 h 05"),
        (written_price(3, 50), "€3.50", "3,50 €"),
        (date(3, ("May", "mai")), "May 3", "3 mai"),
        (date(1, ("June", "juin")), "June 1", "1er juin"),
        (number(80), "eighty", "quatre-vingts"),
        (number(21, "f"), "twenty-one", "vingt et une"),
        (number(70), "seventy", "soixante-dix"),
    ],
)
def test_numbers_times_prices_dates(made: Phrase, en: str, fr: str) -> None:
    assert (made.en, made.fr) == (en, fr)


@pytest.mark.parametrize(
    ("en", "fr"),
    [
        (
            r"the (letters|shirts|jackets|watches|keys|cups) that",
            r" qu.* (achetées|écrites|perdues|trouvées|lues|vendues)\b",
        ),
        (r"(in|to) the United States", r"\baux États-Unis\b"),
        (r"in (Japan|Canada|Brazil)", r"\bau (Japon|Canada|Brésil)\b"),
        (r"in (Italy|Spain)", r"\ben (Italie|Espagne)\b"),
        (r"from (Portugal|Japan|Canada|Brazil|Morocco)", r"\bdu (Portugal|Japon|Canada|Brésil|Maroc)\b"),
        (r"more \w+ than", r" plus \w+ qu"),
        (r"faster than", r"plus rapides? que"),
        (r"^Could you", r"^Est-ce que vous pourriez .*, s'il vous plaît \?$"),
        (r"on \w+day, \w+ \d+", r"le (\w+di|dimanche) (\d+|1er) \w+"),
        (r"never (eats|drinks|buys)", r"n(e |').* jamais d(e |')"),
        (r"who is \w+ing", r" qui "),
        (r"^It is raining", r"^Il pleut"),
        (r"It is foggy", r"Il y a du brouillard"),
    ],
)
def test_constructions_occur_and_are_translated_correctly(
    splits: dict[str, list[tuple[str, str]]], en: str, fr: str
) -> None:
    found = [pair for pair in splits["train"] if re.search(en, pair[0])]
    assert len(found) >= 3, en
    assert [pair for pair in found if not re.search(fr, pair[1])] == []
