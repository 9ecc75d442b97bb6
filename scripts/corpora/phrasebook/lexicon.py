"""Words of the phrasebook: plain tables, with one entry for every English word and its French translation.

The grammar is in grammar.py, the sentences are in actions.py, scenes.py, moments.py and people.py.
Nouns are written "english french gender"; an irregular plural follows a slash, "_" is a space.
"""

from typing import NamedTuple


class Noun(NamedTuple):
    """A noun with both numbers in both languages and its French gender ("m" or "f")."""

    en: str
    en_plural: str
    fr: str
    fr_plural: str
    gender: str


class Adjective(NamedTuple):
    """An adjective; `vowel` is the masculine before a vowel (bel), `before` its place."""

    en: str
    more: str  # comparative: "bigger", "more useful"
    masculine: str
    feminine: str
    vowel: str
    before: bool


class Verb(NamedTuple):
    """A verb: English base, past and -ing; French present is je, il, nous, vous, ils."""

    en: str
    en_past: str
    en_ing: str
    infinitive: str
    present: tuple[str, ...]
    participle: str
    future: str  # stem before -ai, -a, -ons, -ez, -ont
    with_etre: bool  # compound past with être, participle agrees with the subject
    reflexive: bool


class Name(NamedTuple):
    """A proper name in both languages; `gender` only where a sentence may need it."""

    en: str
    fr: str
    gender: str


def en_plural(word: str) -> str:
    """Regular English plural."""
    if word.endswith(("s", "x", "ch", "sh")) or word in ("tomato", "potato"):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def fr_plural(word: str) -> str:
    """Regular French plural of a noun or an adjective."""
    if word.endswith(("s", "x", "z")):
        return word
    if word.endswith("eau"):
        return word + "x"
    if word.endswith("al"):
        return word[:-2] + "aux"
    return word + "s"


def nouns(table: str) -> tuple[Noun, ...]:
    """Read a table of "english[/plural] french[/plural] gender" entries separated by commas."""
    rows = []
    for entry in table.split(","):
        en, fr, gender = (part.replace("_", " ") for part in entry.split())
        en_one, _, en_many = en.partition("/")
        fr_one, _, fr_many = fr.partition("/")
        plurals = en_many or en_plural(en_one), fr_many or fr_plural(fr_one)
        rows.append(Noun(en_one, plurals[0], fr_one, plurals[1], gender))
    return tuple(rows)


