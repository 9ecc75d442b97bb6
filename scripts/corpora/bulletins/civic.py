"""Town life: openings, elections to a board, collections, clean-ups, trees."""

from bulletins.desk import Bulletin, Desk, a, event
from bulletins.names import listed

HOUSES = listed("library,swimming pool,museum,playground,health centre,youth centre,ice rink,theatre", ",")
CLUBS = listed("Chess Club,Rowing Club,Choir,Beekeepers,Brass Band,Book Club,Garden Society,Camera Club", ",")
POSTS = listed("chair,treasurer,secretary,president", ",")
CAUSES = listed("animal shelter,hospice,lifeboat,food bank,school library,children's ward,village hall", ",")


@event
def opening(d: Desk) -> Bulletin:
    """$3 million library opens in Brannaford; Brannaford library reopens after 3 years."""
    house, town, again = d.pick(HOUSES), d.town(), d.chance(0.5)
    years, cost = d.count(2, 9), d.count(2, 38)
    lead = (
        f"Mayor {d.name()} cut a ribbon in {town} on {d.day()}.",
        f"There was music and cake in {town} on {d.day()}.",
        f"A crowd of {d.count(100, 900, 10)} gathered in {town} at {d.time()}.",
    )
    new = (
        f"The town's new {house}, built for ${cost} million, welcomed its first visitors.",
        f"The town at last has {a(house)}, which cost ${cost} million.",
        f"They celebrated the first day of the new {house}, which cost ${cost} million.",
    )
    old = (
        f"The {house} was open again after repairs that took {years} years.",
        f"The {house}, closed for {years} years, let visitors in again.",
        f"They celebrated the return of the {house}, which had been shut for {years} years.",
    )
    return d.tell(
        f"{town} {house} reopens after {years} years" if again else f"New ${cost} million {house} opens in {town}",
        (lead, old if again else new),
        (
            f"Guests from {d.town()} had taken the early bus.",
            f"The sun shone as the doors opened on {d.street()}.",
        ),
        (
            f"It was designed by {d.name()}." if not again else f"The repairs were led by {d.name()}.",
            f"Entry is free until {d.date()}.",
            d.quote("visitor", "I will be here every week", "It is so bright inside"),
        ),
    )


@event
def board(d: Desk) -> Bulletin:
    """Nora Kelbrook elected treasurer of Brannaford Chess Club."""
    winner, loser, post, again = d.person(), d.person(), d.pick(POSTS), d.chance(0.35)
    club = f"{d.town()} {d.pick(CLUBS)}"
    return d.tell(
        f"{winner.name} {'re-elected' if again else 'elected'} {post} of {club}",
        (
            (
                f"Members of {club} met on {d.day()} to choose a {post}.",
                f"{club} needed a {post} for the next {d.count(2, 4)} years.",
                f"There was a lively vote for {post} at {club}.",
            ),
            (
                f"They chose to keep {winner.name} in the post rather than try {loser.name}.",
                f"{winner.name}, who already held the post, beat {loser.name} by {d.count(3, 30)} votes.",
                f"{loser.name} stood as well, but {winner.name} may keep the post.",
            )
            if again
            else (
                f"{loser.name} got {d.count(5, 19)} votes, newcomer {winner.name} {d.count(20, 60)}.",
                f"{loser.name}, who held the post, lost to {winner.name}.",
                f"They preferred {winner.name} to {loser.name}, who had held the post so far.",
            ),
        ),
        (
            f"The hall on {d.street()} had not been so full for years.",
            f"Over coffee, {d.count(40, 300)} people settled an important matter.",
        ),
        (
            f"A member from {d.town()} counted the votes.",
            f'"I did not expect this," {winner.he} said.',
            f"Fees stay at ${d.count(10, 60, 5)} a year.",
        ),
    )


