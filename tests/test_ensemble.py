"""Ensembles: the laws over mixtures of different members, the formulas of the mixtures, and what is refused."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import refused, run, write

from seq2seq import ensemble as ensemble_module
from seq2seq.config import ModelConfig, SearchConfig, TokenizerConfig
from seq2seq.data.limits import LengthLimit
from seq2seq.ensemble import MIXTURES, Ensemble, load_models
from seq2seq.model import Seq2Seq
from seq2seq.model_dir import Settings, Tokenizers, build_model, save_settings, save_weights
from seq2seq.search.next_token import LogProbs
from seq2seq.selfcheck import run_checks
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tokenizer import BOS, EOS, UNK
from seq2seq.translator import Translator

TEXT = ["the man sees the old dog .", "a dog and a small cat sleep , too .", "two men run away from the cat !"]
LINES = [
    "Zarniwoop sees the dog of Fnord .",
    "Xylo",
    "",
    "the cat sees a man , and Quibble sees the small dog of Wombat and Grue , too !",
    "the old cat",
]
FILLED = [line for line in LINES if line]
WORDS = TokenizerConfig(type="word", vocab_size=40)
SEARCH = SearchConfig(beam_size=4, max_length_ratio=0.5, max_length_extra=4)
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "wide": {"cell": "gru", "hidden_size": 14, "encoder_layers": 2, "attention": "general", "bridge": "mean"},
    "transformer": {"encoder": "transformer", "decoder": "transformer", "heads": 2, "embedding_size": 12},
    "blind": {"attention": "none"},
    "pointer": {"copy": "pointer"},
    "copynet": {"copy": "copynet", "cell": "gru"},
    "covered": {"copy": "pointer", "coverage": "sum", "attention": "general"},
}
GROUPS = [
    ("plain", "wide", "transformer"),
    ("plain", "blind"),
    ("pointer", "copynet", "covered"),
    ("plain", "pointer", "transformer"),
    ("copynet", "blind"),
]


def tokenizers() -> Tokenizers:
    words = train_tokenizer(TEXT, WORDS)
    return Tokenizers(words, words)


def make_member(kind: str, *, seed: int = 1, max_source_length: int = 50) -> Seq2Seq:
    """An untrained model that is far from uniform; it copies often if it can."""
    torch.manual_seed(seed)
    config = ModelConfig(**({"embedding_size": 8, "hidden_size": 12, "dropout": 0.3} | KINDS[kind]))
    model = build_model(Settings(config, WORDS, SEARCH, max_source_length), tokenizers())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.1 if "bias" in name else 0.5)
        model.readout.logits.bias[EOS] = -1.5
        if config.copy == "pointer":
            assert model.pointer is not None
            model.pointer.gate.bias.fill_(-1.5)
        if config.copy == "copynet":
            model.readout.logits.bias -= 3
    return model.double().eval()


def translator_of(model: Any, **search: Any) -> Translator:
    return Translator(model, tokenizers(), replace(SEARCH, **search))


def make(kinds: tuple[str, ...], *, weights: list[float] | None = None, mixture: str = "log-linear") -> Ensemble:
    models = [make_member(kind, seed=number) for number, kind in enumerate(kinds, start=1)]
    return Ensemble(models, weights=weights, mixture=mixture)


mixtures = pytest.mark.parametrize("mixture", MIXTURES)
groups = pytest.mark.parametrize("kinds", GROUPS, ids="-".join)


# ---- the laws


@mixtures
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2])
def test_an_ensemble_of_one_model_or_twice_the_same_equals_that_model(kind: str, count: int, mixture: str) -> None:
    model = make_member(kind)
    alone, together = translator_of(model), translator_of(Ensemble([model] * count, mixture=mixture))
    for one, other in zip(alone.search(LINES, n_best=3), together.search(LINES, n_best=3), strict=True):
        for expected, found in zip(one, other, strict=True):
            assert found.translation == expected.translation
            assert found.copied_from == expected.copied_from
            assert found.alignment == expected.alignment
            assert found.p_gen == pytest.approx(expected.p_gen)
            assert found.score == pytest.approx(expected.score)
            assert found.token_log_probs == pytest.approx(expected.token_log_probs)
    targets = [" ".join(reversed(line.split())) for line in LINES]
    for expected, found in zip(alone.score(LINES, targets), together.score(LINES, targets), strict=True):
        assert found == pytest.approx(expected)


@mixtures
@groups
def test_the_selfcheck_passes_on_an_ensemble(kinds: tuple[str, ...], mixture: str) -> None:
    """It checks padding, sums, search against scoring, greedy search, n-best lists and batches."""
    model = make(kinds, weights=[3, 1, 2][: len(kinds)], mixture=mixture)
    failed = [check.text for check in run_checks(translator_of(model)) if not check.ok]
    assert failed == []


def test_the_selfcheck_finds_a_mixture_that_is_not_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    def geometric(tables: list[torch.Tensor], weights: list[float]) -> torch.Tensor:
        return sum(weight * table for weight, table in zip(weights, tables, strict=True))

    monkeypatch.setitem(ensemble_module.MIXTURES, "log-linear", geometric)
    laws = {check.law for check in run_checks(translator_of(make(("plain", "wide")))) if not check.ok}
    assert laws == {"probabilities sum to one"}


@mixtures
@groups
def test_batches_change_nothing_and_scoring_agrees_on_lines_with_unknown_words(
    kinds: tuple[str, ...], mixture: str
) -> None:
    translator = translator_of(make(kinds, mixture=mixture))
    together = translator.search(LINES, n_best=4)
    for line, found in zip(LINES, together, strict=True):
        (alone,) = translator.search([line], n_best=4)
        assert [each.translation for each in alone] == [each.translation for each in found]
        for one, other in zip(alone, found, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-6)
            if line:
                forced = translator.score([line], [other.translation])[0]
                assert sum(forced) == pytest.approx(other.log_prob, abs=1e-4)
    assert translator.translate(LINES) == [found[0].translation for found in together]


@mixtures
def test_a_member_that_does_not_copy_does_not_prevent_copying(mixture: str) -> None:
    pointer = make_member("pointer")
    with torch.no_grad():
        assert pointer.pointer is not None
        pointer.pointer.gate.bias.fill_(-6)
    alone = translator_of(pointer, min_length=2).search(["Xylo Plugh"])[0][0]
    assert alone.copied_share == 1
    mixed = translator_of(Ensemble([pointer, make_member("plain")], weights=[4, 1], mixture=mixture), min_length=2)
    found = mixed.search(["Xylo Plugh"])[0][0]
    assert {"Xylo", "Plugh"} & set(found.pieces)


# ---- the formulas


def steps_of(model: Any, translator: Translator) -> tuple[torch.Tensor, Any]:
    """Two steps on all lines with BOS and then the first OOV piece of the batch; the log-probabilities of the second."""
    sources = [source for source in translator._read(FILLED, 1, "cut")]
    batch = translator._collate(sources, [[] for _ in sources])
    with model.evaluating():
        _, decoding = model.step(torch.full((len(sources),), BOS), model.encode(batch))
        tokens = torch.full((len(sources),), model.vocab_size if model.copies else EOS + 1)
        next_token, decoding = model.step(tokens, decoding)
        return next_token.log_probs(), decoding


@mixtures
def test_the_mixture_is_the_formula(mixture: str) -> None:
    pointer, plain = make_member("pointer"), make_member("plain", seed=2)
    model = Ensemble([pointer, plain], weights=[3, 1], mixture=mixture)
    log_probs, _ = steps_of(model, translator_of(model))
    copied, _ = steps_of(pointer, translator_of(pointer))
    translator = translator_of(plain)
    batch = translator._collate([*translator._read(FILLED, 1, "cut")], [[] for _ in FILLED])
    with plain.evaluating():
        _, state = plain.step(torch.full((len(FILLED),), BOS), plain.encode(batch))
        generated = (
            plain.step(torch.full((len(FILLED),), UNK), state)[0].log_probs().exp()
        )  # OOV pieces are read as UNK
    size = plain.vocab_size
    known = set(tokenizers().tgt.pieces(range(size)))
    for row, line in enumerate(FILLED):
        oov = len({word for word in line.split() if word not in known})
        other = [float(p) for p in generated[row]] + [float(generated[row, UNK]) / (oov + 1)] * oov
        other[UNK] /= oov + 1
        pairs = list(zip(copied[row].exp().tolist(), other, strict=False))
        mixed = [a**0.75 * b**0.25 if mixture == "log-linear" else 0.75 * a + 0.25 * b for a, b in pairs]
        total = sum(mixed)
        assert mixture == "log-linear" or total == pytest.approx(1)
        assert log_probs[row].exp().tolist()[: size + oov] == pytest.approx([p / total for p in mixed])
        assert (log_probs[row, size + oov :] == -math.inf).all()


@mixtures
def test_the_next_token_of_an_ensemble_has_three_consistent_views(mixture: str) -> None:
    model = make(("plain", "pointer"), mixture=mixture)
    table, _ = steps_of(model, translator_of(model))
    next_token = LogProbs(table)
    best, ids = next_token.best(3, [EOS])
    assert torch.equal(next_token.at(ids), best)
    assert torch.equal(best[:, 0], table.index_fill(1, torch.tensor([EOS]), -math.inf).amax(dim=1))


def test_the_mixture_does_not_depend_on_the_size_of_its_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    for kinds in GROUPS:
        translator = Translator(Ensemble([make_member(kind) for kind in kinds]), tokenizers(), SEARCH)
        whole = translator.search(LINES)
        for rows in (1, 3):
            monkeypatch.setattr(ensemble_module, "rows_of_a_slice", lambda *_, rows=rows: rows)
            for before, after in zip(whole, translator.search(LINES), strict=True):
                assert after[0].translation == before[0].translation
                assert after[0].token_log_probs == pytest.approx(before[0].token_log_probs, abs=1e-9)
        monkeypatch.undo()


def test_weights_move_the_mixture_towards_a_member() -> None:
    members = [make_member("plain"), make_member("wide", seed=2)]
    alone = [translator_of(member).search(FILLED)[0][0].log_prob for member in members]
    assert alone[0] != pytest.approx(alone[1], abs=0.1)
    for mixture in MIXTURES:
        for weights, expected in (([1e9, 1], alone[0]), ([1, 1e9], alone[1])):
            found = translator_of(Ensemble(members, weights=weights, mixture=mixture)).search(FILLED)
            assert found[0][0].log_prob == pytest.approx(expected, abs=1e-4)


def test_the_mixtures_differ() -> None:
    members = [make_member("plain"), make_member("wide", seed=2)]
    one, two = (translator_of(Ensemble(members, mixture=mixture)).score(FILLED, FILLED) for mixture in MIXTURES)
    assert one[0] != pytest.approx(two[0], abs=1e-3)


@mixtures
def test_the_provenance_is_the_mean_of_the_members(mixture: str) -> None:
    models = [make_member("pointer"), make_member("copynet", seed=2), make_member("blind", seed=3)]
    model = Ensemble(models, weights=[2, 1, 1], mixture=mixture)
    translator = translator_of(model)
    batch = translator.pair_batch(LINES[0], "Fnord sees the dog")
    with model.evaluating():
        found, log_prob = model.provenance(batch), model.log_probs(batch)
        parts = [each.provenance(batch) for each in models[:2]]
        log_probs = [each.log_probs(batch) for each in models[:2]]
    assert torch.allclose(found.weights, (2 * parts[0].weights + parts[1].weights) / 3)
    assert torch.allclose(found.p_gen, 0.5 * parts[0].p_gen + 0.25 * parts[1].p_gen + 0.25)
    shares = [torch.full_like(log_prob, w) for w in (0.5, 0.25)]
    if mixture == "linear":
        shares = [share * (each - log_prob).exp() for share, each in zip(shares, log_probs, strict=True)]
    expected = sum(share.unsqueeze(1) * part.copied for share, part in zip(shares, parts, strict=True))
    assert torch.allclose(found.copied, expected)
    assert float(found.copied.sum(dim=1).max()) > 0.3


def test_penalties_read_the_mean_attention() -> None:
    model = make(("plain", "blind", "wide"))
    _, decoding = steps_of(model, translator_of(model))
    first, _, third = (member.weights for member in decoding.members)
    assert torch.allclose(decoding.weights, (first + third) / 2)
    plain, penalized = (translator_of(model, coverage_penalty=beta).search(FILLED) for beta in (0.0, 0.5))
    found = {each[0].translation: each[0].score for each in plain}
    assert any(found.get(each[0].translation, math.inf) > each[0].score for each in penalized)
    best = penalized[0][0]
    assert translator_of(model, coverage_penalty=0.5).trace(LINES[0], best.translation)[0].score == pytest.approx(
        best.score
    )


def test_attention_needs_one_member_that_has_it() -> None:
    assert not make(("blind", "blind")).has_attention
    assert make(("blind", "plain")).has_attention
    assert [found.alignment for found in translator_of(make(("blind", "blind"))).search(FILLED)[0]] == [[]]


def test_the_shortest_source_limit_counts() -> None:
    model = Ensemble([make_member("plain", max_source_length=9), make_member("wide", max_source_length=4)])
    assert model.max_source_length == 4
    assert [len(found[0].source_pieces) for found in translator_of(model).search(FILLED)] == [4, 1, 4, 3]


def test_evaluation_mode_ends_with_the_context() -> None:
    model = make(("plain", "wide"))
    model.models[0].train()
    with model.evaluating():
        assert not any(member.training for member in model.models)
        assert not torch.is_grad_enabled()
    assert [member.training for member in model.models] == [True, False]
    assert next(name for name, _ in model.named_parameters()) == "1.src_embedding.weight"
    assert {name.partition(".")[0] for name, _ in model.named_parameters()} == {"1", "2"}


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixture": "mean"}, "the mixture of an ensemble must be one of log-linear, linear, but is mean"),
        (
            {"weights": [1.0]},
            "an ensemble must have one weight per model, but has 1 for 2; give as many weights as models",
        ),
        ({"weights": [1.0, 0.0]}, "the weight of a model must be a finite number above 0, but is 0.0"),
        ({"weights": [1.0, math.nan]}, "the weight of a model must be a finite number above 0, but is nan"),
        ({"weights": [math.inf, 1.0]}, "the weight of a model must be a finite number above 0, but is inf"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    members = [make_member("plain"), make_member("wide")]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Ensemble(members, **options)


def test_an_ensemble_without_models_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^an ensemble must have at least one model, but has none$"):
        Translator.load([])


# ---- model directories and commands


def save(folder: Path, kind: str, *, words: Tokenizers | None = None, limit: LengthLimit | None = None) -> Path:
    words = words or tokenizers()
    model = make_member(kind).float()
    config = ModelConfig(**({"embedding_size": 8, "hidden_size": 12, "dropout": 0.3} | KINDS[kind]))
    beam = {"plain": 3, "wide": 2}.get(kind, 4)
    settings = Settings(config, WORDS, SearchConfig(beam_size=beam), 50, limit)
    save_settings(folder, settings, words)
    save_weights(folder, model)
    return folder


def test_the_settings_are_those_of_the_first_model_and_the_widest_limit(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    one = save(tmp_path / "one", "plain", limit=LengthLimit(1.5, 3, 30))
    two = save(tmp_path / "two", "wide", limit=LengthLimit(1.0, 8, 40))
    old = save(tmp_path / "old", "wide")
    translator = Translator.load([one, two], device="cpu")
    assert (translator.search_config.beam_size, translator.length_limit) == (3, LengthLimit(1.5, 8, 40))
    assert load_models([two, one, old], cpu)[1].length_limit == LengthLimit(2.0, 10, None)
    assert isinstance(load_models([one], cpu)[0], Seq2Seq)
    assert load_models([one], cpu)[1].length_limit == LengthLimit(1.5, 3, 30)


@pytest.mark.parametrize("side", ["source", "target"])
def test_different_tokenizers_are_refused(tmp_path: Path, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = save(tmp_path / "one", "plain"), save(tmp_path / "two", "plain")
    message = (
        f"the models of an ensemble must have the same {side} tokenizer, but those of {one} and {two} differ; "
        "train the models on the same data with the same tokenizer settings and different values of train.seed"
    )
    original = ensemble_module.model_dir.load
    other = train_tokenizer(["x y z"], WORDS)

    def load(path: Path, device: torch.device) -> Any:
        model, settings, words = original(path, device)
        return (
            model,
            settings,
            words._replace(**{{"source": "src", "target": "tgt"}[side]: other}) if path == str(two) else words,
        )

    monkeypatch.setattr(ensemble_module.model_dir, "load", load)
    assert refused("translate", one, two) == message


def test_the_commands_take_several_models(tmp_path: Path) -> None:
    one, two = save(tmp_path / "one", "pointer"), save(tmp_path / "two", "plain")
    lines = write(tmp_path / "in", "".join(line + "\n" for line in LINES))
    translator = Translator.load([one, two], weights=[2, 1], mixture="linear", device="cpu")
    options = ("--weight", 2, "--weight", 1, "--mixture", "linear")
    assert run("translate", one, two, "--input", lines, *options).stdout.splitlines() == translator.translate(LINES)
    assert translator.translate(LINES) != Translator.load([one, two], device="cpu").translate(LINES)
    scores = run("score", one, two, "--src", lines, "--tgt", lines, *options).stdout.split()
    expected = [sum(found) for found in translator.score(LINES, LINES)]
    assert [float(score) for score in scores] == pytest.approx(expected, abs=1e-5)
    checked = run("selfcheck", one, two, *options)
    assert (checked.exit_code, checked.stdout.count("FAILED")) == (0, 0)
    assert refused("translate", one, two, "--weight", 1) == (
        "an ensemble must have one weight per model, but has 1 for 2; give as many weights as models"
    )


def test_an_output_must_not_be_a_file_of_any_model(tmp_path: Path) -> None:
    one, two = save(tmp_path / "one", "plain"), save(tmp_path / "two", "plain")
    for folder in (one, two):
        path = folder / "config.json"
        assert refused("translate", one, two, "--output", path, text=b"a\n") == (
            f"the output must not be a file that is read, but {path} is the same file as {path}; write to another file"
        )