PEOPLE = nouns("""
    man/men homme m, woman/women femme f, boy garçon m, girl fille f, child/children enfant m,
    teacher professeur m, doctor médecin m, nurse infirmière f, waiter serveur m,
    waitress serveuse f, baker boulanger m, farmer fermier m, neighbor voisin m,
    student étudiant m, lawyer avocat m, singer chanteuse f, actress actrice f, painter peintre m,
    writer écrivain m, tourist touriste m, queen reine f, king roi m, princess princesse f,
    policeman/policemen policier m, gardener jardinier m, driver chauffeur m, soldier soldat m,
    dancer danseuse f, lady dame f, guide guide m, journalist journaliste m, secretary secrétaire f
""")
FAMILY = nouns("""
    mother mère f, father père m, brother frère m, sister sœur f, uncle oncle m, aunt tante f,
    grandmother grand-mère f, grandfather grand-père m, husband mari m, wife/wives femme f,
    friend ami m
""")
ANIMALS = nouns("""
    cat chat m, dog chien m, horse cheval m, cow vache f, rabbit lapin m, bird oiseau m,
    mouse/mice souris f, sheep/sheep mouton m, duck canard m, turtle tortue f, goat chèvre f,
    hen poule f, pig cochon m, bear ours m, monkey singe m, owl hibou/hiboux m
""")
FOOD = nouns("""
    apple pomme f, orange orange f, egg œuf m, cake gâteau m, sandwich sandwich m, tomato tomate f,
    carrot carotte f, cookie biscuit m, pear poire f, banana banane f, pizza pizza f,
    strawberry fraise f, lemon citron m, onion oignon m, cherry cerise f, peach pêche f,
    potato pomme_de_terre/pommes_de_terre f
""")
DISHES = nouns("""
    bread pain m, cheese fromage m, butter beurre m, soup soupe f, meat viande f, rice riz m,
    salad salade f, fish/fish poisson m, chicken poulet m, jam confiture f, chocolate chocolat m,
    honey miel m, ham jambon m, ice_cream glace f, sugar sucre m
""")
COLD_DRINKS = nouns("""
    water eau f, milk lait m, wine vin m, beer bière f, orange_juice jus_d'orange m,
    lemonade limonade f
""")
HOT_DRINKS = nouns("""coffee café m, tea thé m""")
DRINKS = COLD_DRINKS + HOT_DRINKS
READING = nouns("""
    book livre m, newspaper journal m, letter lettre f, novel roman m, magazine magazine m,
    story histoire f, poem poème m, message message m, article article m
""")
COLORED = nouns("""
    bag sac m, umbrella parapluie m, pen stylo m, box boîte f, notebook cahier m,
    envelope enveloppe f, basket panier m, suitcase valise f, blanket couverture f, lamp lampe f,
    cup tasse f, plate assiette f, bottle bouteille f, toy jouet m
""")
PORTABLE = COLORED + nouns("""
    key clé f, watch montre f, wallet portefeuille m, phone téléphone m, ticket billet m,
    passport passeport m, card carte f, ring bague f, knife/knives couteau m, mirror miroir m,
    glass verre m, gift cadeau m, spoon cuillère f, fork fourchette f, flower fleur f
""")
WRITING = nouns("""
    letter lettre f, novel roman m, story histoire f, poem poème m, message message m,
    article article m
""")
MAIL = nouns("""letter lettre f, message message m, postcard carte_postale/cartes_postales f""")
PETS = nouns("""cat chat m, dog chien m, rabbit lapin m, turtle tortue f, mouse/mice souris f""")
PAINTABLE = nouns("""
    door porte f, window fenêtre f, wall mur m, house maison f, boat bateau m, chair chaise f,
    kitchen cuisine f, bedroom chambre f
""")
GOODS = COLORED + nouns("""
    watch montre f, wallet portefeuille m, phone téléphone m, ticket billet m, ring bague f,
    mirror miroir m, card carte f, flower fleur f, key clé f
""")
CLOTHES = nouns("""
    dress robe f, shirt chemise f, hat chapeau m, coat manteau m, skirt jupe f, sweater pull m,
    jacket veste f, scarf/scarves écharpe f, tie cravate f, belt ceinture f
""")
BREAKABLE = nouns("""
    cup tasse f, plate assiette f, bottle bouteille f, toy jouet m, watch montre f, glass verre m,
    mirror miroir m, lamp lampe f, phone téléphone m
""")
PAIRS = nouns("""shoe chaussure f, boot botte f, glove gant m, sock chaussette f""")
FURNITURE = nouns("""
    table table f, chair chaise f, bed lit m, desk bureau m, sofa canapé m, armchair fauteuil m,
    shelf/shelves étagère f
""")
VEHICLES = nouns("""
    car voiture f, bike vélo m, boat bateau m, truck camion m, motorcycle moto f
""")
TRANSPORT = nouns("""train train m, bus bus m, plane avion m, boat bateau m""")
PLACES = nouns("""
    museum musée m, station gare f, church église f, school école f, hotel hôtel m,
    restaurant restaurant m, bank banque f, market marché m, hospital hôpital m, theater théâtre m,
    library bibliothèque f, castle château m, pharmacy pharmacie f, bakery boulangerie f,
    park parc m, beach plage f, garden jardin m, airport aéroport m, pool piscine f,
    university université f, bookstore librairie f, factory usine f, stadium stade m, zoo zoo m
""")
SHOPS = nouns("""
    museum musée m, restaurant restaurant m, bank banque f, library bibliothèque f,
    pharmacy pharmacie f, bakery boulangerie f, pool piscine f, bookstore librairie f, zoo zoo m,
    castle château m, shop magasin m
""")
SIGHTS = nouns("""
    museum musée m, church église f, castle château m, park parc m, zoo zoo m, village village m,
    island île f, city ville f, garden jardin m, factory usine f
""")
HOMES = nouns("""house maison f, apartment appartement m, village village m, city ville f""")
ROOMS = nouns("""
    kitchen cuisine f, bedroom chambre f, bathroom salle_de_bains/salles_de_bains f,
    garage garage m, garden jardin m
""")
OPENINGS = nouns("""door porte f, window fenêtre f, box boîte f, suitcase valise f, bag sac m""")
SHOWS = nouns("""movie film m, game match m, show spectacle m""")
MUSIC = nouns("""song chanson f, concert concert m, radio radio f""")

