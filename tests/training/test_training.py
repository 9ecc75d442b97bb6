"""Training end to end on a toy task: the laws of training, validation, messages, and the effect of every option."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import (
    EVERYTHING,
    assert_same_run,
    config_of,
    everything,
    metrics_of,
    same,
    saved_model,
    state_of,
    weights_of,
    write_corpus,
)
from torch import Tensor, nn

from seq2seq import files
from seq2seq.config import VALIDATION_METRICS, FilesConfig, ModelConfig, TokenizerConfig, TrainConfig
from seq2seq.data.batching import Batch, plan_epoch
from seq2seq.data.corpus import Pair
from seq2seq.layers.fast.decoder import FAST_ATTENTIONS
from seq2seq.loss import Loss
from seq2seq.metrics import scores
from seq2seq.model import Seq2Seq
from seq2seq.model_dir import Tokenizers
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tokenizer import Segments
from seq2seq.threads import max_threads
from seq2seq.training import trainer
from seq2seq.training.optimizer import OPTIMIZERS, make_average, make_optimizer
from seq2seq.training.run_dir import open_log, write_config
from seq2seq.training.schedule import learning_rate
from seq2seq.training.stopping import Stopped
from seq2seq.training.train import _count_too_long, step_by_step_message, train
from seq2seq.training.trainer import Trainer
from seq2seq.translator import Translator

# ---- exact resume


@pytest.mark.parametrize("first", [5, 9])
def test_stopping_and_continuing_changes_no_bit(folder: Path, first: int) -> None:
    unbroken, broken = everything(folder, "unbroken"), everything(folder, "broken", train__max_updates=first)
    train(unbroken)
    train(broken)
    progress = state_of(broken)["progress"]
    assert progress["update"] == first
    assert progress["position"] > 0, "the stop is in the middle of an epoch"
    broken.train.max_updates = unbroken.train.max_updates
    train(broken)
    assert state_of(broken)["progress"]["epoch"] > 0, "an epoch ends after the stop"
    assert_same_run(unbroken, broken)


@pytest.mark.parametrize(
    ("encoder", "decoder"), [("transformer", "transformer"), ("rnn", "transformer"), ("hierarchical", "rnn")]
)
def test_exact_resume_of_other_parts(folder: Path, encoder: str, decoder: str) -> None:
    if encoder == "hierarchical":
        write_sentences(folder)
    parts: dict[str, Any] = {"model.encoder": encoder, "model.decoder": decoder, "model.copy": "pointer"}
    if encoder == "transformer":
        parts |= {"model.recurrent_dropout": 0.0, "model.weight_drop": 0.0}
    unbroken, broken = (everything(folder, run, **parts) for run in ("unbroken", "broken"))
    train(unbroken)
    broken.train.max_updates = 5
    train(broken)
    broken.train.max_updates = unbroken.train.max_updates
    train(broken)
    assert_same_run(unbroken, broken)


def write_sentences(folder: Path) -> None:
    """End a sentence of the sources before every 5."""
    for split in ("train", "valid"):
        path = folder / f"{split}.src"
        path.write_text(path.read_text().replace(" 5", ". 5"))


def test_exact_resume_with_subwords_and_their_saved_tokenizers(folder: Path) -> None:
    char = {"tokenizer.type": "char", "tokenizer.shared": False}
    unbroken, broken = (everything(folder, run, train__max_updates=6, **char) for run in ("unbroken", "broken"))
    train(unbroken)
    broken.train.max_updates = 2
    train(broken)
    names = ("tokenizer.src.model", "tokenizer.tgt.model", "config.json")
    assert {path.name for path in Path(broken.run_dir, "last").iterdir()} == {*names, "state.pt"}
    broken.train.max_updates = 6
    train(broken)
    assert_same_run(unbroken, broken)


BPE = {"tokenizer.type": "bpe", "tokenizer.vocab_size": 300}


def test_exact_resume_with_sampled_segmentations(folder: Path) -> None:
    for side in ("src", "tgt"):
        text = (folder / f"train.{side}").read_text()
        (folder / f"train.{side}").write_text(text.replace(" 1", "one").replace(" 2", "two").replace(" 3", "three"))
    unbroken, broken = (everything(folder, run, **BPE, tokenizer__dropout=0.3) for run in ("unbroken", "broken"))
    train(unbroken)
    broken.train.max_updates = 5
    train(broken)
    broken.train.max_updates = unbroken.train.max_updates
    train(broken)
    assert_same_run(unbroken, broken)
    assert not same(weights_of(unbroken), updated(folder, "plain", **EVERYTHING, **BPE))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_state_and_stops(
    folder: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unbroken, broken = everything(folder, "unbroken"), everything(folder, "broken")
    train(unbroken)
    original = Trainer._update

    def update(self: Trainer, group: list[np.ndarray]) -> None:
        if self.progress.update == 4:
            os.kill(os.getpid(), number)
        original(self, group)

    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_update", update)
        with pytest.raises(Stopped) as caught:
            train(broken)
    assert caught.value.exit_code == 128 + number
    assert str(caught.value) == (
        f"{number.name}: stopped after update 5, everything is saved in {broken.run_dir}; "
        "the same command continues the run"
    )
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert state_of(broken)["progress"]["update"] == 5
    capsys.readouterr()
    train(broken)
    lines = capsys.readouterr().err.splitlines()
    assert f"continuing {broken.run_dir}" in lines
    assert "continuing after update 5, epoch 1" in lines
    assert_same_run(unbroken, broken)


def test_a_second_interrupt_stops_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def update(self: Trainer, group: list[np.ndarray]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "_update", update)
    with pytest.raises(KeyboardInterrupt):
        train(config_of(folder))


class Crash(BaseException):
    """Stands for SIGKILL: no handler runs after it."""


def test_exact_resume_after_a_crash_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unbroken, broken = everything(folder, "unbroken"), everything(folder, "broken")
    train(unbroken)
    moments = [("_update", 1), ("_save", 3), ("_update", 7), ("_save", 9)]  # validations are after updates 3, 6, 9, ...
    for place, at in moments:  # before any save, between model and state, in an update, in a save
        original: Callable[..., None] = getattr(Trainer, place)

        def crash(
            self: Trainer, *arguments: Any, original: Callable[..., None] = original, at: int = at, place: str = place
        ) -> None:
            if self.progress.update == at:
                if (place, at) == moments[-1]:
                    (self.run / "last" / "state.pt.tmp").write_bytes(b"half")
                raise Crash
            original(self, *arguments)

        with monkeypatch.context() as patched:
            patched.setattr(Trainer, place, crash)
            with pytest.raises(Crash):
                train(broken)
    train(broken)
    assert_same_run(unbroken, broken)


SCRIPT = """
import json, sys
from seq2seq.config import Config, from_container
from seq2seq.training.train import _count_too_long, step_by_step_message, train
train(from_container(Config, json.loads(sys.argv[1])))
"""


@pytest.mark.slow
def test_sigkill_at_a_random_moment(folder: Path) -> None:
    limits = {"train.max_updates": 400, "train.valid_every": 20}
    unbroken, broken = everything(folder, "unbroken", **limits), everything(folder, "broken", **limits)
    train(unbroken)
    command = [sys.executable, "-c", SCRIPT, json.dumps(dataclasses.asdict(broken))]
    environment = os.environ | {"HF_DATASETS_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        while not Path(broken.run_dir, "last", "state.pt").exists():
            assert process.poll() is None
            time.sleep(0.005)
        time.sleep(random.random())
        process.kill()
    assert process.returncode == -signal.SIGKILL, "it was still running"
    assert state_of(broken)["progress"]["update"] < 400
    subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, check=True)
    assert_same_run(unbroken, broken)


def test_starting_a_finished_run_again_changes_nothing(folder: Path) -> None:
    config = everything(folder, "run", train__max_updates=5, train__valid_every=100)
    best = train(config)
    state, model, metrics = state_of(config), saved_model(config), metrics_of(config)
    assert sum("valid_bleu" in line for line in metrics) == 1, "a run without a validation validates at its end"
    assert train(config) == best
    assert same(state_of(config), state)
    assert (saved_model(config), metrics_of(config)) == (model, metrics)


DATA_HAS_CHANGED = "the {} must stay as it was when the run in .* started, but it has changed; restore it, or set name"


def test_other_training_data_is_refused(folder: Path) -> None:
    config = config_of(folder)
    train(config)
    with (folder / "train.src").open("a") as src, (folder / "train.tgt").open("a") as tgt:
        src.write("1 2\n")
        tgt.write("1 2\n")
    with pytest.raises(ValueError, match=DATA_HAS_CHANGED.format("training data or its tokenizer")):
        train(config)


def test_other_validation_data_is_refused(folder: Path) -> None:
    config = config_of(folder)
    train(config)
    state, lines = state_of(config), (folder / "valid.tgt").read_text()
    (folder / "valid.tgt").write_text(lines.replace("1", "2"))
    settings = (Path(config.run_dir) / "config.yaml").read_bytes()
    config.train.max_updates += 1
    with pytest.raises(ValueError, match=DATA_HAS_CHANGED.format("validation data")):
        train(config)
    assert (Path(config.run_dir) / "config.yaml").read_bytes() == settings, "a refused command does not change the run"
    config.train.max_updates -= 1
    (folder / "valid.tgt").write_text(lines)
    path = Path(config.run_dir) / "last" / "state.pt"
    old = torch.load(path, weights_only=True)
    torch.save(
        old | {"data": state["data"]["train"]}, path
    )  # older versions saved the fingerprint of the training data only
    train(config)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model.residual": True}, r"model\.residual requires more than one layer"),
        ({"model.attention": "none", "search.coverage_penalty": 1}, r"search\.coverage_penalty and .* set them to 0"),
        (
            {"data.src_field": "en"},
            r"data\.src_field=en applies to files of records only \(\.jsonl, .*, \.parquet\), but data names none;",
        ),
        ({"data.tgt_field": "1"}, r"data\.tgt_field=1 applies to files of records only"),
    ],
)
def test_settings_that_cannot_work_leave_no_run_directory(
    folder: Path, capsys: pytest.CaptureFixture[str], wrong: dict[str, Any], message: str
) -> None:
    config = config_of(folder, **wrong)
    with pytest.raises(ValueError, match=message):
        train(config)
    assert not Path(config.run_dir).exists()
    assert "pairs read" not in capsys.readouterr().err, "refused before the data is read"


def test_training_data_edited_in_place_is_refused(folder: Path) -> None:
    config = config_of(folder)
    train(config)
    lines = (folder / "train.tgt").read_text().splitlines()
    different = next(n for n, line in enumerate(lines) if len(set(line.split())) > 1)
    lines[different] = " ".join(
        lines[different].split()[1:] + lines[different].split()[:1]
    )  # the number of words stays the same
    (folder / "train.tgt").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=DATA_HAS_CHANGED.format("training data or its tokenizer")):
        train(config)


def test_another_configuration_is_refused_and_the_run_stays(folder: Path) -> None:
    config = config_of(folder)
    train(config)
    before = state_of(config)
    with pytest.raises(ValueError, match=r"another configuration: train\.seed \(was 1, is 2\)"):
        train(config_of(folder, train__seed=2))
    with pytest.raises(ValueError, match="holds a run already"):
        train(config_of(folder, train__resume="never"))
    assert same(state_of(config), before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__train__src": "nosuch"}, "nosuch cannot be read"),
        ({"data__valid__src": "nosuch"}, "nosuch cannot be read"),
        ({"data__test__src": "nosuch", "data__test__tgt": "nosuch"}, "nosuch cannot be read"),
        ({"data__valid__src": None, "data__valid__tgt": None}, r"data\.valid names no files"),
        ({"model__tie_embeddings": "all", "tokenizer__shared": False}, r"tokenizer\.shared is false"),
        (
            {"train__precision": "fp16", "train__device": "cpu"},
            r"^train\.precision=fp16 requires a GPU; on a CPU set train\.precision=fp32 or bf16$",
        ),
        ({"tokenizer__dropout": 0.1}, r"tokenizer\.type=word has none; remove it, or set tokenizer\.type=bpe"),
        ({"train__schedule": "inverse_sqrt"}, r"train\.warmup is 0"),
        ({"tokenizer__type": "bpe", "tokenizer__vocab_size": 9}, r"tokenizer\.vocab_size must be at least"),
        ({"data__max_source_length": 1}, r"no training pair remains of 161: 1 have an empty side"),
    ],
)
def test_an_early_failure_leaves_no_run_directory(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(config_of(folder, **changes))
    assert not (folder / "run").exists(), "otherwise the corrected command would be refused as another configuration"
    train(config_of(folder, train__max_updates=1))


# ---- changes on resume


def test_the_learning_rate_may_change_and_the_change_is_logged(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(folder, train__max_updates=3)
    train(config)
    before = metrics_of(config)[:3]  # the validation at the end of a run is not part of the saved state
    config.train.max_updates, config.train.learning_rate, config.train.warmup = 5, 0.5, 8
    with monkeypatch.context() as patched:  # a crash before the next save must not lose the record
        patched.setattr(Trainer, "_update", crash)
        with pytest.raises(Crash):
            train(config)
    lines = capsys.readouterr().err.splitlines()
    assert "changed after update 3: train.learning_rate (was 0.01, is 0.5)" in lines
    assert "changed after update 3: train.warmup (was 0, is 8)" in lines
    train(config)
    assert "changed after update" not in capsys.readouterr().err
    record, *after = metrics_of(config)[len(before) :]
    assert metrics_of(config)[: len(before)] == before
    assert record == {
        "update": 3,
        "changed": {
            "train.learning_rate": {"before": 0.01, "now": 0.5},
            "train.warmup": {"before": 0, "now": 8},
        },
    }
    rates = [line["learning_rate"] for line in after if "learning_rate" in line]
    assert rates == [0.5 * 4 / 8, 0.5 * 5 / 8]


def crash(*arguments: Any) -> None:
    raise Crash


def test_data_files_are_compared_by_content(folder: Path) -> None:
    unbroken, broken = everything(folder, "unbroken"), everything(folder, "broken", train__max_updates=5)
    train(unbroken)
    train(broken)
    (folder / "moved").mkdir()
    with (folder / "moved" / "train.jsonl").open("w") as stream:
        texts = [(folder / f"train.{side}").read_text().splitlines() for side in ("src", "tgt")]
        for source, target in zip(*texts, strict=True):
            stream.write(json.dumps({"en": source, "de": target}) + "\n")
    for side in ("src", "tgt"):
        (folder / "moved" / f"valid.{side}").write_text((folder / f"valid.{side}").read_text())
    broken.train.max_updates = unbroken.train.max_updates
    broken.data.root = str(folder / "moved")
    broken.data.train = FilesConfig(file="./train.jsonl")
    broken.data.src_field, broken.data.tgt_field = "en", "de"
    train(broken)
    assert_same_run(unbroken, broken)


# ---- a refused or failed run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("updates", [None, 2], ids=["before its first save", "after a save"])
def test_a_run_that_is_training_is_not_touched(folder: Path, updates: int | None) -> None:
    config = config_of(folder)
    if updates:
        config.train.max_updates = updates
        train(config)
    run = Path(config.run_dir)
    log = open_log(run)
    write_config(run, config)
    log.write({"update": 1})
    before = contents(run)
    other = config_of(folder, train__max_updates=9) if updates else config_of(folder, model__hidden_size=64)
    message = f"another process is training in {run}; wait until it ends, or set name to start a new run"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        train(other)
    assert contents(run) == before
    log.close()


def test_a_damaged_state_changes_nothing_in_the_run(folder: Path) -> None:
    config = config_of(folder)
    train(config)
    run = Path(config.run_dir)
    torch.save({}, run / "last" / "state.pt")
    (run / "metrics.jsonl").unlink()
    before = contents(run)
    config.train.learning_rate = 0.5
    with pytest.raises(
        ValueError, match=r"state\.pt is damaged or does not fit the run \('data' is missing\); set name"
    ):
        train(config)
    assert contents(run) == before


@pytest.mark.slow
def test_a_full_disk_at_every_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"data.test.src": "test.src", "data.test.tgt": "test.tgt"}
    limits = {"train.max_updates": 4, "train.valid_every": 2, "train.log_every": 1}
    whole = everything(folder, "whole", **data | limits)
    train(whole)
    original, count, fails_at = os.write, 0, 0
    named = set()

    def write(descriptor: int, content: bytes) -> int:
        nonlocal count
        count += 1
        if count == fails_at:
            original(descriptor, content[: len(content) // 2])
        if count >= fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(descriptor, content)

    while True:
        fails_at, count = fails_at + 1, 0
        config = everything(folder, f"run{fails_at}", **data | limits)
        run = Path(config.run_dir)
        with monkeypatch.context() as patched:
            patched.setattr(files.os, "write", write)
            try:
                train(config)
                break
            except (OSError, ValueError) as error:
                message = str(error)
        assert "No space left on device" in message
        named.update(re.findall(rf"{re.escape(str(run))}/([a-z./]*)", message))
        assert list(folder.rglob("*.tmp")) == []
        if (run / "metrics.jsonl").exists():
            metrics_of(config)  # only whole records
        train(config)
        assert_same_run(whole, config)
    places = {
        "last/config.json",
        "last/tokenizer.json",
        "last/state.pt",
        "metrics.jsonl",
        "test.hyp",
        "config.yaml",
        "data.json",
    }
    assert named == places | {"model/config.json", "model/model.safetensors", "model/tokenizer.json"}


def test_a_disk_that_is_really_full(folder: Path) -> None:
    disk = folder / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("no right to mount a small tmpfs")
    try:
        config = config_of(disk, "run", data__root=str(folder), model__hidden_size=64)
        values = json.dumps(dataclasses.asdict(config))
        settings = [f"{key}={value}" for key, value in flat(json.loads(values)).items() if value is not None]
        command = [sys.executable, "-m", "seq2seq", "train", *settings]
        environment = os.environ | {"HF_DATASETS_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert re.fullmatch(
            rf"error: {disk}/run/.* can't be used: No space left on device", done.stderr.splitlines()[-1]
        )
        assert "Traceback" not in done.stderr
        assert list(disk.rglob("*.tmp")) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


# ---- normalised by target tokens


def one_update(folder: Path, run: str, **changes: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Make one step of gradient descent at rate 1; the change of the weights is the gradient. Return weights and log."""
    plain = {"train__optimizer": "sgd", "train__learning_rate": 1.0, "train__clip_norm": 0.0, "train__max_updates": 1}
    config = config_of(folder, run, **{**plain, **changes})
    train(config)
    return weights_of(config), metrics_of(config)[0]


