"""The terms of source lines: finding them, reading a glossary, placeholders, spellings, and exact texts."""

from __future__ import annotations

import time

import pytest

from seq2seq.config import TokenizerConfig
from seq2seq.data.lines import CorpusError
from seq2seq.data.spellings import decode_marked, spellings, word_edges
from seq2seq.data.terms import (
    KEPT_SPANS,
    SourceTerm,
    TermFinder,
    count_of,
    known_placeholders,
    mask_line,
    read_glossary,
)
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tokenizer import UNK, Tokenizer

TEXT = [
    "a man sees the old dog .",
    "the dog (see) sees a small man , too .",
    "two men sleep ; one dog : http://x.com/a",
] * 9
KINDS = {"unigram": 330, "bpe": 330, "char": 60, "word": 60}


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request) -> Tokenizer:
    symbols = [] if request.param == "word" else ["<ph1>", "<ph2>"]
    config = TokenizerConfig(type=request.param, vocab_size=KINDS[request.param], user_defined_symbols=symbols)
    return train_tokenizer(TEXT, config)


def found(finder: TermFinder, line: str) -> list[tuple[str, int]]:
    for term in finder.find(line):
        assert line[term.start : term.end] == term.source
    return [(term.source, term.start) for term in finder.find(line)]


def test_glossary_terms_are_whole_words_and_the_longest_counts():
    finder = TermFinder(
        {"dog": ["chien"], "old dog": ["vieux chien"], "C++": ["C++"], "犬": ["dog"], "Maß": ["mesure"]}
    )
    assert found(finder, "a dog, an old dog and dogs") == [("dog", 2), ("old dog", 10)]
    assert found(finder, "Dog hotdog dog2 dog_ do") == []
    assert found(finder, "(dog)/dog") == [("dog", 1), ("dog", 6)]
    assert found(finder, "C++ is C++17, not XC++") == [("C++", 0), ("C++", 7)]
    assert found(finder, "大きな犬が犬") == [("犬", 3), ("犬", 5)]  # a script without spaces has no borders of words
    assert found(finder, "Maße Maß") == [("Maß", 5)]
    assert TermFinder({"old": ["x"], "old dog": ["y"]}).find("old dog") == [SourceTerm("old dog", ("y",), 0, 7, False)]
    assert finder.find("") == []
    assert finder
    assert not TermFinder({})


@pytest.mark.parametrize(
    ("kind", "line", "spans"),
    [
        (
            "urls",
            "see http://x.org/a?b=c#d, (https://y.org/) or ftp://z.",
            ["http://x.org/a?b=c#d", "https://y.org/", "ftp://z"],
        ),
        ("emails", "<ann.b+c@x-y.co.uk>, or bob@z", ["ann.b+c@x-y.co.uk"]),
        ("emails", "to:a@b@c.de,d@e.fr", ["b@c.de", "d@e.fr"]),
        ("tags", 'a <b class="x">bold</b> &amp; 1 < 2 > 3 <br/>', ['<b class="x">', "</b>", "&amp;", "<br/>"]),
        ("numbers", "3 dogs, 1,000.50 x2 2x 10:30 v1.2", ["3", "1,000.50", "10:30"]),
        ("numbers", "at 10.30pm, 1.5x, 3-4th, 12:30h: 7.", ["7"]),  # no part of a number with letters
        ("[A-Z]+-[0-9]+", "AB-12 and ab-12", ["AB-12"]),
        ("x*", "a xx  ", ["xx"]),
        (r"\s*\d+\s*", "  12 dogs and 7\t\n", ["12", "7"]),
    ],
)
def test_kept_spans(kind, line, spans):
    terms = TermFinder({}, [kind]).find(line)
    assert [term.source for term in terms] == spans
    assert all(term.kept and term.targets == (term.source,) for term in terms)


@pytest.mark.parametrize("kind", KEPT_SPANS)
@pytest.mark.parametrize("text", ["a", "a.b", "1.1", "a@b-", "<a &a", "http://"])
def test_the_time_to_find_spans_does_not_grow_with_the_square_of_a_word(kind: str, text: str) -> None:
    finder = TermFinder({}, [kind])
    start = time.process_time()
    finder.find(text * 20_000)  # with the square, emails in "a.b" take 15 seconds
    assert time.process_time() - start < 10


def test_terms_do_not_overlap():
    finder = TermFinder({"dog": ["chien"], "5": ["cinq"]}, ["urls", "numbers", "see dog"])
    assert found(finder, "http://dog/5 dog 5 see dog") == [("http://dog/5", 0), ("dog", 13), ("5", 17), ("see dog", 19)]
    assert [term.kept for term in finder.find("5 dog")] == [True, False]


