"""Birthdays, retirements, lucky winners, things lost and found."""

from bulletins.desk import Bulletin, Desk, a, event
from bulletins.names import listed

JOBS = listed("postman,baker,teacher,ferryman,librarian,barber,station master,lifeguard,shepherd,bus driver", ",")
WINNERS = listed("baker,nurse,plumber,teacher,gardener,fisherman,florist,taxi driver,student,beekeeper", ",")
RINGS = (
    ("wedding ring", "wedding ring"),
    ("silver watch", "watch"),
    ("gold necklace", "necklace"),
    ("brown wallet", "wallet"),
    ("school diary", "diary"),
    ("old camera", "camera"),
    ("brass key", "key"),
    ("love letter", "love letter"),
)
SPOTS = (
    ("inside a pike", "in fish"),
    ("behind a radiator", "behind radiator"),
    ("under a floorboard", "under floor"),
    ("in a jar of buttons", "in button jar"),
    ("in a crow's nest", "in crow's nest"),
    ("inside an old sofa", "in sofa"),
    ("at the bottom of a lake", "in lake"),
)


@event
def birthday(d: Desk) -> Bulletin:
    """Nora Kelbrook of Brannaford turns 104."""
    who, town, age = d.person(), d.town(), d.count(100, 109)
    children = d.count(3, 12)
    return d.tell(
        f"{who.name} of {town} turns {age}",
        (
            (
                f"There was cake for {d.count(20, 95)} guests in {town} on {d.day()}.",
                f"The brass band of {town} played outside a house on {d.street()}.",
                f"The mayor of {town} came with flowers on {d.day()}.",
            ),
            (
                f"All of it was for {who.name}, who is now {age} years old.",
                f"The reason was {who.name}, now {age} years of age.",
                f"{who.name} was born {age} years ago to the day.",
            ),
        ),
        (
            f"Few people can remember {d.town()} without cars.",
            f"A neighbour, {d.name()}, had baked since {d.count(5, 7)}:00.",
        ),
        (
            f"The family counts {children} grandchildren.",
            f"{who.last} still {d.pick(('swims', 'plays cards', 'reads the paper'))} every day.",
            f'"I never {d.pick(("hurry", "worry", "complain"))}," {who.he} said.',
            f"A brother lived to be {d.count(88, 98)}.",
        ),
    )


@event
def retirement(d: Desk) -> Bulletin:
    """Brannaford postman Piet Kelbrook retires after 41 years."""
    who, town, job, years = d.person(), d.town(), d.pick(JOBS), d.count(26, 55)
    if who.he == "she":
        job = {"postman": "postwoman", "ferryman": "ferry captain"}.get(job, job)
    return d.tell(
        f"{town} {job} {who.name} retires after {years} years",
        (
            (
                f"{who.name} did {who.his} job for the last time on {d.day()}.",
                f"{d.day()} was the last working day of {who.name}.",
                f"{who.name} has hung up {who.his} cap.",
            ),
            (
                f"For {years} years {who.he} had been a {job} in {town}.",
                f"Everyone in {town} knows {who.his} face after {years} years as {a(job)} there.",
                f"{a(job)} in {town} for {years} years, {who.he} now wants a rest.",
            ),
        ),
        (
            f"There were {d.count(60, 300, 10)} hands to shake, and a few tears.",
            f"In {d.town()} nobody stays in a job for so long.",
        ),
        (
            f"Now {d.name()}, {d.count(22, 40)}, will take over.",
            f'"I will miss the mornings," {who.he} said.',
            f"A trip to {d.town()} is already booked.",
        ),
    )


@event
def lottery(d: Desk) -> Bulletin:
    """Brannaford baker wins $340,000 in lottery."""
    town, job, sum_ = d.town(), d.pick(WINNERS), f"${d.count(20, 980, 5)},000"
    who = d.person()
    return d.tell(
        f"{town} {job} wins {sum_} in lottery",
        (
            (
                f"{who.name} bought a lottery ticket on the way to {d.town()}.",
                f"{who.name} had played the same lottery numbers for {d.count(3, 30)} years.",
                f"{who.name} almost threw {who.his} lottery ticket away.",
            ),
            (
                f"Now the {job} from {town} is richer by {sum_}.",
                f"The ticket brought the {job} from {town} {sum_}.",
                f"On {d.day()} the {job} from {town} learned that the ticket was worth {sum_}.",
            ),
        ),
        (
            f"The chance of a big win is one in {d.count(2, 9)} million.",
            f"The jackpot had not been hit for {d.count(9, 30)} weeks.",
        ),
        (
            f"{who.last} wants to give ${d.count(1, 9)},000 to charity.",
            f'"I checked it three times," {who.he} said.',
            f"The lucky number was {d.count(11, 49)}.",
            "The first thing to be bought is a bicycle.",
        ),
    )


@event
def lost_ring(d: Desk) -> Bulletin:
    """Wedding ring lost in Brannaford found in fish after 30 years."""
    (thing, short), (spot, where), town, years = d.pick(RINGS), d.pick(SPOTS), d.town(), d.count(11, 68)
    owner, finder = d.person(), d.person()
    return d.tell(
        f"{short} lost in {town} found {where} after {years} years",
        (
            (
                f"{owner.name} lost {owner.his} {thing} in {town} {years} years ago.",
                f"It was {years} years ago that {owner.name} lost {owner.his} {thing} in {town}.",
                f"In {town}, {years} years ago, {owner.name} lost {a(thing)}.",
            ),
            (
                f"On {d.day()} {finder.name} found it {spot}.",
                f"Now it has turned up {spot}.",
                f"This week {finder.name} from {d.town()} discovered it {spot}.",
            ),
        ),
        (
            f"Some stories take their time, says {d.name()}.",
            f"The lost property office in {d.town()} was no help.",
        ),
        (
            f"A reward of ${d.count(20, 200, 10)} was paid.",
            f'"I recognised it at once," {owner.he} said.',
            "It only needed cleaning.",
            f"The owner is now {d.count(80, 95)}.",
        ),
    )