def test_accumulated_batches_give_the_gradient_of_the_one_large_batch(folder: Path) -> None:
    large, log = one_update(folder, "large", train__batch_tokens=100_000, loss__label_smoothing=0.1)
    halves, halves_log = one_update(
        folder, "halves", train__batch_tokens=600, train__accumulate=1000, loss__label_smoothing=0.1
    )
    first, first_log = one_update(folder, "first", train__batch_tokens=600, loss__label_smoothing=0.1)
    for name in large:
        torch.testing.assert_close(halves[name], large[name], rtol=1e-5, atol=1e-6)
    assert halves_log["loss"] == pytest.approx(log["loss"], rel=1e-5)
    assert halves_log["gradient_norm"] == pytest.approx(log["gradient_norm"], rel=1e-4)
    assert any(not torch.allclose(first[name], large[name], rtol=1e-3, atol=1e-4) for name in large)
    assert first_log["gradient_norm"] != pytest.approx(log["gradient_norm"], rel=1e-3)


# ---- validation translates as translate does


def test_validation_scores_the_raw_references_with_the_saved_model(folder: Path) -> None:
    # unknown words and double spaces must stay in the references
    (folder / "valid.src").write_text("1 2 3 4\n5  6 7 8 9\nzebra 1 2 3\n\n3 4 5 6\n")
    (folder / "valid.tgt").write_text("1 2 3 4\n5  6 7 8 9\nzebra , 1 2 3\nx\n9 9 9 9\n")
    changes = {"train.average": 0.9, "train.max_updates": 240, "train.valid_every": 80, "search.beam_size": 3}
    config = config_of(folder, **changes, data__valid_lines=4)
    train(config)
    best = [line for line in metrics_of(config) if line.get("best")][-1]
    translator = Translator.load(config.run_dir, device="cpu")
    src, tgt = ((folder / f"valid.{side}").read_text().split("\n")[:4] for side in ("src", "tgt"))
    bleu, chrf = scores.score(translator.translate(src), [tgt], metrics=("bleu", "chrf"))
    assert (best["valid_bleu"], best["valid_chrf"], best["signatures"]["BLEU"]) == (
        bleu.score,
        chrf.score,
        bleu.signature,
    )
    assert bleu.score > 0
    token_log_probs = [x for line in translator.score(src, tgt) for x in line]
    assert best["valid_loss"] == pytest.approx(-sum(token_log_probs) / len(token_log_probs))


