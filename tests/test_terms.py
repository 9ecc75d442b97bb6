"""Glossaries and kept spans of the translator, with untrained models that are far from uniform."""

from __future__ import annotations

import dataclasses
import logging

import pytest
import torch
from torch import nn

from seq2seq.config import ModelConfig, SearchConfig, TokenizerConfig
from seq2seq.data.line_terms import TermResult
from seq2seq.data.terms import count_of
from seq2seq.ensemble import Ensemble
from seq2seq.model_dir import Settings, Tokenizers, build_model
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tokenizer import EOS
from seq2seq.translator import Translator

TEXT = ["a man sees the old dog .", "the dog (see) sees a small man , too .", "two men sleep ; one dog runs away !"] * 9
GLOSSARY = {"dog": ["chien", "chiens"], "old dog": ["vieux chien"], "man": ["homme"]}
LINES = ["the old dog sees a dog", "a cat", "", "one man runs away : dogs !", "two men sleep"]
SEARCH = SearchConfig(beam_size=3, max_length_ratio=1.0, max_length_extra=9)
TYPES = {"bpe": 400, "word": 60, "char": 60}


def build(kind: str, model: ModelConfig, seed: int = 3, symbols: tuple[str, ...] = ()) -> tuple[nn.Module, Tokenizers]:
    torch.manual_seed(seed)
    size = TYPES[kind]
    config = TokenizerConfig(type=kind, vocab_size=size, user_defined_symbols=list(symbols))
    tokenizer = train_tokenizer([*TEXT, "le vieux chien et un homme et chiens"], config)
    tokenizers = Tokenizers(tokenizer, tokenizer)
    built = build_model(Settings(model, config, SEARCH, 50), tokenizers)
    with torch.no_grad():
        built.readout.logits.weight *= 5
        built.readout.logits.bias[EOS] = 1.0
        pieces = tokenizer.pieces(range(tokenizer.size))
        odd = [number for number, piece in enumerate(pieces) if piece.startswith("<")]  # bytes and placeholders
        built.readout.logits.bias[[number for number in odd if number > EOS]] = -9.0
    return built, tokenizers


def make(
    kind: str = "bpe", *, copy: str = "none", symbols: tuple[str, ...] = (), models: int = 1, **search
) -> Translator:
    config = ModelConfig(embedding_size=8, hidden_size=12, copy=copy)
    built = [build(kind, config, seed=3 + number, symbols=symbols) for number in range(models)]
    model, tokenizers = built[0]
    if models > 1:
        model = Ensemble([one for one, _ in built])
    return Translator(model, tokenizers, dataclasses.replace(SEARCH, **search))


OPTIONS = [
    {},
    {"kind": "word"},
    {"kind": "char", "beam_size": 1, "max_length_ratio": 1.5},
    {"copy": "pointer"},
    {"kind": "word", "copy": "copynet", "coverage_penalty": 0.1},
    {"models": 2, "no_repeat_ngram": 4, "repetition_penalty": 1.1},
    {"mbr": "chrf", "min_length": 12, "summary_penalty": 0.1},
]
options = pytest.mark.parametrize("options", OPTIONS, ids=str)
SLOW = (OPTIONS[2], OPTIONS[6])  # many pieces, so that they take seconds
some_options = pytest.mark.parametrize(
    "options", [pytest.param(each, marks=pytest.mark.slow) if each in SLOW else each for each in OPTIONS], ids=str
)


def targets_in(text: str) -> list[int]:
    return [sum(count_of(target, text) for target in targets) for targets in (["chien", "chiens"], ["homme"])]


@options
def test_target_terms_appear_where_source_terms_occur(options):
    plain = make(**options)
    translator = plain.with_terms(GLOSSARY)
    found = translator.search(LINES, n_best=translator.search_config.beam_size)
    for hypotheses in found:
        faults = [any(not term.met for term in one.terms) for one in hypotheses]
        assert faults == sorted(faults)  # those with all terms come first
        assert not faults[0]
        for one in hypotheses:
            for term in one.terms:
                assert term.met <= any(count_of(target, one.translation) for target in term.targets)
    texts = [hypotheses[0].translation for hypotheses in found]
    assert count_of("vieux chien", texts[0]) == 1
    assert targets_in(texts[0])[0] >= 2
    assert targets_in(texts[3])[1] >= 1
    assert translator.translate(LINES) == texts
    for row in (1, 2, 4):
        assert found[row][0].terms == []
    without = plain.translate(LINES)
    assert [texts[row] for row in (1, 2, 4)] == [without[row] for row in (1, 2, 4)]
    assert texts[0] != without[0]
    assert found[0][0].terms[0] == TermResult("old dog", ["vieux chien"], 4, 11, False, True)
    assert found[3][0].as_dict()["terms"] == [
        {"source": "man", "targets": ["homme"], "start": 4, "end": 7, "kept": False, "met": True}
    ]


