"""Companies: jobs, plants, purchases, sales, recalls, appointments."""

from bulletins.desk import Bulletin, Desk, event
from bulletins.names import listed

PRODUCTS = (
    ("Electrics", "kettles", "a cable that can catch fire", "fire risk"),
    ("Electrics", "toasters", "a coil that can catch fire", "fire risk"),
    ("Toys", "doll's prams", "wheels that may come off", "loose wheels"),
    ("Cycles", "scooters", "wheels that may come off", "loose wheels"),
    ("Furniture", "chairs", "legs that may snap", "weak legs"),
    ("Tools", "ladders", "steps that may snap", "weak steps"),
    ("Electrics", "heaters", "a switch that can give electric shocks", "shock risk"),
    ("Lighting", "lamps", "a plug that can give electric shocks", "shock risk"),
    ("Foods", "jars of jam", "glass that was found inside", "glass"),
    ("Toys", "teddy bears", "eyes that children could swallow", "choking risk"),
)
OFFICES = listed("chief executive,finance chief,head of research,head of sales,chief designer,chairman", ",")


@event
def jobs_created(d: Desk) -> Bulletin:
    """Calatide Optics to create 240 jobs in Brannaford."""
    company, town, jobs = d.company(), d.town(), d.count(40, 950, 10)
    return d.tell(
        f"{company} to create {jobs} jobs in {town}",
        (
            (
                f"{company} will build a new plant in {town}.",
                f"{company} has chosen {town} as the site of its next factory.",
                f"{company} is coming to {town}.",
            ),
            (
                f"It plans to hire {jobs} people there.",
                f"The factory will employ {jobs} people.",
                f"There will be work for {jobs} people, said manager {d.name()}.",
            ),
        ),
        (
            f"In {d.town()} the unemployment rate stands at {d.count(4, 11)}%.",
            f"Mayor {d.name()} had good news on {d.day()}.",
        ),
        (
            f"Building is to begin on {d.date()}.",
            f"The cost is put at ${d.count(5, 80)} million.",
            f"The company already runs {d.count(2, 7)} sites.",
            f"The town of {d.town()} had hoped to be picked.",
        ),
    )


@event
def plant_closes(d: Desk) -> Bulletin:
    """Calatide Optics to close Brannaford plant, 240 jobs lost."""
    company, town, jobs = d.company(), d.town(), d.count(40, 950, 10)
    return d.tell(
        f"{company} to close {town} plant, {jobs} jobs lost",
        (
            (
                f"Staff at {company} received bad news on {d.day()}.",
                f"Orders at {company} have fallen for {d.count(2, 6)} years.",
                f"{company} wants to save ${d.count(3, 40)} million a year.",
            ),
            (
                f"The plant in {town} will shut, and {jobs} people will be out of work.",
                f"The firm will give up its site in {town}, which employs {jobs} people.",
                f"All {jobs} workers in {town} will lose their posts when the plant there shuts.",
            ),
        ),
        (
            f"For months rumours had been heard as far away as {d.town()}.",
            f"The hall was silent when {d.name()} took the microphone.",
        ),
        (
            f"The site in {d.town()} is to stay open.",
            f"The last shift ends on {d.date()}.",
            d.quote("welder", "I gave it half my life", "We are a family here"),
            f"The firm was founded {d.count(30, 95)} years ago.",
        ),
    )


@event
def takeover(d: Desk) -> Bulletin:
    """Calatide Optics buys Brioquill Toys for $45 million."""
    buyer, bought, price = d.company(), d.company(), d.count(4, 480)
    return d.tell(
        f"{buyer} buys {bought} for ${price} million",
        (
            (
                f"{bought} has a new owner.",
                f"Months of talks about the future of {bought} are over.",
                f"The owners of {bought} have agreed to sell.",
            ),
            (
                f"{buyer} of {d.town()} is paying ${price} million for the firm.",
                f"The firm goes to {buyer}, which offered ${price} million.",
                f"For ${price} million the firm becomes part of {buyer}.",
            ),
        ),
        (
            f"The deal was signed at {d.time()} on {d.day()}.",
            f"Rumours had been heard in {d.town()} since {d.date()}.",
        ),
        (
            f"All {d.count(60, 900, 10)} employees will keep their jobs.",
            f"Founder {d.name()} will stay on as an adviser.",
            f"A rival had bid ${d.count(price // 2, price - 1)} million.",
        ),
    )