def test_the_lower_loss_breaks_ties(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([3.0, 1.0, 2.0, 1.0])
    zero = [scores.Score(name, 0.0, "signature", {}) for name in ("BLEU", "chrF2")]
    monkeypatch.setattr(scores, "score", lambda *arguments, **options: zero)
    monkeypatch.setattr(Translator, "score", lambda self, src, tgt: [[-next(losses)]])
    config = config_of(folder, train__valid_every=1)
    train(config)
    progress = state_of(config)["progress"]
    assert (progress["best_update"], progress["best"], progress["without_gain"]) == (2, 0.0, 2)


@pytest.mark.parametrize(("metric", "best"), [("bleu", 2), ("chrf", 1), ("loss", 3)])
def test_the_metric_chooses_the_model_and_is_returned(
    folder: Path, monkeypatch: pytest.MonkeyPatch, metric: str, best: int
) -> None:
    given = {1: (10.0, 30.0, 3.0), 2: (30.0, 20.0, 2.0), 3: (20.0, 10.0, 1.0), 4: (20.0, 10.0, 1.0)}
    snapshots: dict[int, Tensor] = {}
    now = 0
    original = Trainer._validate

    def validate(self: Trainer) -> None:
        nonlocal now
        now = self.progress.update
        snapshots[now] = self.updater.eval_model.src_embedding.weight.detach().clone()
        original(self)

    def score(*arguments: Any, **options: Any) -> list[scores.Score]:
        bleu, chrf, _ = given[now]
        return [scores.Score("BLEU", bleu, "signature", {}), scores.Score("chrF2", chrf, "signature", {})]

    monkeypatch.setattr(Trainer, "_validate", validate)
    monkeypatch.setattr(scores, "score", score)
    monkeypatch.setattr(Translator, "score", lambda self, src, tgt: [[-given[now][2]]])
    config = config_of(folder, train__metric=metric, train__valid_every=1)
    returned = train(config)
    progress = state_of(config)["progress"]
    assert progress["best_update"] == best
    assert returned == progress["best"] == given[best][("bleu", "chrf", "loss").index(metric)]
    assert progress["without_gain"] == 4 - best
    saved = Translator.load(config.run_dir, device="cpu").model.src_embedding.weight
    assert torch.equal(saved, snapshots[best])
    flags = [line["best"] for line in metrics_of(config) if "best" in line]
    assert flags[best - 1]
    assert not any(flags[best:])


def test_patience_stops(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    still = {"train.learning_rate": 0.0, "train.valid_every": 2, "train.max_updates": 50}
    config = config_of(folder, **still, train__patience=3)
    train(config)
    assert state_of(config)["progress"]["update"] == 2 + 3 * 2, (
        "the first validation is the best, three bring no improvement"
    )
    message = "stopping early: no improvement in 3 validations (train.patience=3)"
    assert message in capsys.readouterr().err.splitlines()
    config.train.patience, config.train.max_updates = 0, 20
    train(config)
    assert state_of(config)["progress"]["update"] == 20, "0 never stops early"


@pytest.mark.parametrize("epochs", [1, 2])
def test_epochs_end_a_run(folder: Path, monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    used: list[int] = []
    original = Trainer._update

    def update(self: Trainer, group: list[np.ndarray]) -> None:
        used.extend(np.concatenate(group).tolist())
        original(self, group)

    monkeypatch.setattr(Trainer, "_update", update)
    config = config_of(folder, train__max_epochs=epochs, train__max_updates=10_000, train__batch_tokens=300)
    train(config)
    assert sorted(used) == sorted(list(range(160)) * epochs), "every pair once per epoch"
    assert metrics_of(config)[-2]["epoch"] == epochs


# ---- stop at non-finite numbers


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_a_non_finite_loss_names_update_and_lines(folder: Path, monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    limits = {"train.max_updates": 6, "train.valid_every": 3, "train.batch_tokens": 60}
    unbroken, config = config_of(folder, "unbroken", **limits), config_of(folder, "broken", **limits)
    train(unbroken)
    calls = 0
    original = Seq2Seq.forward
    made: list[trainer.Rows] = []
    make_rows = trainer.Rows.__init__

    def remember(self: trainer.Rows, dataset: Any, **options: Any) -> None:
        make_rows(self, dataset, **options)
        made.append(self)

    def forward(self: Seq2Seq, batch: Batch, **options: Any) -> Loss:
        nonlocal calls
        calls += 1
        loss = original(self, batch, **options)
        if calls != 1 + 5:  # the first call tries the largest batch
            return loss
        return loss._replace(nll=loss.nll * math.nan) if bad == "loss" else loss._replace(total=loss.total * math.inf)

    with monkeypatch.context() as patched:
        patched.setattr(Seq2Seq, "forward", forward)
        patched.setattr(trainer.Rows, "__init__", remember)
        with pytest.raises(ValueError, match=r"^the loss and the gradient norm of update 5 must be finite") as caught:
            train(config)
    rows = made[0]
    plan = plan_epoch(rows.src_lengths, rows.tgt_lengths, batch_tokens=60, seed=1, epoch=0)
    lines = sorted(int(row) + 2 for row in plan[4])  # the first line is blank, rows count from 0
    values = r"nan and \d+\.\d+" if bad == "loss" else r"\d+\.\d+ and nan"
    pattern = (
        f"the loss and the gradient norm of update 5 must be finite, but are {values} in the batch of training lines "
        f"{', '.join(map(str, lines[:20]))}; set name to start a new run, which can start from the best model of this one "
    )
    assert re.match(pattern, str(caught.value))
    advice = f"with train.init_from={config.run_dir}, and lower train.learning_rate or train.clip_norm"
    assert str(caught.value).endswith(advice)
    assert state_of(config)["progress"]["update"] == 3
    assert all(weight.isfinite().all() for weight in weights_of(config).values())
    assert all(w.isfinite().all() for w in Translator.load(config.run_dir, device="cpu").model.parameters())
    train(config)
    assert_same_run(unbroken, config)


def test_a_non_finite_validation_loss_keeps_the_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(folder, train__valid_every=2)
    config.train.max_updates = 2
    train(config)
    model = saved_model(config)
    config.train.max_updates = 4
    monkeypatch.setattr(Translator, "score", lambda self, src, tgt: [[math.nan]])
    message = (
        "the validation loss after update 4 must be finite, but is nan; set name to start a new run, which can start "
        f"from the best model of this one with train.init_from={config.run_dir}, and lower train.learning_rate"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        train(config)
    assert saved_model(config) == model


# ---- every option has an effect


def updated(folder: Path, run: str, **changes: Any) -> dict[str, Tensor]:
    config = config_of(folder, run, **changes)
    train(config)
    return weights_of(config)


OPTIONS: list[dict[str, Any]] = [
    {"train.seed": 2},
    {"train.batch_tokens": 32},
    {"train.accumulate": 2},
    {"train.optimizer": "adamw"},
    {"train.optimizer": "sgd"},
    {"train.learning_rate": 0.02},
    {"train.weight_decay": 0.5},
    {"train.warmup": 3},
    {"train.warmup": 2, "train.schedule": "inverse_sqrt"},
    {"train.clip_norm": 0.01, "train.optimizer": "sgd"},
    {"train.precision": "bf16"},
    {"loss.label_smoothing": 0.2},
    {"model.dropout": 0.3},
    {"model.recurrent_dropout": 0.3},
    {"model.weight_drop": 0.3},
    {"data.max_source_length": 3},
    {"data.max_source_length": 3, "data.too_long": "cut"},
    {"data.max_target_length": 2},
    {"data.max_target_length": 2, "data.too_long": "cut"},
]


def test_every_option_changes_the_weights(folder: Path) -> None:
    outcomes = {"nothing": updated(folder, "base")}
    assert same(updated(folder, "again"), outcomes["nothing"]), "the same configuration gives the same weights"
    for number, option in enumerate(OPTIONS):
        weights = updated(folder, f"run{number}", **option)
        for other, found in outcomes.items():
            assert not same(weights, found), f"{option} gives the same weights as {other}"
        outcomes[str(option)] = weights


def test_options_that_must_not_change_the_weights(folder: Path) -> None:
    base = updated(folder, "base", model__dropout=0.3)
    options: list[dict[str, Any]] = [
        {"train.log_every": 3},
        {"train.profile": True},
        {"train.valid_every": 1},
        {"train.average": 0.5},
        {"train.metric": "loss"},
        {"train.patience": 1},
        {"data.valid_lines": 2},
        {"search.beam_size": 2},
    ]
    for number, option in enumerate(options):
        assert same(updated(folder, f"run{number}", model__dropout=0.3, **option), base), option


@pytest.mark.parametrize(("name", "decay"), [("adam", 0.0), ("adamw", 0.01), ("sgd", 0.0)])
def test_optimizers_and_their_weight_decay(name: str, decay: float) -> None:
    model = nn.Linear(2, 2)
    for given, expected in ((None, decay), (0.0, 0.0), (0.3, 0.3)):
        optimizer = make_optimizer(TrainConfig(optimizer=name, weight_decay=given), model)
        assert type(optimizer) is OPTIMIZERS[name]
        assert optimizer.param_groups[0]["weight_decay"] == expected
    assert len({type(make_optimizer(TrainConfig(optimizer=other), model)) for other in OPTIMIZERS}) == 3


@pytest.mark.parametrize("schedule", ["constant", "inverse_sqrt", "plateau"])
def test_the_rate_of_every_update_is_that_of_the_schedule(
    folder: Path, monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    used: list[float] = []
    original = torch.optim.Adam.step

    def step(self: torch.optim.Adam, *arguments: Any) -> Any:
        used.append(self.param_groups[0]["lr"])
        return original(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    # no validation improves on the first, in the loss neither
    monkeypatch.setattr(Translator, "translate", lambda self, lines, **options: ["x"] * len(lines))
    monkeypatch.setattr(Translator, "score", lambda self, src, tgt: [[-1.0]])
    config = config_of(folder, train__schedule=schedule, train__warmup=2, train__valid_every=2, train__max_updates=7)
    train(config)
    plateaus = [0, 0, 0, 0, 1, 1, 2]  # validations after updates 2 (the first, so the best), 4 and 6
    assert used == [learning_rate(config.train, n, plateaus[n - 1]) for n in range(1, 8)]
    assert [line["learning_rate"] for line in metrics_of(config) if "loss" in line] == used


def test_clipping_bounds_the_whole_gradient(folder: Path) -> None:
    initial, _ = one_update(folder, "still", train__learning_rate=0.0)

    def length(weights: dict[str, Tensor]) -> float:
        return math.sqrt(sum(float((weights[name] - initial[name]).square().sum()) for name in initial))

    free, log = one_update(folder, "free")
    assert length(free) == pytest.approx(log["gradient_norm"], rel=1e-3)
    bound = log["gradient_norm"] / 4
    clipped, clipped_log = one_update(folder, "clipped", train__clip_norm=bound)
    assert length(clipped) == pytest.approx(bound, rel=1e-3)
    assert clipped_log["gradient_norm"] == pytest.approx(log["gradient_norm"]), "logged before clipping"


def test_the_averaged_weights_are_saved(folder: Path) -> None:
    config = config_of(folder, train__average=0.9, train__max_updates=8)
    train(config)
    parts = state_of(config)["parts"]
    saved = dict(Translator.load(config.run_dir, device="cpu").model.state_dict())
    assert same(
        saved, {name.removeprefix("module."): w for name, w in parts["average"].items() if name != "n_averaged"}
    )
    assert not same(saved, parts["model"])
    plain = config_of(folder, "plain", train__average=0.0, train__max_updates=8)
    train(plain)
    assert same(dict(Translator.load(plain.run_dir, device="cpu").model.state_dict()), weights_of(plain))


def test_the_average_is_exponential_and_forgets_the_start_faster() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = make_average(TrainConfig(average=0.5), model)
    assert average is not None
    expected = 0.0
    for count, value in enumerate([3.0, 5.0, -2.0, 7.0, 1.0, 0.0, 9.0, 4.0, 6.0, 2.0, 8.0, 1.0]):
        model.weight.data.fill_(value)
        average.update_parameters(model)
        decay = min(0.5, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * value if count else value
        assert average.module.state_dict()["weight"].item() == pytest.approx(expected)
    assert make_average(TrainConfig(average=0.0), model) is None


@pytest.mark.parametrize(("lines", "expected"), [(3, 3), (0, 8), (100, 8)])
def test_valid_lines_caps_the_validation(
    folder: Path, monkeypatch: pytest.MonkeyPatch, lines: int, expected: int
) -> None:
    translated: list[list[str]] = []
    original = Translator.translate

    def translate(self: Translator, given: list[str], **options: int) -> list[str]:
        translated.append(given)
        return original(self, given)

    monkeypatch.setattr(Translator, "translate", translate)
    train(config_of(folder, data__valid_lines=lines, train__max_updates=1))
    assert translated == [(folder / "valid.src").read_text().splitlines()[:expected]]


def test_long_sources_are_counted_without_segmenting_them_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = train_tokenizer(["a b c"], TokenizerConfig(type="word", vocab_size=10))
    longest: list[int] = []
    segment = tokenizer.segment

    def record(texts: Sequence[str]) -> list[Segments]:
        longest.append(max(map(len, texts)))
        return segment(texts)

    monkeypatch.setattr(tokenizer, "segment", record)
    pairs = [Pair(src, "a") for src in ("a b c", "a b c a", "", "a b " * 300_000)]
    assert _count_too_long(pairs, Tokenizers(tokenizer, tokenizer), 3) == 2
    assert max(longest) < 10_000


@pytest.mark.parametrize(("too_long", "treatment"), [("drop", "dropped"), ("cut", "cut")])
def test_long_pairs_are_counted_and_reported(
    folder: Path, capsys: pytest.CaptureFixture[str], too_long: str, treatment: str
) -> None:
    long = sum(len(line.split()) > 4 for line in (folder / "train.src").read_text().splitlines())
    train(config_of(folder, data__max_source_length=4, data__too_long=too_long, train__max_updates=1))
    printed = capsys.readouterr().err
    remaining = 160 - long if too_long == "drop" else 160
    assert f"train: 161 pairs read, {remaining} kept" in printed
    assert f"{long} {treatment} for a source above 4 pieces" in printed
    assert "1 dropped for an empty side" in printed
    assert re.search(r"\n\d+ of the validation sources are cut to data.max_source_length=4\n", printed)
    assert "the model's data.max_source_length" not in printed


def test_log_and_validation_intervals(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_of(folder, train__log_every=2, train__valid_every=3, train__max_updates=7)
    train(config)
    assert [line["update"] for line in metrics_of(config) if "loss" in line] == [2, 4, 6]
    assert [line["update"] for line in metrics_of(config) if "valid_loss" in line] == [3, 6]
    message = (
        "the last 1 updates were not validated, so the saved model does not include them; lower train.valid_every=3, "
        "or end the run at a multiple of it"
    )
    assert message in capsys.readouterr().err.splitlines()
    config.train.max_updates = 9
    train(config)
    assert "were not validated" not in capsys.readouterr().err


def test_sources_too_long_to_validate_are_split_like_those_of_translate(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config_of(folder, data__max_source_length=4, search__too_long="split", train__max_updates=1))
    message = "are cut to data.max_source_length=4 for the loss, and split for the scores\n"
    assert message in capsys.readouterr().err


def test_a_log_line_is_the_mean_since_the_last(folder: Path) -> None:
    each, pairs = config_of(folder, "each"), config_of(folder, "pairs", train__log_every=2)
    train(each)
    train(pairs)
    singles = [line["loss"] for line in metrics_of(each) if "loss" in line]
    for number, line in enumerate(line for line in metrics_of(pairs) if "loss" in line):
        low, high = sorted(singles[2 * number : 2 * number + 2])
        assert low < line["loss"] < high


@pytest.mark.parametrize(
    ("layers", "attention", "now", "then"),
    [
        (1, "additive", None, None),
        (2, "additive", None, None),
        (2, "none", "model.attention=none", f"model.attention={' or '.join(sorted(FAST_ATTENTIONS))}"),
    ],
)
def test_a_decoder_that_trains_step_by_step_is_reported(
    folder: Path, capsys: pytest.CaptureFixture[str], layers: int, attention: str, now: str | None, then: str | None
) -> None:
    train(config_of(folder, model__decoder_layers=layers, model__attention=attention, train__max_updates=1))
    found = [line for line in capsys.readouterr().err.splitlines() if "step by step" in line]
    message = f"the decoder is trained step by step, since {now}; training is faster with {then}"
    assert found == ([message] if now else [])


def test_a_transformer_does_not_train_step_by_step(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(config_of(folder, model__decoder="transformer", model__decoder_layers=2, train__max_updates=1))
    assert "step by step" not in capsys.readouterr().err


def test_an_attention_without_a_twin_is_the_reason_that_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(FAST_ATTENTIONS, "dot")
    assert step_by_step_message(ModelConfig(attention="dot")) == (
        "the decoder is trained step by step, since model.attention=dot; "
        "training is faster with model.attention=additive or general or scaled_dot"
    )


def test_an_attention_to_sentences_is_a_reason_that_is_reported() -> None:
    assert step_by_step_message(ModelConfig(encoder="hierarchical")) == (
        "the decoder is trained step by step, since model.encoder=hierarchical; "
        "training is faster with model.encoder=rnn or transformer"
    )


def test_all_reasons_are_reported_together() -> None:
    assert step_by_step_message(ModelConfig(attention="none", layer_norm=True, decoder_layers=3)) == (
        "the decoder is trained step by step, since model.attention=none and model.layer_norm=true; "
        "training is faster with model.attention=additive or dot or general or scaled_dot and model.layer_norm=false"
    )


def test_layer_normalisation_is_a_reason_that_is_reported() -> None:
    assert step_by_step_message(ModelConfig(layer_norm=True)) == (
        "the decoder is trained step by step, since model.layer_norm=true; training is faster with model.layer_norm=false"
    )


def test_train_profile_prints_a_table_at_the_end(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(config_of(folder, "quiet"))
    assert "an update took" not in capsys.readouterr().err
    config = config_of(folder, "run", train__profile=True)
    train(config)
    lines = capsys.readouterr().err.splitlines()
    table = lines[next(number for number, line in enumerate(lines) if line.startswith("an update took")) :][:6]
    assert table[0].endswith("mean of 4:")
    assert [line.split("  ")[1] for line in table[1:]] == ["data", "encoder", "recurrence", "output layer", "optimizer"]
    assert sum(float(line.split()[-1].rstrip("%")) for line in table[1:]) == pytest.approx(100, abs=0.3)


def test_a_log_line_holds_speed_and_memory(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_of(folder, train__max_updates=1)
    train(config)
    line = json.loads((Path(config.run_dir) / "metrics.jsonl").read_text().splitlines()[0])
    assert line["tokens_per_second"] > 0
    assert line["peak_memory"] > 2**26, "torch alone is larger"
    assert re.search(rf"tok/s  {line['peak_memory'] / 2**30:.1f} GiB", capsys.readouterr().err)


def test_the_largest_batch_is_tried_first(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[bool, int]] = []
    forward = Seq2Seq.forward

    def spy(self: Seq2Seq, batch: Batch, **options: Any) -> Any:
        tried.append((self.training, len(batch.src) * (batch.src.shape[1] + batch.tgt_out.shape[1])))
        return forward(self, batch, **options)

    monkeypatch.setattr(Seq2Seq, "forward", spy)
    train(config_of(folder, train__max_epochs=1, train__max_updates=1000))
    assert tried[0] == max(tried)
    assert tried[0] in tried[1:]
    pattern = (
        r"^the largest batch has \d+ sentences of up to \d+ source and \d+ target pieces; "
        r"peak memory \d+\.\d GiB, without the optimizer$"
    )
    assert re.search(pattern, capsys.readouterr().err, re.MULTILINE)


def test_other_runtime_errors_pass_unchanged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Seq2Seq, batch: Batch, **options: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Seq2Seq, "forward", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        train(config_of(folder))


def test_threads_reach_torch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", requested.append)
    train(config_of(folder, "one", train__threads=1, train__max_updates=1))
    train(config_of(folder, "zero", train__threads=0, train__max_updates=1))
    assert requested == [1]


@pytest.mark.parametrize("number", [max_threads() + 1, 1_000_000])
def test_too_many_threads_are_refused(folder: Path, number: int) -> None:
    message = (
        f"train.threads must be at most {max_threads()} on this machine with {os.cpu_count()} cores, but is {number}: "
        "more threads than cores are slower, and too many crash the process"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        train(config_of(folder, train__threads=number))
    assert not (folder / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_an_error(folder: Path) -> None:
    with pytest.raises(ValueError, match="the device is cuda, but torch finds no GPU here; choose cpu or auto"):
        train(config_of(folder, train__device="cuda"))


def test_the_files_of_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"data.test.src": "test.src", "data.test.tgt": "test.tgt"}
    config = config_of(folder, **files, data__max_source_length=50, search__length_penalty=0.5)
    train(config)
    run = Path(config.run_dir)
    assert {path.name for path in run.iterdir()} == {
        "model",
        "last",
        "config.yaml",
        "metrics.jsonl",
        "data.json",
        "test.hyp",
    }
    assert {path.name for path in (run / "model").iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
    saved = json.loads((run / "model" / "config.json").read_text())
    assert saved["model"]["hidden_size"] == 16
    assert (saved["search"]["length_penalty"], saved["data"]) == (0.5, {"max_source_length": 50})
    moved = (run / "model").rename(folder / "elsewhere")
    sources = (folder / "test.src").read_text().splitlines()
    hypotheses = Translator.load(moved, device="cpu").translate(sources)
    assert (run / "test.hyp").read_text() == "".join(line + "\n" for line in hypotheses)
    last = metrics_of(config)[-1]
    (bleu,) = scores.score(hypotheses, [(folder / "test.tgt").read_text().splitlines()])
    assert (last["test_BLEU"], last["signatures"]["BLEU"]) == (bleu.score, bleu.signature)
    assert f"test BLEU = {bleu.score:.2f}  {bleu.signature}" in capsys.readouterr().err


@pytest.mark.parametrize("metric", [name for name in VALIDATION_METRICS if name not in ("bleu", "chrf")])
def test_the_test_files_are_scored_in_train_metric_too(
    folder: Path, capsys: pytest.CaptureFixture[str], metric: str
) -> None:
    files = {"data.test.src": "test.src", "data.test.tgt": "test.tgt"}
    config = config_of(folder, **files, train__max_updates=1, train__valid_every=1, train__metric=metric)
    train(config)
    sources, references = ((folder / f"test.{side}").read_text().splitlines() for side in ("src", "tgt"))
    record, text = metrics_of(config)[-1], capsys.readouterr().err
    assert {"test_BLEU", "test_chrF2"} < record.keys()
    if metric == "loss":
        scored = Translator.load(config.run_dir, device="cpu").score(sources, references)
        loss = -sum(map(sum, scored)) / sum(map(len, scored))
        assert record["test_loss"] == pytest.approx(loss)
        assert f"test loss = {loss:.3f}\n" in text
        return
    hypotheses = (Path(config.run_dir) / "test.hyp").read_text().splitlines()
    (score,) = scores.score(hypotheses, [references], metrics=[metric], sources=sources)
    assert f"test {score.name} = {score.score:.2f}  {score.signature}\n" in text
    assert record[f"test_{score.name}"] == (None if math.isnan(score.score) else score.score)
    assert record["signatures"][score.name] == score.signature


def test_a_damaged_tokenizer_of_a_run_has_the_advice_for_a_run(folder: Path) -> None:
    config = config_of(folder, train__max_updates=2, train__valid_every=2)
    train(config)
    run = Path(config.run_dir)
    path = run / "last" / "tokenizer.json"
    path.write_bytes(path.read_bytes().replace(b"7", b"8", 1))
    advice = f"restore it, or set name to start a new run, which can start from the best model of this one with train.init_from={run}"
    message = f"{path} is damaged or of another model: its SHA-256 is not the one that was saved with it; {advice}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        train(config)
    path.unlink()
    message = f"{run / 'last'} is not a complete model directory: tokenizer.json is missing; {advice}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        train(config)


def test_records_train_like_parallel_files(folder: Path) -> None:
    for split in ("train", "valid"):
        src, tgt = ((folder / f"{split}.{side}").read_text().split("\n")[:-1] for side in ("src", "tgt"))
        rows = [json.dumps({"a": s, "b": t}) + "\n" for s, t in zip(src, tgt, strict=True)]
        (folder / f"{split}.jsonl").write_text("".join(rows))
    none = {f"data.{split}.{side}": None for split in ("train", "valid") for side in ("src", "tgt")}
    files = {"data.train.file": "train.jsonl", "data.valid.file": "valid.jsonl"}
    records = config_of(folder, "records", **none, **files, data__src_field="a", data__tgt_field="b")
    parallel = config_of(folder, "parallel")
    train(records)
    train(parallel)
    assert same(weights_of(records), weights_of(parallel))
    assert metrics_of(records) == metrics_of(parallel)


# ---- it learns


TRANSFORMER: dict[str, Any] = {"model.encoder": "transformer", "model.decoder": "transformer", "model.cell": "lstm"}


@pytest.mark.parametrize(
    "parts", [{}, {"model.encoder": "hierarchical"}, TRANSFORMER], ids=["rnn", "hierarchical", "transformer"]
)
def test_the_loss_falls(folder: Path, parts: dict[str, Any]) -> None:
    if parts.get("model.encoder") == "hierarchical":
        write_sentences(folder)
    config = config_of(folder, train__max_updates=60, train__log_every=10, train__learning_rate=0.02, **parts)
    train(config)
    losses = [line["loss"] for line in metrics_of(config) if "loss" in line]
    assert losses[0] > 1.9
    assert losses[-1] < losses[0] - 0.3


def test_documents_of_2000_pieces_are_trained_and_translated(folder: Path) -> None:
    sentence = " ".join(str(number % 10) for number in range(19)) + " . "
    for split in ("train", "valid"):
        (folder / f"{split}.src").write_text(sentence * 100 + "\n" + sentence * 90 + "\n")
        (folder / f"{split}.tgt").write_text("1 2 3\n3 4\n")
    long = {"model.encoder": "hierarchical", "model.copy": "pointer", "data.max_source_length": 2000}
    long |= {"search.max_length_ratio": 0.0, "search.max_length_extra": 5}
    config = config_of(folder, **long, train__max_updates=2, train__batch_tokens=4096, tokenizer__vocab_size=15)
    train(config)
    losses = [line["loss"] for line in metrics_of(config) if "loss" in line]
    assert len(losses) == 2
    translator = Translator.load(config.run_dir, device="cpu").with_search(beam_size=2)
    (found,) = translator.search([sentence * 100])
    assert len(found[0].source_pieces) == 2000
    assert found[0].status in ("ok", "max_length")
    segments = translator.pair_batch(sentence * 100, "1").segments
    assert segments[0].bincount().tolist() == [20] * 99 + [21]  # with the end of sentence


@pytest.mark.slow
@pytest.mark.parametrize(
    "parts",
    [{"model.embedding_size": 32}, TRANSFORMER | {"model.embedding_size": 48, "train.warmup": 100}],
    ids=["rnn", "transformer"],
)
def test_copying_is_learned(tmp_path: Path, parts: dict[str, Any]) -> None:
    write_corpus(tmp_path, pairs=600, longest=5)
    sizes = parts | {"model.hidden_size": 48, "train.batch_tokens": 256}
    config = config_of(tmp_path, **sizes, train__max_updates=600, train__learning_rate=0.01, data__valid_lines=0)
    train(config)
    src = (tmp_path / "test.src").read_text().splitlines() + (tmp_path / "valid.src").read_text().splitlines()
    translated = Translator.load(config.run_dir, device="cpu").translate(src)
    assert sum(map(str.__eq__, translated, src)) >= 0.9 * len(src)