def test_an_invalid_pattern_is_refused():
    message = (
        r"^what is kept must be one of urls, emails, tags, numbers or a regular expression, but a\( is none: "
        r"missing \), unterminated subpattern at position 1$"
    )
    with pytest.raises(ValueError, match=message):
        TermFinder({}, ["a("])
    assert list(KEPT_SPANS) == ["urls", "emails", "tags", "numbers"]


def test_a_glossary_is_read(tmp_path):
    path = tmp_path / "terms.tsv"
    path.write_text("dog\tchien\n\nold dog\tvieux chien\ndog\tchiens\n", encoding="utf-8")
    assert read_glossary(path) == {"dog": ("chien", "chiens"), "old dog": ("vieux chien",)}
    for line, columns in (("dog", 1), ("dog\t", 1), ("a\tb\tc", 3)):
        path.write_text(f"a\tb\n{line}\n", encoding="utf-8")
        message = (
            rf"^{path}, line 2 must have a source term, a tab and a target term, but has {columns} columns with text$"
        )
        with pytest.raises(CorpusError, match=message):
            read_glossary(path)


def test_placeholders_replace_kept_spans_and_spans_refer_to_the_line():
    line = "a 12 dog 345 and 6"
    terms = TermFinder({"dog": ["chien"]}, ["numbers"]).find(line)
    masked = mask_line(line, terms, ["<ph1>", "<ph2>"])
    assert masked.text == "a <ph1> dog <ph2> and 6"
    assert masked.placeholders == {0: "<ph1>", 2: "<ph2>"}
    places = [masked.text.index(word) for word in ("a", "<ph1>", "dog", "<ph2>", "6")]
    spans = masked.spans([(place, place + size) for place, size in zip(places, (1, 5, 3, 5, 1), strict=True)])
    assert [line[start:end] for start, end in spans] == ["a", "12", "dog", "345", "6"]
    assert mask_line("12 <ph1>", TermFinder({}, ["numbers"]).find("12 <ph1>"), ["<ph1>", "<ph2>"]).text == "<ph2> <ph1>"
    assert mask_line(line, terms, []) == (line, None, {})
    assert mask_line(line, terms, []).spans([(0, 1)]) == [(0, 1)]


def test_known_placeholders_are_in_both_vocabularies(tokenizer):
    words = train_tokenizer(TEXT, TokenizerConfig(type="word", vocab_size=60))
    assert known_placeholders(tokenizer, tokenizer) == ([] if tokenizer.id("<ph1>") == UNK else ["<ph1>", "<ph2>"])
    assert known_placeholders(tokenizer, words) == []


@pytest.mark.parametrize("term", ["dog", "old dog", "http://x.com/a", "<b>", "Zoë", "①", "see", "."])
def test_a_spelling_decodes_to_its_text_between_words_and_in_brackets(tokenizer, term):
    every = spellings(term, tokenizer, [], with_unknown=True)
    assert every
    exact = spellings(term, tokenizer, [], with_unknown=False)
    before, after = tokenizer.encode("the man ("), tokenizer.encode(", too")
    for ids in every:
        text = tokenizer.decode([*before, *ids, *after])
        assert (ids in exact) == (UNK not in ids)
        if ids in exact and term != "①":
            assert term in text
        places = [(len(before), len(before) + len(ids), "①\ue000▁<unk>")]
        restored = decode_marked(tokenizer, [*before, *ids, *after], [], places).restored()
        assert "①\ue000▁<unk>" in restored
        assert restored.startswith("the man")
        assert restored.endswith(", too")


def test_copied_pieces_spell_a_term():
    words = train_tokenizer(TEXT, TokenizerConfig(type="word", vocab_size=60))
    assert spellings("xylophone dog", words, [], with_unknown=False) == []
    assert spellings("xylophone dog", words, ["xylophone"], with_unknown=False) == [(words.size, words.id("dog"))]


def test_the_pieces_that_go_on_with_a_word():
    bpe = train_tokenizer(TEXT, TokenizerConfig(type="bpe", vocab_size=330))
    edges = word_edges(bpe, ["zz", "-"])
    inside = {
        piece: (edges.begins(bpe.id(piece)), edges.ends(bpe.id(piece))) for piece in ("▁dog", "dog", ".", "▁", "<0xC3>")
    }
    assert inside == {
        "▁dog": (False, True),
        "dog": (True, True),
        ".": (False, False),
        "▁": (False, False),
        "<0xC3>": (True, True),
    }
    assert (edges.begins(bpe.size), edges.ends(bpe.size + 1)) == (True, False)
    assert edges.begins(bpe.id("<0x3E>")) is False
    words = train_tokenizer(TEXT, TokenizerConfig(type="word", vocab_size=60))
    assert not any(word_edges(words, []).ends(index) for index in range(words.size))


def test_occurrences_are_counted_as_words():
    assert count_of("5", "5 15 5, 5.") == 3
    assert count_of("aa", "aa aaa aa") == 2
    assert count_of("</b>", "x</b></b>y") == 2