SPELLED_ADJECTIVES = """
    big bigger grand grande - before        | small smaller petit petite - before
    old older vieux vieille vieil before    | new newer nouveau nouvelle nouvel before
    pretty prettier joli jolie - before     | young younger jeune jeune - before
    good better bon bonne - before          | bad worse mauvais mauvaise - before
    beautiful + beau belle bel before       | red redder rouge rouge - after
    blue bluer bleu bleue - after           | green greener vert verte - after
    white whiter blanc blanche - after      | black blacker noir noire - after
    yellow yellower jaune jaune - after     | gray grayer gris grise - after
    pink pinker rose rose - after           | heavy heavier lourd lourde - after
    light lighter léger légère - after      | expensive + cher chère - after
    useful + utile utile - after            | hot hotter chaud chaude - after
    cold colder froid froide - after        | delicious + délicieux délicieuse - after
    fresh fresher frais fraîche - after     | clean cleaner propre propre - after
    dirty dirtier sale sale - after         | wet wetter mouillé mouillée - after
    dry drier sec sèche - after             | elegant + élégant élégante - after
    closed + fermé fermée - after           | open + ouvert ouverte - after
    dark darker sombre sombre - after       | modern + moderne moderne - after
    quiet quieter calme calme - after       | noisy noisier bruyant bruyante - after
    fast faster rapide rapide - after       | slow slower lent lente - after
    comfortable + confortable confortable - after
    interesting + intéressant intéressante - after
    dangerous + dangereux dangereuse - after
    boring + ennuyeux ennuyeuse - after     | long longer long longue - before
    short shorter court courte - after      | funny funnier drôle drôle - after
    difficult + difficile difficile - after | easy easier facile facile - after
    happy happier heureux heureuse - after  | sad sadder triste triste - after
    tired + fatigué fatiguée - after        | sick sicker malade malade - after
    rich richer riche riche - after         | famous + célèbre célèbre - after
    tall taller grand grande - after        | strong stronger fort forte - after
    kind kinder gentil gentille - after     | intelligent + intelligent intelligente - after
    patient + patient patiente - after      | polite + poli polie - after
    nervous + nerveux nerveuse - after      | serious + sérieux sérieuse - after
    curious + curieux curieuse - after      | worried + inquiet inquiète - after
    proud prouder fier fière - after        | generous + généreux généreuse - after
    shy shyer timide timide - after         | busy busier occupé occupée - after
    Italian + italien italienne - after     | French + français française - after
    German + allemand allemande - after     | Japanese + japonais japonaise - after
    American + américain américaine - after | English + anglais anglaise - after
    Chinese + chinois chinoise - after
    Spanish + espagnol espagnole - after    | Russian + russe russe - after
"""


def adjective(line: str) -> Adjective:
    """Read one "english comparative masculine feminine before-vowel place" entry."""
    en, more, masculine, feminine, vowel, place = line.split()
    more = f"more {en}" if more == "+" else more
    vowel = masculine if vowel == "-" else vowel
    return Adjective(en, more, masculine, feminine, vowel, place == "before")


ADJECTIVES = {
    entry.split()[0]: adjective(entry) for line in SPELLED_ADJECTIVES.strip().splitlines() for entry in line.split("|")
}


def adjectives(words: str) -> tuple[Adjective, ...]:
    """Look up a list of English adjectives."""
    return tuple(ADJECTIVES[word] for word in words.split())


COLORS = adjectives("red blue green white black yellow gray pink")
NATIONALITIES = adjectives("Italian French German Japanese American English Spanish Russian")
PERSON_ADJECTIVES = adjectives(
    "happy sad tired sick rich famous tall strong kind intelligent patient polite nervous "
    "serious curious worried proud generous shy busy young"
)
MOODS = adjectives("sad tired sick nervous worried busy")

