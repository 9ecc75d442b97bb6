"""The translator with an untrained model: order, blank lines, batches, search settings, statuses and scores."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from untrained import spread

from seq2seq.config import ModelConfig, SearchConfig, TokenizerConfig
from seq2seq.data.batching import collate
from seq2seq.data.limits import LengthLimit
from seq2seq.device import find_device
from seq2seq.metrics.utility import mean_utilities
from seq2seq.model_dir import Settings, Tokenizers, build_model, save_settings, save_weights
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tokenizer import BOS, EOS, PAD, UNK
from seq2seq.text.word import JOINER
from seq2seq.translation import CopiedFrom, Translation
from seq2seq.translator import Translator, make_constraints

TEXT = ["a man sees the old dog .", "the dog sees a small man , too .", "two men sleep ; one dog runs away !"]
LINES = ["the dog sleeps .", "", "a man", "two small men sees the old dog , too .", "   ", "dog", "one man runs away !"]
ODD = ["zebras, (and) one dog!", "Zoë Zoë Zoë", "dog dog the dog", "  the\u3000xylophone  sleeps "]
SEARCH = SearchConfig(beam_size=3, max_length_ratio=1.0, max_length_extra=4)
BLANK = [row for row, line in enumerate(LINES) if not line.strip()]
FILLED = [row for row, line in enumerate(LINES) if line.strip()]


def make(
    max_source_length: int = 50, *, cell: str = "gru", attention: str = "additive", ending: float = -1.0, **options
) -> Translator:
    """An untrained model; ``ending`` is its bias towards the end of the sentence: 2 ends at once, -1 seldom.

    The options are those of the search, or copy, copy_attention and coverage of the model.
    """
    torch.manual_seed(3)
    tokenizer = train_tokenizer(TEXT, TokenizerConfig(type="word", vocab_size=22))
    more = {key: options.pop(key) for key in ("copy", "copy_attention", "coverage") if key in options}
    config = ModelConfig(cell=cell, attention=attention, embedding_size=8, hidden_size=12, **more)
    settings = Settings(config, TokenizerConfig(type="word"), SEARCH, max_source_length)
    tokenizers = Tokenizers(tokenizer, tokenizer)
    model = build_model(settings, tokenizers)
    with torch.no_grad():  # far from uniform, so that different sources have different translations
        model.readout.logits.weight *= 5
        model.readout.logits.bias[EOS] = ending
        if config.coverage != "none":  # its weights start at 0, where it does nothing
            for parameter in model.decoder.attention.coverage_parameters():
                parameter.uniform_(-2, 2)
    search = dataclasses.replace(SEARCH, **options)
    return Translator(model, tokenizers, search)


@pytest.fixture(scope="module")
def translator() -> Translator:
    return make()


def test_one_line_out_for_every_line_in_and_in_order(translator):
    together = translator.translate(LINES)
    assert together == [translator.translate([line])[0] for line in LINES]
    assert len(set(together)) > 3  # the lines are told apart
    order = [3, 0, 6, 1, 5, 2, 4]
    assert translator.translate([LINES[row] for row in order]) == [together[row] for row in order]


def test_a_text_is_no_list_of_lines(translator):
    for method in (translator.translate, translator.search):
        for text in ("a b", b"a b"):
            with pytest.raises(
                ValueError, match=r"^the lines must be a list of texts, but are one text; put the text into a list$"
            ):
                method(text)
        with pytest.raises(ValueError, match=r"^the lines must be a list of texts, but are of type NoneType$"):
            method(None)
    with pytest.raises(
        ValueError, match=r"^the source lines must be a list of texts, but are one text; put the text into a list$"
    ):
        translator.score("a b", ["a b"])


@pytest.mark.parametrize(("wrong", "kind"), [(None, "NoneType"), (3, "int"), (b"a", "bytes"), (["a"], "list")])
def test_a_line_that_is_no_text_is_refused_with_its_number(translator, wrong, kind):
    for method in (translator.translate, translator.search):
        with pytest.raises(ValueError, match=f"^the lines must be of type str, but number 9 is of type {kind}$"):
            method(["a dog", "", wrong], first_line=7)
    with pytest.raises(ValueError, match=f"^the target lines must be of type str, but number 2 is of type {kind}$"):
        translator.score(["a", "b"], ["a", wrong])
    with pytest.raises(ValueError, match=f"^the source text must be of type str, but number 1 is of type {kind}$"):
        translator.trace(wrong)


def test_lines_may_come_from_any_iterable(translator):
    expected = translator.translate(LINES)
    for lines in (tuple(LINES), (line for line in LINES), dict.fromkeys(LINES), map(str, LINES)):
        assert translator.translate(lines) == expected
    assert translator.search(line for line in LINES) == translator.search(LINES)
    assert translator.score(iter(LINES), iter(LINES)) == translator.score(LINES, LINES)
    assert translator.translate(iter(())) == []


def test_translations_that_are_cut_are_counted():
    translator = make(ending=-1e4, max_length_ratio=0.0, max_length_extra=4)
    translator.translate(LINES)
    assert (translator.notices.translated, translator.notices.cut) == (len(FILLED), len(FILLED))
    translator.search(LINES, n_best=2)
    assert (translator.notices.translated, translator.notices.cut) == (2 * len(FILLED), 2 * len(FILLED))
    some = make(ending=0.5)
    some.search(LINES)
    statuses = [found[0].status for found in make(ending=0.5).search(LINES)]
    assert some.notices.cut == statuses.count("max_length")
    split = make(3, ending=-1e4, too_long="split")
    split.translate(LINES)
    assert (split.notices.translated, split.notices.cut) == (len(FILLED), len(FILLED)), "a line counts once"


@pytest.mark.parametrize("n_best", [1, 2])
def test_three_long_lines_are_named_and_the_others_counted(n_best, caplog):
    translator = make(max_source_length=3, ending=2.0)
    with caplog.at_level(logging.WARNING):
        translator.search(LINES * 2, n_best=n_best, first_line=1)
        translator.translate(LINES, first_line=15)
        assert [message.split(" has ")[0] for message in caplog.messages] == ["line 1", "line 4", "line 7"]
        caplog.clear()
        translator.log_notices()
    assert caplog.messages == ["9 lines are too long; each is cut to 3, the model's data.max_source_length"]


def test_a_very_long_line_is_cut_before_it_is_segmented(monkeypatch, caplog):
    translator = make(max_source_length=3)
    longest = []
    segment = translator.tokenizers.src.segment
    monkeypatch.setattr(
        translator.tokenizers.src,
        "segment",
        lambda texts: longest.append(max(map(len, texts))) or segment(texts),
    )
    text = "the dog sleeps . " * 300_000
    with caplog.at_level(logging.WARNING):
        assert translator.translate([text, text]) == make(max_source_length=3).translate(["the dog sleeps"] * 2)
    assert max(longest) < 10_000
    assert "line 1 has at least " in caplog.messages[0]
    assert "pieces and is cut to 3, the model's data.max_source_length" in caplog.messages[0]


def test_a_very_long_line_is_split_before_it_is_segmented(monkeypatch):
    translator = make(max_source_length=3, too_long="split", max_length_ratio=0.0, max_length_extra=1)
    longest, held = [], []
    segment, batches = translator.tokenizers.src.segment, translator._batches
    monkeypatch.setattr(
        translator.tokenizers.src, "segment", lambda texts: longest.append(max(map(len, texts))) or segment(texts)
    )
    monkeypatch.setattr(translator, "_batches", lambda sources: held.append(len(sources)) or batches(sources))
    monkeypatch.setattr("seq2seq.translator._MAX_PIECES", 300)
    text = "the dog sleeps . " * 2000
    (together,) = translator.translate([text])
    assert together.split() == make(max_length_ratio=0.0, max_length_extra=1).translate(["the dog sleeps"])[
        0
    ].split() * len(together.split())
    assert max(longest) < 10_000
    assert max(held) <= 300
    assert sum(held) > 2000


@pytest.mark.parametrize("too_long", ["cut", "split"])
def test_groups_of_any_size_give_the_same(too_long, monkeypatch):
    translator = make(max_source_length=3, too_long=too_long)
    texts, found = translator.translate(LINES), translator.search(LINES, n_best=2)
    scores = translator.score(LINES, LINES)
    for most in (1, 4):
        monkeypatch.setattr("seq2seq.translator._MAX_PIECES", most)
        assert translator.translate(LINES) == texts
        others = translator.search(LINES, n_best=2)
        assert [[one.translation for one in best] for best in others] == [[one.translation for one in b] for b in found]
        assert [[one.status for one in best] for best in others] == [[one.status for one in b] for b in found]
        assert [best[0].score for best in others] == pytest.approx([best[0].score for best in found], abs=1e-4)
        for one, other in zip(translator.score(LINES, LINES), scores, strict=True):
            assert one == pytest.approx(other, abs=1e-4)


def test_a_forked_process_translates_if_torch_has_one_thread():
    code = """
