"""Crashes, fires, people in danger, thefts: events that the emergency services report."""

from bulletins.desk import Bulletin, Desk, a, event
from bulletins.names import listed

VEHICLES = listed("bus,van,tractor,taxi,milk truck,motorbike,delivery van,camper van,fire engine,school bus", ",")
BUILDINGS = listed("barn,bakery,sawmill,boathouse,garage,workshop,greenhouse,warehouse,cinema,hotel,pizzeria", ",")
LOOT = (
    ("bicycles", "bike shop"),
    ("violins", "music school"),
    ("laptops", "library"),
    ("cheeses", "dairy"),
    ("paintings", "gallery"),
    ("watches", "jeweller's"),
    ("lawnmowers", "garden centre"),
    ("canoes", "boat club"),
    ("trophies", "tennis club"),
    ("sheep", "farm"),
)


@event
def crash(d: Desk) -> Bulletin:
    """3 hurt as bus and van collide in Brannaford."""
    (first, second), town, street = d.two(VEHICLES), d.town(), d.street()
    hurt = 0 if d.chance(0.3) else d.count(2, 12)
    some = (
        f"Police in {town} said {hurt} people were injured.",
        f"The accident in {town} left {hurt} people with injuries.",
        f"In all, {hurt} people were treated for injuries, {town} police said.",
    )
    none = (
        f"Police in {town} said nobody was injured.",
        f"All {d.count(3, 40)} people involved walked away unharmed, {town} police said.",
        f"Remarkably, the accident in {town} caused no injuries.",
    )
    return d.tell(
        f"{hurt or 'No one'} hurt as {first} and {second} collide in {town}",
        (
            (
                f"{a(first)} and {a(second)} crashed into each other on {street} at {d.time()}.",
                f"{a(first)} on its way from {d.town()} ran into {a(second)} on {street}.",
                f"{a(first)} struck {a(second)} on {d.day()} near the corner of {street}.",
            ),
            some if hurt else none,
        ),
        (
            f"Residents have asked for traffic lights on {street} for {d.count(3, 12)} years.",
            f"Roads in the district were icy after {d.count(3, 9)} cold nights.",
        ),
        (
            f"The road stayed shut for {d.count(2, 6)} hours.",
            f"Witnesses should call officer {d.name()}.",
            d.quote("shopkeeper", "There was a terrible bang", "I ran straight outside"),
        ),
    )


@event
def fire(d: Desk) -> Bulletin:
    """Fire destroys bakery in Brannaford, 14 evacuated."""
    building, town, owner = d.pick(BUILDINGS), d.town(), d.person()
    gone, fled = d.chance(0.5), 0 if d.chance(0.4) else d.count(4, 60)
    harm = f"{fled} evacuated" if fled else "no one hurt"
    ruined = (
        f"Nothing was left of the {building} but the walls.",
        f"The {building} burned to the ground within {d.count(2, 5)} hours.",
        f"The {building} could not be saved.",
    )
    singed = (
        f"The {building} can be repaired, said owner {owner.name}.",
        f"Crews saved most of the {building}, but its roof suffered.",
        f"The {building} lost part of its roof but still stands.",
    )
    people = (
        f"As a precaution, {fled} neighbours were led out of their homes.",
        f"Police took {fled} people from nearby houses to safety.",
    )
    nobody = ("Nobody was injured.", "There were no injuries.", "Nobody was inside, and no injuries were reported.")
    return d.tell(
        f"Fire {'destroys' if gone else 'damages'} {building} in {town}, {harm}",
        (
            (
                f"Flames broke out at {a(building)} in {town} at {d.time()}.",
                f"Fire crews rushed to {a(building)} in {town} on {d.day()}.",
                f"{a(building)} in {town} caught fire on {d.day()} evening.",
            ),
            ruined if gone else singed,
            people if fled else nobody,
        ),
        (
            f"People in {d.town()} could see the smoke on the horizon.",
            f"It has not rained in the district for {d.count(15, 40)} days.",
        ),
        (
            f"The cause is not known, said fire chief {d.name()}.",
            f"About {d.count(20, 90, 5)} firefighters took part.",
            d.quote("neighbour", "We could feel the heat", "It went up so fast"),
        ),
    )


