"""Weather, water, power, roads, railways and flights."""

from bulletins.desk import DAYS, Bulletin, Desk, event

WEATHER = (
    ("Storm", "a severe storm", "with gusts of {} km/h", (80, 140)),
    ("Snow", "heavy snow", "and up to {} cm is likely", (15, 60)),
    ("Heat", "extreme heat", "with highs of {} degrees", (34, 41)),
    ("Frost", "hard frost", "and it will be {} degrees below zero", (8, 24)),
    ("Rain", "heavy rain", "and up to {} mm may fall", (40, 120)),
    ("Fog", "thick fog", "and drivers will see no further than {} metres", (20, 80)),
)
FAULTS = (
    "a swan flew into a cable",
    "a crane cut a cable",
    "lightning struck a pole",
    "a squirrel got into a switch box",
)
DETOURS = (
    ("a passenger fell ill", "passenger falls ill"),
    ("a window cracked", "window cracks"),
    ("birds hit an engine", "bird strike"),
    ("smoke came from an oven", "oven smokes"),
    ("a snake was seen in the cabin", "snake seen in cabin"),
    ("a wheel was damaged", "wheel damage"),
)


@event
def warning(d: Desk) -> Bulletin:
    """Storm warning for Brannaford on Tuesday."""
    (short, weather, how, (low, high)), town, place = d.pick(WEATHER), d.town(), d.count(0, 6)
    eve, day = DAYS[place - 1], DAYS[place]
    detail = how.format(d.count(low, high))
    return d.tell(
        f"{short} warning issued for {town} on {day}",
        (
            (
                f"In {town} the weather will stay calm until {eve}.",
                f"Forecaster {d.name()} told people in {town} to be careful.",
                f"The weather service has bad news for {town}.",
            ),
            (
                f"On {day}, {weather} is expected there, {detail}.",
                f"For {day} the forecast is {weather}, {detail}.",
            ),
        ),
        (
            f"Last week was the mildest for {d.count(5, 40)} years.",
            f"In {d.town()}, {d.count(3, 30)} cellars are still full of water.",
        ),
        (
            "People should stay at home if they can.",
            f"The ferry to {d.town()} has been cancelled.",
            f"A crew of {d.count(20, 90)} is on call.",
            f"The hotline opens at {d.count(6, 9)}:00.",
        ),
    )


@event
def flood(d: Desk) -> Bulletin:
    """River Selmel floods 45 homes in Brannaford."""
    river, town, homes, (day, later) = d.river(), d.town(), d.count(8, 240), d.two(DAYS)
    what = d.pick(("homes", "shops", "cellars", "gardens"))
    return d.tell(
        f"{river} floods {homes} {what} in {town}",
        (
            (
                f"The {river} burst its banks after {d.count(2, 6)} days of rain.",
                f"On {day} the {river} rose by {d.count(2, 5)} metres.",
                f"After the rain the {river} came over its banks at {d.time()}.",
            ),
            (
                f"In {town}, {homes} {what} are under water.",
                f"Water got into {homes} {what} in {town}.",
                f"Pumps are working in {homes} {what} in {town}.",
            ),
        ),
        (
            f"It was the wettest {d.pick(('March', 'April', 'May', 'June'))} for {d.count(20, 90)} years.",
            f"Further upstream, {d.town()} stayed dry.",
        ),
        (
            f"About {d.count(3_000, 9_000, 500):,} sandbags were filled.",
            d.quote("resident", "We lost the piano", "I carried the cat upstairs"),
            f"The level is expected to drop by {later}.",
        ),
    )


@event
def power_cut(d: Desk) -> Bulletin:
    """Power cut leaves 3,400 Brannaford homes dark for 5 hours."""
    town, homes, hours = d.town(), d.count(300, 9_800, 100), d.count(2, 19)
    return d.tell(
        f"Power cut leaves {homes:,} {town} homes dark for {hours} hours",
        (
            (
                f"The lights went out in {town} on {d.day()} evening.",
                f"At {d.count(17, 22)}:{d.count(10, 55, 5)} the power failed in {town}.",
                f"{town} was without electricity when {d.pick(FAULTS)}.",
            ),
            (
                f"It took {hours} hours to bring the current back to {homes:,} households.",
                f"For {hours} hours, {homes:,} households sat by candlelight.",
                f"In all, {homes:,} households had to wait {hours} hours for electricity.",
            ),
        ),
        (
            f"In {d.town()} it was just a flicker of the lamps.",
            f"Much of the power network is {d.count(40, 75)} years old.",
        ),
        (
            f"A crew of {d.count(6, 30)} repaired the damage.",
            f"Engineer {d.name()} apologised to customers.",
            d.quote("student", "We played cards", "I finally read a book"),
        ),
    )


