"""Animals that are rescued, escape, are born or are counted."""

from bulletins.desk import Bulletin, Desk, a, event
from bulletins.names import listed

PETS = listed("dog,cat,goat,pony,lamb,parrot,tortoise,calf,donkey,kitten,puppy,rabbit", ",")
TRAPS = listed("well,chimney,drain,frozen pond,mine shaft,storm drain,canal,ditch,quarry,cellar", ",")
RUNAWAYS = listed("llama,bull,ostrich,emu,pony,peacock,kangaroo,horse,alpaca,pig,monkey", ",")
ZOO = (
    ("red panda", "cubs"),
    ("barn owl", "chicks"),
    ("otter", "pups"),
    ("lynx", "kittens"),
    ("swan", "cygnets"),
    ("wolf", "pups"),
    ("leopard", "cubs"),
    ("stork", "chicks"),
    ("tiger", "cubs"),
)
CREATURES = listed("storks,bats,otters,beavers,owls,butterflies,hedgehogs,bees,swifts,seals,toads,lizards", ",")


@event
def pet_rescue(d: Desk) -> Bulletin:
    """Firefighters rescue goat from well in Brannaford."""
    pet, trap, town = d.pick(PETS), d.pick(TRAPS), d.town()
    owner = d.person()
    return d.tell(
        f"Firefighters rescue {pet} from {trap} in {town}",
        (
            (
                f"{owner.name} of {d.street()} had been looking for {owner.his} {pet} since {d.day()}.",
                f"{owner.name} thought {owner.he} would never see {owner.his} {pet} again.",
                f"For {d.count(2, 9)} days {owner.name} had missed {owner.his} {pet}.",
            ),
            (
                f"Then firefighters pulled the animal out of {a(trap)} in {town}.",
                f"A fire crew has now freed it from {a(trap)} in {town}.",
                f"In {town}, firefighters got the animal out of {a(trap)} with ropes and patience.",
            ),
        ),
        (
            f"A walker heard strange noises on {d.day()} at {d.time()}.",
            f"The fire service saved {d.count(12, 90)} animals last year.",
        ),
        (
            f"The operation took {d.count(2, 7)} hours.",
            f"Vet {d.name()} found no injuries.",
            f'"It only wanted to eat," said {owner.last}.',
            f"The crew had come from {d.town()}.",
        ),
    )


@event
def runaway(d: Desk) -> Bulletin:
    """Escaped llama caught in Brannaford after 6 hours."""
    animal, town, home, hours = d.pick(RUNAWAYS), d.town(), d.town(), d.count(3, 47)
    return d.tell(
        f"Escaped {animal} caught in {town} after {hours} hours",
        (
            (
                f"{a(animal)} got out of its pen in {home} on {d.day()}.",
                f"A farm in {home} lost {a(animal)} when a gate was left open.",
                f"{a(animal)} slipped out of a trailer in {home}.",
            ),
            (
                f"It was free for {hours} hours before police in {town} cornered it.",
                f"The chase lasted {hours} hours and ended in a garden in {town}.",
                f"Only {hours} hours later could a vet catch it in {town}.",
            ),
        ),
        (
            f"Startled drivers called the police {d.count(9, 40)} times.",
            f"Traffic on {d.street()} stood still for {d.count(20, 55, 5)} minutes.",
        ),
        (
            d.quote("farmer", "It likes company", "I will mend that fence"),
            f"The animal is {d.count(2, 14)} years old and in good health.",
            f"A bucket of {d.pick(('carrots', 'apples', 'oats'))} did the trick.",
        ),
    )


@event
def zoo(d: Desk) -> Bulletin:
    """Brannaford zoo welcomes 3 red panda cubs."""
    (kind, young), town, number = d.pick(ZOO), d.town(), d.count(2, 5)
    which, pet = a(kind), d.pick(("Pepper", "Maple", "Biscuit", "Olive"))
    return d.tell(
        f"{town} zoo welcomes {number} {kind} {young}",
        (
            (
                f"There is joy at the zoo in {town}.",
                f"Keepers at {town} zoo had a short night.",
                f"The zoo in {town} has sent out cards with a small footprint.",
            ),
            (
                f"On {d.date()} {which} had {number} {young}.",
                f"Since {d.day()} {which} has been caring for {number} {young}.",
                f"The reason is {number} {young}, whose mother is {which} called {pet}.",
            ),
        ),
        (
            f"Ticket sales rose by {d.count(11, 60)}% this week.",
            f"The zoo in {d.town()} has tried in vain for {d.count(6, 15)} years.",
        ),
        (
            f"Each of them weighs {d.count(80, 480, 10)} grams.",
            f"Vet {d.name()} says they are well.",
            f"Visitors may see them in {d.count(7, 12)} weeks.",
        ),
    )


@event
def wildlife(d: Desk) -> Bulletin:
    """Storks return to Brannaford after 40 years; Number of storks in Brannaford falls to 120."""
    animals, town, again = d.pick(CREATURES), d.town(), d.chance(0.4)
    more, years, old = d.chance(0.5), d.count(12, 90), d.count(60, 900)
    new = old + d.count(5, old // 2) if more else old - d.count(5, old // 2)
    if again:
        headline = f"{animals} return to {town} after {years} years"
        told: tuple[str, ...] = (
            f"For {years} years there had been no {animals}, and now they are back.",
            f"They had not been seen for {years} years, but {animals} live here again.",
        )
    else:
        headline = f"Number of {animals} in {town} {'rises' if more else 'falls'} to {new}"
        told = (
            f"They found {new} {animals}; last year there were {old}.",
            f"Of {animals} there were {new}, compared with {old} a year before.",
        )
    return d.tell(
        headline,
        (
            (
                f"Nature lovers in {town} have been out with notebooks.",
                f"Volunteers have been watching the animals of {town} for {d.count(2, 5)} weeks.",
                f"The nature club of {town} has finished its yearly count.",
            ),
            told,
        ),
        (
            f"In {d.town()} the animals have not been counted for {d.count(2, 9)} years.",
            f"Teacher {d.name()} gets up at 5:{d.count(10, 55, 5)} to look at birds and beasts.",
        ),
        (
            f"A warm spring {'helped them' if again or more else 'did not help them'}.",
            f"Biologist {d.name()} was {'delighted' if again or more else 'worried'}.",
            f"The next count is in {d.pick(('April', 'May', 'June'))}.",
            f"A hide for {d.count(8, 30)} visitors is planned.",
        ),
    )
