"""Sources longer than the limit of the model are cut or split, with a warning that names the line."""

from __future__ import annotations

import dataclasses
import itertools
import logging

import pytest
import torch
from untrained import spread

from seq2seq.config import ModelConfig, SearchConfig, TokenizerConfig
from seq2seq.data.splitting import split_places
from seq2seq.model import Seq2Seq
from seq2seq.model_dir import Tokenizers
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tokenizer import EOS, SPECIALS, Segments
from seq2seq.text.word import JOINER, WordTokenizer
from seq2seq.translator import Translator

WORDS = ["a", "b", "c", "d", "e", "f", "g", "￭.", "￭,"]
LONG = "a b c. d e f g, a b c d"  # 14 pieces
LINES = ["a b", LONG, "", "zebra b c. d e f g, a b c zebra yak", "c"]


def make(too_long: str, **options) -> Translator:
    torch.manual_seed(3)
    tokenizer = WordTokenizer([*SPECIALS, *WORDS])
    config = ModelConfig(embedding_size=8, hidden_size=12, dropout=0.0, **options)
    model = Seq2Seq(config, src_size=tokenizer.size, tgt_size=tokenizer.size, shared=True, max_source_length=6)
    spread(model)
    with torch.no_grad():
        model.readout.logits.bias[EOS] = 1.0
    search = SearchConfig(beam_size=3, too_long=too_long)
    return Translator(model, Tokenizers(tokenizer, tokenizer), search)


@pytest.mark.parametrize(
    ("text", "most", "places"),
    [
        ("a b", 3, [0, 2]),
        ("a b c", 3, [0, 3]),
        ("a b c d", 3, [0, 3, 4]),  # no punctuation to split at
        ("a ￭. c d", 3, [0, 2, 4]),  # after the end of a sentence
        ("a ￭. c ￭. e", 4, [0, 4, 5]),  # the last end of a sentence that fits
        ("a ￭, c d", 3, [0, 2, 4]),  # otherwise after a comma
        ("a b ￭. c ￭, e f", 5, [0, 3, 7]),  # the end of a sentence is preferred to a comma
        ("a ￭. c d ￭, e f", 6, [0, 5, 7]),  # but not in the first half
        ("我 。 你 好 ， 他", 4, [0, 2, 6]),
        ("▁a ▁b. ▁c ▁d", 3, [0, 2, 4]),
        ("a b c d e f g", 2, [0, 2, 4, 6, 7]),
        ("a b c d￭ e f", 4, [0, 3, 6]),  # not inside a word
        ("a b￭ c￭ d￭ e f", 4, [0, 4, 6]),  # unless the word is as long as half a part
    ],
)
def test_where_a_source_is_split(text: str, most: int, places: list[int]) -> None:
    assert split_places(segments_of(text), most) == places


def segments_of(text: str) -> Segments:
    """Make segments of pieces with white space between them, except at a joiner."""
    pieces, spans, end = text.split(), [], 0
    for number, piece in enumerate(pieces):
        glued = piece.startswith(JOINER) or (number and pieces[number - 1].endswith(JOINER))
        start = end + (0 if glued else 1)
        end = start + len(piece.strip(JOINER))
        spans.append((start, end))
    return Segments([0] * len(pieces), pieces, spans)


@pytest.mark.parametrize(
    ("line", "most", "parts"),
    [
        ("It costs 3.50 euros a day", 5, ["It costs 3.50", "euros a day"]),  # 3.50 is three pieces
        ("Mr. Smith went home early today", 6, ["Mr. Smith went home early", "today"]),
        ("a b c d at 10:30 e f", 8, ["a b c d at 10:30", "e f"]),
        ("a b. c d e", 4, ["a b.", "c d e"]),
    ],
)
def test_numbers_and_titles_are_not_split(line: str, most: int, parts: list[str]) -> None:
    tokenizer = train_tokenizer([line], TokenizerConfig(type="word", vocab_size=50))
    (source,) = tokenizer.segment([line])
    places = split_places(source, most)
    spans = [(source.spans[start][0], source.spans[end - 1][1]) for start, end in itertools.pairwise(places)]
    assert [line[start:end] for start, end in spans] == parts