# What may be said of what: (nouns, adjectives beside the noun, adjectives after "is").
DESCRIPTIONS = (
    (COLORED, COLORS, adjectives("heavy light pretty expensive useful beautiful old") + COLORS),
    (
        PORTABLE[len(COLORED) :],
        adjectives("new old small beautiful"),
        adjectives("expensive heavy light beautiful old"),
    ),
    (CLOTHES, COLORS, adjectives("clean dirty wet dry elegant expensive beautiful pretty old")),
    (CLOTHES, adjectives("new old beautiful pretty elegant"), COLORS),
    (VEHICLES, COLORS, adjectives("fast slow comfortable dangerous expensive dirty clean noisy")),
    (VEHICLES, adjectives("new old beautiful small"), COLORS),
    (FURNITURE, adjectives("new old small big comfortable"), adjectives("heavy big small old")),
    (
        READING,
        adjectives("new old long interesting good bad funny boring"),
        adjectives("long short interesting boring funny difficult easy beautiful sad"),
    ),
    (
        PLACES,
        adjectives("new old big small beautiful modern"),
        adjectives("open closed modern clean dirty quiet noisy beautiful big small old"),
    ),
    (
        HOMES,
        adjectives("big small beautiful old modern quiet"),
        adjectives("quiet noisy beautiful big small old clean dirty modern"),
    ),
    (ROOMS, adjectives("big small beautiful"), adjectives("clean dirty big small beautiful dark")),
    (
        ANIMALS,
        adjectives("small old young beautiful"),
        adjectives("young old small sick tired beautiful dangerous"),
    ),
    (FOOD, adjectives("small good"), adjectives("fresh expensive delicious good bad")),
    (PEOPLE, adjectives("young old sick tired"), PERSON_ADJECTIVES),
)
DISH_ADJECTIVES = adjectives("hot cold delicious good bad fresh expensive")
# Comparisons that make sense: (nouns, adjectives).
COMPARISONS = (
    (COLORED + CLOTHES, adjectives("heavy light expensive useful beautiful old pretty")),
    (VEHICLES + TRANSPORT, adjectives("fast slow comfortable dangerous expensive noisy big")),
    (READING, adjectives("long short interesting boring funny difficult easy")),
    (PLACES, adjectives("modern clean dirty quiet noisy beautiful big small old")),
    (ANIMALS, adjectives("fast slow intelligent strong dangerous young")),
    (PEOPLE, adjectives("rich tall strong kind patient polite serious shy young generous")),
)

IRREGULAR = {
    "boire": "bois boit buvons buvez boivent bu boir",
    "acheter": "achète achète achetons achetez achètent acheté achèter",
    "lire": "lis lit lisons lisez lisent lu lir",
    "écrire": "écris écrit écrivons écrivez écrivent écrit écrir",
    "voir": "vois voit voyons voyez voient vu verr",
    "vendre": "vends vend vendons vendez vendent vendu vendr",
    "perdre": "perds perd perdons perdez perdent perdu perdr",
    "ouvrir": "ouvre ouvre ouvrons ouvrez ouvrent ouvert ouvrir",
    "attendre": "attends attend attendons attendez attendent attendu attendr",
    "peindre": "peins peint peignons peignez peignent peint peindr",
    "nettoyer": "nettoie nettoie nettoyons nettoyez nettoient nettoyé nettoier",
    "apprendre": "apprends apprend apprenons apprenez apprennent appris apprendr",
    "prendre": "prends prend prenons prenez prennent pris prendr",
    "choisir": "choisis choisit choisissons choisissez choisissent choisi choisir",
    "envoyer": "envoie envoie envoyons envoyez envoient envoyé enverr",
    "recevoir": "reçois reçoit recevons recevez reçoivent reçu recevr",
    "préférer": "préfère préfère préférons préférez préfèrent préféré préférer",
    "connaître": "connais connaît connaissons connaissez connaissent connu connaîtr",
    "avoir": "ai a avons avez ont eu aur",
    "être": "suis est sommes êtes sont été ser",
    "dormir": "dors dort dormons dormez dorment dormi dormir",
    "aller": "vais va allons allez vont allé ir",
    "partir": "pars part partons partez partent parti partir",
    "sortir": "sors sort sortons sortez sortent sorti sortir",
    "venir": "viens vient venons venez viennent venu viendr",
    "revenir": "reviens revient revenons revenez reviennent revenu reviendr",
    "lever": "lève lève levons levez lèvent levé lèver",
    "vouloir": "veux veut voulons voulez veulent voulu voudr",
    "pouvoir": "peux peut pouvons pouvez peuvent pu pourr",
    "devoir": "dois doit devons devez doivent dû devr",
    "nager": "nage nage nageons nagez nagent nagé nager",
    "manger": "mange mange mangeons mangez mangent mangé manger",
    "voyager": "voyage voyage voyageons voyagez voyagent voyagé voyager",
}
WITH_ETRE = ("aller", "partir", "sortir", "venir", "revenir", "arriver", "rester", "tomber")


