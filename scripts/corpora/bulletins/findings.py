"""Findings in figures: science, health, prices and counts."""

from bulletins.desk import Bulletin, Desk, event
from bulletins.names import listed

HABITS = (
    ("People who walk to work", "sleep better", "Walking to work", "better sleep"),
    ("Children who read before bed", "remember more words", "Reading before bed", "better memory"),
    ("People who sing in a choir", "catch fewer colds", "Choir singing", "fewer colds"),
    ("Cows that hear slow music", "give more milk", "Slow music", "more milk"),
    ("Pupils who start lessons later", "make fewer mistakes", "Later lessons", "fewer mistakes"),
    ("People who keep a dog", "move more", "Keeping dog", "more exercise"),
    ("Offices with many plants", "have fewer sick days", "Office plants", "fewer sick days"),
    ("Hens that live outdoors", "lay more eggs", "Life outdoors", "more eggs"),
    ("Streets with many trees", "stay cooler", "Street trees", "cooler air"),
    ("Drivers who take short naps", "have fewer accidents", "Short naps", "fewer accidents"),
)
MARKETS = listed("house prices,rents,hotel bookings,bicycle sales,ticket sales,book sales", ",")
SURVEYS = (
    ("want cars banned from the centre", "want car-free centre"),
    ("want the shops to close on Sundays", "want shops shut on Sundays"),
    ("are happy with the buses", "happy with buses"),
    ("would like to work from home", "want to work from home"),
    ("cannot sleep because of noise", "kept awake by noise"),
    ("grow their own vegetables", "grow own vegetables"),
)


@event
def study(d: Desk) -> Bulletin:
    """Walking to work linked to better sleep, Brannaford study finds."""
    (who, effect, cause, result), town, number = d.pick(HABITS), d.town(), d.count(120, 4_800, 10)
    what = who[0].lower() + who[1:]
    return d.tell(
        f"{cause} linked to {result}, {town} study finds",
        (
            (
                f"Scientists at {town} University spent {d.count(2, 12)} years on a simple question.",
                f"A team at {town} University has published its results.",
                f"Science can be useful, as {d.name()} of {town} University has shown.",
            ),
            (
                f"{who} {effect} than others, by {d.count(8, 45)}%.",
                f"The finding is that {what} {effect} than others.",
                f"According to the data, {what} {effect} than others.",
            ),
        ),
        (
            f"A similar project in {d.town()} was given up {d.count(2, 9)} years ago.",
            f"Research paid for by {d.company()} has come to an end.",
        ),
        (
            f"There were {number:,} cases in the data.",
            f"The reason is unknown, said Dr {d.name()}.",
            f"The next project starts on {d.date()}.",
        ),
    )


@event
def market(d: Desk) -> Bulletin:
    """House prices in Brannaford up 4.2%."""
    what, town, more = d.pick(MARKETS), d.town(), d.chance(0.5)
    share = f"{d.count(1, 19)}.{d.count(1, 9)}%"
    up = (
        f"They have risen by {share} since last year.",
        f"They are now {share} higher than a year ago.",
        f"In one year they have climbed by {share}.",
    )
    down = (
        f"They have fallen by {share} since last year.",
        f"They are now {share} lower than a year ago.",
        f"In one year they have dropped by {share}.",
    )
    return d.tell(
        f"{what} in {town} {'up' if more else 'down'} {share} in year",
        (
            (
                f"New figures on {what} in {town} came out on {d.day()}.",
                f"The statistics office has looked at {what} in {town}.",
                f"There is news about {what} in {town}.",
            ),
            up if more else down,
        ),
        (
            f"In neighbouring {d.town()} the change had been {d.count(20, 29)}%.",
            f"Economist {d.name()} had long expected it.",
        ),
        (
            f"The {d.count(2, 9)} years before had seen little movement.",
            f"The report has {d.count(30, 140)} pages.",
            d.quote("shop owner", "I cannot explain it", "I saw it coming"),
        ),
    )


@event
def survey(d: Desk) -> Bulletin:
    """62% of Brannaford residents want car-free centre."""
    (view, short), town, share = d.pick(SURVEYS), d.town(), d.count(51, 93)
    return d.tell(
        f"{share}% in {town} {short}, survey finds",
        (
            (
                f"A survey asked {d.count(400, 2_900, 10):,} people in {town} for their views.",
                f"Interviewers rang {d.count(400, 2_900, 10):,} people in {town}.",
                f"Students went from door to door in {town} with {d.count(10, 40)} questions.",
            ),
            (
                f"Of those who replied, {share}% {view}.",
                f"The result: {share}% {view}.",
                f"It turned out that {share}% {view}.",
            ),
        ),
        (
            f"Mayor {d.name()} wanted to know what people think.",
            f"The last survey, in {d.town()}, was {d.count(4, 9)} years ago.",
        ),
        (
            f"Only {d.count(3, 9)}% had no opinion.",
            f"The figure was {d.count(20, 49)}% in {d.town()}.",
            f"The council will discuss it on {d.date()}.",
        ),
    )
