"""The self-check: passes on every kind of model, and each check fails on a model that breaks its law."""

from __future__ import annotations

import pytest
import torch

from seq2seq import selfcheck
from seq2seq.config import ATTENTIONS, CELLS, ModelConfig, SearchConfig, TokenizerConfig
from seq2seq.layers import attention as attention_module
from seq2seq.layers.decoder import Decoder
from seq2seq.layers.distribution import Distribution
from seq2seq.model_dir import Settings, Tokenizers, build_model
from seq2seq.selfcheck import Check, run_checks
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tokenizer import EOS, PAD
from seq2seq.translator import Translator

WORDS = [f"word{number}" for number in range(20)]
LAWS = {
    "padding": "other ids at padded places",
    "more padding": "more padding moves",
    "sums": "the probabilities of a step sum to 1",
    "forced": "search and forced scoring",
    "greedy": "beam 1 is greedy",
    "n-best": "n-best lists",
    "banned": "pad or bos produced",
    "batch": "alone or in a batch",
}


def make(*, shared: bool = True, words: int = 20, search: SearchConfig | None = None, **options) -> Translator:
    torch.manual_seed(1)
    config = TokenizerConfig(type="word", vocab_size=words + 4, shared=shared)
    src = train_tokenizer([" ".join(WORDS)], config)
    tgt = src if shared else train_tokenizer(["ein zwei drei"], TokenizerConfig(type="word", vocab_size=7))
    model = ModelConfig(**({"embedding_size": 6, "hidden_size": 8, "dropout": 0.3} | options))
    search = search or SearchConfig(max_length_ratio=1.0, max_length_extra=3)
    settings = Settings(model, config, search, 25)
    tokenizers = Tokenizers(src, tgt)
    built = build_model(settings, tokenizers)
    with torch.no_grad():
        built.readout.logits.weight *= 4  # an untrained model finds everything equally good, so ties would hide much
        if model.coverage != "none":  # its weights start at 0, where it does nothing
            for parameter in built.decoder.attention.coverage_parameters():
                parameter.uniform_(-2, 2)
    return Translator(built, tokenizers, search, max_source_length=settings.max_source_length)


def failed(checks: list[Check]) -> set[str]:
    names = {name for name, start in LAWS.items() for check in checks if check.text.startswith(start)}
    assert names == set(LAWS)
    return {
        name for name, start in LAWS.items() for check in checks if check.text.startswith(start) and not check.passed
    }


@pytest.mark.parametrize(
    ("cell", "attention"), [(cell, "additive") for cell in CELLS] + [("gru", kind) for kind in ATTENTIONS[:-1]]
)
def test_a_sound_model_passes(cell, attention):
    checks = run_checks(make(cell=cell, attention=attention))
    assert not failed(checks), [check for check in checks if not check.passed]
    assert [check.law for check in checks] == ["R1", "R1", "R6", "R20", "R21", "R21", "R23", "R25"]


COPYING = [
    {"copy": "pointer"},
    {"copy": "pointer", "copy_attention": "separate", "coverage": "sum"},
    {"copy": "pointer", "attention": "dot", "coverage": "fertility"},
    {"copy": "copynet", "attention": "none"},
    {"coverage": "fertility", "attention": "general"},
]


@pytest.mark.parametrize("options", COPYING, ids=lambda options: "-".join(options.values()))
def test_a_sound_model_that_copies_or_covers_passes(options):
    checks = run_checks(make(**options))
    assert not failed(checks), [check for check in checks if not check.passed]


@pytest.mark.parametrize("copy", ["pointer", "copynet"])
def test_copying_between_two_vocabularies_passes(copy):
    translator = make(shared=False, words=18, copy=copy)
    with torch.no_grad():  # next to everything is copied
        if copy == "pointer":
            translator.model.pointer.gate.bias.fill_(-10.0)
        else:
            translator.model.pointer.key.weight.mul_(10.0)
    assert not failed(run_checks(translator))


def test_separate_vocabularies_and_every_dropout_pass():
    translator = make(
        shared=False, words=18, encoder_layers=2, dropout_kind="locked", recurrent_dropout=0.3, weight_drop=0.3
    )
    assert not failed(run_checks(translator))


def test_the_smallest_vocabulary_and_the_shortest_limits_pass():
    translator = make(words=1, search=SearchConfig(max_length_ratio=0.0, max_length_extra=2))
    translator.max_source_length = 1
    assert not failed(run_checks(translator))


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_left_as_it_was_also_after_an_error(training, monkeypatch):
    translator = make()
    translator.model.train(training)
    first, second = run_checks(translator), run_checks(translator)
    assert first == second
    assert translator.model.training == training
    monkeypatch.setattr(translator, "max_length", None)
    with pytest.raises(TypeError):
        run_checks(translator)
    assert translator.model.training == training


# Sabotage


def test_an_encoder_that_ignores_lengths_fails(monkeypatch):
    translator = make()
    encoder = translator.model.encoder
    original = encoder.forward
    monkeypatch.setattr(
        encoder, "forward", lambda embedded, lengths: original(embedded, torch.full_like(lengths, embedded.shape[1]))
    )
    assert {"padding", "more padding", "batch"} <= failed(run_checks(translator))


def test_an_attention_without_mask_fails(monkeypatch):
    monkeypatch.setattr(
        attention_module, "masked_log_softmax", lambda energies, mask: torch.log_softmax(energies, dim=-1)
    )
    monkeypatch.setattr(Decoder, "fuses", False)  # which has its own mask
    found = failed(run_checks(make()))
    assert "more padding" in found
    assert "padding" not in found  # the ids there do not matter, only how many
    assert "sums" not in found
    assert "sums" in failed(run_checks(make(copy="pointer")))  # pads are copied