@some_options
def test_terms_do_not_depend_on_batches(options):
    translator = make(**options).with_terms(GLOSSARY, ["numbers"])
    lines = [LINES[0], "a cat", "", "a man 12 and 3 old dog", "3 3"]
    together = translator.search(lines, n_best=translator.search_config.beam_size)
    small = translator.with_search(batch_tokens=8)
    for line, hypotheses, again in zip(lines, together, small.search(lines, n_best=len(together[0])), strict=True):
        (alone,) = translator.search([line], n_best=translator.search_config.beam_size)
        for others in (alone, again):
            assert [one.translation for one in others] == [one.translation for one in hypotheses]
            assert [one.score for one in others] == pytest.approx([one.score for one in hypotheses], abs=1e-4)


@some_options
def test_search_and_scoring_agree_with_terms(options):
    translator = make(**options).with_terms(GLOSSARY)
    (found,) = translator.search([LINES[0]])
    with translator.model.evaluating():
        (source,) = translator._read([LINES[0]], 1, "cut")
        best = translator._search_batch([source])[0][0]
        ((forced, _),) = translator._forced([source], [best.ids[:-1]])
    assert forced.log_prob == pytest.approx(best.log_prob, abs=1e-3)
    assert forced.score == pytest.approx(best.score, abs=1e-3)
    assert found[0].score == pytest.approx(best.score, abs=1e-5)


KEPT = ["see ①http://x.org/a?b=Ａ , 12 dogs", "12 and 12 and 7", "<b>Zoë</b>  x", "a\u00a0b ﬁ 5", "no span"]
PATTERNS = ["①?http:[^ ]*", "numbers", "tags", "a\u00a0b ﬁ", "Zoë"]


@some_options
def test_kept_spans_appear_unchanged_and_exactly_as_often(options):
    translator = make(**options).with_terms({"dogs": ["chiens"]}, PATTERNS)
    found = translator.search(KEPT)
    for line, (best, *_) in zip(KEPT, found, strict=True):
        assert all(term.met for term in best.terms), best.terms
        for term in best.terms:
            assert line[term.start : term.end] == term.source
            if term.kept:
                assert term.source in best.translation
                repeated = [other.source for other in best.terms].count(term.source)
                assert best.translation.count(term.source) >= repeated
    assert [len(best.terms) for (best, *_) in found] == [3, 3, 3, 2, 0]
    assert translator.translate(KEPT) == [best.translation for (best, *_) in found]


def test_a_model_with_placeholders_reads_them_and_writes_the_spans():
    symbols = ("<ph1>", "<ph2>")
    translator = make(symbols=symbols).with_terms({}, ["numbers"])
    ((best,),) = translator.search(["a 1234 and 5 or 6"])
    assert [piece for piece in best.source_pieces if piece in symbols] == list(symbols)
    assert all(best.pieces.count(symbol) == 1 for symbol in symbols)
    assert [count_of(number, best.translation) for number in ("1234", "5", "6")] == [1, 1, 1]
    assert "<ph" not in best.translation
    assert all(term.met for term in best.terms)
    assert best.uncovered == [span for span in best.uncovered if 0 <= span[0] < span[1] <= 17]


def test_spans_of_a_line_with_placeholders_refer_to_the_line():
    translator = make(symbols=("<ph1>",), copy="pointer").with_terms({}, ["numbers"])
    line = "a 1234 dog"
    (source,) = translator._read([line], 1, "cut")
    spelled = {piece: line[start:end] for piece, (start, end) in zip(source.pieces, source.spans, strict=True)}
    assert spelled["<ph1>"] == "1234"
    assert spelled["▁dog"] == "dog"


