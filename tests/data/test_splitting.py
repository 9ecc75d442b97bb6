"""The parts of a long text are those of the whole text, and only a stretch of the text is segmented at once."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from seq2seq.config import TokenizerConfig
from seq2seq.data.beginnings import MORE_PIECES, characters_at_first
from seq2seq.data.splitting import split_places, split_text
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tokenizer import Tokenizer

DATA = Path(__file__).parents[2] / "data" / "phrasebook"
LINES = (DATA / "valid.fr").read_text(encoding="utf-8").splitlines()
MOST = 20


@pytest.fixture(scope="module", params=["unigram", "bpe", "char", "word"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return train_tokenizer(LINES, TokenizerConfig(type=request.param, vocab_size=600, normalization="nfkc"))


@pytest.mark.parametrize("most", [3, MOST])
def test_the_parts_are_those_of_the_whole_text(tokenizer: Tokenizer, most: int) -> None:
    text = " ".join(random.Random(1).sample(LINES, 400))
    assert len(text) > 4 * characters_at_first(most)
    (whole,) = tokenizer.segment([text])
    expected = [
        tuple(field[first:last] for field in whole) for first, last in itertools.pairwise(split_places(whole, most))
    ]
    assert list(split_text(tokenizer, text, most)) == expected


@pytest.mark.parametrize("most", [1, MOST])
@pytest.mark.parametrize(
    "text",
    [
        "\ufdfa" * 3500,  # NFKC turns each into 18 characters
        "\U0001f600" * 3500,  # four bytes each
        "é" * 9000 + " " + " ".join(LINES[:50]),
        "a" + " " * 30_000 + "b. " * 6000,
        " " * 30_000,
    ],
    ids=["expanding", "bytes", "a long word", "white space", "blank"],
)
def test_the_parts_cover_any_text(tokenizer: Tokenizer, text: str, most: int) -> None:
    parts = list(split_text(tokenizer, text, most))
    assert all(len(part.ids) <= most for part in parts)
    assert bool(parts) == bool(text.strip())
    spans = [span for part in parts for span in part.spans]
    assert all(first[1] <= second[1] for first, second in itertools.pairwise(spans))
    covered = "".join(text[start:end] for start, end in spans)
    assert covered == "".join(text.split())


def test_a_long_text_is_not_segmented_as_a_whole(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    segment = tokenizer.segment

    def record(some: Any) -> Any:
        sizes.append(sum(map(len, some)))
        return segment(some)

    monkeypatch.setattr(tokenizer, "segment", record)
    text = " ".join(LINES) * 3
    assert sum(1 for _ in split_text(tokenizer, text, MOST)) > len(text) // 200
    assert max(sizes) <= characters_at_first(MOST)
    assert sum(sizes) < len(text) * (1 + 2 * (MOST + MORE_PIECES) / (characters_at_first(MOST) / 10))
