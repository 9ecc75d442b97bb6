"""The first pieces of a long text are those of the whole text, and only the beginning of the text is segmented."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from seq2seq.config import TokenizerConfig
from seq2seq.data.beginnings import GROUP_CHARACTERS, segment_beginnings
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tokenizer import Tokenizer

DATA = Path(__file__).parents[2] / "data" / "phrasebook"
LINES = (DATA / "valid.fr").read_text(encoding="utf-8").splitlines()
MOST = 20


@pytest.fixture(scope="module", params=["unigram", "bpe", "char", "word"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return train_tokenizer(LINES, TokenizerConfig(type=request.param, vocab_size=600))


def texts() -> list[str]:
    """Return ordinary long texts, short ones, and texts with long words or much white space."""
    numbers = random.Random(1)
    long = [" ".join(numbers.sample(LINES, 300)) for _ in range(5)]
    spaced = [" " * 50_000 + long[0], "\u3000".join(long[1].split()), "a" + " " * 30_000 + long[2]]
    return [*LINES[:5], "", " ", *long, *spaced, "é" * 20_000 + " " + long[3], long[4].replace(" ", "")]


def test_the_first_pieces_are_those_of_the_whole_text(tokenizer: Tokenizer) -> None:
    for text, whole, beginning in zip(
        texts(), tokenizer.segment(texts()), segment_beginnings(tokenizer, texts(), MOST), strict=True
    ):
        assert beginning.segments == tuple(field[:MOST] for field in whole), text[:50]
        assert beginning.length == len(whole.ids) if beginning.whole else MOST < beginning.length <= len(whole.ids)


def test_a_long_text_is_not_segmented_as_a_whole(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    segment = tokenizer.segment

    def record(some: Any) -> Any:
        sizes.append(sum(map(len, some)))
        return segment(some)

    monkeypatch.setattr(tokenizer, "segment", record)
    text = " ".join(LINES) * 50  # about 1 MB
    assert len(list(segment_beginnings(tokenizer, [text] * 200, MOST))) == 200
    assert max(sizes) <= GROUP_CHARACTERS
    assert sum(sizes) < 200 * 64 * (MOST + 32) + 1
