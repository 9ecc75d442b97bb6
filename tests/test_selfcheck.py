"""The self-check passes on every kind of model, and each check fails on a model that breaks its law."""

from __future__ import annotations

import math

import pytest
import torch

from seq2seq import selfcheck
from seq2seq.config import (
    ATTENTION_NAMES,
    CELL_NAMES,
    DECODER_NAMES,
    ENCODER_NAMES,
    ModelConfig,
    SearchConfig,
    TokenizerConfig,
)
from seq2seq.layers import attention as attention_module
from seq2seq.layers import hierarchical as hierarchical_module
from seq2seq.layers import transformer as transformer_module
from seq2seq.layers.distribution import Distribution
from seq2seq.layers.fast import plain_layers
from seq2seq.model import Decoding
from seq2seq.model_dir import Settings, Tokenizers, build_model
from seq2seq.search.next_token import LogProbs
from seq2seq.selfcheck import CHECKS, Check, run_checks
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tokenizer import EOS, PAD
from seq2seq.translator import Translator

WORDS = [f"word{number}" for number in range(20)]
SENTENCES = {  # how the sentence of each check starts, or how it goes on after the count
    "finite": "weight tensors hold NaN or infinity",
    "padding": "other ids at padded positions",
    "more padding": "more padding changes",
    "sums": "the probabilities of the next token sum to 1",
    "forced": "log-probabilities of the search and of forced scoring",
    "half": "log-probabilities of the search in bf16",
    "greedy": "a search with beam size 1",
    "n-best": "of the n-best lists",
    "banned": "the search produces padding or the start symbol",
    "batch": "scores of a sentence alone and in a batch",
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
        built.readout.logits.weight *= (
            4  # in an untrained model, all translations are about equally probable, and ties would hide errors
        )
        if model.coverage != "none":  # its weights are initialized with 0, where they have no effect
            for parameter in built.decoder.attention.coverage_parameters():
                parameter.uniform_(-2, 2)
    return Translator(built, tokenizers, search)


def failed(checks: list[Check]) -> set[str]:
    """Return the short names of the checks that failed."""
    assert [check.law for check in checks] == [law for law, _ in CHECKS]
    names = list(SENTENCES)
    assert len(checks) == len(names)
    for name, check in zip(names, checks, strict=True):
        assert SENTENCES[name] in check.text or check.text.startswith("the search finds no translation"), check
    return {name for name, check in zip(names, checks, strict=True) if not check.ok}


@pytest.mark.parametrize(
    ("cell", "attention"),
    [(cell, "additive") for cell in CELL_NAMES] + [("gru", kind) for kind in ATTENTION_NAMES if kind != "additive"],
)
def test_a_correct_model_passes(cell, attention):
    checks = run_checks(make(cell=cell, attention=attention))
    assert not failed(checks), [check for check in checks if not check.ok]


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_a_correct_model_with_layer_normalisation_passes(cell):
    checks = run_checks(make(cell=cell, layer_norm=True, copy="pointer", coverage="sum", encoder_layers=2))
    assert not failed(checks), [check for check in checks if not check.ok]


COPYING = [
    {"copy": "pointer"},
    {"copy": "pointer", "copy_attention": "separate", "coverage": "sum"},
    {"copy": "pointer", "attention": "dot", "coverage": "fertility"},
    {"copy": "copynet", "attention": "none"},
    {"coverage": "fertility", "attention": "general"},
    {"copy": "pointer", "coverage": "sum", "attention": "multi_head"},
    {"copy": "pointer", "copy_attention": "separate", "coverage": "fertility", "attention": "multi_head"},
    {"copy": "pointer", "coverage": "fertility", "attention": "local_p"},
    {"copy": "pointer", "copy_attention": "separate", "coverage": "sum", "attention": "local_p"},
]


@pytest.mark.parametrize("options", COPYING, ids=lambda options: "-".join(options.values()))
def test_a_correct_model_with_copying_or_coverage_passes(options):
    checks = run_checks(make(**options))
    assert not failed(checks), [check for check in checks if not check.ok]


PAIRS = [(e, d) for e in ENCODER_NAMES for d in DECODER_NAMES if (e, d) != ("hierarchical", "transformer")]


@pytest.mark.parametrize(("encoder", "decoder"), PAIRS[1:])
@pytest.mark.parametrize(
    "options",
    [{}, {"copy": "pointer"}, {"copy": "pointer", "copy_attention": "separate"}, {"copy": "copynet"}],
    ids=lambda options: "-".join(options.values()),
)
def test_a_correct_model_with_other_parts_passes(encoder, decoder, options):
    sizes = {"embedding_size": 8, "encoder_layers": 2, "decoder_layers": 2}
    checks = run_checks(make(encoder=encoder, decoder=decoder, **sizes, **options))
    assert not failed(checks), [check for check in checks if not check.ok]


def test_sentences_that_hold_padding_fail(monkeypatch):
    layout = hierarchical_module.SentenceLayout.of
    monkeypatch.setattr(
        hierarchical_module.SentenceLayout,
        "of",
        lambda segments, lengths: layout(segments, torch.full_like(lengths, segments.shape[1])),
    )
    assert {"padding", "more padding", "batch"} <= failed(run_checks(make(encoder="hierarchical", coverage="sum")))


def test_sentences_that_do_not_leave_with_their_source_fail(monkeypatch):
    translator = make(encoder="hierarchical", attention="general", copy="pointer")
    assert not failed(run_checks(translator))
    monkeypatch.setattr(
        attention_module.SentenceMemory,
        "select",
        lambda memory, rows: memory._replace(
            **{name: tensor[: len(rows)] for name, tensor in memory._asdict().items()}
        ),
    )
    assert "forced" in failed(run_checks(translator))


def test_a_transformer_that_reads_padding_fails(monkeypatch):
    monkeypatch.setattr(
        transformer_module.EncoderLayer,
        "forward",
        lambda layer, inputs, mask, forward=transformer_module.EncoderLayer.forward: forward(
            layer, inputs, torch.ones_like(mask)
        ),
    )
    translator = make(encoder="transformer", decoder="transformer", embedding_size=8)
    assert {"padding", "more padding", "batch"} <= failed(run_checks(translator))


def test_a_decoder_whose_past_stays_with_other_hypotheses_fails(monkeypatch):
    select = transformer_module.TransformerState.select

    def forgetful(state, rows):
        past = tuple(tensor[: len(rows)] if len(rows) <= len(tensor) else tensor[rows] for tensor in state.past)
        return select(state, rows)._replace(past=past)

    translator = make(encoder="rnn", decoder="transformer", embedding_size=8)
    assert not failed(run_checks(translator))
    monkeypatch.setattr(transformer_module.TransformerState, "select", forgetful)
    assert "forced" in failed(run_checks(translator))


def test_an_initial_state_that_depends_on_padding_fails(monkeypatch):
    """The first step reads the initial state, whatever the decoder is."""
    translator = make()
    original = translator.model.encode

    def padded(batch, *allowed):
        decoding = original(batch, *allowed)
        state = decoding.state
        return decoding._replace(state=state._replace(hidden=state.hidden + 1e-4 * batch.src[:, -1:, None]))

    monkeypatch.setattr(translator.model, "encode", padded)
    assert "padding" in failed(run_checks(translator))


@pytest.mark.parametrize("copy", ["pointer", "copynet"])
def test_copying_between_two_vocabularies_passes(copy):
    translator = make(shared=False, words=18, copy=copy)
    with torch.no_grad():  # almost everything is copied
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
    translator.model.max_source_length = 1
    assert not failed(run_checks(translator))


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_restored_also_after_an_error(training, monkeypatch):
    translator = make()
    translator.model.train(training)
    first, second = run_checks(translator), run_checks(translator)
    assert first == second
    assert translator.model.training == training
    monkeypatch.setattr(translator, "max_length", None)
    with pytest.raises(TypeError):
        run_checks(translator)
    assert translator.model.training == training


# ---- models that break a law


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("options", [{}, {"copy": "pointer", "coverage": "sum"}, {"copy": "copynet"}], ids=str)
def test_a_model_that_is_not_finite_fails_without_an_exception(options, value):
    translator = make(**options)
    with torch.no_grad():
        translator.model.decoder.attention.key.weight[0, 0] = value
    assert "finite" in failed(run_checks(translator))


@pytest.mark.parametrize(
    "name",
    ["src_embedding.weight", "encoder.layers.0.weight_hh_l0", "decoder.stack.weight_hh.0", "readout.logits.bias"],
)
def test_nan_fails_every_check_that_it_reaches(name):
    translator = make()
    with torch.no_grad():
        translator.model.get_parameter(name).view(-1)[-1] = math.nan
    found = failed(run_checks(translator))
    if name.startswith("src_embedding"):  # only the sources with the last piece
        assert {"finite", "padding", "more padding", "sums", "forced", "batch"} <= found
    else:
        assert {"finite", "padding", "more padding", "sums", "forced", "greedy", "n-best", "batch"} <= found


def test_the_largest_of_values_with_nan_is_nan():
    nan = float("nan")
    for values in ([nan, 1.0], [1.0, nan], [torch.tensor([0.0, nan, 1.0]), 2.0]):
        assert math.isnan(selfcheck._largest(values))
    assert selfcheck._largest([torch.tensor([0.0, 1.0]), 2.0, float("inf")]) == float("inf")


def test_an_encoder_that_ignores_lengths_fails(monkeypatch):
    translator = make()
    encoder = translator.model.encoder
    original = encoder.forward
    monkeypatch.setattr(
        encoder,
        "forward",
        lambda embedded, batch: original(
            embedded, batch._replace(src_lengths=torch.full_like(batch.src_lengths, embedded.shape[1]))
        ),
    )
    assert {"padding", "more padding", "batch"} <= failed(run_checks(translator))


def test_an_attention_without_mask_fails(monkeypatch):
    monkeypatch.setattr(
        attention_module, "masked_log_softmax", lambda energies, mask: torch.log_softmax(energies, dim=-1)
    )
    with plain_layers():  # the fast twin of the decoder has a mask of its own
        found = failed(run_checks(make()))
        assert "more padding" in found
        assert "padding" not in found  # the ids at padded positions have no effect, but their number has
        assert "sums" not in found
        assert "sums" in failed(run_checks(make(copy="pointer")))  # padding is copied


@pytest.mark.parametrize("options", [{"copy": "copynet"}, {"copy": "pointer", "copy_attention": "separate"}])
def test_copy_energies_without_mask_fail(options, monkeypatch):
    translator = make(**options)
    pointer = translator.model.pointer
    original = pointer.forward

    def forward(outputs, contexts, embedded, log_weights, memory):
        return original(outputs, contexts, embedded, log_weights, memory._replace(mask=torch.ones_like(memory.mask)))

    monkeypatch.setattr(pointer, "forward", forward)
    assert "sums" in failed(run_checks(translator))


def test_a_mixture_that_loses_the_share_of_generating_fails(monkeypatch):
    original = Distribution.log_probs

    def log_probs(distribution, size):  # ids that are copied lose the probability of generating them
        found = original(distribution, size)
        return found.scatter(1, distribution.copying.ids, found.gather(1, distribution.copying.ids) - 0.1)

    monkeypatch.setattr(Distribution, "log_probs", log_probs)
    assert {"sums", "forced"} <= failed(run_checks(make(copy="pointer")))


def test_copy_ids_that_do_not_travel_with_their_sentence_fail(monkeypatch):
    """The law is: own words travel with their sentence."""
    translator = make(copy="pointer")
    original = attention_module.Memory.select

    def select(memory, rows):
        chosen = original(memory, rows)
        return chosen._replace(copy_ids=memory.copy_ids[: len(rows)]) if len(rows) <= len(memory.copy_ids) else chosen

    monkeypatch.setattr(attention_module.Memory, "select", select)
    assert "forced" in failed(run_checks(translator))


def test_coverage_that_does_not_follow_the_beam_fails(monkeypatch):
    """The law is: coverage follows the beam."""
    translator = make(coverage="sum", attention="dot")
    original = translator.model.decoder.search_step

    def search_step(embeddings):
        return lambda tokens, state, memory: rolled(*original(embeddings)(tokens, state, memory))

    def rolled(output, after):
        return output, after._replace(coverage=after.coverage.roll(1, dims=0))

    monkeypatch.setattr(translator.model.decoder, "search_step", search_step)
    assert "forced" in failed(run_checks(translator))


def test_a_step_that_differs_from_training_fails(monkeypatch):
    translator = make()
    original = translator.model.step

    def step(tokens, decoding):
        next_token, decoding = original(tokens, decoding)
        log_probs = next_token.log_probs()
        log_probs[:, EOS + 1] += 0.01
        return LogProbs(log_probs.log_softmax(dim=-1)), decoding

    monkeypatch.setattr(translator.model, "step", step)
    assert failed(run_checks(translator)) == {"forced"}


def test_a_step_that_depends_on_the_batch_size_fails(monkeypatch):
    translator = make()
    original = translator.model.step

    def step(tokens, decoding):
        next_token, decoding = original(tokens, decoding)
        log_probs = next_token.log_probs()
        log_probs[:, EOS] += 0.01 * len(tokens)
        return LogProbs(log_probs), decoding

    monkeypatch.setattr(translator.model, "step", step)
    assert "batch" in failed(run_checks(translator))


def test_a_random_step_fails(monkeypatch):
    translator = make()
    original = translator.model.step

    def step(tokens, decoding):
        next_token, decoding = original(tokens, decoding)
        log_probs = next_token.log_probs()
        return LogProbs((log_probs + torch.randn_like(log_probs)).log_softmax(dim=-1)), decoding

    monkeypatch.setattr(translator.model, "step", step)
    assert {"forced", "greedy", "batch"} <= failed(run_checks(translator))


def test_logits_that_permit_padding_fail():
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
    "damage",
    [lambda found: found[:-1], lambda found: found[::-1], lambda found: [found[0], *found[:-1]]],
    ids=["short", "unsorted", "repeated"],
)
def test_damaged_n_best_lists_fail(damage, monkeypatch):
    original = selfcheck.beam_search

    def search(step, state, limits, options):
        found = original(step, state, limits, options)
        return [damage(hypotheses) if len(hypotheses) > 1 else hypotheses for hypotheses in found]

    monkeypatch.setattr(selfcheck, "beam_search", search)
    assert failed(run_checks(make())) == {"n-best"}


def test_recurrent_state_that_follows_the_wrong_hypothesis_fails(monkeypatch):
    translator = make()
    reorder = Decoding.reorder

    def first_of_each(decoding, rows):
        beam = len(rows) // len(decoding.memory.mask)
        first = len(decoding.state.context) // len(decoding.memory.mask) * torch.arange(len(decoding.memory.mask))
        return reorder(decoding, first.repeat_interleave(beam))

    monkeypatch.setattr(Decoding, "reorder", first_of_each)
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
        translator.model.readout.logits.bias[EOS] = -30.0  # so the limit ends the sentence
    assert "batch" in failed(run_checks(translator))
