"""The task of numbers in words: known numbers, reproducible bytes and disjoint splits."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from make_numbers import SIZES, in_words

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "corpora" / "make_numbers.py"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (7, "seven"),
        (13, "thirteen"),
        (20, "twenty"),
        (42, "forty-two"),
        (100, "one hundred"),
        (110, "one hundred and ten"),
        (999, "nine hundred and ninety-nine"),
        (1000, "one thousand"),
        (1001, "one thousand and one"),
        (4207, "four thousand two hundred and seven"),
        (20_050, "twenty thousand and fifty"),
        (300_000, "three hundred thousand"),
        (512_640, "five hundred and twelve thousand six hundred and forty"),
    ],
)
def test_known_numbers(number: int, words: str) -> None:
    assert in_words(number) == words


def make(folder: Path, *flags: str) -> dict[str, bytes]:
    subprocess.run([sys.executable, str(SCRIPT), "--out", str(folder), *flags], check=True, timeout=60)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = make(tmp_path / "one"), make(tmp_path / "two")
    assert one == two
    assert sorted(one) == sorted(f"{split}.{side}" for split in SIZES for side in ("num", "en"))
    assert make(tmp_path / "three", "--seed", "2") != one
    digest = hashlib.sha256(b"".join(one[name] for name in sorted(one))).hexdigest()
    assert digest == "b2f4cfc48c33cc5491f0fb3f7b5f1b812e51db79492f79875abd01440c7b098f"
    numbers = {split: one[f"{split}.num"].decode().split() for split in SIZES}
    assert {split: len(lines) for split, lines in numbers.items()} == SIZES
    everything = [number for lines in numbers.values() for number in lines]
    assert len(set(everything)) == len(everything)
    for split, lines in numbers.items():
        assert one[f"{split}.en"].decode().splitlines() == [in_words(int(line)) for line in lines]
