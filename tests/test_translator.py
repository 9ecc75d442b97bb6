"""The translator with an untrained model: order, blank lines, batches, search settings, statuses and scores."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging

import pytest
import torch

from seq2seq.config import ModelConfig, SearchConfig, TokenizerConfig
from seq2seq.model_dir import Settings, Tokenizers, build_model, save_settings, save_weights
from seq2seq.tokenizer import EOS, train_tokenizer
from seq2seq.translator import Translation, Translator, find_device

TEXT = ["a man sees the old dog .", "the dog sees a small man , too .", "two men sleep ; one dog runs away !"]
LINES = ["the dog sleeps .", "", "a man", "two small men sees the old dog , too .", "   ", "dog", "one man runs away !"]
SEARCH = SearchConfig(beam_size=3, max_length_ratio=1.0, max_length_extra=4)
BLANK = [row for row, line in enumerate(LINES) if not line.strip()]
FILLED = [row for row, line in enumerate(LINES) if line.strip()]


def make(
    max_source_length: int = 50, *, cell: str = "gru", attention: str = "additive", ending: float = -1.0, **search
) -> Translator:
    """An untrained model; ``ending`` is its bias towards the end of the sentence: 2 ends at once, -1 seldom."""
    torch.manual_seed(3)
    tokenizer = train_tokenizer(TEXT, TokenizerConfig(type="word", vocab_size=22))
    config = ModelConfig(cell=cell, attention=attention, embedding_size=8, hidden_size=12)
    settings = Settings(config, TokenizerConfig(type="word"), SEARCH, max_source_length)
    tokenizers = Tokenizers(tokenizer, tokenizer)
    model = build_model(settings, tokenizers)
    with torch.no_grad():  # far from uniform, so that different sources have different translations
        model.readout.logits.weight *= 5
        model.readout.logits.bias[EOS] = ending
    options = dataclasses.replace(SEARCH, **search)
    return Translator(model, tokenizers, options, max_source_length=max_source_length)


@pytest.fixture(scope="module")
def translator() -> Translator:
    return make()


def test_one_line_out_for_every_line_in_and_in_order(translator):
    together = translator.translate(LINES)
    assert together == [translator.translate([line])[0] for line in LINES]
    assert len(set(together)) > 3  # the lines are told apart
    order = [3, 0, 6, 1, 5, 2, 4]
    assert translator.translate([LINES[row] for row in order]) == [together[row] for row in order]


def test_blank_lines_give_empty_lines_and_the_model_is_not_asked(translator, monkeypatch):
    results = translator.search(LINES, n_best=2)
    assert [row for row, found in enumerate(results) if found == [Translation("", status="empty")]] == BLANK

    rows = []
    original = translator.model.encode
    monkeypatch.setattr(
        translator.model, "encode", lambda src, lengths: rows.append(len(src)) or original(src, lengths)
    )
    translator.translate(LINES)
    assert sum(rows) == len(FILLED)
    monkeypatch.setattr(translator.model, "encode", None)
    assert translator.translate(["", " \t ", "\u3000"]) == ["", "", ""]
    assert translator.translate([]) == []


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize(("cell", "attention"), [("lstm", "additive"), ("rnn_relu", "none"), ("rnn_tanh", "dot")])
def test_batches_of_any_size_give_the_same(cell, attention, beam_size, monkeypatch):
    outcomes = []
    for batch_tokens, batches in [(1, 5), (12, 3), (1000, 1)]:
        translator = make(cell=cell, attention=attention, beam_size=beam_size, batch_tokens=batch_tokens)
        sizes = []
        original = translator._search_batch
        monkeypatch.setattr(
            translator,
            "_search_batch",
            lambda sources, sizes=sizes, original=original: sizes.append(sum(map(len, sources))) or original(sources),
        )
        outcomes.append([found[0] for found in translator.search(LINES)])
        assert len(sizes) >= batches if batches > 1 else len(sizes) == 1
    for first, *others in zip(*outcomes, strict=True):
        for other in others:
            assert other.translation == first.translation
            assert other.alignment == first.alignment
            assert other.log_prob == pytest.approx(first.log_prob, abs=1e-4)


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
    lengths = [sum(map(len, pieces(make(beam_size=12, length_penalty=penalty)))) for penalty in (0.0, 1.0, 3.0)]
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
            assert translation.source_pieces == tokenizer.pieces(tokenizer.encode(line))
            assert len(translation.alignment) == (len(translation.pieces) if attention == "additive" else 0)
            assert all(0 <= place < len(translation.source_pieces) for place in translation.alignment)
            assert json.loads(json.dumps(translation.as_dict())) == dataclasses.asdict(translation)
    assert status in statuses <= {"ok", "max_length"}


def test_alignment_names_a_source_piece_even_if_the_model_looks_at_the_end_of_the_source():
    translator = make()
    looked = []
    original = translator.model.decoder.attention.forward

    def forward(query, memory):
        context, weights = original(query, memory)
        last = memory.mask.sum(dim=1) - 1
        weights = 0.1 * weights
        weights[torch.arange(len(last)), last] += 0.9
        looked.append(weights.argmax(dim=1))
        return context, weights

    translator.model.decoder.attention.forward = forward
    for found in translator.search([LINES[row] for row in FILLED]):
        assert all(place < len(found[0].source_pieces) for place in found[0].alignment)
    assert all((places > 0).all() for places in looked)


def test_alignment_is_where_the_model_looked():
    translator = make(beam_size=1)
    for line in (LINES[row] for row in FILLED):
        ((found,),) = translator.search([line])
        source = translator.tokenizers.src.encode(line)
        tokens = [2, *translator.tokenizers.tgt.encode(found.translation)]
        if translator.tokenizers.tgt.pieces(tokens[1:]) != found.pieces:
            continue  # an unknown piece does not survive the text
        translator.model.eval()
        decoding = translator.model.encode(torch.tensor([[*source, EOS]]), torch.tensor([len(source) + 1]))
        places = []
        for token in tokens[:-1]:
            _, decoding = translator.model.step(torch.tensor([token]), decoding)
            places.append(int(decoding.state.weights[0, : len(source)].argmax()))
        assert found.alignment == places


@pytest.mark.parametrize(("cell", "attention"), [("gru", "additive"), ("lstm", "general"), ("rnn_tanh", "none")])
def test_forced_scoring_gives_the_log_probability_of_the_search(cell, attention):
    translator = make(cell=cell, attention=attention, batch_tokens=40)
    pairs = []
    for line, found in zip(LINES, translator.search(LINES, n_best=3), strict=True):
        for translation in found:
            ids = [translator.tokenizers.tgt.id(piece) for piece in translation.pieces]
            same = translator.tokenizers.tgt.encode(translation.translation) == ids
            if translation.status != "empty" and same:  # else the text means other pieces
                pairs.append((line, translation))
    assert len(pairs) > 5
    scores = translator.score([line for line, _ in pairs], [translation.translation for _, translation in pairs])
    for token_log_probs, (_, translation) in zip(scores, pairs, strict=True):
        assert token_log_probs == pytest.approx(translation.token_log_probs, abs=1e-4)
        assert sum(token_log_probs) == pytest.approx(translation.log_prob, abs=1e-4 + 1e-5 * abs(translation.log_prob))


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


def test_a_saved_translator_translates_alike(tmp_path):
    translator = make(max_source_length=3)
    settings = Settings(
        ModelConfig(cell="gru", embedding_size=8, hidden_size=12), TokenizerConfig(type="word"), SEARCH, 3
    )
    save_settings(tmp_path / "model", settings, translator.tokenizers)
    save_weights(tmp_path / "model", translator.model)
    for path in (tmp_path, str(tmp_path / "model")):
        loaded = Translator.load(path, device="cpu")
        assert loaded.search_config == SEARCH
        assert loaded.max_source_length == 3
        assert not loaded.model.training
        assert loaded.translate(LINES) == translator.translate(LINES)


def test_devices():
    assert find_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="the device must be one of auto, cpu, cuda, but is tpu"):
        find_device("tpu")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="the device is to be cuda, but torch finds no GPU here; choose cpu or auto"):
        find_device("cuda")
    assert find_device("auto") == torch.device("cpu")
