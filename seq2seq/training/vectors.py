"""Pretrained word vectors as text, in the formats of word2vec, GloVe and fastText."""

from __future__ import annotations

import math

import torch
from torch import nn

from seq2seq.data.lines import read_lines
from seq2seq.files import expand_home
from seq2seq.text.tokenizer import UNK, Tokenizer

_SPACE = "▁"  # SentencePiece's mark of a space, with which the piece of a whole word begins


@torch.no_grad()
def set_vectors(embedding: nn.Embedding, tokenizer: Tokenizer, path: str, *, setting: str) -> int:
    """Replace the rows of the pieces that a file has vectors of.

    A line holds a piece and its numbers. word2vec and fastText have a first line with the number of vectors and their
    width. A vector belongs to the piece with its string, and otherwise to the piece with the mark of a space before it.

    Args:
        setting: the setting that names the file, for messages.

    Returns:
        The number of replaced rows.

    Raises:
        ValueError: the vectors have another width, a number is none, or no piece has a vector.
        CorpusError: the file cannot be read.
    """
    width = embedding.embedding_dim
    exact: dict[int, list[float]] = {}
    marked: dict[int, list[float]] = {}
    first: tuple[int, int] | None = None  # the number of the line of the first vector, and how many numbers it has
    for number, line in enumerate(read_lines(expand_home(path)), start=1):
        fields = line.rstrip().split(" ")
        if number == 1 and len(fields) == 2 and all(field.isdecimal() for field in fields):
            continue
        first = first or (number, len(fields) - 1)
        if len(fields) <= width:
            raise _wrong_width(setting, width, path, number, len(fields) - 1)
        name = " ".join(fields[:-width])  # a piece of some files has spaces
        for rows, piece in ((exact, name), (marked, _SPACE + name)):
            if (index := tokenizer.id(piece)) != UNK:
                rows[index] = _numbers(fields[-width:], path, number)
    found = marked | exact
    if not found:
        if first is not None and first[1] > width:  # the first numbers of each vector were read as a part of its piece
            raise _wrong_width(setting, width, path, *first)
        raise ValueError(f"{setting} must name vectors of pieces of the vocabulary, but {path} has none of them")
    embedding.weight[list(found)] = torch.tensor(list(found.values())).to(embedding.weight)
    return len(found)


def _wrong_width(setting: str, width: int, path: str, number: int, count: int) -> ValueError:
    return ValueError(
        f"{setting} must name vectors of model.embedding_size={width} numbers, but line {number} of {path} has {count}"
    )


def _numbers(fields: list[str], path: str, number: int) -> list[float]:
    try:
        values = [float(field) for field in fields]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise ValueError(
            f"line {number} of {path} must hold a piece and finite numbers, but holds {' '.join(fields)[:60]}"
        )
    return values
