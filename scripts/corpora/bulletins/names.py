"""Names composed of syllables; every split has other names, only first names are shared.

Towns, surnames, companies and rivers are invented. Surnames also name streets, schools and prizes;
towns also name teams and clubs.
"""

import random
from typing import NamedTuple


class Names(NamedTuple):
    """The invented names that one split may use."""

    surnames: tuple[str, ...]
    towns: tuple[str, ...]
    companies: tuple[str, ...]  # without the trade: Calatide, to be followed by Optics
    rivers: tuple[str, ...]


def listed(text: str, mark: str | None = None) -> tuple[str, ...]:
    """Split a list into its entries, at white space or marks."""
    return tuple(text.split(mark))


WOMEN = listed(
    """
    Ada Alma Amina Anna Beatriz Carla Chloe Dana Elena Elsa Farah Freya Greta Hana Helen Ida Ines Iris Jana Joan
    Judith Karin Lara Leila Lucy Maja Marta Mei Mira Nadia Nina Nora Olga Paula Petra Priya Rita Rosa Ruth Sara
    Selma Sofia Tara Tessa Vera Wanda Yara Yuki Zoe Zora
    """
)
MEN = listed(
    """
    Adam Ahmed Aidan Alan Anton Bela Ben Boris Bruno Carl Cyrus Dario David Dev Emil Erik Felix Frank Goran Hamid
    Henry Hugo Ivan Jakob Joel Jonas Karl Kenji Leo Luis Marek Martin Milo Neil Nils Omar Oscar Pablo Paul Piet
    Ravi Rolf Samir Simon Sven Tariq Theo Tomas Viktor Yusuf
    """
)

SURNAMES = (
    (
        "Al Bar Ber Cal Cor Dal Del Dor El Fal Far Fen Gal Gar Hal Hol Jar Kel Kor Lam Lar Lin Mal Mar Mel Mor Nor "
        "Or Pel Per Ral Ros Sal Sel Sor Tal Tar Tol Val Ver Vin Wal Wen Yar Zel",
        "away beck berg brand brook cott croft dane dell dine drick drum fast fyn gard holt horn kamp kin land lind "
        "lock low mark mont nay nell quist rick ridge shaw son stone strand thwaite vane vik wold wyn",
    ),
    (
        "Aba Ade Bene Cara Cha Dimi Domi Ferra Galle Ibra Kata Kova Lore Mene Mora Naka Nova Oka Pala Petra Ramo "
        "Rosa Salva Sata Tana Tore Vasi Vera Yama Zama",
        "bayo cek dez dis ghan kis lian mura nelli nic noff poulos rado relli rez riva sano sek shima tani tez tov "
        "vic wari zzi",
    ),
)
TOWNS = (
    (
        "Bo Bra Dre Fa Gle Gro Ha Ki La Lo Ma Me No O Pe Ra Ska Sti Ta Tre Vo Wi",
        "dder lla llen mmer ndle nna rra rrin sker ster wan",
    ),
    ("", "burn bury by cliff combe dale den field ford gate ham haven holme mere mouth ness port stead thorpe wick"),
)
COMPANIES = (
    (
        "Aero Alti Bori Brio Cala Ceno Deca Dyna Elvo Ferro Flexi Gala Helio Juno Kali Lumi Nexo Orbi Pano Quanti "
        "Rivo Soli Terra Ulti Vanta Vero Xeno Zeni",
        "brik dor fant garn jol kesh lark lonn mar nook pell quill rask rund sol tane tide trop vale vick wend wyn",
    ),
)
RIVERS = (
    (
        "Ar Bel Cor Dar El Fal Gar Hes Il Kar Len Mar Nel Or Pel Ros Sel Tam Ul Wen",
        "dow issa lin mel nock rane sey thel wath wick",
    ),
)


WORDS = listed(  # made by chance, but something else already
    "Aerosol Allow Barlow Callow Dominic Fallow Faraway Gallow Garland Hallow Harlow Holland Larkin Mallow Marlow "
    "Mellow Morland Morlock Nelson Orson Person Sallow Satanic Tallow Wallow"
)


def crossed(tables: tuple[tuple[str, str], ...]) -> list[str]:
    """Join every beginning with every ending, table by table."""
    made = [start + end for starts, ends in tables for start in starts.split() for end in ends.split()]
    return [word for word in made if word not in WORDS]


def shuffled(words: list[str], chance: random.Random) -> list[str]:
    """Return the words in random order, using only random(), whose sequence Python guarantees for all versions."""
    return [word for _, word in sorted((chance.random(), word) for word in words)]


def dealt(seed: int, shares: tuple[float, ...]) -> list[Names]:
    """Distribute all names among the splits; no name is in two of them."""
    chance = random.Random(seed)
    towns = [start + end for start in crossed(TOWNS[:1]) for end in TOWNS[1][1].split()]
    parts: list[list[tuple[str, ...]]] = [[] for _ in shares]
    for words in (crossed(SURNAMES), towns, crossed(COMPANIES), crossed(RIVERS)):
        words = shuffled(words, chance)
        bounds = [round(len(words) * sum(shares[:place])) for place in range(len(shares) + 1)]
        for part, start, end in zip(parts, bounds, bounds[1:], strict=False):
            part.append(tuple(words[start:end]))
    return [Names(*part) for part in parts]
