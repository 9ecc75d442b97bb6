"""Split a text into words and put them together again, reversibly up to white space."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

JOINER = "￭"  # U+FFED on the side of a token where no space stands
_ESCAPED_JOINER = "\\uFFED"  # a joiner that was in the text; no word and no single character, so no other token


class Word(NamedTuple):
    """A token and where it stands."""

    token: str  # with its joiners
    start: int  # its first character in the text, from 0
    end: int  # behind its last


def find_words(text: str) -> list[Word]:
    """Split a text into words and single other characters.

    A word is a run of letters, marks, digits and underscores and looks the same wherever it stands. Where no space
    stands between two tokens, the one that is not a word carries a joiner on that side (the right one of two):
    ``3.50 (or so).`` gives ``3 ￭.￭ 50 (￭ or so ￭) ￭.``. White space is any that ``str.split`` knows.
    """
    found: list[Word] = []
    for match in _token_pattern().finditer(text):
        token, start, end = match[0], match.start(), match.end()
        if token.isspace():
            continue
        if not _is_word(token):
            left = JOINER if start > 0 and not text[start - 1].isspace() else ""
            right = JOINER if end < len(text) and _is_word(text[end]) else ""
            token = left + (_ESCAPED_JOINER if token == JOINER else token) + right
        found.append(Word(token, start, end))
    return found


def split(text: str) -> list[str]:
    """The tokens of ``find_words``."""
    return [word.token for word in find_words(text)]


def join(tokens: Iterable[str]) -> str:
    """Put token strings together again: ``join(split(text)) == " ".join(text.split())``."""
    parts: list[str] = []
    glued = True
    for token in tokens:
        core = token.strip(JOINER)
        if not glued and not token.startswith(JOINER):
            parts.append(" ")
        parts.append(JOINER if core == _ESCAPED_JOINER else core)
        glued = token.endswith(JOINER)
    return "".join(parts)


@cache
def _token_pattern() -> re.Pattern[str]:
    r"""A word or one other character. ``\w`` lacks the combining marks and the joiners U+200C, U+200D of Indic script."""
    planes = itertools.chain(range(0x20000), range(0xE0000, 0xE1000))  # the others hold no marks
    marks = "".join(char for char in map(chr, planes) if unicodedata.category(char)[0] == "M")
    return re.compile(rf"[\w{marks}\u200c\u200d]+|.", re.DOTALL)


def _is_word(token: str) -> bool:
    """Whether a match of the token pattern is a word: told by its first character."""
    first = token[0]
    return first.isalnum() or first in "_\u200c\u200d" or unicodedata.category(first)[0] == "M"
