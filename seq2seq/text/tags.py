"""Tags before a source, such as ``<2de>``: they tell one model which language, domain or style to write.

A tag is a text like ``de``. Its piece ``<2de>`` and a space come before the source, and the tokenizer of the source has one
id for the piece (Johnson et al. 2017).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from seq2seq.text.tokenizer import Sampling, Segments, Tokenizer, hash_values


def tag_piece(tag: str) -> str:
    """Return the piece of a tag: ``<2de>`` for ``de``."""
    return f"<2{tag}>"


def add_tag(tag: str, text: str) -> str:
    """Put the piece of a tag and a space before a text; a blank text and an empty tag change nothing."""
    return f"{tag_piece(tag)} {text}" if tag and text.strip() else text


def without_tag(text: str, tags: Sequence[str]) -> str:
    """Remove one of the tags and the space after it from the start of a text."""
    for tag in tags:
        text = text.removeprefix(f"{tag_piece(tag)} ")
    return text


def check_tag(tag: str, known: Sequence[str], *, setting: str) -> None:
    """Refuse a tag that a model does not know.

    Raises:
        ValueError: with the setting to change and the known tags.
    """
    if tag not in known:
        names = f"one of the model's tags: {', '.join(known)}" if known else "empty, because the model has no tags"
        raise ValueError(f"{setting} must be {names}; but is {tag}")


def split_tag(segments: Segments, tokenizer: Tokenizer, *, added: str) -> tuple[Segments, Segments]:
    """Split the pieces of a text into its tag, or no piece, and the rest.

    Args:
        tokenizer: the tokenizer that made the pieces.
        added: a tag that ``add_tag`` has put before the text, so that the positions must be those of the text alone.
    """
    ids, pieces, spans = segments
    count = 1 if ids and isinstance(tokenizer, TaggedTokenizer) and tokenizer.is_tag(ids[0]) else 0
    if count and added:
        shift = len(add_tag(added, "x")) - 1
        spans = [(max(start - shift, 0), max(end - shift, 0)) for start, end in spans]
    tag = Segments(ids[:count], pieces[:count], spans[:count])
    return tag, Segments(ids[count:], pieces[count:], spans[count:])


class TaggedTokenizer(Tokenizer):
    """A tokenizer that reads a tag at the start of a text as one piece.

    The ids of the tags follow those of the vocabulary, in the order of ``tags``. Only a tag at the very start of a text,
    with a space after it, is read as a tag; in other places its characters are text.

    Args:
        plain: the tokenizer of the text after the tag.
        tags: the known tags.
        reads: false for the target side of a shared vocabulary, which has the ids of the tags, but whose texts have none.
    """

    def __init__(self, plain: Tokenizer, tags: Sequence[str], *, reads: bool = True) -> None:
        self.plain = plain
        self.tags = tuple(tags)
        self.size = plain.size + len(self.tags)
        self._ids = {tag_piece(tag): plain.size + number for number, tag in enumerate(self.tags)}
        self._reads = reads
        self._prefix = re.compile(f"(?:{'|'.join(map(re.escape, self._ids))}) ")

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        prefixes = self._prefixes(texts)
        rows = self.plain.encode_batch(_without(prefixes, texts))
        return [
            [self._ids[prefix[:-1]], *row] if prefix and row else row
            for prefix, row in zip(prefixes, rows, strict=True)
        ]

    def segment(self, texts: Sequence[str]) -> list[Segments]:
        prefixes = self._prefixes(texts)
        return self._with_tags(prefixes, self.plain.segment(_without(prefixes, texts)))

    def sample(self, texts: Sequence[str], sampling: Sampling, seed: int) -> list[Segments]:
        prefixes = self._prefixes(texts)
        return self._with_tags(prefixes, self.plain.sample(_without(prefixes, texts), sampling, seed))

    def _prefixes(self, texts: Sequence[str]) -> list[str]:
        """Return the tag of each text with the space after it, or an empty text."""
        return [found[0] if self._reads and (found := self._prefix.match(text)) else "" for text in texts]

    def _with_tags(self, prefixes: Sequence[str], segments: Sequence[Segments]) -> list[Segments]:
        result = []
        for prefix, (ids, pieces, spans) in zip(prefixes, segments, strict=True):
            if prefix and ids:
                piece, shift = prefix[:-1], len(prefix)
                ids, pieces = [self._ids[piece], *ids], [piece, *pieces]
                spans = [(0, len(piece)), *((start + shift, end + shift) for start, end in spans)]
            result.append(Segments(ids, pieces, spans))
        return result

    def id(self, piece: str) -> int:
        return (self._ids.get(piece) if self._reads else None) or self.plain.id(piece)

    def decode(self, ids: Sequence[int], oov: Sequence[str] = ()) -> str:
        """Return the text of ids; PAD, BOS, EOS and tags are skipped, UNK becomes ``UNKNOWN``."""
        plain = [int(i) if i < self.plain.size else int(i) - len(self.tags) for i in ids if not self.is_tag(int(i))]
        return self.plain.decode(plain, oov)

    def joins(self, piece: str) -> tuple[bool, bool]:
        return self.plain.joins(piece)

    def with_sides(self, text: str, first: str, last: str) -> str:
        return self.plain.with_sides(text, first, last)

    def is_tag(self, index: int) -> bool:
        """Return whether an id is a tag's."""
        return self.plain.size <= index < self.size

    def _piece(self, index: int) -> str:
        return tag_piece(self.tags[index - self.plain.size]) if self.is_tag(index) else self.plain._piece(index)

    def to_bytes(self) -> bytes:
        """Serialize the tokenizer without its tags."""
        return self.plain.to_bytes()

    @property
    def identity(self) -> str:
        return hash_values([self.plain.identity, list(self.tags), self._reads])


def _without(prefixes: Sequence[str], texts: Sequence[str]) -> list[str]:
    return [text[len(prefix) :] for prefix, text in zip(prefixes, texts, strict=True)]
