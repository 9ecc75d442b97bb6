"""Write a task with long outputs: numbers in digits and their English words, "4207" and "four thousand two hundred and seven".

    python scripts/corpora/make_numbers.py --out FOLDER [--seed N]

A number of d digits is up to twelve times as long in words, in characters. The same seed gives the same bytes on every
machine. The files are train, valid and test with the endings .num and .en; no number is in two of them.
"""

import argparse
import random
from pathlib import Path

SIZES = {"train": 20_000, "valid": 500, "test": 500}
MAX_DIGITS = 6
SEED = 1
BELOW_TWENTY = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def in_words(number: int) -> str:
    """Spell a number from 0 to 999,999 in British English.

    >>> in_words(4207)
    'four thousand two hundred and seven'
    """
    if number < 20:
        return BELOW_TWENTY[number]
    if number < 100:
        tens, rest = divmod(number, 10)
        return TENS[tens - 2] + (f"-{BELOW_TWENTY[rest]}" if rest else "")
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return f"{BELOW_TWENTY[hundreds]} hundred" + (f" and {in_words(rest)}" if rest else "")
    thousands, rest = divmod(number, 1000)
    joint = " and " if rest < 100 else " "
    return f"{in_words(thousands)} thousand" + (f"{joint}{in_words(rest)}" if rest else "")


def draw(seed: int) -> dict[str, list[int]]:
    """Draw the numbers of every split, with 1 to 6 digits as long as there are enough of them."""
    generator = random.Random(seed)
    # only random() is used: its sequence is the same in every version of Python
    found: dict[int, None] = {}
    while len(found) < sum(SIZES.values()):
        digits = 1 + int(generator.random() * MAX_DIGITS)
        found.setdefault(int(generator.random() * 10**digits))
    order = sorted(found, key=lambda number: generator.random())
    parts, start = {}, 0
    for name, size in SIZES.items():
        parts[name] = order[start : start + size]
        start += size
    return parts


def write(out: Path, parts: dict[str, list[int]]) -> None:
    """Write each split as two parallel files."""
    out.mkdir(parents=True, exist_ok=True)
    for name, numbers in parts.items():
        (out / f"{name}.num").write_bytes("".join(f"{number}\n" for number in numbers).encode())
        (out / f"{name}.en").write_bytes("".join(f"{in_words(number)}\n" for number in numbers).encode())


def main() -> None:
    """Read the command line and write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    write(arguments.out, draw(arguments.seed))


if __name__ == "__main__":
    main()
