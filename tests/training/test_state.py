"""The saved state: it is complete or the old one, and everything is restored."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from seq2seq import files
from seq2seq.training.state import STATE, Progress, load_state, new_run_advice, save_state

DATA = {"train": "these", "valid": "those"}


def model_and_optimizer(seed: int) -> dict[str, Any]:
    """Return a model and an Adam optimizer after two updates."""
    torch.manual_seed(seed)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
    return {"model": model, "optimizer": optimizer}


def test_everything_is_restored(tmp_path: Path) -> None:
    progress = Progress(
        update=7,
        epoch=2,
        position=3,
        best=1.5,
        best_update=4,
        without_gain=1,
        plateaus=2,
        nll=0.5,
        tokens=9,
        seconds=1.0,
    )
    saved = model_and_optimizer(1)
    save_state(tmp_path, progress, parts=saved, data=DATA)
    expected = torch.rand(5)
    restored = model_and_optimizer(2)
    torch.manual_seed(99)
    assert load_state(tmp_path, parts=restored, data=DATA) == progress
    assert torch.equal(torch.rand(5), expected), "the random state is restored"
    assert torch.equal(restored["model"].weight, saved["model"].weight)
    for one, two in zip(
        saved["optimizer"].state_dict()["state"].values(),
        restored["optimizer"].state_dict()["state"].values(),
        strict=True,
    ):
        assert all(torch.equal(torch.as_tensor(one[key]), torch.as_tensor(two[key])) for key in one)


def test_every_field_of_progress_is_saved(tmp_path: Path) -> None:
    values = {item.name: number + 1 for number, item in enumerate(dataclasses.fields(Progress))}
    save_state(tmp_path, Progress(**values), parts={}, data=DATA)
    assert dataclasses.asdict(load_state(tmp_path, parts={}, data=DATA)) == values


@pytest.mark.parametrize("moment", ["writing", "renaming"])
def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    first = model_and_optimizer(1)
    save_state(tmp_path, Progress(update=1), parts=first, data=DATA)

    def half(descriptor: int, content: bytes) -> int:
        original(descriptor, content[:40])
        raise KeyboardInterrupt

    def never(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    original = os.write
    with monkeypatch.context() as patched:
        patched.setattr(files.os, *(("write", half) if moment == "writing" else ("replace", never)))
        with pytest.raises(KeyboardInterrupt):
            save_state(tmp_path, Progress(update=2), parts=model_and_optimizer(2), data=DATA)
    restored = model_and_optimizer(3)
    assert load_state(tmp_path, parts=restored, data=DATA).update == 1
    assert torch.equal(restored["model"].weight, first["model"].weight)
    save_state(tmp_path, Progress(update=3), parts=first, data=DATA)
    assert [path.name for path in tmp_path.iterdir()] == [STATE]


def test_other_data_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "last"
    save_state(folder, Progress(), parts={}, data=DATA)
    for split, subject in (("train", "training data or its tokenizer"), ("valid", "validation data")):
        message = (
            f"the {subject} must stay as it was when the run in {tmp_path / 'run'} started, but it has changed; "
            "restore it, or set name to start a new run"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            load_state(folder, parts={}, data=DATA | {split: "other"})


def test_the_state_holds_nothing_executable(tmp_path: Path) -> None:
    save_state(tmp_path, Progress(), parts=model_and_optimizer(1), data=DATA)
    assert set(torch.load(tmp_path / STATE, weights_only=True)) >= {"progress", "parts", "cpu_rng", "data"}


def refused(path: Path, reason: str) -> None:
    message = f"{path} is damaged or does not fit the run ({reason}); set name to start a new run"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_state(path.parent, parts=model_and_optimizer(1), data=DATA)


@pytest.mark.parametrize("content", [b"", b"half of it", b"PK\x05\x06" + bytes(18)])
def test_a_damaged_state_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / STATE).write_bytes(content)
    refused(tmp_path / STATE, "PyTorch cannot read it" if content.startswith(b"PK") else "it is no complete zip file")


def test_a_state_that_is_no_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / STATE
    os.mkfifo(path)
    refused(path, f"{path} must be a regular file, but is a named pipe")


PROGRESS = {"update": 1, "epoch": 0, "position": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, "'data' is missing"),
        ([1], "it does not hold the state of a run"),
        (torch.zeros(2), "it does not hold the state of a run"),
        ({"data": DATA}, "'progress' is missing"),
        ({"data": DATA, "progress": {}}, "progress does not hold the counters of a run"),
        ({"data": DATA, "progress": PROGRESS | {"update": "x"}}, "progress.update must not be x"),
        ({"data": DATA, "progress": PROGRESS | {"update": 1.5}}, "progress.update must not be 1.5"),
        ({"data": DATA, "progress": PROGRESS | {"tokens": None}}, "progress.tokens must not be None"),
        ({"data": DATA, "progress": PROGRESS | {"word": 1}}, "progress.word must not be 1"),
        ({"data": DATA, "progress": PROGRESS}, "'parts' is missing"),
        ({"data": DATA, "progress": PROGRESS, "parts": {}}, "'model' is missing"),
    ],
)
def test_a_file_that_holds_no_state_is_named(tmp_path: Path, change: Any, reason: str) -> None:
    torch.save(change, tmp_path / STATE)
    refused(tmp_path / STATE, reason)


def saved_content(folder: Path) -> dict[str, Any]:
    save_state(folder, Progress(update=1), parts=model_and_optimizer(1), data=DATA)
    content: dict[str, Any] = torch.load(folder / STATE, weights_only=True)
    return content


def test_wrong_shapes_are_named(tmp_path: Path) -> None:
    content = saved_content(tmp_path)
    content["parts"]["optimizer"]["state"][0]["exp_avg"] = torch.zeros(7)
    torch.save(content, tmp_path / STATE)
    refused(tmp_path / STATE, "exp_avg of a parameter of shape [2, 3] has shape [7]")
    content["parts"]["model"]["weight"] = torch.zeros(7)
    torch.save(content, tmp_path / STATE)
    refused(tmp_path / STATE, "Error(s) in loading state_dict for Linear:")


@pytest.mark.parametrize("key", ["cpu_rng", "cuda_rng", "parts", "progress", "data"])
@pytest.mark.parametrize("value", [None, 5, "x", [1], {"x": 1}, torch.zeros(3)])
def test_no_wrong_value_ends_in_another_error(tmp_path: Path, key: str, value: Any) -> None:
    torch.save(saved_content(tmp_path) | {key: value}, tmp_path / STATE)
    with contextlib.suppress(ValueError):
        load_state(tmp_path, parts=model_and_optimizer(1), data=DATA)


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    saved_content(tmp_path)
    path = tmp_path / STATE
    content = path.read_bytes()
    numbers = random.Random(1)
    comment = range(8 * (len(content) - 100), 8 * len(content))
    for bit in [*numbers.sample(range(8 * len(content)), 300), *comment]:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged or does not fit the run"):
            load_state(tmp_path, parts=model_and_optimizer(1), data=DATA)
    for size in (0, 10, len(content) // 2, len(content) - 71, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match="is damaged or does not fit the run"):
            load_state(tmp_path, parts=model_and_optimizer(1), data=DATA)


def test_a_state_of_an_older_version_has_no_checksum(tmp_path: Path) -> None:
    content = saved_content(tmp_path)
    torch.save(content, tmp_path / STATE)
    assert load_state(tmp_path, parts=model_and_optimizer(2), data=DATA).update == 1


def test_the_advice_names_the_best_model_if_there_is_one(tmp_path: Path) -> None:
    assert new_run_advice(tmp_path) == "set name to start a new run"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").touch()
    assert new_run_advice(tmp_path) == (
        f"set name to start a new run, which can start from the best model of this one with train.init_from={tmp_path}"
    )