def french_forms(infinitive: str) -> list[str]:
    """Return the five present forms, the participle and the future stem of an infinitive."""
    if infinitive in IRREGULAR:
        return IRREGULAR[infinitive].split()
    if not infinitive.endswith("er"):
        raise ValueError(f"{infinitive} must end in -er or stand in IRREGULAR, and does neither")
    stem = infinitive[:-2]
    return [stem + ending for ending in ("e", "e", "ons", "ez", "ent", "é", "er")]


def verb(en: str, infinitive: str) -> Verb:
    """Make a verb from "base past ing" and a French infinitive ("se_laver" is reflexive)."""
    base, past, ing = (part.replace("_", " ") for part in en.split())
    bare = infinitive.removeprefix("se_")
    reflexive = bare != infinitive
    forms = french_forms(bare)
    with_etre = reflexive or bare in WITH_ETRE
    return Verb(base, past, ing, bare, tuple(forms[:5]), forms[5], forms[6], with_etre, reflexive)


BE = verb("be was being", "être")
HAVE = verb("have had having", "avoir")
GO = verb("go went going", "aller")
WANT = verb("want wanted wanting", "vouloir")
CAN = verb("can could -", "pouvoir")
MUST = verb("must - -", "devoir")
LIVE = verb("live lived living", "habiter")
SPEAK = verb("speak spoke speaking", "parler")
KNOW = verb("know knew knowing", "connaître")
LIKE = verb("like liked liking", "aimer")
HATE = verb("hate hated hating", "détester")
PREFER = verb("prefer preferred preferring", "préférer")
EAT = verb("eat ate eating", "manger")
DRINK = verb("drink drank drinking", "boire")
BUY = verb("buy bought buying", "acheter")
SEE = verb("see saw seeing", "voir")
GIVE = verb("give gave giving", "donner")
SEND = verb("send sent sending", "envoyer")
SHOW = verb("show showed showing", "montrer")
LEND = verb("lend lent lending", "prêter")
SELL = verb("sell sold selling", "vendre")
OPEN = verb("open opened opening", "ouvrir")
CLOSE = verb("close closed closing", "fermer")
LEAVE = verb("leave left leaving", "partir")
ARRIVE = verb("arrive arrived arriving", "arriver")
COME = verb("come came coming", "venir")
RETURN = verb("come_back came_back coming_back", "revenir")
STAY = verb("stay stayed staying", "rester")
WAIT = verb("wait_for waited_for waiting_for", "attendre")
GET_UP = verb("get_up got_up getting_up", "se_lever")
GO_TO_BED = verb("go_to_bed went_to_bed going_to_bed", "se_coucher")
FIND = verb("find found finding", "trouver")
LOSE = verb("lose lost losing", "perdre")
SEARCH = verb("look_for looked_for looking_for", "chercher")
HELP = verb("help helped helping", "aider")
INVITE = verb("invite invited inviting", "inviter")
VISIT = verb("visit visited visiting", "visiter")
WEAR = verb("wear wore wearing", "porter")
READ = verb("read read reading", "lire")
WRITE = verb("write wrote writing", "écrire")
CLEAN = verb("clean cleaned cleaning", "nettoyer")
REPAIR = verb("repair repaired repairing", "réparer")
FORGET = verb("forget forgot forgetting", "oublier")
TAKE = verb("take took taking", "prendre")
LEARN = verb("learn learned learning", "apprendre")
BRING = verb("bring brought bringing", "apporter")