import multiprocessing, sys, torch
from seq2seq import Translator
torch.set_num_threads(1)
translator = Translator.load("tests/fixtures/model", device="cpu")
before = translator.translate(["1 2 3"])
with multiprocessing.get_context("fork").Pool(1) as pool:
    sys.exit(pool.apply_async(translator.translate, (["1 2 3"],)).get(60) != before)
"""
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True, timeout=200)


def test_a_target_that_is_too_long_is_refused_before_it_is_segmented(translator, monkeypatch):
    monkeypatch.setattr("seq2seq.data.beginnings.MAX_SCORED_PIECES", 5)
    longest = []
    segment = translator.tokenizers.tgt.segment
    monkeypatch.setattr(
        translator.tokenizers.tgt, "segment", lambda texts: longest.append(max(map(len, texts))) or segment(texts)
    )
    assert len(translator.score(["a dog"], ["the dog sleeps . dog"])[0]) == 6
    message = r"^a target line must have at most 5 pieces, but line 2 has 6; split it into several lines$"
    with pytest.raises(ValueError, match=message):
        translator.score(["a dog"] * 2, ["a dog", "the dog sleeps . dog dog"])
    message = (
        r"^a target line must have at most 5 pieces, but line 1 has at least \d[\d,]+; split it into several lines$"
    )
    with pytest.raises(ValueError, match=message):
        translator.score(["a dog"], ["the dog sleeps . " * 300_000])
    assert max(longest) < 10_000


def test_blank_lines_give_empty_lines_and_the_model_is_not_asked(translator, monkeypatch):
    results = translator.search(LINES, n_best=2)
    assert [row for row, found in enumerate(results) if found == [Translation("", status="empty")]] == BLANK

    rows = []
    original = translator.model.encode
    monkeypatch.setattr(translator.model, "encode", lambda batch, *_: rows.append(len(batch.src)) or original(batch))
    translator.translate(LINES)
    assert sum(rows) == len(FILLED)
    monkeypatch.setattr(translator.model, "encode", None)
    monkeypatch.setattr(translator.model, "provenance", None)
    assert translator.translate(["", " \t ", "\u3000"]) == ["", "", ""]
    assert translator.search(["", "  "]) == [[Translation("", status="empty")]] * 2
    assert translator.translate([]) == []
    assert translator.search([]) == []


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"cell": "lstm"},
        {"cell": "rnn_relu", "attention": "none"},
        {"cell": "rnn_tanh", "attention": "dot"},
        {"copy": "pointer", "coverage": "sum", "coverage_penalty": 0.5},
        {"copy": "copynet", "attention": "general", "summary_penalty": 0.5},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_batches_of_any_size_give_the_same(options, beam_size, monkeypatch):
    outcomes = []
    for batch_tokens, batches in [(1, 5), (12, 3), (1000, 1)]:
        translator = make(beam_size=beam_size, batch_tokens=batch_tokens, **options)
        sizes = []
        original = translator._search_batch
        monkeypatch.setattr(
            translator,
            "_search_batch",
            lambda sources, sizes=sizes, original=original: sizes.append(len(sources)) or original(sources),
        )
        outcomes.append([found[0] for found in translator.search(LINES)])
        assert len(sizes) >= batches if batches > 1 else len(sizes) == 1
        assert sum(sizes) == len(FILLED)
    for first, *others in zip(*outcomes, strict=True):
        for other in others:
            assert other.translation == first.translation
            assert other.alignment == first.alignment
            assert other.copied_from == first.copied_from
            assert other.log_prob == pytest.approx(first.log_prob, abs=1e-4)
            assert other.score == pytest.approx(first.score, abs=1e-4)


def test_many_short_lines_are_searched_in_parts(monkeypatch):
    translator = make(beam_size=2)
    whole, sizes, original = translator.translate(LINES), [], translator._search_batch
    monkeypatch.setattr(translator, "_search_batch", lambda some: sizes.append(len(some)) or original(some))
    monkeypatch.setattr("seq2seq.translator._MAX_SCORES", 2 * 2 * translator.tokenizers.tgt.size)
    assert translator.translate(LINES) == whole
    assert max(sizes) == 2
    assert sum(sizes) == len(FILLED)


def test_n_best_is_the_beginning_of_a_longer_list(translator):
    three, two, one = (translator.search(LINES, n_best=n) for n in (3, 2, 1))
    for row in FILLED:
        assert len(three[row]) == 3
        assert two[row] == three[row][:2]
        assert one[row] == three[row][:1]
        scores = [found.score for found in three[row]]
        assert scores == sorted(scores, reverse=True)
        assert len({tuple(found.pieces) for found in three[row]}) == 3


@pytest.mark.parametrize("n_best", [0, 4])
def test_n_best_beyond_the_beam_is_refused(translator, n_best):
    message = f"n-best must be from 1 to the beam size, which is 3, but is {n_best}; set the beam size higher"
    with pytest.raises(ValueError, match=message):
        translator.search(LINES, n_best=n_best)


def test_fewer_translations_than_asked_are_told(caplog):
    translator = make(max_length_ratio=0.0, max_length_extra=1)
    with caplog.at_level(logging.WARNING):
        results = translator.search(["a dog", "", "dog"], n_best=2, first_line=10)
    assert [len(found) for found in results] == [1, 1, 1]
    told = sorted(record.getMessage() for record in caplog.records)
    assert told == ["line 10: 1 translations instead of 2", "line 12: 1 translations instead of 2"]


# Search settings


def pieces(translator: Translator) -> list[list[str]]:
    return [found[0].pieces for found in translator.search(LINES)]


def test_a_wider_beam_finds_more_probable_translations():
    log_probs = []
    for beam_size in (1, 30):
        results = make(beam_size=beam_size, length_penalty=0.0).search([LINES[row] for row in FILLED])
        log_probs.append([found[0].log_prob for found in results])
    assert all(wide >= greedy - 1e-5 for greedy, wide in zip(*log_probs, strict=True))
    assert sum(log_probs[1]) > sum(log_probs[0]) + 0.1


def test_a_higher_length_penalty_finds_longer_translations():
    lengths = []
    for penalty in (0.0, 1.0, 3.0):
        translator = make(beam_size=12, length_penalty=penalty)
        spread(translator.model, 2.0)
        lengths.append(sum(map(len, pieces(translator))))
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_the_score_is_the_log_probability_over_the_length_to_its_power():
    for penalty in (0.0, 0.6, 1.0):
        for found in itertools.chain(*make(length_penalty=penalty).search(LINES, n_best=3)):
            if found.status != "empty":
                assert found.score == pytest.approx(found.log_prob / (len(found.pieces) + 1) ** penalty)


def test_the_minimum_length_is_kept():
    free, bound = (pieces(make(ending=2.0, min_length=least)) for least in (0, 3))
    assert min(len(free[row]) for row in FILLED) < 3
    assert min(len(bound[row]) for row in FILLED) >= 3


def test_the_maximum_length_follows_the_source():
    translator = make(max_length_ratio=1.5, max_length_extra=2)
    assert [translator.max_length(length) for length in (0, 1, 2, 3, 10)] == [2, 3, 5, 6, 17]
    with torch.no_grad():
        translator.model.readout.logits.bias[EOS] = -1e4
    for line, (found, *_) in zip(LINES, translator.search(LINES), strict=True):
        if line.strip():
            limit = translator.max_length(len(found.source_pieces))
            assert len(found.token_log_probs) == limit  # with the end of sentence
            assert found.status == "max_length"


@pytest.mark.parametrize(
    ("learned", "options", "lengths"),
    [
        (None, {}, [12, 14, 210]),
        (LengthLimit(6.0, 5, 100), {}, [11, 17, 100]),
        (LengthLimit(6.0, 5, 100), {"max_length_ratio": 3.0}, [13, 16, 310]),
        (LengthLimit(6.0, 5, 100), {"max_length_extra": 20}, [22, 24, 220]),
        (LengthLimit(6.0, 5, 100), {"max_length_ratio": 0.0, "max_length_extra": 4}, [4, 4, 4]),
    ],
)
def test_the_length_limit_is_the_given_one_or_the_learned_one_or_that_of_older_models(learned, options, lengths):
    original = make()
    search = dataclasses.replace(SEARCH, max_length_ratio=None, max_length_extra=None)
    translator = Translator(original.model, original.tokenizers, search, length_limit=learned).with_search(**options)
    assert [translator.max_length(length) for length in (1, 2, 100)] == lengths


@pytest.mark.parametrize(("ending", "status"), [(2.0, "source_cut"), (-1.0, "max_length")])
def test_long_sources_are_cut_with_a_warning_that_names_the_line(ending, status, caplog):
    short, long = make(max_source_length=3, ending=ending), make(ending=ending)
    with caplog.at_level(logging.WARNING):
        results = short.search(LINES, first_line=101)
    told = [record.getMessage() for record in caplog.records]
    lengths = {row: len(found[0].source_pieces) for row, found in enumerate(long.search(LINES))}
    too_long = [row for row, length in lengths.items() if length > 3]
    assert too_long == [0, 3, 6]
    assert told == [
        f"line {101 + row} has {lengths[row]} pieces and is cut to 3, the model's data.max_source_length"
        for row in too_long
    ]
    assert {results[row][0].status for row in too_long} == {status}  # the limit of the target is told first
    assert all(found[0].status != "source_cut" for row, found in enumerate(results) if row not in too_long)
    for row in too_long:
        cut = " ".join(LINES[row].split()[:3])
        assert results[row][0].translation == long.translate([cut])[0]
        assert len(results[row][0].source_pieces) == 3


# What a translation says


@pytest.mark.parametrize("attention", ["additive", "none"])
@pytest.mark.parametrize(("ending", "status"), [(2.0, "ok"), (-1.0, "max_length")])
def test_fields_are_consistent(attention, ending, status):
    translator = make(attention=attention, ending=ending)
    statuses = set()
    for line, found in zip(LINES, translator.search(LINES, n_best=3), strict=True):
        for translation in found:
            if translation.status == "empty":
                continue
            statuses.add(translation.status)
            limit = translator.max_length(len(translation.source_pieces))
            assert (translation.status == "max_length") == (len(translation.token_log_probs) == limit)
            assert len(translation.token_log_probs) == len(translation.pieces) + 1
            assert sum(translation.token_log_probs) == pytest.approx(translation.log_prob, abs=1e-4)
            assert all(value <= 0 for value in translation.token_log_probs)
            tokenizer = translator.tokenizers.tgt
            ids = [tokenizer.id(piece) for piece in translation.pieces]
            assert tokenizer.decode(ids) == translation.translation
            assert translation.source_pieces == tokenizer.segment([line])[0].pieces
            assert [tokenizer.id(piece) for piece in translation.source_pieces] == tokenizer.encode(line)
            assert (translation.p_gen, translation.copied_from, translation.copied_share) == ([], [], None)
            assert len(translation.alignment) == (len(translation.pieces) if attention == "additive" else 0)
            assert all(0 <= place < len(translation.source_pieces) for place in translation.alignment)
            assert json.loads(json.dumps(translation.as_dict())) == dataclasses.asdict(translation)
    assert status in statuses <= {"ok", "max_length"}


def test_alignment_names_a_source_piece_even_if_the_model_looks_at_the_end_of_the_source():
    translator = make()
    looked = []
    original = translator.model.decoder.attention.forward

    def forward(query, memory, coverage):
        context, log_weights = original(query, memory, coverage)
        last = memory.mask.sum(dim=1) - 1
        weights = 0.1 * log_weights.exp()
        weights[torch.arange(len(last)), last] += 0.9
        looked.append(weights.argmax(dim=1))
        return context, weights.log().clamp_min(torch.finfo(torch.float32).min)

    translator.model.decoder.attention.forward = forward
    for found in translator.search([LINES[row] for row in FILLED]):
        assert all(place < len(found[0].source_pieces) for place in found[0].alignment)
    assert all((places > 0).all() for places in looked)


COPYING = [
    {"copy": "pointer"},
    {"copy": "pointer", "copy_attention": "separate", "coverage": "sum"},
    {"copy": "copynet", "coverage": "fertility"},
    {"copy": "copynet", "attention": "none"},
]
EVERY_COPY = pytest.mark.parametrize("options", COPYING, ids=lambda options: "-".join(options.values()))


def target_ids(translator: Translator, found: Translation) -> list[int]:
    """The ids of a translation's pieces; those of the source's own pieces from the size of the vocabulary on."""
    tokenizer = translator.tokenizers.tgt
    own = [piece for piece in dict.fromkeys(found.source_pieces) if tokenizer.id(piece) == UNK]
    return [tokenizer.size + own.index(piece) if piece in own else tokenizer.id(piece) for piece in found.pieces]


def follow(translator: Translator, line: str, found: Translation) -> tuple[list[float], torch.Tensor]:
    """Go through the steps of a translation: log-probability of every token, and where the model looked (T, S)."""
    model, tokenizer = translator.model.eval(), translator.tokenizers.tgt
    src = translator.tokenizers.src.encode(line)
    own = [piece for piece in dict.fromkeys(found.source_pieces) if tokenizer.id(piece) == UNK]
    copied = [
        tokenizer.size + own.index(piece) if piece in own else tokenizer.id(piece) for piece in found.source_pieces
    ]
    batch = collate([src], [[]], pad_id=PAD, bos_id=BOS, eos_id=EOS, copy_ids=[copied] if model.copies else None)
    decoding = model.encode(batch)
    log_probs, weights, last = [], [], BOS
    with torch.no_grad():
        for token in [*target_ids(translator, found), EOS]:
            next_token, decoding = model.step(torch.tensor([last]), decoding)
            log_probs.append(float(next_token.at(torch.tensor([[token]]))))
            weights.append(decoding.weights[0, : len(src)])
            last = token
    return log_probs, torch.stack(weights)


@pytest.mark.parametrize("options", [{}, {"coverage": "sum"}, *COPYING], ids=lambda options: "-".join(options.values()))
def test_alignment_and_log_probabilities_are_those_of_the_steps(options):
    translator = make(**options)
    for line, results in zip(LINES, translator.search(LINES, n_best=3), strict=True):
        for found in results if line.strip() else []:
            log_probs, weights = follow(translator, line, found)
            if translator.model.has_attention:
                aligned = weights[torch.arange(len(found.pieces)), found.alignment]
                torch.testing.assert_close(aligned, weights[:-1].amax(dim=1), rtol=0, atol=1e-6)
            if found.status == "ok":  # else the end was forced
                assert found.token_log_probs == pytest.approx(log_probs, abs=1e-4)
            assert found.token_log_probs[:-1] == pytest.approx(log_probs[:-1], abs=1e-4)


@pytest.mark.parametrize(
    "options",
    [{"cell": "gru"}, {"cell": "lstm", "attention": "general"}, {"attention": "none"}, {"coverage": "sum"}, *COPYING],
    ids=lambda options: "-".join(options.values()),
)
def test_forced_scoring_gives_the_log_probability_of_the_search(options):
    translator = make(batch_tokens=40, **options)
    if options.get("copy") == "pointer":
        with torch.no_grad():
            translator.model.pointer.gate.bias.fill_(-3.0)
    lines, pairs, own = [*LINES, *ODD], [], 0
    for line, found in zip(lines, translator.search(lines, n_best=3), strict=True):
        for translation in found:
            same = translator.tokenizers.tgt.segment([translation.translation])[0].pieces == translation.pieces
            if translation.status != "empty" and same:  # else the text means other pieces
                pairs.append((line, translation))
                own += any(number >= translator.tokenizers.tgt.size for number in target_ids(translator, translation))
    assert len(pairs) > 5
    assert own > 0 or options.get("copy") != "pointer"  # words that the vocabulary lacks are scored as copied
    scores = translator.score([line for line, _ in pairs], [translation.translation for _, translation in pairs])
    for token_log_probs, (_, translation) in zip(scores, pairs, strict=True):
        assert token_log_probs == pytest.approx(translation.token_log_probs, abs=1e-4)
        assert sum(token_log_probs) == pytest.approx(translation.log_prob, abs=1e-4 + 1e-5 * abs(translation.log_prob))


# Copying


def rigged(gate: float, max_source_length: int = 50, **options) -> Translator:
    """A pointer whose gate is all but fixed: -1e4 copies only, 1e4 never."""
    translator = make(max_source_length, copy="pointer", **options)
    with torch.no_grad():
        translator.model.pointer.gate.bias.fill_(gate)
    return translator


@pytest.mark.parametrize("options", [{}, {"coverage": "sum"}, {"copy_attention": "separate"}, {"ending": 2.0}])
def test_a_model_that_only_copies_says_where_from(options):
    translator = rigged(-1e4, **options)
    lines, seen, unknown = [*ODD, *(LINES[row] for row in FILLED)], 0, 0
    for line, results in zip(lines, translator.search(lines, n_best=3), strict=True):
        spans = translator.tokenizers.src.segment([line])[0].spans
        for found in results:
            assert found.p_gen == [0.0] * len(found.pieces)
            assert found.copied_share == (1.0 if found.pieces else 0.0)
            for piece, place in zip(found.pieces, found.copied_from, strict=True):
                assert found.source_pieces[place.source_piece] == piece
                assert (place.start, place.end) == spans[place.source_piece]
                assert line[place.start : place.end] == piece.strip(JOINER)
                seen += 1
                unknown += translator.tokenizers.tgt.id(piece) == UNK
            assert "⁇" not in found.translation
            assert found.translation == translator.tokenizers.tgt.decode(
                range(22, 22 + len(found.pieces)), found.pieces
            )
            assert json.loads(json.dumps(found.as_dict()))["copied_from"] == [vars(c) for c in found.copied_from]
    assert unknown > 5
    assert seen > unknown + 5


def test_a_model_that_copies_never_says_that_a_word_is_unknown():
    texts = []
    for translator in (make(), make(copy="pointer"), make(copy="copynet")):
        with torch.no_grad():
            translator.model.readout.logits.bias[UNK] = 3.0  # the most probable word by far
        texts.append(" ".join(t.translation for found in translator.search(LINES, n_best=3) for t in found))
    assert "⁇" in texts[0]
    assert "⁇" not in texts[1] + texts[2]


def test_a_model_that_never_copies_is_the_one_without_copying():
    plain, translator = make(), rigged(1e4)
    for expected, found in zip(plain.search(LINES, n_best=3), translator.search(LINES, n_best=3), strict=True):
        for a, b in zip(expected, found, strict=True):
            assert b.translation == a.translation
            assert b.log_prob == pytest.approx(a.log_prob, abs=1e-4)
            assert b.alignment == a.alignment
            if a.status != "empty":
                assert b.p_gen == [1.0] * len(b.pieces)
                assert b.copied_from == [None] * len(b.pieces)
                assert b.copied_share == 0


def test_a_piece_is_copied_where_copying_brought_most_of_its_probability():
    copied = generated = 0
    for gate in (-1.0, 0.0, 1.0):
        translator = rigged(gate)
        for line, results in zip(LINES, translator.search(LINES, n_best=3), strict=True):
            for found in results if line.strip() else []:
                log_probs, weights = follow(translator, line, found)
                for t, (piece, place) in enumerate(zip(found.pieces, found.copied_from, strict=True)):
                    held = torch.tensor([source == piece for source in found.source_pieces])
                    share = (1 - found.p_gen[t]) * weights[t] * held / math.exp(log_probs[t])
                    assert (place is not None) == (share.sum() > 0.5)
                    assert place is None or place.source_piece == int(share.argmax())
                    copied += place is not None
                    generated += place is None
                number = sum(place is not None for place in found.copied_from)
                assert found.copied_share == (number / len(found.pieces) if found.pieces else 0)
    assert min(copied, generated) > 5


@EVERY_COPY
def test_translating_and_searching_give_the_same_text(options):
    translator = make(**options)
    lines = [*LINES, *ODD]
    assert translator.translate(lines) == [found[0].translation for found in translator.search(lines)]


def test_own_pieces_come_out_in_the_text_of_their_sentence_alone():
    lines = ["zebra yak", "", "quokka", "xerus xerus dog"]
    for line, results in zip(lines, rigged(-1e4).search(lines, n_best=3), strict=True):
        words = {word for found in results for word in found.translation.split()}
        assert words <= set(line.split())
        assert bool(words - {"dog"}) == bool(line)


@EVERY_COPY
def test_scoring_gives_copied_words_the_probability_of_copying(options):
    translator = make(**options)
    src = ["the zebra sleeps .", "zebra", "a yak !"]
    tgt = ["sleeps the zebra zebra .", "a zebra yak", "zebra yak"]  # the last lines' yak and zebra are unknown
    unknown = ["sleeps the zebra zebra .", "a zebra ⁇", "⁇ yak"]
    tokenizer = translator.tokenizers.tgt
    for source, target, same, scores in zip(src, tgt, unknown, translator.score(src, tgt), strict=True):
        pieces = {side: tokenizer.segment([line])[0].pieces for side, line in (("src", source), ("tgt", target))}
        forced = Translation("", pieces=pieces["tgt"], source_pieces=pieces["src"])
        assert scores == pytest.approx(follow(translator, source, forced)[0], abs=1e-4)
        assert translator.score([source], [same])[0] == pytest.approx(scores, abs=1e-4)
        assert all(math.isfinite(score) for score in scores)
    own = translator.score(src[:1], tgt[:1])[0]
    assert own[0] != translator.score(src[:1], ["⁇ the zebra zebra ."])[0][0]


def test_what_a_cut_source_no_longer_holds_is_not_copied():
    translator = rigged(-1e4, max_source_length=2)
    ((found,),) = translator.search(["zebra yak xerus quokka"])
    assert found.source_pieces == ["zebra", "yak"]
    assert set(found.pieces) <= {"zebra", "yak"}


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word"])
def test_copying_between_two_vocabularies(kind):
    torch.manual_seed(3)
    size = {"unigram": 310, "bpe": 310}.get(kind, 24)
    config = TokenizerConfig(type=kind, vocab_size=size, shared=False)
    src = train_tokenizer(TEXT, dataclasses.replace(config, vocab_size=size + 20))
    tgt = train_tokenizer(["der mann sah den alten hund .", "zwei hunde , ein mann !"], config)
    model_config = ModelConfig(cell="gru", embedding_size=8, hidden_size=12, copy="pointer")
    model = build_model(Settings(model_config, config, SEARCH, 50), Tokenizers(src, tgt))
    with torch.no_grad():
        model.pointer.gate.bias.fill_(-1e4)
    search = dataclasses.replace(SEARCH, min_length=1)
    translator = Translator(model, Tokenizers(src, tgt), search)
    lines = ["the small dog , too !", "a zebra☃☃ sees men .", "Ωmega"]
    for line, ((found,), text) in zip(
        lines, zip(translator.search(lines), translator.translate(lines), strict=True), strict=True
    ):
        assert found.pieces
        assert found.translation == text
        assert found.source_pieces == src.segment([line])[0].pieces
        assert set(found.pieces) <= set(found.source_pieces)
        assert found.copied_from == [
            CopiedFrom(place.source_piece, *src.segment([line])[0].spans[place.source_piece])
            for place in found.copied_from
        ]
        assert [found.source_pieces[place.source_piece] for place in found.copied_from] == found.pieces
        if kind in ("word", "char"):  # no pieces of bytes
            assert set(text) <= set(line) | {" "}


# Penalties


def test_penalties_are_taken_from_the_score_and_count_the_pieces_of_the_source_alone():
    """Wu et al. 2016, eq. 14; Gehrmann et al. 2018, section 4.2; in one batch and alone."""
    translator = make(coverage_penalty=0.4, summary_penalty=0.3, length_penalty=0.5)
    for line, results in zip(LINES, translator.search(LINES, n_best=3), strict=True):
        for found in results if line.strip() else []:
            _, weights = follow(translator, line, found)
            attended = weights.sum(dim=0).tolist()  # the end of the sentence looks too
            little = -sum(math.log(min(looked, 1.0)) for looked in attended)
            much = sum(max(looked, 1.0) - 1 for looked in attended)
            expected = found.log_prob / (len(found.pieces) + 1) ** 0.5 - 0.4 * little - 0.3 * much
            assert found.score == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("penalty", ["coverage_penalty", "summary_penalty"])
def test_penalties_reorder_and_leave_log_probabilities(penalty):
    results = []
    for value in (0.0, 20.0):
        translator = make(**{penalty: value})
        spread(translator.model, 5.0)  # so that different translations look at different places
        results.append(translator.search(LINES, n_best=3))
    plain, other = results
    moved = 0
    for before, after in zip(plain, other, strict=True):
        log_probs = {tuple(found.pieces): found.log_prob for found in before}
        assert {tuple(found.pieces): found.log_prob for found in after} == log_probs
        moved += [found.pieces for found in before] != [found.pieces for found in after]
    assert moved > 0


def test_scores_do_not_depend_on_batches_or_order(translator):
    src = LINES
    tgt = ["the dog .", "a man", "", "one dog sees two men too !", "", "dog", "the old man sleeps ."]
    together = translator.score(src, tgt)
    assert [len(values) for values in together] == [len(translator.tokenizers.tgt.encode(line)) + 1 for line in tgt]
    for row, values in enumerate(together):
        assert translator.score([src[row]], [tgt[row]])[0] == pytest.approx(values, abs=1e-5)
    small = make(batch_tokens=1).score(src, tgt)
    for a, b in zip(small, together, strict=True):
        assert a == pytest.approx(b, abs=1e-5)
    assert translator.score([], []) == []


def test_scoring_refuses_different_numbers_of_lines(translator):
    with pytest.raises(ValueError, match="there are 2 source lines but 1 target lines"):
        translator.score(["a", "dog"], ["a"])


@pytest.mark.parametrize("training", [True, False])
def test_dropout_never_acts_and_the_mode_is_left_as_it_was(training):
    translator = make()
    expected = make().translate(LINES)
    scores = translator.score(LINES, LINES)
    translator.model.train(training)
    assert translator.translate(LINES) == expected
    assert translator.score(LINES, LINES) == scores
    assert translator.model.training == training


@pytest.mark.parametrize("options", [{}, {"copy": "pointer", "copy_attention": "separate", "coverage": "fertility"}])
def test_a_saved_translator_translates_alike(options, tmp_path):
    translator = make(max_source_length=3, **options)
    model = ModelConfig(cell="gru", embedding_size=8, hidden_size=12, **options)
    save_settings(tmp_path / "model", Settings(model, TokenizerConfig(type="word"), SEARCH, 3), translator.tokenizers)
    save_weights(tmp_path / "model", translator.model)
    for path in (tmp_path, str(tmp_path / "model")):
        loaded = Translator.load(path, device="cpu")
        assert loaded.search_config == SEARCH
        assert loaded.model.max_source_length == 3
        assert not loaded.model.training
        assert loaded.translate(LINES) == translator.translate(LINES)


def test_devices():
    assert find_device("cpu") == find_device(torch.device("cpu")) == torch.device("cpu")
    for name in ("tpu", "mps", torch.device("meta"), "cuda:x", "", None, 0):
        with pytest.raises(ValueError, match=f"^the device must be one of auto, cpu, cuda and cuda:N, but is {name}$"):
            find_device(name)


def test_devices_of_torch_are_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("auto") == find_device("cuda") == torch.device("cuda")
    assert find_device("cuda:1") == find_device(torch.device("cuda", 1)) == torch.device("cuda", 1)
    with pytest.raises(ValueError, match=r"^the device is cuda:2, but the last GPU is cuda:1$"):
        find_device("cuda:2")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("cuda", "cuda:0", torch.device("cuda")):
        with pytest.raises(
            ValueError, match=f"^the device is {name}, but torch finds no GPU here; choose cpu or auto$"
        ):
            find_device(name)
    assert find_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("penalty", ["coverage_penalty", "summary_penalty"])
def test_penalties_on_an_attention_that_is_not_there_are_refused(penalty):
    with pytest.raises(ValueError, match=r"require an attention, but model.attention is none; set them to 0"):
        make(attention="none", **{penalty: 0.1})


def test_with_search_changes_only_the_search_settings_that_are_given(translator):
    changed = translator.with_search(beam_size=1, length_penalty=None, too_long="split")
    assert changed.search_config == dataclasses.replace(translator.search_config, beam_size=1, too_long="split")
    assert translator.search_config.beam_size != 1, "the first translator is unchanged"
    for name in ("model", "tokenizers", "length_limit"):
        assert getattr(changed, name) is getattr(translator, name)
    changed.notices.shown = False
    assert not changed.with_search(beam_size=1).notices.shown
    assert translator.with_search(beam_size=1).notices.shown
    assert translator.with_search().translate(LINES) == translator.translate(LINES)


def test_with_search_refuses_the_values_that_a_configuration_refuses(translator):
    with pytest.raises(ValueError, match=r"^search\.beam_size must be a whole number of at least 1, but is 0$"):
        translator.with_search(beam_size=0)
    with pytest.raises(ValueError, match=r"^there is no setting search\.beam; the nearest is search\.beam_size$"):
        translator.with_search(beam=3)
    with pytest.raises(ValueError, match=r"require an attention, but model.attention is none; set them to 0$"):
        make(attention="none").with_search(coverage_penalty=0.1)


@pytest.mark.gpu
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"copy": "pointer", "coverage": "sum", "coverage_penalty": 0.3},
        {"copy": "copynet", "coverage": "fertility", "min_length": 3},
        {"attention": "none", "cell": "lstm", "beam_size": 1},
        {"attention": "general", "cell": "rnn_tanh", "copy": "pointer", "copy_attention": "separate"},
    ],
    ids=str,
)
def test_a_gpu_translates_like_a_cpu(options):
    translator = make(**options)
    expected = [best for (best,) in translator.search(LINES + ODD)]
    translator.model.cuda()
    found = [best for (best,) in translator.search(LINES + ODD)]
    assert [best.translation for best in found] == [best.translation for best in expected]
    assert [best.score for best in found] == pytest.approx([best.score for best in expected], abs=1e-4)


# ---- sampling, constraints, prefixes and minimum Bayes risk


def test_samples_are_sorted_and_equal_ones_are_kept():
    translator = make(samples=40, beam_size=5, top_k=2, max_length_ratio=0.0, max_length_extra=4)
    for found in translator.search([LINES[row] for row in FILLED], n_best=40):
        assert len(found) == 40
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        assert 1 < len({one.translation for one in found}) < 40
    assert translator.notices.draws == 3 * 40 * len(FILLED), "no sample ended before the limit"
    with pytest.raises(
        ValueError,
        match=r"^n-best must be from 1 to the number of samples, which is 40, but is 41; set the number of samples higher$",
    ):
        translator.search(LINES, n_best=41)


def test_a_sample_depends_on_the_seed_and_the_number_of_its_line():
    translator = make(samples=1, beam_size=5)
    texts = translator.translate(["the dog sleeps ."] * 6, first_line=10)
    assert len(set(texts)) > 3
    for row, text in enumerate(texts):
        assert translator.translate(["the dog sleeps ."], first_line=10 + row) == [text]
    assert translator.translate(["a man", "", "the dog sleeps ."], first_line=11)[2] == texts[3]
    assert translator.with_search(seed=2).translate(["the dog sleeps ."] * 6, first_line=10) != texts
    split = make(3, samples=1, beam_size=5, too_long="split")
    (found,) = split.search(["the dog sleeps " * 3])[0]
    assert found.status in ("source_split", "max_length")
    assert found == split.search(["the dog sleeps " * 3])[0][0]
    assert found != split.search(["the dog sleeps " * 3], first_line=2)[0][0]


def test_draws_near_a_border_are_reported(caplog):
    translator = make(samples=20, beam_size=5)
    translator.translate(LINES * 20)
    notices = translator.notices
    assert 0 < notices.near_draws < notices.draws / 50
    assert notices.lines(advice="")[-1] == (
        f"{notices.near_draws:,} of {notices.draws:,} draws lie within 1e-4 of the border between two pieces; in other "
        "batches or on another machine, rounding can change them"
    )
    assert not make().notices.lines(advice="")


def repeats(pieces: list[str], n: int) -> list[tuple[str, ...]]:
    ngrams = [tuple(pieces[first : first + n]) for first in range(len(pieces) - n + 1)]
    return [ngram for ngram in ngrams if ngrams.count(ngram) > 1]


@pytest.mark.parametrize("more", [{}, {"samples": 5, "beam_size": 5}, {"copy": "pointer"}])
def test_ngrams_of_pieces_do_not_repeat(more):
    options = {"ending": -9.0, "max_length_extra": 12} | more
    plain = make(**options)
    blocked, penalized = plain.with_search(no_repeat_ngram=2), plain.with_search(repetition_penalty=3.0)
    lines, n_best = [*ODD[:1], *LINES], 3
    counts = []
    for translator in (plain, blocked, penalized):
        found = [one for some in translator.search(lines, n_best=n_best) for one in some]
        counts.append(sum(len(repeats(one.pieces, 2)) for one in found))
    assert counts[1] == 0
    assert counts[2] < counts[0]
    assert {one.status for some in blocked.search(lines) for one in some} <= {"ok", "max_length", "empty"}


def test_words_that_may_repeat():
    plain = make(ending=-9.0, max_length_extra=12, no_repeat_ngram=1)
    repeated = plain.with_search(may_repeat="dog  man")
    found = [one.pieces for some in repeated.search(LINES, n_best=3) for one in some]
    words = {piece for pieces in found for (piece,) in repeats(pieces, 1)}
    assert words
    assert words <= {"dog", "man"}
    with pytest.raises(
        ValueError,
        match=r"^search\.may_repeat must hold words of the target vocabulary, but xylophone is not one; remove it$",
    ):
        plain.with_search(may_repeat="dog xylophone")


@pytest.mark.parametrize("more", [{}, {"samples": 5, "beam_size": 5}, {"copy": "pointer"}])
def test_forbidden_words_do_not_appear(more):
    plain = make(**more)
    lines = [*LINES, "the dog sees a dog"]

    def produced(translator: Translator) -> set[str]:
        return {piece for some in translator.search(lines, n_best=3) for one in some for piece in one.pieces}

    words = sorted(set(TEXT[0].split()) & produced(plain))
    assert len(words) > 2
    found = produced(plain.with_search(forbidden=" ".join(words)))
    assert found
    assert not found & set(words)
    with pytest.raises(
        ValueError,
        match=r"^search\.forbidden must hold words of the target vocabulary, but xylophone is not one; remove it$",
    ):
        plain.with_search(forbidden="dog xylophone")


def test_the_pieces_of_a_forbidden_word_do_not_follow_each_other():
    tokenizer = train_tokenizer(TEXT, TokenizerConfig(type="char", vocab_size=40))
    ids = tokenizer.encode("dog")
    assert len(ids) > 2
    (constraint,) = make_constraints(SearchConfig(forbidden="dog"), tokenizer)
    assert constraint.affected(torch.tensor([ids[:-1]])).tolist() == [ids[-1:]]
    assert constraint.affected(torch.tensor([ids[:-2]])).shape == (1, 0)


def test_a_traced_translation_has_the_score_of_a_search_with_penalties():
    translator = make(ending=-9.0, max_length_extra=12, repetition_penalty=1.1, coverage_penalty=0.1, beam_size=1)
    for line in ("a man", "the dog sleeps ."):
        ((best,),) = translator.search([line])
        assert translator.trace(line, best.translation)[0].score == pytest.approx(best.score, abs=1e-5)
        assert len(set(best.pieces)) < len(best.pieces)
        assert best.score < best.log_prob / (len(best.pieces) + 1)


@pytest.mark.parametrize("more", [{}, {"samples": 3, "beam_size": 5}, {"copy": "pointer"}])
def test_a_translation_begins_with_its_prefix(more):
    translator = make(**more)
    prefixes = ["a small dog", "two", "", "zebras the", "a", "", "the dog sees " * 9]
    for found, line, prefix in zip(translator.search(LINES, n_best=3, prefixes=prefixes), LINES, prefixes, strict=True):
        for one in found:
            if not line.strip():
                assert (one.status, one.translation, one.forced_pieces) == ("empty", "", 0)
                continue
            assert one.forced_pieces == len(prefix.split())
            assert one.translation.startswith(prefix.strip().replace("zebras", "⁇"))
            assert one.as_dict()["forced_pieces"] == one.forced_pieces
    assert found[0].status == "max_length"
    assert len(found) == (3 if more.get("samples") else 1)
    texts = translator.translate(LINES, prefixes=prefixes)
    assert texts == [found[0].translation for found in translator.search(LINES, prefixes=prefixes)]
    assert translator.translate(LINES, prefixes=[""] * len(LINES)) == translator.translate(LINES)


def test_a_prefix_may_hold_copied_words():
    translator = make(copy="pointer")
    (found,) = translator.search(["the xylophone sleeps"], prefixes=["a xylophone"])[0]
    assert found.pieces[:2] == ["a", "xylophone"]
    assert math.isfinite(found.log_prob)
    assert found.copied_from[1] == CopiedFrom(1, 4, 13)


def test_the_prefix_of_a_split_line_is_that_of_its_first_part():
    translator = make(3, too_long="split", ending=2.0)
    (found,) = translator.search(["the dog sleeps a man runs"], prefixes=["two women"])[0]
    assert found.forced_pieces == 2
    assert found.translation.count("two") == 1


def test_as_many_prefixes_as_lines():
    with pytest.raises(ValueError, match=r"^there are 7 lines but 1 prefixes; they must match line by line$"):
        make().translate(LINES, prefixes=["a"])
    with pytest.raises(
        ValueError, match=r"^the prefixes must be a list of texts, but are one text; put the text into a list$"
    ):
        make().search(LINES, prefixes="a")


@pytest.mark.parametrize("name", ["chrf", "bleu"])
@pytest.mark.parametrize("options", [{"beam_size": 6}, {"samples": 12, "beam_size": 5, "temperature": 0.7}])
def test_minimum_bayes_risk_sorts_by_the_mean_utility(name, options):
    plain = make(**options)
    translator, most = plain.with_search(mbr=name), plain.num_hypotheses
    moved = 0
    for before, after in zip(plain.search(LINES, n_best=most), translator.search(LINES, n_best=most), strict=True):
        if before[0].status == "empty":
            continue
        utilities = mean_utilities([one.translation for one in before], name)
        order = sorted(range(most), key=lambda row: -utilities[row])
        assert [one.translation for one in after] == [before[row].translation for row in order]
        assert [one.utility for one in after] == pytest.approx([utilities[row] for row in order])
        assert [one.score for one in after] == pytest.approx([before[row].score for row in order])
        assert all(one.utility is None for one in before)
        moved += order[0] != 0
    assert moved
    assert translator.translate(LINES) == [found[0].translation for found in translator.search(LINES)]
    split = make(3, too_long="split", mbr=name, **options)
    assert 0 <= split.search(["the dog sleeps a man runs"])[0][0].utility <= 100


def test_sampling_and_beam_search_replace_each_other():
    wide = make(beam_size=9)
    samples = wide.with_search(samples=4, temperature=0.5)
    assert (samples.search_config.beam_size, samples.num_hypotheses) == (SearchConfig().beam_size, 4)
    again = samples.with_search(samples=0)
    assert (again.search_config.temperature, again.num_hypotheses) == (1.0, SearchConfig().beam_size)
    for search in ({"beam_size": 5}, {"beam_size": 3, "samples": 2}):
        number, count = search["beam_size"], search.get("samples", 4)
        with pytest.raises(
            ValueError,
            match=rf"^search\.beam_size={number} has no effect with search\.samples={count}, which draws translations at "
            "random; remove one of them$",
        ):
            samples.with_search(**search)