@pytest.mark.parametrize("options", [{"copy": "copynet"}, {"copy": "pointer", "copy_attention": "separate"}])
def test_energies_of_copying_that_give_padding_weight_fail(options, monkeypatch):
    translator = make(**options)
    pointer = translator.model.pointer
    original = pointer.forward

    def forward(outputs, contexts, embedded, log_weights, memory):
        return original(outputs, contexts, embedded, log_weights, memory._replace(mask=torch.ones_like(memory.mask)))

    monkeypatch.setattr(pointer, "forward", forward)
    assert "sums" in failed(run_checks(translator))


def test_a_mixture_that_leaves_the_other_routes_share_out_fails(monkeypatch):
    original = Distribution.log_probs

    def log_probs(distribution, size):  # ids that are copied lose what generating brings them
        found = original(distribution, size)
        return found.scatter(1, distribution.copying.ids, found.gather(1, distribution.copying.ids) - 0.1)

    monkeypatch.setattr(Distribution, "log_probs", log_probs)
    assert {"sums", "forced"} <= failed(run_checks(make(copy="pointer")))


def test_sentences_that_read_each_others_own_pieces_when_others_leave_fail(monkeypatch):
    """R10: the numbers of a sentence's own pieces must leave and stay with it."""
    translator = make(copy="pointer")
    original = attention_module.Memory.select

    def select(memory, rows):
        chosen = original(memory, rows)
        return chosen._replace(copy_ids=memory.copy_ids[: len(rows)]) if len(rows) <= len(memory.copy_ids) else chosen

    monkeypatch.setattr(attention_module.Memory, "select", select)
    assert "forced" in failed(run_checks(translator))


def test_coverage_that_does_not_follow_the_beam_fails(monkeypatch):
    """R15."""
    translator = make(coverage="sum", attention="dot")
    original = translator.model.decoder.step

    def step(gates, state, memory, prepared):
        output, after = original(gates, state, memory, prepared)
        return output, after._replace(coverage=after.coverage.roll(1, dims=0))

    monkeypatch.setattr(translator.model.decoder, "step", step)
    assert "forced" in failed(run_checks(translator))


def test_a_step_that_differs_from_training_fails(monkeypatch):
    translator = make()
    original = translator.model.step

    def step(tokens, decoding):
        log_probs, decoding = original(tokens, decoding)
        log_probs[:, EOS + 1] += 0.01
        return log_probs.log_softmax(dim=-1), decoding

    monkeypatch.setattr(translator.model, "step", step)
    assert failed(run_checks(translator)) == {"forced"}


def test_a_step_that_depends_on_the_batch_size_fails(monkeypatch):
    translator = make()
    original = translator.model.step

    def step(tokens, decoding):
        log_probs, decoding = original(tokens, decoding)
        log_probs[:, EOS] += 0.01 * len(tokens)
        return log_probs, decoding

    monkeypatch.setattr(translator.model, "step", step)
    assert "batch" in failed(run_checks(translator))


def test_a_step_of_chance_fails(monkeypatch):
    translator = make()
    original = translator.model.step

    def step(tokens, decoding):
        log_probs, decoding = original(tokens, decoding)
        return (log_probs + torch.randn_like(log_probs)).log_softmax(dim=-1), decoding

    monkeypatch.setattr(translator.model, "step", step)
    assert {"forced", "greedy", "batch"} <= failed(run_checks(translator))


def test_logits_that_allow_padding_fail():
    translator = make()
    readout = translator.model.readout
    readout.banned = torch.tensor([], dtype=torch.long)
    with torch.no_grad():
        readout.logits.bias[PAD] = 3.0
    assert failed(run_checks(translator)) == {"banned", "sums"}


def test_a_beam_of_one_that_is_not_greedy_fails(monkeypatch):
    original = selfcheck.beam_search

    def search(step, state, limits, options):
        if options.beam_size > 1:
            return original(step, state, limits, options)
        return [found[-1:] for found in original(step, state, limits, options._replace(beam_size=3))]

    monkeypatch.setattr(selfcheck, "beam_search", search)
    assert failed(run_checks(make())) == {"greedy"}


@pytest.mark.parametrize(
    "spoil",
    [lambda found: found[:-1], lambda found: found[::-1], lambda found: [found[0], *found[:-1]]],
    ids=["short", "unsorted", "repeated"],
)
def test_spoilt_n_best_lists_fail(spoil, monkeypatch):
    original = selfcheck.beam_search

    def search(step, state, limits, options):
        found = original(step, state, limits, options)
        return [spoil(hypotheses) if len(hypotheses) > 1 else hypotheses for hypotheses in found]

    monkeypatch.setattr(selfcheck, "beam_search", search)
    assert failed(run_checks(make())) == {"n-best"}


def test_recurrent_state_that_follows_the_wrong_hypothesis_fails(monkeypatch):
    translator = make()
    monkeypatch.setattr("seq2seq.model.Decoding.reorder", lambda decoding, rows: decoding)
    assert "forced" in failed(run_checks(translator))


def test_a_search_that_stops_at_the_longest_limit_of_its_batch_fails(monkeypatch):
    original = selfcheck.beam_search
    monkeypatch.setattr(
        selfcheck,
        "beam_search",
        lambda step, state, limits, options: original(step, state, [max(limits)] * len(limits), options),
    )
    translator = make()
    with torch.no_grad():
        translator.model.readout.logits.bias[EOS] = -30.0  # so that the limit decides
    assert "batch" in failed(run_checks(translator))
