"""Festivals, prizes, excavations, record dishes, postponed shows."""

from bulletins.desk import DAYS, Bulletin, Desk, a, event
from bulletins.names import listed

ARTS = listed("jazz,film,folk,puppet,poetry,cheese,lantern,circus,pumpkin,cherry,accordion,comedy", ",")
WORKS = (
    ("first novel", "debut novel"),
    ("book of poems", "poems"),
    ("short film", "short film"),
    ("photographs of bridges", "bridge photos"),
    ("songs for children", "children's songs"),
    ("play about bees", "bee play"),
    ("garden on a roof", "roof garden"),
    ("wooden bicycle", "wooden bicycle"),
    ("history of salt", "salt history"),
)
PRIZES = ("Prize", "Medal", "Award")
FINDS = (
    ("silver coins", "coins"),
    ("bronze axes", "axes"),
    ("clay pots", "pots"),
    ("glass beads", "beads"),
    ("iron swords", "swords"),
    ("oil lamps", "lamps"),
)
SITES = listed("car park,school yard,potato field,football pitch,church floor,supermarket,vineyard,tennis court", ",")
SHOWS = listed("spring fair,flower show,half-marathon,open-air concert,flea market,boat parade,kite festival", ",")
CAUSES = (
    ("storm", "a storm"),
    ("heatwave", "a heatwave"),
    ("flooding", "flooding"),
    ("snow", "too much snow"),
    ("strike", "a strike"),
    ("measles", "an outbreak of measles"),
    ("power cut", "a power cut"),
)
FEATS = (
    ("bakers", "bake", "baked", "pie"),
    ("knitters", "knit", "knitted", "scarf"),
    ("cooks", "roll", "rolled", "pancake"),
    ("pupils", "paint", "painted", "picture"),
    ("carpenters", "build", "built", "bench"),
    ("butchers", "make", "made", "sausage"),
)


@event
def festival(d: Desk) -> Bulletin:
    """Brannaford jazz festival draws record 12,400 visitors."""
    town, art, most = d.town(), d.pick(ARTS), d.chance(0.4)
    old = d.count(3_000, 40_000, 100)
    new = old + d.count(200, 4_000, 100) if most else old * d.count(20, 95) // 10_000 * 100
    return d.tell(
        f"{town} {art} festival draws {'record ' if most else 'only ' if new < old / 2 else ''}{new:,} visitors",
        (
            (
                f"The {art} festival in {town} ended on {d.day()}.",
                f"The tents of the {art} festival in {town} have been taken down.",
                f"After {d.count(3, 20)} days the {art} festival in {town} is over.",
            ),
            (
                f"It had {new:,} visitors, more than ever before; the old record was {old:,}.",
                f"Never had so many people come: {new:,}, after {old:,} last year.",
            )
            if most
            else (
                f"It had {new:,} visitors, after {old:,} last year.",
                f"The number of visitors dropped from {old:,} to {new:,}.",
            ),
        ),
        (
            f"Guests came from as far away as {d.town()}.",
            f"It was {'sunny' if most else 'cold and wet'} on {d.count(2, 3)} days.",
        ),
        (
            f"Director {d.name()} thanked the helpers.",
            f"Tickets cost ${d.count(8, 60)}.",
            d.quote("visitor", "The music was wonderful" if art in ("jazz", "folk") else "I loved it", "What a week"),
        ),
    )


@event
def prize(d: Desk) -> Bulletin:
    """Nora Kelbrook wins Fenwold Prize for debut novel."""
    winner, loser, (work, short) = d.person(), d.person(), d.pick(WORKS)
    award = f"{d.surname()} {d.pick(PRIZES)}"
    thing = work if work.endswith(("bridges", "children")) else f"a {work}"
    return d.tell(
        f"{winner.name} wins {award} for {short}",
        (
            (
                f"The jury of the {award} had {d.count(30, 400)} entries to judge.",
                f"The {award}, worth ${d.count(2_000, 50_000, 500):,}, has been awarded in {d.town()}.",
                f"Many had expected {loser.name} to receive the {award} this year.",
            ),
            (
                f"It went to {winner.name}, {d.count(24, 81)}, for {thing}.",
                f"The jury's choice was {winner.name}, who entered {thing}.",
                f"With {thing}, {winner.name} won over the jury.",
            ),
        ),
        (
            f"The hall in {d.town()} was decorated with roses.",
            f"The speeches lasted {d.count(2, 4)} hours.",
        ),
        (
            f"The winner lives in {d.town()}.",
            f'"I am speechless," {winner.he} said.',
            f"Second place went to {d.name()}.",
        ),
    )