def test_a_term_that_does_not_fit_is_reported(caplog):
    translator = make(max_length_ratio=0.0, max_length_extra=4).with_terms({"dog": ["vieux homme " * 9]}, ["numbers"])
    lines = ["the dog"] * 5
    with caplog.at_level(logging.WARNING):
        found = translator.search(lines)
        texts = translator.translate(lines)
        translator.log_notices()
    assert [best.terms[0].met for (best,) in found] == [False] * 5
    assert texts == [best.translation for (best,) in found]
    messages = [record.getMessage() for record in caplog.records]
    target = "vieux homme " * 9
    assert messages[0] == (
        f"line 1: the translation lacks, or has too often: {target}; raise --max-length-ratio if it was cut, or choose terms "
        "of words that the target vocabulary has"
    )
    assert sum("line " in message for message in messages) == 3
    assert messages[3] == (
        "10 lines have a translation that lacks a required term or has it too often; see terms in --format jsonl"
    )


def test_a_term_that_the_vocabulary_cannot_spell_is_reported_and_a_kept_span_is_copied():
    translator = make("word", copy="pointer").with_terms({"dog": ["xylophone"]}, ["Zarniwoop"])
    ((best,),) = translator.search(["the dog of Zarniwoop"])
    assert [(term.source, term.met) for term in best.terms] == [("dog", False), ("Zarniwoop", True)]
    assert count_of("Zarniwoop", best.translation) == 1
    ((best,),) = translator.search(["the dog of xylophone"])
    assert [(term.source, term.met) for term in best.terms] == [("dog", True)]


def test_prefixes_come_first_and_terms_follow():
    translator = make("word").with_terms(GLOSSARY)
    ((best,),) = translator.search(["the dog"], prefixes=["a small man"])
    assert best.translation.startswith("a small man")
    assert best.terms[0].met
    ((best,),) = translator.search(["the dog"], prefixes=["un chien"])
    assert best.translation.startswith("un chien")
    assert best.terms[0].met


def test_the_terms_of_a_split_line_are_those_of_its_parts():
    translator = make("word", too_long="split")
    translator.model.max_source_length = 4
    found = translator.with_terms(GLOSSARY).search(["the dog sleeps , a man runs and an old dog"])
    assert [(term.source, term.start, term.met) for term in found[0][0].terms][:2] == [
        ("dog", 4, True),
        ("man", 19, True),
    ]


def test_settings_keep_the_terms_and_sampling_is_refused():
    translator = make().with_terms(GLOSSARY, ["urls"])
    assert translator.with_search(beam_size=2).terms is translator.terms
    assert not make().terms
    message = r"^a glossary and kept spans require beam search, but search\.samples is 2; translate without sampling$"
    with pytest.raises(ValueError, match=message):
        translator.with_search(samples=2)
    with pytest.raises(ValueError, match=message):
        make(samples=2, beam_size=5).with_terms(GLOSSARY)


@pytest.mark.parametrize(
    ("glossary", "keep", "message"),
    [
        ({"dog": "chien"}, (), r"the target terms of 'dog' must be a list of texts, but are one text; "),
        ({"dog": [3]}, (), r"the target terms of 'dog' must be of type str, but number 1 is of type int$"),
        ({3: ["chien"]}, (), r"the source terms must be of type str, but number 1 is of type int$"),
        ({}, "numbers", r"what is kept must be a list of texts, but are one text; put the text into a list$"),
        ({"dog": []}, (), r"a glossary must have source terms and .* with text, but has 'dog': \[\]; remove it$"),
        ({"dog": ["a", " "]}, (), r"a glossary must have .*, but has 'dog': \['a', ' '\]; remove it$"),
        ({"": ["chien"]}, (), r"a glossary must have .*, but has '': \['chien'\]; remove it$"),
    ],
)
def test_terms_without_text_and_texts_that_are_no_lists_are_refused(glossary, keep, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make("word").with_terms(glossary, keep)


def test_a_traced_translation_has_its_terms():
    translator = make().with_terms(GLOSSARY)
    assert [term.met for term in translator.trace("the dog")[0].terms] == [True]
    assert [term.met for term in translator.trace("the dog", "un chien")[0].terms] == [True]
    assert [term.met for term in translator.trace("the dog", "un homme")[0].terms] == [False]
