"""Matches, races, titles and transfers."""

from bulletins.desk import Bulletin, Desk, Person, event
from bulletins.names import listed

TEAMS = listed("Rovers,United,Otters,Falcons,Rangers,Wanderers,Comets,Badgers,Athletic,Harriers", ",")
RACES = listed("marathon,half-marathon,hill run,cycle race,ski race,triathlon,canoe race,swim", ",")
GAMES = listed("chess,darts,table tennis,spelling,judo,fencing,squash,archery,draughts,snooker", ",")
PLACES = listed("goalkeeper,striker,defender,coach,captain,winger", ",")


@event
def match(d: Desk) -> Bulletin:
    """Brannaford Rovers edge Skerrinby Otters 2-1; beat by 2 or 3 goals, thrash by 4 or more, draw."""
    (kind, other), start, goal = d.two(TEAMS), d.town(), d.town()
    home, guest = f"{start} {kind}", f"{goal} {other}"
    low = d.count(0, 2)
    margin = d.pick((0, 0, 1, 1, 1, 2, 2, 3, 4, 5))
    high = low + margin
    score = f"{high}-{low}"
    if margin == 0:
        headline = f"{home} draw {score} with {guest}"
        result: tuple[str, ...] = (
            f"The match ended {score}.",
            f"Neither side could win: it finished {score}.",
            f"The teams parted with a {score} draw.",
        )
    else:
        won = d.chance(0.5)
        winner, loser = (home, guest) if won else (guest, home)
        verb = "edge" if margin == 1 else "beat" if margin < 4 else "thrash"
        headline = f"{winner} {verb} {loser} {score}"
        team = kind if won else other
        rest = other if won else kind
        result = (
            f"After {d.count(92, 97)} minutes {team} had won {score}.",
            f"It ended {score} for {team}.",
            f"{rest} lost {score}.",
            f"The final score was {score}, and {rest} went home sad.",
        )
    return d.tell(
        headline,
        (
            (
                f"{home} and {guest} met on {d.day()} in front of {d.count(300, 9_000, 50):,} people.",
                f"{home} received {guest} on {d.day()} evening.",
                f"{home} played {guest} in the {d.pick(('cup', 'league'))}.",
            ),
            result,
        ),
        (
            f"The pitch on {d.street()} was wet and heavy.",
            f"It was referee {d.name()}'s {d.pick(('first', 'last', '100th'))} match.",
        ),
        (
            f"{d.name()} hit the post twice.",
            d.quote("coach", "I saw a good match", "Both teams ran until they dropped"),
            f"Next they travel to {d.town()}.",
            f"It was 0-0 after {d.count(20, 40)} minutes."
            if high + low < 5
            else f"There were {d.count(3, 8)} yellow cards.",
        ),
    )


@event
def race(d: Desk) -> Bulletin:
    """Nora Kelbrook wins Brannaford hill run in record 2:14:36."""
    first, second, town, kind = d.person(), d.person(), d.town(), d.pick(RACES)
    hours, minutes, best = d.count(2, 4), d.count(10, 40), d.chance(0.4)
    time = f"{hours}:{minutes}:{d.count(10, 59)}"
    late = f"{hours}:{minutes + d.count(1, 15)}:{d.count(10, 59)}"
    record = f", faster than anyone before {'her' if first.he == 'she' else 'him'}"
    return d.tell(
        f"{first.name} wins {town} {kind} in {'record ' if best else ''}{time}",
        (
            (
                f"In {town}, {d.count(100, 900)} people took part in the {kind}.",
                f"It was only {d.count(2, 9)} degrees when the {kind} in {town} began.",
                f"{second.name} was the favourite at the {kind} in {town}.",
            ),
            (
                f"{first.name} was first after {time}{record if best else ''}; {second.name} took {late}.",
                f"The winner was {first.name} in {time}{record if best else ''}.",
                f"{second.name} came second in {late}, behind {first.name}, who needed {time}{record if best else ''}.",
            ),
        ),
        (
            f"The bakers of {d.town()} handed out {d.count(200, 900, 50)} rolls to the crowd.",
            f"Fog had put off the start until {d.count(8, 11)}:30.",
        ),
        (
            f'"The last hill was the worst," {first.he} said.'
            if kind in ("hill run", "marathon", "cycle race")
            else "",
            f"{first.last} comes from {d.town()}.",
            f"The oldest to finish was {d.name()}, {d.count(71, 88)}.",
            f"The record stands at {hours - 1}:{d.count(45, 59)}:{d.count(10, 59)}." if not best else "",
        ),
    )


@event
def title(d: Desk) -> Bulletin:
    """Nora Kelbrook, 12, wins Brannaford chess title."""
    first, second, town, game = d.person(), d.person(), d.town(), d.pick(GAMES)
    young, old = d.two(tuple(range(11, 74)))
    again = d.chance(0.3)
    return d.tell(
        f"{first.name}, {young}, {'defends' if again else 'wins'} {town} {game} title",
        (
            (
                f"The {game} championship of {town} was decided on {d.day()}.",
                f"There were {d.count(12, 90)} players at the {game} championship of {town}.",
                f"The {game} championship of {town} lasted {d.count(2, 6)} days.",
            ),
            (
                f"As in the year before, {first.name}, {young}, won the final against {second.name}, {old}.",
                f"{second.name}, {old}, lost the final to last year's champion {first.name}, {young}.",
            )
            if again
            else (
                f"In the final {first.name}, {young}, beat last year's champion {second.name}, {old}.",
                f"{second.name}, {old}, lost the final to {first.name}, {young}, who had never won it before.",
                f"{first.name}, {young}, took the title for the first time, against {second.name}, {old}.",
            ),
        ),
        (
            f"A cup given by {d.company()} was at stake.",
            f"You could hear a pin drop in the hall on {d.street()}.",
        ),
        (
            f"The final took {d.count(25, 190)} minutes.",
            f'"I was so nervous," {first.he} said.',
            f"Third place went to {d.name()}.",
        ),
    )


@event
def transfer(d: Desk) -> Bulletin:
    """Striker Piet Kelbrook leaves Brannaford Rovers for Skerrinby Otters."""
    who: Person = d.person()
    (kind, other), place = d.two(TEAMS), d.pick(PLACES)
    old, new = f"{d.town()} {kind}", f"{d.town()} {other}"
    return d.tell(
        f"{place} {who.name} leaves {old} for {new}",
        (
            (
                f"{new} have found a new {place}.",
                f"{new} were short of a {place}.",
                f"{new} presented a new {place} at {d.time()}.",
            ),
            (
                f"{who.name}, {d.count(19, 35)}, comes from {old}.",
                f"It is {who.name}, so far with {old}.",
                f"From {old} they have signed {who.name} for {d.count(2, 5)} years.",
            ),
        ),
        (
            f"Talks in a hotel in {d.town()} lasted {d.count(3, 12)} hours.",
            f"Last season ended with {d.count(4, 14)} defeats.",
        ),
        (
            f"The fee was ${d.count(10, 900, 5)},000.",
            f"Another bid came from {d.town()} {kind}.",
            f'"{d.pick(("It was time", "I needed something new"))}," {who.he} said.',
            f"The first match is on {d.date()}.",
        ),
    )
