"""The saved state: whole or old, everything comes back, later log lines are cut off."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from seq2seq.training import state as state_module
from seq2seq.training.state import STATE, Metrics, Progress, load_state, save_state

DATA = {"train": "these", "valid": "those"}


def parts(seed: int) -> dict[str, Any]:
    """A model and an Adam that has made two updates."""
    torch.manual_seed(seed)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
    return {"model": model, "optimizer": optimizer}


def test_everything_comes_back(tmp_path: Path) -> None:
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
    saved = parts(1)
    save_state(tmp_path, progress, saved, DATA)
    expected = torch.rand(5)
    restored = parts(2)
    torch.manual_seed(99)
    assert load_state(tmp_path, restored, DATA) == progress
    assert torch.equal(torch.rand(5), expected), "the random generator goes on where it was"
    assert torch.equal(restored["model"].weight, saved["model"].weight)
    for one, two in zip(
        saved["optimizer"].state_dict()["state"].values(),
        restored["optimizer"].state_dict()["state"].values(),
        strict=True,
    ):
        assert all(torch.equal(torch.as_tensor(one[key]), torch.as_tensor(two[key])) for key in one)


def test_every_field_of_progress_is_saved(tmp_path: Path) -> None:
    values = {item.name: number + 1 for number, item in enumerate(dataclasses.fields(Progress))}
    save_state(tmp_path, Progress(**values), {}, DATA)
    assert dataclasses.asdict(load_state(tmp_path, {}, DATA)) == values


@pytest.mark.parametrize("moment", ["writing", "renaming"])
def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    first = parts(1)
    save_state(tmp_path, Progress(update=1), first, DATA)

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
            save_state(tmp_path, Progress(update=2), parts(2), DATA)
    restored = parts(3)
    assert load_state(tmp_path, restored, DATA).update == 1
    assert torch.equal(restored["model"].weight, first["model"].weight)
    save_state(tmp_path, Progress(update=3), first, DATA)
    assert [path.name for path in tmp_path.iterdir()] == [STATE], "the next save takes the temporary file's place"


def test_other_data_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "last"
    save_state(folder, Progress(), {}, DATA)
    for split in DATA:
        with pytest.raises(
            ValueError,
            match=rf"the {split}\w* data .*not what {tmp_path / 'run'} was trained on until now; .* set name",
        ):
            load_state(folder, {}, DATA | {split: "other"})


def test_the_state_holds_nothing_executable(tmp_path: Path) -> None:
    save_state(tmp_path, Progress(), parts(1), DATA)
    assert set(torch.load(tmp_path / STATE, weights_only=True)) >= {"progress", "parts", "cpu_rng", "data"}


def test_metrics_behind_the_state_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path, 0)
    metrics.write({"update": 1})
    size = metrics.size
    metrics.write({"update": 2})
    metrics.close()
    again = Metrics(path, size)
    again.write({"update": 20, "text": "é"})
    assert [json.loads(line)["update"] for line in path.read_text().splitlines()] == [1, 20], "flushed at once"
    assert again.size == path.stat().st_size > size
    again.close()


def test_two_processes_do_not_write_into_one_run(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = Metrics(path, 0)
    first.write({"update": 1})
    with pytest.raises(ValueError, match=r"another process is training in .*; wait for its end, or set name"):
        Metrics(path, 0)
    assert path.read_text() == '{"update": 1}\n', "nothing is cut off from under it"
    first.close()
    Metrics(path, 0).close()


def test_a_new_run_starts_an_empty_log(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("old\n")
    Metrics(path, 0).close()
    assert path.read_bytes() == b""


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(b"half of it")
    with pytest.raises(ValueError, match=rf"{STATE} is damaged; set name to start a new run"):
        load_state(tmp_path, parts(1), DATA)


def test_a_log_shorter_than_the_state_says_is_not_padded(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("{}\n")
    Metrics(path, 100).close()
    assert path.read_text() == "{}\n"
