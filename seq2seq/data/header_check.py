"""Recognize a first line that names columns instead of holding a pair."""

from __future__ import annotations

import re

_HEADER_WORDS = frozenset(
    """
    src tgt trg source target sources targets input output inputs outputs prompt completion response text texts
    document article summary abstract title headline subject body question answer query reply sentence reference
    hypothesis translation original simple complex formal informal word words phonemes graphemes pronunciation
    lemma form command actions label language lang arabic bulgarian catalan chinese croatian czech danish dutch
    english estonian finnish french german greek hebrew hindi hungarian icelandic indonesian irish italian
    japanese korean latin latvian lithuanian norwegian persian polish portuguese romanian russian serbian slovak
    slovenian spanish swedish thai turkish ukrainian vietnamese ar bg bn ca cs cy da de el en es et eu fa fi fr ga
    gl he hi hr hu id is it ja ka ko lt lv mk ms mt nl no pl pt ro ru sk sl sq sr sv sw ta te th tr uk ur vi zh
    """.split()  # noqa: SIM905 # a word a line would take two screens
)
_LONGEST_HEADER = 3  # words in the name of a column


def is_header_like(columns: list[str], src: int, tgt: int) -> bool:
    """Return whether the cells of both texts look like names of columns, such as ``en``, ``tgt_text`` or ``German``."""
    if len(columns) <= max(src, tgt) or columns[src] == columns[tgt]:
        return False
    names = [re.findall(r"[^\W\d_]+", columns[place].casefold()) for place in (src, tgt)]
    return all(len(words) <= _LONGEST_HEADER and not _HEADER_WORDS.isdisjoint(words) for words in names)