@event
def road_works(d: Desk) -> Bulletin:
    """Kelbrook Lane in Brannaford to close for 6 weeks."""
    street, town, weeks, day = d.street(), d.town(), d.count(2, 19), d.day()
    return d.tell(
        f"{street} in {town} to close for {weeks} weeks from {day}",
        (
            (
                f"Drivers in {town} need patience.",
                f"The water pipes in {town} are {d.count(50, 99)} years old and must be replaced.",
                f"The roads of {town} have {d.count(100, 900, 10)} holes, and repairs are due.",
            ),
            (
                f"{street} will be shut from {day} for {weeks} weeks.",
                f"Work on {street} starts on {day}, and no cars can pass for {weeks} weeks.",
                f"From {day}, {street} will be off limits for {weeks} weeks.",
            ),
        ),
        (
            f"Engineer {d.name()} had long asked for repairs.",
            f"In {d.town()} similar works took {d.count(20, 40)} weeks.",
        ),
        (
            f"Buses will use {d.street()}.",
            f"The bill comes to ${d.count(100, 900, 10)},000.",
            f"Shops stay open, said mayor {d.name()}.",
        ),
    )


@event
def no_trains(d: Desk) -> Bulletin:
    """No trains between Brannaford and Skerrinby until Monday."""
    one, two, (start, end) = d.town(), d.town(), d.two(DAYS)
    return d.tell(
        f"No trains between {one} and {two} until {end}",
        (
            (
                f"A tree fell on the line from {one} to {two} at {d.time()}.",
                f"Passengers from {one} to {two} have to change their plans.",
                f"The bridge between {one} and {two} was damaged on {start}.",
            ),
            (
                f"Trains will run again on {end}.",
                f"The railway hopes to reopen the line on {end}.",
                f"The line stays shut until {end}.",
            ),
        ),
        (
            f"The railway has had {d.count(12, 60)} breakdowns this year.",
            f"Travellers waited {d.count(2, 5)} hours at {d.town()} station.",
        ),
        (
            f"Buses run every {d.count(20, 90, 5)} minutes.",
            f"Station manager {d.name()} apologised.",
            f"About {d.count(1_000, 9_000, 500):,} commuters use the line every day.",
            d.quote("commuter", "I took my bicycle", "I am used to it"),
        ),
    )


@event
def diverted(d: Desk) -> Bulletin:
    """Brannaford flight lands in Skerrinby after bird strike."""
    start, goal, stop, (deed, short) = d.town(), d.town(), d.town(), d.pick(DETOURS)
    aboard = d.count(40, 260)
    verb = "after" if short in ("bird strike", "wheel damage") else "as"
    return d.tell(
        f"{start} to {goal} flight diverted to {stop} {verb} {short}",
        (
            (
                f"A plane with {aboard} people on board took off from {start} at {d.time()}.",
                f"It was meant to be a short flight from {start}.",
                f"Nobody on the plane from {start} thought much of it at first.",
            ),
            (
                f"It was bound for {goal}, but {deed}, and the pilot landed in {stop}.",
                f"When {deed}, the pilot flew to {stop} instead of {goal}.",
                f"Halfway to {goal} {deed}, so it came down in {stop}.",
            ),
        ),
        (
            f"The airline has only {d.count(3, 9)} planes.",
            f"Captain {d.name()} has flown for {d.count(8, 30)} years.",
        ),
        (
            f"The journey went on {d.count(3, 9)} hours later.",
            f"Passengers got a voucher for ${d.count(10, 40, 5)}.",
            "Nobody was in danger, the airline said.",
        ),
    )
