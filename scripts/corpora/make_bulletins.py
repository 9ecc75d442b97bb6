"""Write data/bulletins: short news reports, their headlines and their desks, composed from kinds of event.

    python scripts/corpora/make_bulletins.py [--out data/bulletins] [--seed N]

The same seed gives the same bytes on every machine. The desk of a report is the module of its kind of event, for example
sport. bulletins/names.py composes the names, the modules imported below contain the kinds of event, and
bulletins/desk.py composes a report.
"""

import argparse
import json
from pathlib import Path

from bulletins import accidents, animals, business, civic, culture, disputes, findings, people, sport, travel
from bulletins.desk import EVENTS, Bulletin, Desk
from bulletins.names import Names, dealt

# Importing these registers their events.
ROOMS = (accidents, animals, business, civic, culture, disputes, findings, people, sport, travel)
COUNTS = {"train": 3_000, "valid": 300, "test": 300}
SHARES = (0.76, 0.12, 0.12)  # shares of the invented names for train, valid and test
SEED = 1


def compose(desk: Desk, count: int, headlines: set[str]) -> list[Bulletin]:
    """Make `count` bulletins, with each kind of event equally often; `headlines` are all headlines made so far."""
    kinds = tuple(sorted(EVENTS, key=lambda make: make.__name__))  # independent of the order of the imports
    bulletins: list[Bulletin] = []
    while len(bulletins) < count:
        kind = desk.deal(kinds)
        made = kind(desk)
        if made.headline not in headlines:
            headlines.add(made.headline)
            bulletins.append(made._replace(desk=kind.__module__.rpartition(".")[2]))
    return bulletins


def splits(seed: int) -> dict[str, list[Bulletin]]:
    """Compose all splits; no headline occurs twice."""
    headlines: set[str] = set()
    shares: list[Names] = dealt(seed, SHARES)
    return {
        split: compose(Desk(seed + place, names), count, headlines)
        for place, ((split, count), names) in enumerate(zip(COUNTS.items(), shares, strict=True), start=1)
    }


def write(out: Path, parts: dict[str, list[Bulletin]]) -> None:
    """Write each split with one JSON object per line."""
    out.mkdir(parents=True, exist_ok=True)
    for split, bulletins in parts.items():
        lines = "".join(json.dumps(made._asdict(), separators=(",", ":")) + "\n" for made in bulletins)
        (out / f"{split}.jsonl").write_bytes(lines.encode("ascii"))


def main() -> None:
    """Read the command line and write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("data/bulletins"))
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    write(arguments.out, splits(arguments.seed))


if __name__ == "__main__":
    main()
