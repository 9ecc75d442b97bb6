"""N-best lists, as translate writes them with --format jsonl, and their scores by another model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seq2seq.data.lines import CorpusError, read_lines
from seq2seq.data.records import parse_json, shorten

if TYPE_CHECKING:
    from seq2seq.translator import Translator

Entry = dict[str, Any]  # a translation with its scores and other values


def read_n_best(path: Path) -> Iterator[list[Entry]]:
    """Read the translations of every line: an object, or a list of them, each with a text named translation.

    Raises:
        CorpusError: the file cannot be read, or a line is something else.
    """
    for number, line in enumerate(read_lines(path), start=1):
        found = parse_json(line, f"{path}, line {number}")
        entries = found if isinstance(found, list) else [found]
        for entry in entries:
            if not isinstance(entry, dict) or not isinstance(entry.get("translation"), str):
                text = shorten(json.dumps(entry, ensure_ascii=False))
                raise CorpusError(
                    f"{path}, line {number}: each translation must be an object with a text named translation, as "
                    f"translate --format jsonl writes it, but is {text}"
                )
        yield entries


def rescore_n_best(
    translator: Translator, sources: list[str], lists: list[list[Entry]], *, first_line: int
) -> Iterator[list[Entry]]:
    """Score n-best lists by a model; yield each list with the new values, best score first.

    The score before is kept as first_score, and values that the model does not compute are kept; an explanation of the
    first search is removed.
    """
    texts = [[entry["translation"] for entry in entries] for entries in lists]
    scored = translator.rescore(sources, texts, first_line=first_line)
    for entries, found in zip(lists, scored, strict=True):
        changed = []
        for entry, translation in zip(entries, found, strict=True):
            kept = {name: value for name, value in entry.items() if name != "beam"}
            changed.append(kept | translation.as_dict() | {"first_score": entry.get("score")})
        yield sorted(changed, key=lambda entry: -entry["score"])