# What one does with what; every verb here can also be said as going on ("is eating").
ACTIONS = (
    (EAT, FOOD),
    (BUY, CLOTHES),
    (BUY, VEHICLES),
    (BUY, PORTABLE),
    (SELL, VEHICLES),
    (SELL, FURNITURE),
    (READ, READING),
    (WRITE, WRITING),
    (VISIT, SIGHTS),
    (SEARCH, PORTABLE),
    (OPEN, OPENINGS),
    (CLOSE, OPENINGS),
    (WEAR, CLOTHES),
    (CLEAN, ROOMS[:4] + FURNITURE),
    (REPAIR, VEHICLES),
    (verb("wash washed washing", "laver"), CLOTHES),
    (verb("paint painted painting", "peindre"), PAINTABLE),
    (verb("watch watched watching", "regarder"), SHOWS),
    (verb("listen_to listened_to listening_to", "écouter"), MUSIC),
    (verb("choose chose choosing", "choisir"), CLOTHES),
    (BRING, PORTABLE),
    (WAIT, TRANSPORT),
    (WAIT, PEOPLE),
    (HELP, PEOPLE),
    (INVITE, PEOPLE),
)
# What went on in the past ("was reading"): few verbs, so that each imparfait is met often.
LASTING = (
    (READ, READING),
    (EAT, FOOD),
    (SEARCH, PORTABLE),
    (WAIT, TRANSPORT),
    (WEAR, CLOTHES),
)
# What will be said with "will"; the others take "going to".
COMING = (
    (BUY, CLOTHES),
    (BUY, VEHICLES),
    (READ, READING),
    (VISIT, SIGHTS),
    (SELL, VEHICLES),
    (OPEN, OPENINGS),
    (CLOSE, OPENINGS),
    (EAT, FOOD),
    (WEAR, CLOTHES),
    (WAIT, PEOPLE),
)
# Things that happen at a moment: said in the past or the future.
EVENTS = ACTIONS + (
    (SEE, ANIMALS),
    (SEE, PEOPLE),
    (LOSE, PORTABLE),
    (FIND, PORTABLE),
    (FORGET, PORTABLE),
    (TAKE, TRANSPORT),
    (verb("break broke breaking", "casser"), BREAKABLE),
    (verb("receive received receiving", "recevoir"), MAIL),
)
# Requests and orders: (verb, nouns).
REQUESTS = (
    (OPEN, OPENINGS),
    (CLOSE, OPENINGS),
    (CLEAN, ROOMS[:4]),
    (REPAIR, VEHICLES),
    (READ, READING),
    (FIND, PORTABLE),
    (BRING, PORTABLE),
    (TAKE, PORTABLE),
    (HELP, PEOPLE),
    (INVITE, PEOPLE),
    (verb("wash washed washing", "laver"), CLOTHES),
)
HOBBIES = (
    verb("work worked working", "travailler"),
    verb("sing sang singing", "chanter"),
    verb("dance danced dancing", "danser"),
    verb("swim swam swimming", "nager"),
    verb("cook cooked cooking", "cuisiner"),
    verb("study studied studying", "étudier"),
)
TRAVEL = verb("travel traveled traveling", "voyager")
ACTIVITIES = HOBBIES + (
    TRAVEL,
    verb("sleep slept sleeping", "dormir"),
    verb("walk walked walking", "marcher"),
    verb("cry cried crying", "pleurer"),
)
GIVING = (GIVE, SEND, SHOW, LEND, SELL)