@event
def hikers(d: Desk) -> Bulletin:
    """Helicopter rescues 4 hikers near Brannaford."""
    who, town, number = d.pick(("hikers", "climbers", "skiers", "schoolgirls", "cyclists")), d.town(), d.count(2, 9)
    means = d.pick(("helicopter", "mountain team", "army crew"))
    return d.tell(
        f"{means} rescues {number} {who} lost near {town}",
        (
            (
                f"A group of {who} lost its way in thick fog near {town}.",
                f"Darkness surprised a party of {who} near {town}, and they lost the path.",
                f"Heavy snow fell near {town} on {d.day()}, and a group of {who} got lost.",
            ),
            (
                f"After {d.count(10, 30)} hours {a(means)} found all {number} and brought them down.",
                f"{a(means)} picked up all {number} of them at {d.time()}.",
                f"All {number} were taken to safety by {a(means)} at dawn.",
            ),
        ),
        (
            f"The weather service in {d.town()} had warned of bad weather for {d.count(2, 5)} days.",
            f"Many of the paths in the hills, {d.count(110, 300)} km in all, are poorly marked.",
        ),
        (
            d.quote("guide", "They did everything right", "They kept each other warm"),
            f"They had called for help at {d.time()}.",
            "All of them are well.",
        ),
    )


@event
def missing(d: Desk) -> Bulletin:
    """Missing Brannaford girl, 9, found asleep in barn."""
    town, age, place = (
        d.town(),
        d.count(5, 15),
        d.pick(("barn", "bus", "tent", "library", "boat", "tree house", "church")),
    )
    who, he = d.pick((("girl", "she"), ("boy", "he")))
    return d.tell(
        f"Missing {town} {who}, {age}, found asleep in {place}",
        (
            (
                f"A {who} from {town} did not come home from school on {d.day()}.",
                f"A {who} from {town} was reported missing at {d.time()}.",
                f"Police had been searching for a {who} from {town} since {d.day()}.",
            ),
            (
                f"Officer {d.name()} discovered the {age}-year-old in {a(place)}, fast asleep.",
                f"The {age}-year-old was sleeping in {a(place)} when a dog found the way there.",
                f"A farmer came upon the {age}-year-old, who was sleeping soundly in {a(place)}.",
            ),
        ),
        (
            f"About {d.count(30, 95, 5)} volunteers from {d.town()} joined a search.",
            f"It was {d.time()} when the phone rang at the police station.",
        ),
        (
            f"The place is {d.count(2, 9)} km from home.",
            f'"I was just tired," {he} said.',
            "The family is overjoyed.",
        ),
    )


@event
def theft(d: Desk) -> Bulletin:
    """Thieves steal 12 violins from music school in Brannaford."""
    (loot, place), town, number = d.pick(LOOT), d.town(), d.count(3, 48)
    return d.tell(
        f"Thieves steal {number} {loot} from {place} in {town}",
        (
            (
                f"{d.name()} found a broken door at the {place} in {town} on {d.day()}.",
                f"Someone broke into the {place} in {town} overnight.",
                f"There was a burglary at the {place} in {town} on {d.day()}.",
            ),
            (
                f"The burglars left with {number} {loot}.",
                f"By the morning {number} {loot} were gone.",
                f"Police counted {number} missing {loot}.",
            ),
        ),
        (
            f"A neighbour saw a white van from {d.town()} at {d.time()}.",
            f"The alarm on {d.street()} had been out of order for {d.count(2, 6)} weeks.",
        ),
        (
            f"The loss is put at ${d.count(2_000, 60_000, 500):,}.",
            "There are no suspects yet.",
            f"A similar case in {d.town()} was never solved.",
        ),
    )
