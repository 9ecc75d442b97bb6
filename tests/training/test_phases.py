"""Training with copying and coverage: two phases, a start from another model, exact resume, learning to copy."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import assert_same_run, config_of, everything, metrics_of, state_of, weights_of

from seq2seq import model_dir
from seq2seq.config import Config
from seq2seq.metrics.scores import Score
from seq2seq.training.train import train
from seq2seq.translator import Translator

COVERED = {"model.coverage": "sum", "loss.coverage_weight": 1.0}
ENERGY = "decoder.attention.coverage_weight"


# ---- exact resume, and the start of coverage


def test_exact_resume_with_copying_and_coverage(folder: Path) -> None:
    changes: dict[str, Any] = {
        "model.copy": "pointer",
        "model.copy_attention": "separate",
        "model.coverage": "fertility",
        "loss.coverage_weight": 0.5,
        "loss.coverage_start": 4,
        "loss.coverage_warmup": 6,
        "tokenizer.vocab_size": 10,  # four of the ten digits can only be copied
    }
    unbroken, broken = everything(folder, "unbroken", **changes), everything(folder, "broken", **changes)
    train(unbroken)
    for limit in (4, 5, 9):  # where coverage starts, one update later, and in the warmup
        broken.train.max_updates = limit
        train(broken)
    broken.train.max_updates = unbroken.train.max_updates
    train(broken)
    assert_same_run(unbroken, broken)
    assert all(line["coverage_loss"] > 0 for line in metrics_of(broken) if "loss" in line)


def test_coverage_learns_nothing_before_it_starts(folder: Path) -> None:
    plain = config_of(folder, "plain")
    waiting = config_of(folder, "waiting", **COVERED, loss__coverage_start=4, train__max_updates=4)
    train(plain)
    train(waiting)
    first, second = weights_of(plain), weights_of(waiting)
    assert not second.pop(ENERGY).any()
    assert all(torch.equal(first[name], second[name]) for name in first | second)
    waiting.train.max_updates = 6
    train(waiting)
    assert weights_of(waiting)[ENERGY].all()


def test_the_start_of_coverage_discards_the_best_score(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig_validation(monkeypatch, [9.0, 8.0, 7.0, 7.5])
    config = config_of(folder, **COVERED, loss__coverage_start=4, train__valid_every=2, train__max_updates=8)
    train(config)
    assert [line["best"] for line in metrics_of(config) if "valid_bleu" in line] == [True, False, True, True]
    progress = state_of(config)["progress"]
    assert (progress["best"], progress["best_update"]) == (7.5, 8)


def test_coverage_starts_where_patience_ends_and_the_run_continues(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rig_validation(monkeypatch, [9.0, 8.0, 8.0, 5.0, 4.0, 4.0])
    config = config_of(
        folder, **COVERED, loss__coverage_start=-1, train__valid_every=2, train__patience=2, train__max_updates=99
    )
    train(config)
    progress = state_of(config)["progress"]
    assert (progress["covered_from"], progress["update"], progress["best"], progress["best_update"]) == (6, 12, 5.0, 8)
    assert weights_of(config)[ENERGY].all()
    lines = capsys.readouterr().err.splitlines()
    assert (
        "coverage starts after update 6; the best score so far is discarded; "
        "from now on only models with coverage are compared"
    ) in lines
    assert "stopping early: no improvement in 2 validations (train.patience=2)" in lines


def test_the_start_of_coverage_restarts_the_plateau_schedule(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig_validation(monkeypatch, range(90, 0, -1))
    config = config_of(
        folder,
        **COVERED,
        loss__coverage_start=-1,
        train__valid_every=2,
        train__patience=2,
        train__schedule="plateau",
        train__max_updates=99,
    )
    train(config)
    rates = [line["learning_rate"] / config.train.learning_rate for line in metrics_of(config) if "loss" in line]
    assert rates == [1, 1, 1, 1, 0.5, 0.5] * 2, "coverage starts after update 6, and patience restarts"


def test_patience_does_not_end_a_run_before_coverage_starts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig_validation(monkeypatch, range(90, 0, -1))
    limits = {"train__valid_every": 1, "train__patience": 2, "train__max_updates": 99}
    config = config_of(folder, **COVERED, loss__coverage_start=5, **limits)
    train(config)
    progress = state_of(config)["progress"]
    assert (progress["update"], progress["best_update"]) == (
        8,
        6,
    )  # the best with coverage, and two validations after it
    assert weights_of(config)[ENERGY].all()


def test_a_run_that_ends_before_coverage_starts_reports_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_of(folder, **COVERED, loss__coverage_start=4, train__max_updates=4)
    train(config)
    message = "coverage never started; raise train.max_updates or lower loss.coverage_start=4"
    assert message in capsys.readouterr().err.splitlines()
    config.train.max_updates = 5
    train(config)
    assert "never started" not in capsys.readouterr().err


def rig_validation(monkeypatch: pytest.MonkeyPatch, scores: Iterable[float]) -> None:
    """Replace the BLEU and chrF of each validation by the given scores."""
    following = iter(scores)

    def score(*arguments: Any, **options: Any) -> list[Score]:
        value = next(following)
        return [Score(name, value, "rigged", {}) for name in ("BLEU", "chrF2")]

    monkeypatch.setattr("seq2seq.metrics.scores.score", score)


# ---- a start from another model


def test_added_copying_and_coverage_start_from_the_probabilities_of_the_other_model(folder: Path) -> None:
    first = config_of(folder, "first")
    train(first)
    more = config_of(
        folder, "more", **COVERED, model__copy="pointer", train__init_from=first.run_dir, train__learning_rate=0.0
    )
    train(more)
    before, after = (Translator.load(config.run_dir, device="cpu") for config in (first, more))
    old, new = before.model.state_dict(), after.model.state_dict()
    assert all(torch.equal(old[name], new[name]) for name in old)
    assert {name.split(".")[0] for name in new.keys() - old.keys()} == {"pointer", "decoder"}
    with torch.no_grad():  # a gate that always generates
        after.model.pointer.gate.bias.fill_(1e4)
    lines = ["1 2 3", "4 5"]
    assert after.score(lines, lines) == [pytest.approx(values, abs=1e-5) for values in before.score(lines, lines)]
    assert before.tokenizers.src.identity == after.tokenizers.src.identity


@pytest.mark.parametrize("bridges", [("linear", None), (None, "linear")])
def test_the_default_bridge_equals_the_one_that_older_models_name(
    folder: Path, bridges: tuple[str | None, str | None]
) -> None:
    first, second = (config_of(folder, run, model__bridge=bridge) for run, bridge in zip("ab", bridges, strict=True))
    train(first)
    train(dataclasses.replace(second, train=dataclasses.replace(second.train, init_from=first.run_dir)))
    assert Translator.load(second.run_dir, device="cpu").translate(["1 2"])


def test_copying_is_added_to_a_transformer(folder: Path) -> None:
    parts = {"model.encoder": "transformer", "model.decoder": "transformer", "model.cell": "lstm"}
    first = config_of(folder, "first", **parts)
    train(first)
    second = config_of(
        folder, "second", **parts, model__copy="pointer", train__init_from=first.run_dir, train__learning_rate=0.0
    )
    train(second)
    before, after = (Translator.load(config.run_dir, device="cpu").model.state_dict() for config in (first, second))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {name.split(".")[0] for name in after.keys() - before.keys()} == {"pointer"}


def test_a_start_from_another_model_uses_its_tokenizer(folder: Path) -> None:
    first = config_of(folder, "first")
    train(first)
    (folder / "train.src").write_text("7 7 7\n" * 50)
    (folder / "train.tgt").write_text("8 8 8\n" * 50)
    second = config_of(folder, "second", train__init_from=first.run_dir)
    train(second)
    (one, two) = (model_dir.load_settings(Path(config.run_dir) / "last")[1].src for config in (first, second))
    assert one.identity == two.identity


def other_settings(first: Config, differing: str) -> str:
    """The pattern of the whole message."""
    return re.escape(
        f"the settings must be those of train.init_from={first.run_dir}, but these differ: {differing}; "
        "set them to the values of that model (copying and coverage may be added, sizes and dropout may differ)"
    )


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({"tokenizer__vocab_size": 12}, "tokenizer.vocab_size (14 there, 12 here)"),
        (
            {"model__cell": "lstm", "model__attention": "dot"},
            "model.cell (gru there, lstm here), model.attention (additive there, dot here)",
        ),
    ],
)
def test_a_model_with_other_settings_is_refused(folder: Path, changes: dict[str, Any], differing: str) -> None:
    first = config_of(folder, "first", train__max_updates=1)
    train(first)
    with pytest.raises(ValueError, match=other_settings(first, differing)):
        train(config_of(folder, "second", train__init_from=first.run_dir, **changes))
    assert not (folder / "second").exists()


def test_copying_cannot_be_removed_and_dropout_may_differ(folder: Path) -> None:
    first = config_of(folder, "first", model__copy="pointer", train__max_updates=1)
    train(first)
    with pytest.raises(ValueError, match=other_settings(first, "model.copy (pointer there, none here)")):
        train(config_of(folder, "second", train__init_from=first.run_dir))
    dropping = {
        "model.copy": "pointer",
        "model.dropout": 0.5,
        "model.embedding_dropout": 0.0,
        "model.word_dropout": 0.1,
    }
    train(config_of(folder, "third", train__init_from=first.run_dir, **dropping))


def test_a_missing_model_to_start_from_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no model directory .*nowhere"):
        train(config_of(folder, train__init_from=str(folder / "nowhere")))


def test_a_continued_run_does_not_need_the_model_it_started_from(folder: Path) -> None:
    first = config_of(folder, "first")
    train(first)
    second = config_of(folder, "second", train__init_from=first.run_dir, train__max_updates=2)
    train(second)
    Path(first.run_dir).rename(folder / "away")
    second.train.max_updates = 4
    train(second)
    assert state_of(second)["progress"]["update"] == 4


# ---- copying is learned


@pytest.mark.parametrize("copy", ["pointer", "copynet"])
def test_words_that_are_not_in_the_training_data_are_copied(folder: Path, copy: str) -> None:
    numbers = random.Random(2)

    def write(split: str, count: int, first: int) -> None:
        lines = [f"say w{first + 3 * k} and w{first + 3 * k + 1} to {numbers.randrange(5)}" for k in range(count)]
        for side in ("src", "tgt"):
            text = "".join(f"{line}\n" for line in lines)
            (folder / f"{split}.{side}").write_text(text.replace("say", "told") if side == "tgt" else text)

    write("train", 300, 0)
    write("valid", 20, 5000)
    settings = {"tokenizer.vocab_size": 16, "model.copy": copy, "train.max_updates": 160, "train.batch_tokens": 256}
    config = config_of(folder, **settings, data__valid_lines=20, train__log_every=40, model__hidden_size=32)
    train(config)
    translator = Translator.load(config.run_dir, device="cpu")
    src, tgt = ((folder / f"valid.{side}").read_text().splitlines() for side in ("src", "tgt"))
    right = sum(a == b for a, b in zip(translator.translate(src), tgt, strict=True))
    assert right >= 18, f"only {right} of 20 sentences with unseen words are right"
    (found,) = translator.search(src[:1])
    best = found[0]
    for piece, place in zip(best.pieces, best.copied_from, strict=True):
        if piece.startswith("w"):
            assert place is not None
            assert src[0][place.start : place.end] == piece
