"""Words and sentences of raw text in any script, for counting: what the metrics of summaries compare.

Nothing of a model: its pieces are made in ``tokenizer``, its words in ``wordsplit``, and those can be joined again;
here punctuation and case are lost. Knows lines of text only.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import regex  # knows Unicode scripts; sacreBLEU brings it

# Scripts written without spaces: every character is a word. scx: characters that several scripts share, such as ー.
_UNSPACED = r"""
    \p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}
    \p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tai_Tham}\p{Tai_Le}\p{New_Tai_Lue}\p{Tai_Viet}\p{Javanese}\p{Balinese}
"""
_ALONE = rf"[[{_UNSPACED}]&&[\p{{L}}\p{{Nl}}]]"
_WORD = regex.compile(
    rf"""
    {_ALONE}\p{{M}}*  # one character with its vowel signs and accents
    | [[\p{{L}}\p{{N}}]--{_ALONE}]  # letters and digits; the joiners of Indic and Persian stay inside
      (?: [[\p{{L}}\p{{N}}\p{{M}}]--{_ALONE}] | [\u200c\u200d] )*
    """,
    regex.VERBOSE | regex.VERSION1,
)
_ALONE_WORD = regex.compile(_ALONE, regex.VERBOSE | regex.VERSION1)
_HAN = regex.compile(r"\p{Han}")
_JOINS = regex.compile(rf"[{_UNSPACED}\u3000-\u303f\uff00-\uff65]", regex.VERSION1 | regex.VERBOSE)
_ASCII_WORD = regex.compile("[A-Za-z0-9]+")

_FULL_STOPS = "。！？｡।॥۔؟។၊။።"  # end a sentence whatever follows
_END = regex.compile(rf"""[.!?…{_FULL_STOPS}]+(?:[”’"'»)\]」』）]|\s+['"”’»](?=\s|$))*""")
_TITLE = regex.compile(r"\b(?:\p{Lu}|Mr|Mrs|Ms|Dr|Prof|St|Sen|Rep|Gov|Gen|Lt|Sgt)$")


def split_words(text: str) -> list[str]:
    """Cut text into words as written: runs of letters and digits; in scripts without spaces every character.

    Composed and decomposed accents give the same word. Punctuation and symbols give none.
    """
    if text.isascii():
        return _ASCII_WORD.findall(text)
    return _WORD.findall(unicodedata.normalize("NFC", text))


def script(texts: Iterable[str]) -> str:
    """The script that decides how a text is cut: "spaced", "han" (Chinese), or "unspaced" (Japanese, Thai, Khmer, ...).

    Spaced is what has more than four words of letters and digits for each character of a script without spaces: a word
    of the latter is about two characters, and such a text may quote much Latin.
    """
    han = unspaced = other = 0
    for text in texts:
        found = split_words(text)
        alone = [] if text.isascii() else [word for word in found if _ALONE_WORD.match(word)]
        han += sum(_HAN.match(word) is not None for word in alone)
        unspaced += len(alone)
        other += len(found) - len(alone)
    if other > 4 * unspaced or not unspaced:
        return "spaced"
    return "han" if han > 0.95 * unspaced else "unspaced"


def join(texts: Iterable[str]) -> str:
    """Put texts one behind the other, without a space behind a script that has none."""
    joined = ""
    for text in filter(None, texts):
        joined += (" " if joined and not _JOINS.match(joined[-1]) else "") + text
    return joined


def words(text: str) -> list[str]:
    """Cut text into lowercased words; of ASCII text the same ones as rouge-score's tokenizer without stemming."""
    return split_words(text.lower())


def sentences(text: str) -> list[str]:
    """Cut text into sentences.

    Text with newlines holds one sentence a line. Otherwise a sentence ends at 。！？ and their like; and at . ! ? …
    before white space, unless a lowercase letter follows, or before the full stop stands one capital letter or a title
    (Mr, Dr). Where the punctuation stands alone, as in tokenised text, lowercase may follow.
    """
    if "\n" in text:
        return [line for line in text.split("\n") if line.strip()]
    found, start = [], 0
    for end in _END.finditer(text):
        if _ends_sentence(text, end.start(), end.end()):
            found.append(text[start : end.end()])
            start = end.end()
    return [sentence.strip() for sentence in [*found, text[start:]] if sentence.strip()]


def _ends_sentence(text: str, start: int, end: int) -> bool:
    """Whether the punctuation from ``start`` to ``end`` closes a sentence."""
    if any(character in _FULL_STOPS for character in text[start:end]):
        return True
    if end < len(text) and not text[end].isspace():
        return False
    if start and text[start - 1].isspace():
        return True
    if text[start:end] == "." and _TITLE.search(text[max(0, start - 6) : start]):
        return False
    following = regex.search(r"[\p{L}\p{N}]", text, pos=end)
    return following is None or not following.group().islower()
