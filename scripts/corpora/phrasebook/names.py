"""Names of people and towns for the phrasebook, in three groups that share no name.

Core names are frequent in every split; other words may agree with their gender. Rare names occur a
few times each, in training only; unseen names do not occur in training. Rare and unseen names start
with a consonant other than h, are the same in both languages, and no other word agrees with them, so
they can only be copied.
"""

from typing import NamedTuple

from phrasebook.lexicon import Name


class Names(NamedTuple):
    """The names that one part of the phrasebook may contain."""

    people: tuple[Name, ...]
    surnames: tuple[Name, ...]
    towns: tuple[Name, ...]
    well_known: bool = False  # towns whose distances a reader knows


def same(words: str, gender: str = "") -> tuple[Name, ...]:
    """Make names that are the same in both languages."""
    return tuple(Name(word, word, gender) for word in words.split())


MEN = """
    Paul Thomas Louis David Daniel Simon Martin Lucas Hugo Julien Antoine Olivier Nicolas
    Robert Philippe Michel Marc Victor Arthur Alain
"""
WOMEN = """
    Marie Julie Sophie Anne Alice Emma Claire Laura Sarah Camille Nathalie Isabelle
    Charlotte Juliette Hélène Catherine Louise Manon Lucie Pauline
"""
SURNAMES = """
    Dupont Durand Leroy Moreau Lefebvre Garnier Rousseau Fournier Mercier Blanchard Lambert
    Bonnet Fontaine Chevalier Robin Picard Arnaud Aubert Olivet Imbert Hubert Marchand Renard
    Colin Perrin
"""
TOWNS = """
    Paris Lyon Marseille Bordeaux Lille Toulouse Strasbourg Dijon Rennes Grenoble Berlin Madrid
    Rome Milan Prague Dublin Tokyo Boston Chicago Toronto Avignon Orléans Amsterdam Oslo
"""
TRANSLATED_TOWNS = """
    London/Londres Geneva/Genève Brussels/Bruxelles Vienna/Vienne Lisbon/Lisbonne Venice/Venise
    Moscow/Moscou Athens/Athènes Barcelona/Barcelone Montreal/Montréal Warsaw/Varsovie
"""
RARE_MEN = """
    Bastien Baptiste Benoît Boris Brice Bruno Cédric Christophe Clément Corentin Cyril Damien
    Denis Didier Diego Dimitri Dorian Fabien Fabrice Félix Florian Franck Gabriel Gaspard Gaston
    Gauthier Georges Gilles Grégoire Guillaume Jacques Jérôme Joël Jonas Joseph Jules Kevin
    Laurent Lionel Loïc Luc Ludovic Marcel Mathieu Maurice Maxence Mehdi Nathan Nils Norbert
    Pascal Patrick Quentin Raoul Raphaël Régis Roger Roland Romain Samuel Sébastien Serge
    Sylvain Tanguy Théo Thierry Timothée Tristan Vincent Walter Xavier
"""
RARE_WOMEN = """
    Barbara Béatrice Bérénice
    Brigitte Capucine Caroline Cécile Céline Chantal Chloé Christine Clara Clémence Coralie
    Danielle Delphine Diane Dominique Fanny Florence Françoise Gabrielle Geneviève Gisèle Jade
    Jeanne Jocelyne Justine Karine Laurence Léa Lise Lola Maëlle Margaux Mathilde Mélanie Monique
    Morgane Nadia Nicole Nina Noémie Patricia Pénélope Rachel Régine Romane Sabine Salomé Sandrine
    Solène Stéphanie Suzanne Sylvie Tatiana Thérèse Valérie Vanessa Véronique Victoire Virginie
    Viviane Wendy Zoé
"""
UNSEEN_MEN = """
    Basile Barnabé Bernard Bertrand Boniface Camilo Casimir Célestin Charles Conrad Cosme
    Désiré Donatien Fernand Firmin Flavien Gaétan Gédéon Germain Gustave Joachim Justin Kilian
    Lazare Léon Lilian Lucien Malo Marius Matteo Maxime Milo Nestor Noé Rémi Rodolphe
    Sacha Samson Stanislas Titouan Valentin Zacharie
"""
UNSEEN_WOMEN = """
    Bernadette Blandine Carmen Cassandre Colette
    Constance Faustine Fernande Flore Joséphine Lucille Madeleine Margot Marianne
    Mireille Nadège Rosalie Roxane Solange Thaïs Violette
"""

SURNAME_STEMS = """
    Bert Bouch Carl Chard Cord Dant Delm Fab Gar Gaud Gir Jacqu Lamb Lang Maill March Narb Pell
    Pich Rav Rous Salv Tess Thib Vall Verd Vign
"""
SURNAME_ENDINGS = "ard eau el et ier in on ot aud as"
TOWN_STEMS = """
    Bar Ber Bon Car Cham Clam Cor Dam Dom Far Fleur Gir Gran Lam Lor Mar Mer Mon Par Per Ram Ris
    Roc Sar Sau Tar Tres Val Ver Vil
"""
TOWN_ENDINGS = "bourg court mont ville zac nay nac lieu"


def compounds(stems: str, endings: str) -> list[str]:
    """Join every stem with every ending, in an order that mixes both (a fixed stride, not random)."""
    words = [stem + ending for stem in stems.split() for ending in endings.split()]
    stride = 97  # prime to both lengths, 270 and 240
    return [words[place * stride % len(words)] for place in range(len(words))]


def core_names() -> Names:
    """Names that occur everywhere, with their gender."""
    pairs = (word.split("/") for word in TRANSLATED_TOWNS.split())
    towns = same(TOWNS) + tuple(Name(en, fr, "") for en, fr in pairs)
    return Names(same(MEN, "m") + same(WOMEN, "f"), same(SURNAMES), towns, well_known=True)


def rare_names() -> Names:
    """Names that occur a few times each, in training only."""
    taken = set(SURNAMES.split())
    surnames = [word for word in compounds(SURNAME_STEMS, SURNAME_ENDINGS) if word not in taken]
    towns = compounds(TOWN_STEMS, TOWN_ENDINGS)
    return Names(
        same(RARE_MEN, "m") + same(RARE_WOMEN, "f"),
        same(" ".join(surnames[60:220])),
        same(" ".join(towns[60:220])),
    )


def unseen_names() -> Names:
    """Names that occur nowhere in training."""
    taken = set(SURNAMES.split())
    surnames = [word for word in compounds(SURNAME_STEMS, SURNAME_ENDINGS) if word not in taken]
    towns = compounds(TOWN_STEMS, TOWN_ENDINGS)
    return Names(
        same(UNSEEN_MEN, "m") + same(UNSEEN_WOMEN, "f"),
        same(" ".join(surnames[:60])),
        same(" ".join(towns[:60])),
    )
