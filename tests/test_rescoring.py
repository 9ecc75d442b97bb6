"""Scores of given translations, coverage of the source, limits that were hit, and the explanation of the order."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch

from seq2seq.config import ModelConfig, SearchConfig, TokenizerConfig
from seq2seq.model_dir import Settings, Tokenizers, build_model
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tokenizer import EOS
from seq2seq.translation import UNCOVERED, Translation, explain_order, uncovered_spans
from seq2seq.translator import Translator

TEXT = ["a man sees the old dog .", "the dog sees a small man , too .", "two men sleep ; one dog runs away !"]
LINES = ["the dog sleeps .", "", "a Fnord man", "two small men sees the old dog , too .", "one man runs away !"]
SEARCH = SearchConfig(beam_size=4, max_length_ratio=1.0, max_length_extra=4)


def make(
    max_source_length: int = 50, *, attention: str = "additive", copy: str = "none", ending: float = -1.0, **search
):
    torch.manual_seed(3)
    config = TokenizerConfig(type="word", vocab_size=30)
    words = train_tokenizer(TEXT, config)
    settings = Settings(
        ModelConfig(attention=attention, copy=copy, embedding_size=8, hidden_size=12), config, SEARCH, max_source_length
    )
    model = build_model(settings, Tokenizers(words, words))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 4
        model.readout.logits.bias[EOS] = ending
    return Translator(model, Tokenizers(words, words), dataclasses.replace(SEARCH, **search))


# ---- given translations


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"copy": "pointer"},
        {"attention": "none"},
        {"length_penalty": 0.3, "coverage_penalty": 0.2, "summary_penalty": 0.1},
    ],
)
@pytest.mark.parametrize("batch_tokens", [1, 4096])
def test_translations_of_the_search_get_its_scores(options: dict, batch_tokens: int) -> None:
    translator = make(ending=0.0, batch_tokens=batch_tokens, **options)
    found = translator.search(LINES, n_best=4)
    again = translator.rescore(LINES, [[each.translation for each in best] for best in found])
    assert [len(best) for best in again] == [4, 1, 4, 4, 4]
    for one, other in zip([e for best in found for e in best], [e for best in again for e in best], strict=True):
        if one.status != "max_length":
            assert other.status == one.status
        assert (other.translation, other.pieces, other.source_pieces) == (
            one.translation,
            one.pieces,
            one.source_pieces,
        )
        assert (other.alignment, other.copied_from, other.uncovered) == (one.alignment, one.copied_from, one.uncovered)
        assert other.score == pytest.approx(one.score, abs=1e-5)
        assert other.log_prob == pytest.approx(one.log_prob, abs=1e-4)
        assert other.token_log_probs == pytest.approx(one.token_log_probs, abs=1e-5)
        assert other.coverage == pytest.approx(one.coverage, abs=1e-5)


def test_the_order_and_the_texts_of_given_translations_are_kept() -> None:
    translator = make()
    texts = [["the man", "Fnord!", "", "the   man"], [], ["a"], ["dog", "dog"], ["x"]]
    found = translator.rescore(LINES, texts)
    assert [[each.translation for each in best] for best in found] == texts
    assert found[2][0].log_prob == pytest.approx(translator.rescore(["a Fnord man"], [["a"]])[0][0].log_prob, abs=1e-4)
    assert found[3][0].score == pytest.approx(found[3][1].score, abs=1e-4)
    for each in found[0]:
        assert each.log_prob == pytest.approx(sum(translator.score(LINES[:1], [each.translation])[0]), abs=1e-4)


def test_translations_of_a_blank_line_are_not_scored() -> None:
    assert make().rescore(["", " "], [["", "a dog"], [""]]) == [
        [Translation("", status="empty"), Translation("a dog", status="empty")],
        [Translation("", status="empty")],
    ]


def test_lists_that_do_not_match_the_lines_are_refused() -> None:
    message = "there are 2 source lines but 1 lists of translations; they must match line by line"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make().rescore(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match=r"^the translations must be a list of texts, but are one text; put the text"):
        make().rescore(["a"], ["a"])


def test_a_trace_of_a_given_translation_is_rescoring() -> None:
    translator = make(copy="pointer", coverage_penalty=0.3)
    traced, _ = translator.trace(LINES[0], "the old dog")
    assert traced == translator.rescore(LINES[:1], [["the old dog"]])[0][0]


# ---- coverage


def test_coverage_is_the_attention_summed_over_the_target() -> None:
    translator = make()
    for line in (LINES[0], LINES[3]):
        traced, provenance = translator.trace(line)
        expected = provenance.weights.sum(dim=0)[: len(traced.source_pieces)].tolist()
        (found,) = translator.search([line])[0]
        assert found.coverage == pytest.approx(expected, abs=1e-5)
        assert len(found.coverage) == len(found.source_pieces)
        text = "".join(line[start:end] for start, end in found.uncovered).replace(" ", "")
        pieces = zip(found.source_pieces, found.coverage, strict=True)
        low = [piece for piece, attention in pieces if attention < UNCOVERED]
        assert text == "".join(low).replace("￭", "")


def test_uncovered_pieces_that_are_neighbours_are_one_span() -> None:
    spans = [(0, 0), (0, 3), (4, 7), (7, 8), (9, 12), (13, 14)]
    low, high = UNCOVERED / 2, UNCOVERED
    assert uncovered_spans([low, high, low, low, high, low], spans) == [[4, 8], [13, 14]]
    assert uncovered_spans([low] * 6, spans) == [[0, 14]]
    assert uncovered_spans([high] * 6, spans) == []
    assert uncovered_spans([], []) == []


def test_a_model_without_attention_has_no_coverage() -> None:
    found = make(attention="none").search(LINES)[0][0]
    assert (found.coverage, found.uncovered) == ([], [])


def test_the_parts_of_a_split_line_are_joined() -> None:
    translator = make(4, too_long="split", ending=-1e4, max_length_ratio=0.0, max_length_extra=3)
    line = LINES[3]
    (found,) = translator.search([line])[0]
    assert len(found.coverage) == len(found.source_pieces) == 10
    assert sum(found.coverage) <= 9 + 1e-4  # three parts of at most three pieces with their ends
    assert found.limits == ["max_source_length", "max_length"]
    for start, end in found.uncovered:
        assert line[start:end].strip() == line[start:end] != ""


# ---- limits


@pytest.mark.parametrize(
    ("most", "ending", "limits"),
    [
        (50, 10.0, []),
        (50, -1e4, ["max_length"]),
        (4, 10.0, ["max_source_length"]),
        (4, -1e4, ["max_source_length", "max_length"]),
    ],
)
def test_all_limits_that_were_hit_are_named(most: int, ending: float, limits: list[str]) -> None:
    assert make(most, ending=ending).search([LINES[3]])[0][0].limits == limits


# ---- the order


def test_the_explanation_adds_up() -> None:
    translator = make(ending=0.0, length_penalty=0.7, coverage_penalty=0.2)
    best = translator.search(LINES[:1], n_best=4)[0]
    explained = explain_order(best, 0.7)
    assert [each["translation"] for each in explained] == [each.translation for each in best]
    for each, found in zip(explained, best, strict=True):
        assert each["length"] == len(found.pieces) + 1
        assert each["normalised"] == pytest.approx(found.log_prob / each["length"] ** 0.7)
        assert each["normalised"] - each["penalty"] == pytest.approx(each["score"])
        assert each["penalty"] > 0
        assert each["margin"] == best[0].score - found.score
    assert explained[0]["margin"] == 0
    assert explain_order([Translation("", status="empty")], 1.0)[0]["length"] == 0