@event
def dig(d: Desk) -> Bulletin:
    """340 silver coins found under car park in Brannaford."""
    (find, short), site, town, number = d.pick(FINDS), d.pick(SITES), d.town(), d.count(12, 880)
    return d.tell(
        f"{number} {find} found under {site} in {town}",
        (
            (
                f"Workers in {town} came upon a wooden chest under {a(site)}.",
                f"New pipes were to be laid under {a(site)} in {town}.",
                f"There was more under {a(site)} in {town} than anyone knew.",
            ),
            (
                f"Experts have now dug up {number} {find}.",
                f"It turned out that {number} {find} lay there.",
                f"What came to light were {number} {find}, said Dr {d.name()}.",
            ),
        ),
        (
            f"A class from {d.town()} happened to walk by on {d.day()}.",
            f"It was just before {d.time()} when a shovel hit something hard.",
        ),
        (
            f"The {short} are about {d.count(900, 2_900, 100):,} years old.",
            f"They will be shown from {d.date()}.",
            f"The nearest similar site is {d.count(20, 90)} km away.",
        ),
    )


@event
def feat(d: Desk) -> Bulletin:
    """Brannaford bakers bake 42-metre pie."""
    (who, verb, past, thing), town, length = d.pick(FEATS), d.town(), d.count(21, 480)
    best = d.chance(0.5)
    other = d.count(9, length - 6) if best else d.count(length + 5, 990)
    return d.tell(
        f"{town} {who} {verb} {'record' if best else 'giant'} {thing}, {length} metres long",
        (
            (
                f"A team of {d.count(7, 90)} {who} from {town} worked all night.",
                f"The {who} of {town} had been planning it since {d.pick(('March', 'May', 'June'))}.",
                f"{who} in {town} wanted to do something big.",
            ),
            (
                f"They {past} a {thing} of {length} metres; the old record was {other}."
                if best
                else f"They {past} a {thing} of {length} metres; the record stays at {other}.",
                f"The {thing} they {past} measures {length} metres, and no longer one is known."
                if best
                else f"The {thing} they {past} measures {length} metres, too short for the record of {other}.",
            ),
        ),
        (
            f"About {d.count(200, 900, 50)} people watched on {d.street()}.",
            f"The last attempt, in {d.town()}, ended in tears.",
        ),
        (
            f"Referee {d.name()} measured it twice.",
            f"It took {d.count(9, 40)} hours.",
            d.quote("helper", "My arms hurt", "We would do it again"),
        ),
    )


@event
def postponed(d: Desk) -> Bulletin:
    """Brannaford flower show moved to Sunday over storm."""
    town, show, (old, new) = d.town(), d.pick(SHOWS), d.two(DAYS)
    cause, reason = d.pick(CAUSES)
    return d.tell(
        f"{town} {show} moved from {old} to {new} over {cause}",
        (
            (
                f"The {show} in {town} was planned for {old}.",
                f"Everything was ready in {town} for the {show} on {old}.",
                f"Those who wanted to go to the {show} in {town} on {old} must wait.",
            ),
            (
                f"Because of {reason}, it will be held on {new}.",
                f"The new day is {new}, and the reason is {reason}.",
                f"It will now take place on {new}, after {reason} upset the plans.",
            ),
        ),
        (
            f"Organiser {d.name()} had a sleepless night.",
            f"For {d.count(11, 60)} years nothing had got in the way.",
        ),
        (
            f"All {d.count(200, 900, 10)} tickets remain valid.",
            f"Stalls from {d.town()} will come too.",
            f"It begins at {d.count(9, 18)}:30.",
        ),
    )
