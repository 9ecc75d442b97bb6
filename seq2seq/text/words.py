"""Words and sentences of raw text in any script, for the metrics; sentences also for the hierarchical encoder.

These words are not the tokens of a model. They have no punctuation and no case, so they cannot be joined to the original
text. Tokens that can be joined are in ``tokenizer`` and ``word``.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Iterator

import regex  # supports Unicode scripts; a dependency of sacreBLEU too

# Scripts written without spaces, where each character is a word. scx includes characters that several scripts share (ー).
_UNSPACED = r"""
    \p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}
    \p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tai_Tham}\p{Tai_Le}\p{New_Tai_Lue}\p{Tai_Viet}\p{Javanese}\p{Balinese}
"""
_CHARACTER = rf"[[{_UNSPACED}]&&[\p{{L}}\p{{Nl}}]]"
_WORD = regex.compile(
    rf"""
    {_CHARACTER}\p{{M}}*  # one character with its vowel signs and accents
    | [[\p{{L}}\p{{N}}]--{_CHARACTER}]  # letters and digits, with the joiners of Indic scripts and Persian
      (?: [[\p{{L}}\p{{N}}\p{{M}}]--{_CHARACTER}] | [\u200c\u200d] )*
    """,
    regex.VERBOSE | regex.VERSION1,
)
_CHARACTER_WORD = regex.compile(_CHARACTER, regex.VERBOSE | regex.VERSION1)
_SPACED_WORD = regex.compile(rf"[[\p{{L}}\p{{N}}\p{{M}}_\u200c\u200d]--[{_UNSPACED}]]", regex.VERBOSE | regex.VERSION1)
_HAN = regex.compile(r"\p{Han}")
_NO_SPACE_AFTER = regex.compile(rf"[{_UNSPACED}\u3000-\u303f\uff00-\uff65]", regex.VERSION1 | regex.VERBOSE)
_ASCII_WORD = regex.compile("[A-Za-z0-9]+")

_FULL_STOPS = "。！？｡।॥۔؟។၊။።"  # these end a sentence in any context
_END = regex.compile(rf"""[.!?…{_FULL_STOPS}]+(?:[”’"'»)\]」』）]|\s+['"”’»](?=\s|$))*""")
_LETTER_OR_DIGIT = regex.compile(r"[\p{L}\p{N}]")
_TITLE = regex.compile(r"\b(?:\p{Lu}|Mr|Mrs|Ms|Dr|Prof|St|Sen|Rep|Gov|Gen|Lt|Sgt)$")


def split_words(text: str) -> list[str]:
    """Split text into words without changing the case.

    A word is a run of letters and digits, or a single character in scripts without spaces. Composed and decomposed accents
    give the same word. Punctuation and symbols are skipped.
    """
    if text.isascii():
        return _ASCII_WORD.findall(text)
    return _WORD.findall(unicodedata.normalize("NFC", text))


def is_word_character(character: str) -> bool:
    """Return whether a character is a letter, digit, mark or underscore of a script with spaces between words."""
    return character.isalnum() if character.isascii() and character != "_" else bool(_SPACED_WORD.match(character))


def in_one_word(left: str, right: str) -> bool:
    """Return whether two neighbouring characters are in one word; never in a script without spaces."""
    return is_word_character(left) and is_word_character(right)


def script(texts: Iterable[str]) -> str:
    """Return the class of scripts of a text: "spaced", "han" (Chinese), or "unspaced" (Japanese, Thai, Khmer, ...).

    A text is "spaced" if it has more than four words of letters and digits per character of a script without spaces. The
    limit is high because a word of such a script has about two characters, and its texts can have many Latin words.
    """
    han = unspaced = other = 0
    for text in texts:
        found = split_words(text)
        characters = [] if text.isascii() else [word for word in found if _CHARACTER_WORD.match(word)]
        han += sum(_HAN.match(word) is not None for word in characters)
        unspaced += len(characters)
        other += len(found) - len(characters)
    if other > 4 * unspaced or not unspaced:
        return "spaced"
    return "han" if han > 0.95 * unspaced else "unspaced"


def join_texts(texts: Iterable[str]) -> str:
    """Join texts with a space after each, except after a character of a script written without spaces."""
    joined = ""
    for text in filter(None, texts):
        joined += (" " if joined and not _NO_SPACE_AFTER.match(joined[-1]) else "") + text
    return joined


def words(text: str) -> list[str]:
    """Split text into lowercase words. For ASCII text, they are those of rouge-score's tokenizer without stemming."""
    return split_words(text.lower())


def sentences(text: str) -> list[str]:
    """Split text into sentences.

    Text with newlines has one sentence per line. In other text, a sentence ends at 。！？ and similar characters, and at
    . ! ? … before white space. The latter do not end a sentence if the next letter is lowercase, or if a full stop follows a
    single capital letter or a title (Mr, Dr). Punctuation after white space, as in tokenised text, always ends a sentence.
    """
    if "\n" in text:
        return [line for line in text.split("\n") if line.strip()]
    borders = [0, *sentence_ends(text), len(text)]
    found = (text[start:end].strip() for start, end in itertools.pairwise(borders))
    return [sentence for sentence in found if sentence]


def sentence_ends(text: str) -> Iterator[int]:
    """Return the index after each punctuation that ends a sentence, see ``sentences``; newlines are white space."""
    for end in _END.finditer(text):
        if _ends_sentence(text, end.start(), end.end()):
            yield end.end()


def _ends_sentence(text: str, start: int, end: int) -> bool:
    """Whether the punctuation from ``start`` to ``end`` ends a sentence."""
    if any(character in _FULL_STOPS for character in text[start:end]):
        return True
    if end < len(text) and not text[end].isspace():
        return False
    if start and text[start - 1].isspace():
        return True
    if text[start:end] == "." and _TITLE.search(text[max(0, start - 6) : start]):
        return False
    following = _LETTER_OR_DIGIT.search(text, pos=end)
    return following is None or not following.group().islower()
