"""Unicode normalization with the rules of SentencePiece, which are therefore the same for every tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import sentencepiece


def normalize(text: str, rule: str) -> str:
    """Normalize a text with a rule of ``tokenizer.normalization``; lone surrogates are replaced for every rule."""
    text = replace_surrogates(text)
    return text if rule == "identity" else _normalizer(rule).normalize(text)


def normalize_with_offsets(text: str, rule: str) -> tuple[str, Sequence[int]]:
    """Normalize a text; also return the offset in the original text of each normalized character and of the end."""
    text = replace_surrogates(text)
    if rule == "identity":
        return text, range(len(text) + 1)
    normalized, offsets = _normalizer(rule).normalize(text, with_offsets=True)
    return normalized, offsets


def replace_surrogates(text: str) -> str:
    """Replace lone surrogates with "?". A Python string can contain them, but UTF-8 cannot encode them."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


@cache
def _normalizer(rule: str) -> sentencepiece.SentencePieceNormalizer:
    return sentencepiece.SentencePieceNormalizer(rule_name=rule, escape_whitespaces=False)