# (English, masculine, feminine): the French word follows the person.
JOBS = (
    ("a lawyer", "avocat", "avocate"),
    ("a student", "étudiant", "étudiante"),
    ("a baker", "boulanger", "boulangère"),
    ("a nurse", "infirmier", "infirmière"),
    ("a musician", "musicien", "musicienne"),
    ("a singer", "chanteur", "chanteuse"),
    ("a pharmacist", "pharmacien", "pharmacienne"),
    ("a journalist", "journaliste", "journaliste"),
    ("a dentist", "dentiste", "dentiste"),
    ("a dancer", "danseur", "danseuse"),
    ("a mechanic", "mécanicien", "mécanicienne"),
)
LANGUAGES = (
    ("French", "français"),
    ("English", "anglais"),
    ("Spanish", "espagnol"),
    ("German", "allemand"),
    ("Italian", "italien"),
    ("Japanese", "japonais"),
    ("Russian", "russe"),
    ("Chinese", "chinois"),
    ("Arabic", "arabe"),
)
# (English, in or to, from)
COUNTRIES = (
    ("France", "en France", "de France"),
    ("Italy", "en Italie", "d'Italie"),
    ("Spain", "en Espagne", "d'Espagne"),
    ("Germany", "en Allemagne", "d'Allemagne"),
    ("Japan", "au Japon", "du Japon"),
    ("Canada", "au Canada", "du Canada"),
    ("Portugal", "au Portugal", "du Portugal"),
    ("Brazil", "au Brésil", "du Brésil"),
    ("Morocco", "au Maroc", "du Maroc"),
    ("England", "en Angleterre", "d'Angleterre"),
    ("Belgium", "en Belgique", "de Belgique"),
    ("Greece", "en Grèce", "de Grèce"),
    ("China", "en Chine", "de Chine"),
    ("Switzerland", "en Suisse", "de Suisse"),
    ("the United States", "aux États-Unis", "des États-Unis"),
    ("the Netherlands", "aux Pays-Bas", "des Pays-Bas"),
)
MONTHS = (
    ("January", "janvier"),
    ("February", "février"),
    ("March", "mars"),
    ("April", "avril"),
    ("May", "mai"),
    ("June", "juin"),
    ("July", "juillet"),
    ("August", "août"),
    ("September", "septembre"),
    ("October", "octobre"),
    ("November", "novembre"),
    ("December", "décembre"),
)
DAYS = (
    ("Monday", "lundi"),
    ("Tuesday", "mardi"),
    ("Wednesday", "mercredi"),
    ("Thursday", "jeudi"),
    ("Friday", "vendredi"),
    ("Saturday", "samedi"),
    ("Sunday", "dimanche"),
)
# English weather after "it": (present, past, future, French present, past, future, after "if").
WEATHER = (
    ("is cold", "was cold", "will be cold", "fait froid", "faisait froid", "fera froid"),
    ("is hot", "was hot", "will be hot", "fait chaud", "faisait chaud", "fera chaud"),
    ("is raining", "was raining", "will rain", "pleut", "pleuvait", "pleuvra"),
    ("is snowing", "was snowing", "will snow", "neige", "neigeait", "neigera"),
    ("is windy", "was windy", "will be windy", "y a du vent", "y avait du vent", "y aura du vent"),
    (
        "is sunny",
        "was sunny",
        "will be sunny",
        "y a du soleil",
        "y avait du soleil",
        "y aura du soleil",
    ),
    (
        "is foggy",
        "was foggy",
        "will be foggy",
        "y a du brouillard",
        "y avait du brouillard",
        "y aura du brouillard",
    ),
)
PAST_TIMES = (
    ("yesterday", "hier"),
    ("last week", "la semaine dernière"),
    ("last month", "le mois dernier"),
    ("last year", "l'année dernière"),
    ("last night", "hier soir"),
)
FUTURE_TIMES = (
    ("tomorrow", "demain"),
    ("next week", "la semaine prochaine"),
    ("next month", "le mois prochain"),
    ("next year", "l'année prochaine"),
    ("tonight", "ce soir"),
)
HABITS = (
    ("every day", "tous les jours"),
    ("every morning", "tous les matins"),
    ("every evening", "tous les soirs"),
    ("on weekends", "le week-end"),
)
SPELLED = {
    1: ("one", "un"),
    2: ("two", "deux"),
    3: ("three", "trois"),
    4: ("four", "quatre"),
    5: ("five", "cinq"),
    6: ("six", "six"),
    7: ("seven", "sept"),
    8: ("eight", "huit"),
    9: ("nine", "neuf"),
    10: ("ten", "dix"),
    11: ("eleven", "onze"),
    12: ("twelve", "douze"),
    13: ("thirteen", "treize"),
    14: ("fourteen", "quatorze"),
    15: ("fifteen", "quinze"),
    16: ("sixteen", "seize"),
    17: ("seventeen", "dix-sept"),
    18: ("eighteen", "dix-huit"),
    19: ("nineteen", "dix-neuf"),
    20: ("twenty", "vingt"),
    21: ("twenty-one", "vingt et un"),
    25: ("twenty-five", "vingt-cinq"),
    30: ("thirty", "trente"),
    40: ("forty", "quarante"),
    50: ("fifty", "cinquante"),
    60: ("sixty", "soixante"),
    70: ("seventy", "soixante-dix"),
    80: ("eighty", "quatre-vingts"),
    90: ("ninety", "quatre-vingt-dix"),
    100: ("a hundred", "cent"),
}
