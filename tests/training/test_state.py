"""The saved state: it is complete or the old one, and everything is restored."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from seq2seq.training import state as state_module
from seq2seq.training.state import STATE, Progress, load_state, save_state

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

    def half(content: Any, path: Path) -> None:
        path.write_bytes(b"PK half a file")
        raise KeyboardInterrupt

    def never(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if moment == "writing":
            patched.setattr(state_module.torch, "save", half)
        else:
            patched.setattr(state_module.os, "replace", never)
        with pytest.raises(KeyboardInterrupt):
            save_state(tmp_path, Progress(update=2), parts=model_and_optimizer(2), data=DATA)
    restored = model_and_optimizer(3)
    assert load_state(tmp_path, parts=restored, data=DATA).update == 1
    assert torch.equal(restored["model"].weight, first["model"].weight)
    save_state(tmp_path, Progress(update=3), parts=first, data=DATA)
    assert [path.name for path in tmp_path.iterdir()] == [STATE], "the next save replaces the temporary file"


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


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(b"half of it")
    message = f"{tmp_path / STATE} is damaged; set name to start a new run"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_state(tmp_path, parts=model_and_optimizer(1), data=DATA)