@event
def fundraiser(d: Desk) -> Bulletin:
    """Kelbrook School pupils raise $4,300 for animal shelter."""
    school, cause, total = f"{d.surname()} School", d.pick(CAUSES), d.count(800, 19_900, 100)
    how = d.pick(("selling cakes", "washing cars", "running laps", "singing songs", "selling lemonade"))
    return d.tell(
        f"{school} pupils raise ${total:,} for {cause} by {how}",
        (
            (
                f"Pupils at {school} spent {d.count(2, 6)} weeks {how}.",
                f"On {d.day()} children were {how} at {school}.",
                f"At {school} there were no lessons on {d.day()}: the pupils were {how}.",
            ),
            (
                f"In the end ${total:,} came together, all of it for the {cause}.",
                f"The {cause} receives everything they earned, ${total:,}.",
                f"They handed ${total:,} to the {cause}.",
            ),
        ),
        (
            f"It was the idea of {d.name()}, {d.count(8, 14)}.",
            f"Last year the school collected ${d.count(200, 700, 10)}.",
        ),
        (
            f"A school in {d.town()} wants to do the same.",
            d.quote("teacher", "I am proud of them", "They never complained"),
            f"They had hoped for ${d.count(100, 700, 50)}.",
        ),
    )


@event
def cleanup(d: Desk) -> Bulletin:
    """85 volunteers clear 1,200 kg of rubbish from River Selmel."""
    helpers, weight = d.count(20, 390, 5), d.count(300, 4_900, 50)
    place = d.river() if d.chance(0.5) else f"{d.town()} {d.pick(('beach', 'forest', 'harbour', 'park'))}"
    spot = f"the {place}" if place.startswith("River") else place
    return d.tell(
        f"{helpers} volunteers clear {weight:,} kg of rubbish from {place}",
        (
            (
                f"For {d.count(3, 7)} hours {helpers} volunteers picked up litter on {d.day()}.",
                f"With gloves and bags, {helpers} volunteers went out on {d.day()}.",
                f"Instead of sleeping late, {helpers} volunteers got up early on {d.day()}.",
            ),
            (
                f"They freed {spot} of {weight:,} kg of rubbish.",
                f"The rubbish they took from {spot} weighed {weight:,} kg.",
                f"At {spot} they gathered {weight:,} kg of rubbish.",
            ),
        ),
        (
            f"Student {d.name()} had put up posters for {d.count(2, 6)} weeks.",
            f"A year ago only {d.count(5, 18)} people had been willing to help.",
        ),
        (
            f"Among the finds were {d.count(3, 40)} tyres and a piano.",
            f"Children from {d.town()} found a message in a bottle.",
            f"The next round is on {d.date()}.",
        ),
    )


@event
def trees(d: Desk) -> Bulletin:
    """Brannaford to plant 3,000 trees by 2034."""
    town, number, year = d.town(), d.count(400, 9_800, 100), d.count(2028, 2039)
    tree = d.pick(("lime trees", "oaks", "fruit trees", "maples", "birches", "apple trees"))
    return d.tell(
        f"{town} to plant {number:,} {tree} by {year}",
        (
            (
                f"{town} wants more shade in its streets.",
                f"The town of {town} lost {d.count(30, 300, 10)} trees in last year's storms.",
                f"Summers in {town} are getting hotter.",
            ),
            (
                f"Mayor {d.name()} has promised {number:,} new {tree}, the last of them in {year}.",
                f"By {year}, gardeners will have put {number:,} {tree} into the ground.",
                f"There are to be {number:,} more {tree} before {year} is over.",
            ),
        ),
        (
            f"The neighbouring town of {d.town()} has shown how.",
            f"A plan of {d.count(20, 90)} pages was published on {d.day()}.",
        ),
        (
            f"The first will stand on {d.street()}.",
            f"It will cost ${d.count(100, 900, 10)},000 a year.",
            d.quote("gardener", "We start with the schools", "They need a lot of water"),
        ),
    )
