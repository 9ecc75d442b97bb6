"""Disputes: votes, fines, strikes and fares."""

from bulletins.desk import Bulletin, Desk, a, event
from bulletins.names import listed

PLANS = (
    ("skate park", "a skate park"),
    ("cycle path", "a cycle path"),
    ("bus station", "a new bus station"),
    ("wind farm", "a wind farm"),
    ("car park", "a second car park"),
    ("campsite", "a campsite by the lake"),
    ("dog park", "a park for dogs"),
    ("night market", "a market at night"),
    ("tram line", "a tram line"),
    ("speed limit", "a speed limit of 30 km/h"),
)
OFFENCES = (
    ("driving at {} km/h through the town", "speeding"),
    ("keeping {} hens in a flat", "keeping hens in flat"),
    ("picking {} tulips in the park", "picking park flowers"),
    ("dumping {} old tyres in the woods", "dumping tyres"),
    ("playing the drums at night, despite {} warnings", "drumming at night"),
    ("catching {} trout without a licence", "illegal fishing"),
)
CREWS = listed("bus drivers,nurses,teachers,bakers,postal workers,dockers,cleaners,train drivers,cooks", ",")
FARES = listed("bus,tram,ferry,parking,swimming pool,museum", ",")


@event
def council(d: Desk) -> Bulletin:
    """Brannaford council approves skate park by 14 votes to 9."""
    (short, plan), town, day, passed = d.pick(PLANS), d.town(), d.day(), d.chance(0.5)
    low, high = d.count(3, 14), d.count(15, 31)
    yes = (
        f"The council voted in favour, {high} to {low}.",
        f"In the end {high} councillors were for it and {low} against.",
        f"The plan won by {high} votes to {low}.",
    )
    no = (
        f"The council voted against it, {high} to {low}.",
        f"In the end {low} councillors were for it and {high} against.",
        f"The plan failed, with {high} votes against it and {low} for it.",
    )
    return d.tell(
        f"{town} council {'approves' if passed else 'rejects'} {short} by {high} votes to {low}",
        (
            (
                f"Should {town} have {plan}?",
                f"For {d.count(2, 5)} hours the council of {town} discussed {plan}.",
                f"A proposal for {plan} was put to the council of {town} on {day}.",
            ),
            yes if passed else no,
        ),
        (
            f"About {d.count(50, 300, 10)} residents filled the hall on {day}.",
            f"In {d.town()} the same question came up {d.count(2, 6)} years ago.",
        ),
        (
            f"The cost was put at ${d.count(200, 900, 10)},000.",
            f"Councillor {d.name()} did not vote.",
            d.quote("councillor", "I slept on it twice", "It was a close call in my mind"),
        ),
    )


@event
def court(d: Desk) -> Bulletin:
    """Brannaford man, 34, fined $800 for speeding."""
    town, age, fine, (deed, short) = d.town(), d.count(22, 79), d.count(150, 1_950, 50), d.pick(OFFENCES)
    who, he = d.pick((("man", "he"), ("woman", "she")))
    done = deed.format(d.count(80, 140) if short == "speeding" else d.count(6, 21))
    return d.tell(
        f"{town} {who}, {age}, fined ${fine:,} for {short}",
        (
            (
                f"A {who} from {town} stood before the judge on {d.day()}.",
                f"A {who} from {town} has been found guilty.",
                f"A court has heard the case of a {who} from {town}.",
            ),
            (
                f"For {done}, the {age}-year-old must pay ${fine:,}.",
                f"The {age}-year-old was ordered to pay ${fine:,} for {done}.",
                f"Judge {d.name()} told the {age}-year-old to pay ${fine:,} for {done}.",
            ),
        ),
        (
            f"The judges in {d.town()} have seen many strange cases.",
            f"A trial that had been put off {d.count(3, 5)} times is over.",
        ),
        (
            f'"It will not happen again," {he} said.',
            f"The prosecutor had asked for ${d.count(2_000, 5_000, 100):,}.",
            f"Police had been alerted on {d.date()}.",
        ),
    )


@event
def strike(d: Desk) -> Bulletin:
    """Nurses in Brannaford to strike on Thursday; Nurses in Brannaford end strike after 12 days."""
    crew, town, over = d.pick(CREWS), d.town(), d.chance(0.5)
    day, days = d.day(), d.count(3, 29)
    return d.tell(
        f"{crew} in {town} {f'end strike after {days} days' if over else f'to strike on {day}'}",
        (
            (
                f"{crew} in {town} have rejected an offer of {d.count(2, 5)}% more pay.",
                f"{crew} in {town} held a vote at {d.time()}.",
                f"The union of the {crew} in {town} met to talk about pay.",
            )
            if not over
            else (
                f"{crew} in {town} have accepted an offer of {d.count(4, 9)}% more pay.",
                f"{crew} in {town} have reached a deal with their employers.",
                f"{crew} in {town} are going back to work on {day}.",
            ),
            (
                f"They will walk out on {day}.",
                f"A walkout is planned for {day}.",
                f"They will stay away from work on {day} for {d.count(4, 24)} hours.",
            )
            if not over
            else (
                f"They had been on strike for {days} days.",
                f"Their strike had lasted {days} days.",
                f"For {days} days they had refused to work.",
            ),
        ),
        (
            f"Prices have risen by {d.count(5, 12)}% in a year.",
            f"Mediator {d.name()} has slept little this week.",
        ),
        (
            f"The vote was {d.count(80, 400)} to {d.count(5, 70)}.",
            d.quote(
                "union leader",
                *(("It was worth it", "We stood together") if over else ("We want respect", "We were patient")),
            ),
            f"In {d.town()} a dispute ended in {d.pick(('March', 'May', 'June'))}.",
            f"The union has {d.count(90, 900, 10)} members.",
        ),
    )


@event
def fares(d: Desk) -> Bulletin:
    """Brannaford bus fare to rise to $2.80."""
    town, kind, date = d.town(), d.pick(FARES), d.date()
    low, more = d.count(110, 490, 10), d.chance(0.6)
    high = low + d.count(20, 150, 10)
    old, new = (f"${price / 100:.2f}" for price in ((low, high) if more else (high, low)))
    change, word = ("go up", "rise") if more else ("go down", "fall")
    fee = "fare" if kind in ("bus", "tram", "ferry") else "fee"
    return d.tell(
        f"{town} {kind} {fee} to {word} to {new}",
        (
            (
                f"The {kind} {fee} in {town} will change on {date}.",
                f"The council of {town} has set {a(f'new {kind} {fee}')}.",
                f"In {town} a new {kind} {fee} will apply from {date}.",
            ),
            (
                f"It will {change} from {old} to {new}.",
                f"Instead of {old} it will be {new}.",
                f"It is to be {new}; today it is {old}.",
            ),
        ),
        (
            f"The price lists had not been touched for {d.count(2, 9)} years.",
            f"Visitors to {d.town()} are used to paying ${d.count(7, 9)}.50.",
        ),
        (
            d.quote("pensioner", "I shall walk", "I am not surprised")
            if more
            else d.quote("pensioner", "That is good news", "At last"),
            f"The decision was passed with {d.count(12, 30)} votes.",
            f"Children under {d.count(5, 8)} stay free.",
        ),
    )