@event
def profits(d: Desk) -> Bulletin:
    """Profit at Calatide Optics up 12%."""
    company, share, more = d.company(), d.count(2, 48), d.chance(0.5)
    kind = d.pick(("profit", "sales", "exports"))
    grew = (
        f"They rose by {share}% compared with a year ago.",
        f"They are {share}% higher than a year ago.",
        f"An increase of {share}% was announced on {d.day()}.",
    )
    shrank = (
        f"They fell by {share}% compared with a year ago.",
        f"They are {share}% lower than a year ago.",
        f"A decrease of {share}% was announced on {d.day()}.",
    )
    told = "profits" if kind == "profit" else kind
    low, high = sorted((d.count(10, 90), d.count(100, 190)))
    return d.tell(
        f"{told} at {company} {'up' if more else 'down'} {share}%, to ${high if more else low} million",
        (
            (
                f"{company} has published its {told} for the year.",
                f"{company} of {d.town()} has reported its annual {told}.",
                f"Shareholders of {company} were told about {told} on {d.day()}.",
            ),
            grew if more else shrank,
            (f"The total was ${high if more else low} million.", f"That makes ${high if more else low} million."),
        ),
        (
            f"The past {d.count(3, 9)} years have been hard to predict for industry.",
            f"Director {d.name()} was in a {'cheerful' if more else 'sober'} mood.",
        ),
        (
            f"The firm has {d.count(2, 9)} plants and {d.count(200, 990, 10)} employees.",
            f"The main reason was {'strong' if more else 'weak'} demand abroad.",
            f"Next year looks {'even better' if more else 'brighter'}, said {d.name()}.",
        ),
    )


@event
def recall(d: Desk) -> Bulletin:
    """Calatide Toys recalls 4,300 prams over loose wheels."""
    (trade, product, fault, reason), number = d.pick(PRODUCTS), d.count(700, 60_000, 100)
    company = d.company(trade)
    return d.tell(
        f"{company} recalls {number:,} {product} over {reason}",
        (
            (
                f"Buyers of {product} made by {company} should stop using them.",
                f"{company} is asking customers to return {product}.",
                f"Shops are taking {product} made by {company} off their shelves.",
            ),
            (
                f"The problem is {fault}; {number:,} of them have been sold.",
                f"The firm has sold {number:,} of them and now warns of {fault}.",
                f"In all, {number:,} are affected, and the trouble is {fault}.",
            ),
        ),
        (
            f"A family in {d.town()} noticed it first, on {d.day()}.",
            f"Safety inspector {d.name()} has tested {d.count(12, 60)} samples.",
        ),
        (
            f"Customers will get ${d.count(12, 90)} back.",
            f"A hotline is open until {d.count(17, 21)}:00.",
            "No injuries have been reported so far.",
        ),
    )


@event
def appointment(d: Desk) -> Bulletin:
    """Calatide Optics names Nora Kelbrook chief executive."""
    company, office, new, old = d.company(), d.pick(OFFICES), d.person(), d.person()
    if office == "chairman" and new.he == "she":
        office = "chief executive"
    return d.tell(
        f"{company} names {new.name} {office}",
        (
            (
                f"{company} has been looking for a {office} since {old.name} left.",
                f"{old.name} will step down as {office} of {company} on {d.date()}.",
                f"After {d.count(5, 25)} years {old.name} is giving up the post of {office} at {company}.",
            ),
            (
                f"The post goes to {new.name}, {d.count(36, 61)}, from {d.town()}.",
                f"The board has now chosen {new.name}, who used to work in {d.town()}.",
                f"On {d.day()} the board gave the job to {new.name}.",
            ),
        ),
        (
            f"A board meeting of {d.count(3, 9)} hours ended at {d.time()}.",
            f"A search with {d.count(11, 80)} candidates is over.",
        ),
        (
            f"The firm employs {d.count(90, 980, 10)} people.",
            f"{new.last} began as an apprentice.",
            f'"I can hardly wait," {new.he} said.',
        ),
    )