def test_parts_are_translated_separately_and_joined() -> None:
    splitting, cutting = make("split"), make("cut")
    parts = ["a b c.", "d e f g,", "a b c d"]
    whole = splitting.translate(LINES)
    assert whole[1] == " ".join(text for text in splitting.translate(parts) if text)
    short = [0, 2, 4]
    assert [whole[row] for row in short] == [cutting.translate(LINES)[row] for row in short]
    assert cutting.translate(LINES)[1] == cutting.translate(["a b c. d e"])[0]


@pytest.mark.parametrize("copy", ["none", "pointer"])
def test_the_fields_of_a_split_line_join_those_of_its_parts(copy: str) -> None:
    translator = make("split", copy=copy)
    parts = [found[0] for found in translator.search(["zebra b c.", "d e f g,", "a b c zebra yak"])]
    whole = translator.search(LINES)[3][0]
    assert whole.status in ("source_split", "max_length")
    assert whole.log_prob == pytest.approx(sum(part.log_prob for part in parts), abs=1e-4)
    for name in ("pieces", "source_pieces", "p_gen"):
        assert getattr(whole, name) == pytest.approx([item for part in parts for item in getattr(part, name)])
    offsets = [0, 4, 9]
    assert whole.alignment == [at + place for at, part in zip(offsets, parts, strict=True) for place in part.alignment]
    places = [place for place in whole.copied_from if place]
    assert bool(places) == (copy == "pointer")
    for place in places:
        assert LINES[3][place.start : place.end] == whole.source_pieces[place.source_piece].strip("￭")
    if copy == "pointer":
        assert whole.copied_share == len(places) / len(whole.pieces)


@pytest.mark.parametrize("length_penalty", [0.0, 0.5, 1.0])
def test_the_score_of_a_split_line_is_that_of_the_whole_translation(length_penalty: float) -> None:
    translator = make("split")
    translator.search_config.length_penalty = length_penalty
    whole = translator.search([LONG])[0][0]
    expected = whole.log_prob / len(whole.token_log_probs) ** length_penalty
    assert whole.score == pytest.approx(expected, abs=1e-4)
    translator.search_config.summary_penalty = 0.5
    parts = [found[0] for found in translator.search(["a b c.", "d e f g,", "a b c d"])]
    penalty = sum(part.log_prob / len(part.token_log_probs) ** length_penalty - part.score for part in parts)
    whole = translator.search([LONG])[0][0]
    expected = whole.log_prob / len(whole.token_log_probs) ** length_penalty - penalty
    assert penalty > 0.01
    assert whole.score == pytest.approx(expected, abs=1e-4)


def test_n_best_of_a_split_line_joins_parts_of_the_same_rank() -> None:
    translator = make("split")
    parts = translator.search(["a b c.", "d e f g,", "a b c d"], n_best=3)
    whole = translator.search([LONG], n_best=3)[0]
    assert [item.log_prob for item in whole] == pytest.approx(
        [sum(part[rank].log_prob for part in parts) for rank in range(3)], abs=1e-4
    )


@pytest.mark.parametrize(
    ("too_long", "done"), [("cut", "is cut to 6"), ("split", "is split into 3 parts of at most 6")]
)
def test_the_warning_names_the_line(too_long: str, done: str, caplog: pytest.LogCaptureFixture) -> None:
    translator = make(too_long)
    for function in (translator.translate, translator.search):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            function(LINES[:3], first_line=7)
        assert [record.getMessage() for record in caplog.records] == [
            f"line 8 has 13 pieces and {done}, the model's data.max_source_length"
        ]


def test_scoring_always_cuts() -> None:
    splitting, cutting = make("split"), make("cut")
    assert splitting.score([LONG], ["a b"]) == cutting.score([LONG], ["a b"])
    assert dataclasses.asdict(splitting.search_config)["too_long"] == "split"
